with put as (
    insert into webhook.queue
        (subscription_id, event_id, event_xid, event_slot, attempts, retry_from, state, order_key)
    select s.id, e.id, e.xid, e.slot, made.attempts, made.attempts, 'backlog', webhook.order_key(s.ordering, e)
    from webhook.subscription s
    join webhook.event e on e.slot = any ($5) and e.created_at >= $2 and e.created_at < $3
    cross join lateral (select coalesce(max(a.attempt), 0::smallint) as attempts from webhook.attempt a
                        where a.event_id = e.id and a.subscription_id = $1 and a.slot = any ($6)) made
    where s.id = $1 and e.type <> 'webhook.delivery.requested'
      and (e.subscription_id is null or e.subscription_id = s.id)
      and webhook.pattern_matches(coalesce($4, s.events), e.type)
      and (e.origin is null or e.origin <> all (s.exclude_origin))
      and webhook.filter_matches(e, s.filter)
      and not exists (select from webhook.pending p where p.subscription_id = $1 and p.sequence = e.id)
    on conflict (subscription_id, event_id) do nothing
    returning 1
)
select count(*) from put
