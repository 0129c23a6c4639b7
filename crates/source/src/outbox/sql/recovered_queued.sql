select p.event_id, p.subscription_id from unnest($1::bigint[], $2::bigint[]) as p (event_id, subscription_id)
where exists (select from webhook.queue q
              where q.subscription_id = p.subscription_id and q.event_id = p.event_id offset 0)
