with keyed as (
    select q.event_id, webhook.order_key(s.ordering, e) as order_key
    from webhook.queue q
    join webhook.subscription s on s.id = q.subscription_id
    left join webhook.event e on e.slot = q.event_slot and e.xid = q.event_xid and e.id = q.event_id
    where q.subscription_id = $1
), changed as (
    update webhook.queue q
        set order_key = k.order_key, state = case q.state when 'blocked' then 'backlog' else q.state end
        from keyed k
        where q.subscription_id = $1 and q.event_id = k.event_id
          and (q.order_key is distinct from k.order_key or q.state = 'blocked')
        returning q.state
)
select exists (select from changed where state = 'backlog')
