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

create function webhook.mismatch(event webhook.event, subscription webhook.subscription) returns text
    language sql immutable parallel unsafe
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
