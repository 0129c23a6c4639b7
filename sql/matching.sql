-- Who gets what, in one place: the views, webhook_replay() and webhook_dry_run() ask here, and the daemon's router states
-- the same rule.

-- Without a SET or a definer's rights, so that the planner puts these two into the query that calls them.
create function webhook.filter_matches(event webhook.event, filter jsonpath) returns boolean
    language sql immutable parallel unsafe
    return filter is null
        or webhook.path_matches(filter, (event).type, (event).key, (event).table_name, (event).actor, (event).origin,
                                (event).truncated, (event).payload, (event).previous);
comment on function webhook.filter_matches(webhook.event, jsonpath) is
    'Whether a filter lets an event through: a condition if it holds (@@), another path if it finds anything (@?), null always. What cannot be evaluated does not match; never raises for what an event holds';

-- Stable because format() is: called immutable it would not be put into the query.
create function webhook.mismatch(event webhook.event, subscription webhook.subscription) returns text
    language sql stable parallel unsafe
    return case
        when (event).type = 'webhook.delivery.requested' then 'it is a request to the daemon'
        when (event).subscription_id = (subscription).id then null
        when (event).subscription_id is not null then format('it is for subscription %s alone', (event).subscription_id)
        when not webhook.pattern_matches((subscription).events, (event).type) then 'no pattern matches its type'
        when pg_visible_in_snapshot((event).xid::text::xid8, (subscription).created_snapshot)
            then 'it was committed before the subscription was made'
        when (event).origin = any ((subscription).exclude_origin) then 'its origin is excluded'
        when not webhook.filter_matches(event, (subscription).filter) then 'the filter does not match'
    end;
comment on function webhook.mismatch(webhook.event, webhook.subscription) is
    'Why a subscription does not get an event; null: it does';

-- -- Moments and the ring ----------------------------------------------------------------------------------------

create function webhook.ring_begins(at timestamptz default now()) returns timestamptz
    language sql stable parallel safe strict
    return to_timestamp((floor(extract(epoch from at) / 216000) - 15) * 216000);
comment on function webhook.ring_begins(timestamptz) is
    'The moment before which the ring need hold nothing: 15 whole slots before the present one';

-- An open or a long range takes all of them.
create function webhook.ring_slots(since timestamptz, until timestamptz) returns smallint[]
    language sql immutable parallel safe strict
    return case
        when isfinite(since) and isfinite(until) and extract(epoch from until) - extract(epoch from since) < 15 * 216000
        then array(select webhook.ring_slot(to_timestamp(extract(epoch from since) + 216000 * n))
                   from generate_series(0, floor(extract(epoch from until) / 216000) - floor(extract(epoch from since) / 216000)) n)
        else '{0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}'
    end;
comment on function webhook.ring_slots(timestamptz, timestamptz) is 'The slots of the ring that a range of time falls into';
