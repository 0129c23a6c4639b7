select {columns} from unnest($2::bigint[]) with ordinality as k (order_key, at)
cross join lateral (
    select * from webhook.queue q
    where q.subscription_id = $1 and q.order_key >= k.order_key and q.order_key <= k.order_key
      and q.state in ('blocked', 'backlog')
    order by q.order_key, q.event_id limit $3::bigint) as q
left join lateral (
    select e as event, e.* from webhook.event e
    where e.slot = q.event_slot and e.xid = q.event_xid and e.id = q.event_id offset 0) e on true
order by k.at, q.event_id
