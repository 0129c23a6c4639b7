select p.subscription_id, p.event_id
from (select distinct * from unnest($1::bigint[], $2::bigint[]) as u (subscription_id, event_id)) p
where exists (select from webhook.queue q
              where q.subscription_id = p.subscription_id and q.event_id = p.event_id offset 0)
   or exists (select from webhook.attempt a
              where a.event_id = p.event_id and a.subscription_id = p.subscription_id offset 0)
