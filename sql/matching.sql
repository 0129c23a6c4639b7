-- Which subscription gets which event. The views, webhook_replay() and webhook_dry_run() use these
-- functions. The daemon's router implements the same rule.

-- Without SET and without SECURITY DEFINER, so that the planner can inline filter_matches(),
-- scope_mismatch() and mismatch() into the calling query.
create function webhook.filter_matches(event webhook.event, filter jsonpath) returns boolean
    language sql immutable parallel unsafe
    return filter is null
        or webhook.path_matches(filter, (event).type, (event).key, (event).table_name, (event).actor, (event).origin,
                                (event).truncated, (event).payload, (event).previous);
comment on function webhook.filter_matches(webhook.event, jsonpath) is
    'Whether an event matches a filter: a condition must be true (@@), another path must find an item (@?), and null always matches. A filter that cannot be evaluated does not match. The contents of an event never raise an error';

-- Security definer, because the caller may not see the type. An SQL function with a subquery is not
-- inlined, so this one is called only for events whose owner matches.
create function webhook.is_internal(event_type text) returns boolean
    language sql stable parallel safe security definer set search_path = pg_catalog, pg_temp
    return exists (select from webhook.event_type t where t.type = event_type and t.internal);
comment on function webhook.is_internal(text) is 'Whether only subscriptions with scope all get events of this type';

-- Each subscription gets the operational events for itself alone, such as webhook.ping. A snapshot
-- for one subscription is a row, which belongs to an owner.
create function webhook.scope_mismatch(event webhook.event, subscription webhook.subscription) returns text
    language sql stable parallel unsafe
    return case
        when (subscription).scope = 'all' then null
        when (event).subscription_id = (subscription).id and starts_with((event).type, 'webhook.') then null
        when (event).owner is null then 'it has no owner'
        when (event).owner not in ('*', (subscription).owner) then 'it belongs to another owner'
        when webhook.is_internal((event).type) then 'its type is internal'
    end;
comment on function webhook.scope_mismatch(webhook.event, webhook.subscription) is
    'Why an event is outside the scope of a subscription; null: it is inside';

-- Stable, because format() is. As an immutable function, it would not be inlined.
create function webhook.mismatch(event webhook.event, subscription webhook.subscription) returns text
    language sql stable parallel unsafe
    return case
        when (event).type = 'webhook.delivery.requested' then 'it is a request to the daemon'
        when (event).subscription_id <> (subscription).id then format('it is only for subscription %s', (event).subscription_id)
        else coalesce(webhook.scope_mismatch(event, subscription), case
            when (event).subscription_id is not null then null
            when not webhook.pattern_matches((subscription).events, (event).type) then 'no pattern matches its type'
            when pg_visible_in_snapshot((event).xid::text::xid8, (subscription).created_snapshot)
                then 'it was committed before the subscription was created'
            when (event).origin = any ((subscription).exclude_origin) then 'its origin is excluded'
            when not webhook.filter_matches(event, (subscription).filter) then 'the filter does not match' end)
    end;
comment on function webhook.mismatch(webhook.event, webhook.subscription) is
    'Why an event does not match a subscription; null: it matches';

-- -- Moments and the ring -------------------------------------------------------------------------

create function webhook.ring_begins(at timestamptz default now()) returns timestamptz
    language sql stable parallel safe strict security definer set search_path = pg_catalog, pg_temp
    return least(at, (select coalesce(max(t.removed_upto), '-infinity') from webhook.ring_turn t));
comment on function webhook.ring_begins(timestamptz) is
    'The time since which the ring has every event; removed events were captured earlier; -infinity: no events were removed';

-- By the contents of the slots, because the clock may have been changed during a turn. A slot that
-- has not been counted yet may contain any event.
create function webhook.ring_slots(since timestamptz, until timestamptz) returns smallint[]
    language sql stable parallel safe strict security definer set search_path = pg_catalog, pg_temp
    return array(select t.slot from webhook.ring_turn t
                 where t.first_at is null or (t.first_at <= until and t.last_at >= since)
                 order by t.slot);
comment on function webhook.ring_slots(timestamptz, timestamptz) is
    'The slots of the ring that can contain events of a time range';

-- The daemon writes an attempt to the present slot, after it has read the event.
create function webhook.attempt_slots(event_slots smallint[]) returns smallint[]
    language sql stable parallel safe strict security definer set search_path = pg_catalog, pg_temp
    return array(select t.slot from webhook.ring_turn t
                 where t.turn >= (select min(e.turn) from webhook.ring_turn e where e.slot = any (event_slots))
                 order by t.slot);
comment on function webhook.attempt_slots(smallint[]) is 'The slots that can contain attempts to deliver events of these slots';
