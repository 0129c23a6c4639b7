select {columns} from (
    select * from webhook.queue q
    where q.subscription_id = $1 and q.event_id > $2 and q.state = 'backlog'
    order by q.event_id limit $3::bigint) q
left join lateral (
    select e as event, e.* from webhook.event e
    where e.slot = q.event_slot and e.xid = q.event_xid and e.id = q.event_id offset 0) e on true
order by q.event_id
