-- What an operator enforces on the owners of subscriptions. webhook_subscribe() and webhook_alter()
-- check it on behalf of their caller, unless that is an admin.

create table webhook.owner_limit (
    owner                 text    primary key,
    owner_role            oid,
    rate_limit            numeric,
    verification_required boolean,
    subscriptions         integer,
    max_in_flight         integer,
    queued                integer,
    log_days              integer,
    external_secrets      boolean,
    tls_profiles          boolean,
    constraint rate_limit_is_1_a_day_to_100000_a_second check (rate_limit between 1.0 / 86400 and 100000),
    constraint subscriptions_are_not_negative check (subscriptions >= 0),
    constraint max_in_flight_is_1_to_4096 check (max_in_flight between 1 and 4096),
    constraint queued_is_not_negative check (queued >= 0),
    constraint log_days_is_at_least_1 check (log_days >= 1)
);
comment on table  webhook.owner_limit is 'Limits of owners of subscriptions; a null in the row of an owner means what the row of owner * says; change it with INSERT, UPDATE and DELETE';
comment on column webhook.owner_limit.owner is 'Owner of subscriptions (webhook.subscription.owner), or *';
comment on column webhook.owner_limit.owner_role is
    'Role that owner named when it was set; null: owner is not a role; 0: the role was dropped';
comment on column webhook.owner_limit.rate_limit is
    'Maximum of rate_limit of each subscription, and its value if none is chosen; null: no limit';
comment on column webhook.owner_limit.verification_required is
    'true: verification must be ping or handshake, so that no URL gets events that has not confirmed; null in the row *: false';
comment on column webhook.owner_limit.subscriptions is 'Maximum number of subscriptions; null: no limit';
comment on column webhook.owner_limit.max_in_flight is
    'Maximum of max_in_flight of each subscription, and its value if none is chosen; null: no limit';
comment on column webhook.owner_limit.queued is
    'Maximum number of queued deliveries, above which the owner cannot add more by replays and redeliveries; null: no limit';
comment on column webhook.owner_limit.log_days is 'Days of deliveries and attempts that the owner sees; null: all that are kept';
comment on column webhook.owner_limit.external_secrets is 'false: secrets must not be env:... or file:...; null in the row *: true';
comment on column webhook.owner_limit.tls_profiles is 'false: subscriptions must not use tls; null in the row *: true';
select pg_extension_config_dump('webhook.owner_limit', '');

create trigger find_owner_role before insert or update of owner on webhook.owner_limit
    for each row execute function webhook.find_owner_role();
alter table webhook.owner_limit enable always trigger find_owner_role;

create function webhook.limit_of(owner text, owner_role oid) returns webhook.owner_limit
    language sql stable parallel safe
    return (select row(coalesce(o.owner, d.owner), o.owner_role, coalesce(o.rate_limit, d.rate_limit),
                       coalesce(o.verification_required, d.verification_required, false),
                       coalesce(o.subscriptions, d.subscriptions), coalesce(o.max_in_flight, d.max_in_flight),
                       coalesce(o.queued, d.queued), coalesce(o.log_days, d.log_days),
                       coalesce(o.external_secrets, d.external_secrets, true),
                       coalesce(o.tls_profiles, d.tls_profiles, true))::webhook.owner_limit
            from (values (1)) as one
            left join webhook.owner_limit d on d.owner = '*'
            left join webhook.owner_limit o on o.owner <> '*'
                and case when limit_of.owner_role is null then o.owner_role is null and o.owner = limit_of.owner
                         else o.owner_role <> 0 and o.owner_role = limit_of.owner_role end
            where num_nonnulls(o.owner, d.owner) > 0
            order by o.owner limit 1);
comment on function webhook.limit_of(text, oid) is
    'The limits of an owner: those of its row, and for each null there those of owner *; null: there are no limits';

-- Fires after find_owner_role, because triggers fire in the order of their names.
create function webhook.limit_rate() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    new.rate_limit := (webhook.limit_of(new.owner, new.owner_role)).rate_limit;
    return new;
end
$$;
comment on function webhook.limit_rate() is 'Gives a subscription without rate_limit the limit of its owner';
revoke all on function webhook.limit_rate() from public;

create trigger limit_rate before insert or update of rate_limit, owner on webhook.subscription
    for each row when (new.rate_limit is null) execute function webhook.limit_rate();
alter table webhook.subscription enable always trigger limit_rate;

-- Security definer, because readers call it, and cannot read secrets.
create function webhook.exceeded_limit(subscription webhook.subscription) returns table (option text, reason text)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select e.option, e.reason
    from webhook.limit_of((subscription).owner, (subscription).owner_role) l
    cross join lateral (values
        ('rate_limit', (subscription).rate_limit > l.rate_limit or (subscription).rate_limit is null and l.rate_limit is not null,
         format('%s is more than the %s requests per second that owner "%s" may have',
                (subscription).rate_limit, trim_scale(l.rate_limit), (subscription).owner)),
        ('verification', l.verification_required and (subscription).verification = 'none',
         format('is required for owner "%s": a URL must confirm before it gets events', (subscription).owner)),
        ('max_in_flight', (subscription).max_in_flight > l.max_in_flight,
         format('%s is more than the %s concurrent requests that owner "%s" may have',
                (subscription).max_in_flight, l.max_in_flight, (subscription).owner)),
        ('tls', not l.tls_profiles and (subscription).tls is not null,
         format('owner "%s" may not use certificates of the daemon''s configuration', (subscription).owner)),
        ('secret', not l.external_secrets and exists (
             select from webhook.secret k where k.subscription_id = (subscription).id and k.secret ~ '^(env|file):'),
         format('owner "%s" may not use secrets of the daemon''s machine (env:..., file:...)', (subscription).owner))
    ) as e (option, is_exceeded, reason)
    where e.is_exceeded;
end;
comment on function webhook.exceeded_limit(webhook.subscription) is 'The options of a subscription that exceed the limits of its owner';

create function webhook.owned_by(owner text, owner_role oid, other text, other_role oid) returns boolean
    language sql immutable parallel safe
    return case when owner_role is null then other_role is null and other = owner else other_role = owner_role end;
comment on function webhook.owned_by(text, oid, text, oid) is 'Whether two rows have the same owner';
