with candidate as materialized (
    select s.id as subscription_id, e.id, e.xid, e.slot, made.attempts, webhook.order_key(s.ordering, e) as order_key,
           new.is_unrouted
    from webhook.subscription s
    join webhook.event e on e.slot = any ($5) and e.created_at >= $2 and e.created_at < $3
    left join (select c.snapshot, pg_snapshot_xmin(c.snapshot)::text::bigint as xmin
               from webhook.cursor c where c.singleton) checkpoint on true
    cross join lateral (select coalesce(max(a.attempt), 0::smallint) as attempts from webhook.attempt a
                        where a.event_id = e.id and a.subscription_id = $1 and a.slot = any ($6)) made
    -- The daemon will route the event to the subscription, and write the row.
    cross join lateral (select case when made.attempts = 0 and e.xid >= checkpoint.xmin
                                         and not pg_visible_in_snapshot(e.xid::text::xid8, checkpoint.snapshot)
                                    then webhook.mismatch(e, s) is null else false end
                               as is_unrouted offset 0) new
    where s.id = $1 and e.type <> 'webhook.delivery.requested'
      and (e.subscription_id is null or e.subscription_id = s.id)
      and webhook.scope_mismatch(e, s) is null
      and webhook.pattern_matches(coalesce($4, s.events), e.type) and ($7 or webhook.pattern_matches(s.events, e.type))
      and (e.origin is null or e.origin <> all (s.exclude_origin))
      and webhook.filter_matches(e, s.filter)
), put as (
    insert into webhook.queue
        (subscription_id, event_id, event_xid, event_slot, attempts, retry_from, state, order_key)
    select c.subscription_id, c.id, c.xid, c.slot, c.attempts, c.attempts, 'backlog', c.order_key
    from candidate c
    where not c.is_unrouted
    on conflict (subscription_id, event_id) do nothing
    returning 1
)
select count(*) from put
