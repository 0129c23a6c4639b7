with chosen as (
    delete from webhook.given_up g
    where g.subscription_id = $1 and g.given_up_at >= $2 and g.given_up_at < $3
    returning g.event_id, g.event_slot
), put as (
    insert into webhook.queue as q
        (subscription_id, event_id, event_xid, event_slot, attempts, retry_from, state, last_status, last_error, order_key)
    select s.id, e.id, e.xid, e.slot, made.attempts, made.attempts, 'backlog', made.status, made.error, webhook.order_key(s.ordering, e)
    from chosen c
    join webhook.subscription s on s.id = $1
    cross join lateral (select max(a.event_xid) as xid, max(a.attempt) as attempts,
                               (array_agg(a.status order by a.attempt desc))[1] as status,
                               (array_agg(a.error order by a.attempt desc))[1] as error
                        from webhook.attempt a where a.event_id = c.event_id and a.subscription_id = $1) made
    join webhook.event e on e.slot = c.event_slot and e.xid = made.xid and e.id = c.event_id
        and webhook.scope_mismatch(e, s) is null
    on conflict (subscription_id, event_id) do nothing
    returning 1
)
select count(*) from put
