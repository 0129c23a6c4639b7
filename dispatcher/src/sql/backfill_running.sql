select b.id,
       s.enabled and (s.verification = 'none' or s.verified_at is not null)
       and (select count(*) from (select from webhook.queue q where q.subscription_id = b.subscription_id limit $1) q) < $1
       and (b.last_event_id is null
            or exists (select from webhook.attempt a
                       where a.event_id = b.last_event_id and a.subscription_id = b.subscription_id offset 0)
            or exists (select from webhook.queue q
                       where q.event_id = b.last_event_id and q.subscription_id = b.subscription_id offset 0)
            or not exists (select from webhook.event e
                           where e.xid >= (select pg_snapshot_xmax(c.snapshot)::text::bigint from webhook.cursor c where c.singleton)
                             and e.id = b.last_event_id
                           union all
                           select from webhook.event e
                           where e.xid = any (array(select x.xid::text::bigint from webhook.cursor c
                                                    cross join lateral pg_snapshot_xip(c.snapshot) x (xid) where c.singleton))
                             and e.id = b.last_event_id)) as has_room,
       b.requested_by::text
from webhook.backfill b join webhook.subscription s on s.id = b.subscription_id
where b.state = 'running' order by b.id
