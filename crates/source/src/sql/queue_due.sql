select {columns} from unnest($1::bigint[], $2::bigint[]) as p (subscription_id, event_id)
cross join lateral (
    select * from webhook.queue q
    where q.subscription_id = p.subscription_id and q.event_id = p.event_id offset 0) q
left join lateral (
    select e as event, e.* from webhook.event e
    where e.slot = q.event_slot and e.xid = q.event_xid and e.id = q.event_id offset 0) e on true
