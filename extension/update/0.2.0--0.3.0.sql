-- Updates pg_webhook from 0.2.0 to 0.3.0. scripts/compose_update.sh replaces the line with @code@
-- by the code of a fresh installation.

-- As in a fresh installation, names resolve only in schemas where other roles cannot create
-- objects.
set local search_path = pg_catalog, pg_temp;

-- The update waits for open transactions that have written events, and writers queue behind the
-- wait.
do $$
begin
    if current_setting('lock_timeout') = '0' then
        set local lock_timeout = '5s';
    end if;
end
$$;

-- -- Tables and rows ------------------------------------------------------------------------------

drop function webhook.gate_sleep(integer), webhook.gate_take(), webhook.gate_release(), webhook.act_for(text);

-- Roles are known by their OIDs. The code below replaces the views and policies that called
-- may_see(text).
alter table webhook.subscription add column owner_role oid;
alter table webhook.subscription drop constraint name_is_unique_for_its_owner;
create unique index subscription_owner_role_name_idx on webhook.subscription (owner_role, name) where owner_role <> 0;
create unique index subscription_owner_name_idx on webhook.subscription (owner, name) where owner_role is null;
alter table webhook.backfill add column requester oid;
update webhook.backfill b set requester = r.oid from pg_roles r where r.rolname = b.requested_by;
alter table webhook.token add column role_oid oid, add column owner_role oid;
update webhook.token t set role_oid = coalesce((select r.oid from pg_roles r where r.rolname = t.role), 0),
    owner_role = (select r.oid from pg_roles r where r.rolname::text = t.owner);
alter table webhook.token alter column role_oid set not null;

alter table webhook.subscription
    add column expected_response jsonb,
    add column keep_response boolean,
    add column paused_at timestamptz,
    add column disabled_at timestamptz,
    add column failures_reset_at timestamptz,
    add column scope text,
    add column locked text[],
    add column scope_since timestamptz,
    add constraint expected_response_is_an_object check (jsonb_typeof(expected_response) = 'object'),
    add constraint paused_at_only_when_paused check (not enabled or num_nonnulls(paused_at, disabled_at) = 0),
    add constraint scope_is_known check (scope in ('own', 'all')),
    add constraint locked_names_options check (locked <@ '{url,events,filter}');
-- A default in ADD COLUMN is not possible while functions use the row type. The trigger would emit
-- webhook.subscription.updated.
alter table webhook.subscription disable trigger tell;
update webhook.subscription s
    set keep_response = false, scope = 'all', locked = '{}', owner_role = (select r.oid from pg_roles r where r.rolname::text = s.owner);
alter table webhook.subscription enable always trigger tell;
alter table webhook.subscription alter column keep_response set default false, alter column keep_response set not null,
    alter column scope set default 'own', alter column scope set not null,
    alter column locked set default '{}', alter column locked set not null;
create index subscription_events_idx on webhook.subscription using gin (events) with (fastupdate = off) where scope = 'all';
create index subscription_scope_idx on webhook.subscription (owner, id) where scope = 'own';
alter table webhook.event add column owner text;
alter table webhook.watch
    add column owner_column text,
    add column owner_function text,
    add column owner_setting text,
    add constraint at_most_one_source_of_owners check (num_nonnulls(owner_column, owner_function, owner_setting) <= 1);
alter table webhook.event_type add column internal boolean;
update webhook.event_type set internal = false;
alter table webhook.event_type alter column internal set default false, alter column internal set not null;
create index event_type_internal_idx on webhook.event_type (relation) where internal;

-- The rights on functions that get another argument. They are granted again below.
do $$
begin
    perform set_config('pg_webhook.former_rights', coalesce(string_agg(distinct format('grant execute on function %s to %s%s',
            case when p.proname = 'webhook_watch'
                 then '@extschema@.webhook_watch(regclass, text, jsonb, text[], text[], text[], text, regproc, text[], text, regproc, text)'
                 else format('%s, text)', rtrim(p.oid::regprocedure::text, ')')) end,
            case a.grantee when 0 then 'public' else a.grantee::regrole::text end,
            case when a.is_grantable then ' with grant option' else '' end), '; '), ''), true)
    from pg_proc p cross join lateral aclexplode(p.proacl) a
    where a.grantee <> p.proowner and p.oid in (
        '@extschema@.webhook_emit(text, json, text)'::regprocedure,
        '@extschema@.webhook_emit(text, json, anynonarray)'::regprocedure,
        '@extschema@.webhook_emit(webhook.event_type_name, jsonb, text)'::regprocedure,
        '@extschema@.webhook_emit(webhook.event_type_name, jsonb, anynonarray)'::regprocedure,
        '@extschema@.webhook_watch(regclass, text, jsonb, text[], text[], text[], text, regproc, text[])'::regprocedure);
end
$$;
drop function @extschema@.webhook_emit(text, json, text), @extschema@.webhook_emit(text, json, anynonarray),
    @extschema@.webhook_emit(webhook.event_type_name, jsonb, text),
    @extschema@.webhook_emit(webhook.event_type_name, jsonb, anynonarray),
    @extschema@.webhook_watch(regclass, text, jsonb, text[], text[], text[], text, regproc, text[]);

drop function @extschema@.webhook_subscribe(
    text, text[], text, text, interval, interval[], integer, boolean, jsonpath, text, text, jsonb, numeric, text, integer,
    interval, boolean, text[], text, text[], text, text);
drop function @extschema@.webhook_alter(
    bigint, text, text[], text, text, interval, interval[], integer, boolean, jsonpath, text, text, jsonb, numeric, text, integer,
    interval, boolean, text[], text, text[], text, text, text[]);

alter table webhook.receiver add column probe_interval interval;

create index attempt_last_failure_idx on webhook.attempt (subscription_id, started_at) where outcome <> 'succeeded';

create table webhook.given_up (
    subscription_id bigint      not null,
    event_id        bigint      not null,
    event_slot      smallint    not null,
    given_up_at     timestamptz not null,
    status          smallint,
    constraint given_up_pkey primary key (subscription_id, event_id)
);
create index given_up_at_idx on webhook.given_up (subscription_id, given_up_at);
create table webhook.locked_subscription (
    subscription_id bigint      not null,
    since           timestamptz not null,
    pid             integer,
    role            name,
    application     text,
    constraint locked_subscription_pkey primary key (subscription_id)
);
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
create table webhook.portal_link (
    id             bigint      generated always as identity primary key,
    token_sha256   bytea       not null unique,
    session_sha256 bytea       unique,
    role           name        not null,
    role_oid       oid         not null,
    owner          text        not null,
    owner_role     oid,
    created_at     timestamptz not null default now(),
    created_by     name        not null default session_user,
    expires_at     timestamptz not null,
    used_at        timestamptz,
    constraint owner_has_1_to_200_characters check (length(owner) between 1 and 200 and owner !~ '[[:cntrl:]]'),
    constraint owner_is_not_all check (owner <> '*'),
    constraint hashes_have_32_bytes check (length(token_sha256) = 32 and length(session_sha256) = 32),
    constraint session_iff_used check ((session_sha256 is null) = (used_at is null)),
    constraint lasts_a_day_at_most check (expires_at <= created_at + interval '1 day')
);
create index portal_link_owner_idx on webhook.portal_link (owner, id);
create index portal_link_expires_at_idx on webhook.portal_link (expires_at);
insert into webhook.given_up (subscription_id, event_id, event_slot, given_up_at, status)
    select distinct on (a.subscription_id, a.event_id) a.subscription_id, a.event_id, e.slot, a.started_at, a.status
    from webhook.attempt a
    join webhook.event e on e.xid = a.event_xid and e.id = a.event_id and e.type not like 'webhook.%'
    join webhook.subscription s on s.id = a.subscription_id
    where a.outcome <> 'succeeded' and a.next_at is null
      and not exists (select from webhook.queue q where q.subscription_id = a.subscription_id and q.event_id = a.event_id)
      and not exists (select from webhook.attempt b where b.event_id = a.event_id and b.subscription_id = a.subscription_id
                                                      and b.outcome = 'succeeded')
    order by a.subscription_id, a.event_id, a.started_at desc;

-- -- The code of a fresh installation -------------------------------------------------------------

-- @code@

drop function webhook.may_see(text), webhook.may_manage(oid, text), webhook.exemplified_event_types(text[]), webhook.check_event_type(text);

-- -- Rights that follow from it -------------------------------------------------------------------

do $$
begin
    execute coalesce(nullif(current_setting('pg_webhook.former_rights'), ''), 'select');
end
$$;

-- Roles with a part of the work (webhook_grant) get the rights that were added to this part. A
-- right that only one part has identifies the part.
do $$
declare
    had record;
begin
    for had in
        select distinct a.grantee, r.what
        from (values ('publisher', '@extschema@.webhook_unwatch(regclass)'::regprocedure),
                     ('subscriber', '@extschema@.webhook_unsubscribe(bigint)'::regprocedure),
                     ('reader', 'webhook.find_event(text)'::regprocedure),
                     ('dispatcher', 'webhook.tell(text, bigint, json)'::regprocedure),
                     ('admin', '@extschema@.webhook_arm()'::regprocedure)) as r (what, function)
        join pg_proc p on p.oid = r.function
        cross join lateral aclexplode(p.proacl) a
        where a.grantee <> 0 and a.grantee <> p.proowner
    loop
        perform @extschema@.webhook_grant(had.grantee::regrole, had.what);
    end loop;
end
$$;
select webhook.admit_partition_owners();
-- Postgres counts rights that are granted while an extension's script runs as the extension's own,
-- and pg_dump leaves them out. Only the rights of the owner and of PUBLIC are the extension's own.
delete from pg_catalog.pg_init_privs i using pg_depend d
    where d.refclassid = 'pg_extension'::regclass and d.refobjid = (select oid from pg_extension where extname = 'pg_webhook') and d.deptype = 'e'
      and d.classid = i.classoid and d.objid = i.objoid
      and not exists (select from aclexplode(i.initprivs) a where a.grantee in (0, a.grantor));
update pg_catalog.pg_init_privs i
    set initprivs = array(select p.acl from unnest(i.initprivs) as p (acl)
                          where exists (select from aclexplode(array[p.acl]) a where a.grantee in (0, a.grantor)))
    from pg_depend d
    where d.refclassid = 'pg_extension'::regclass and d.refobjid = (select oid from pg_extension where extname = 'pg_webhook') and d.deptype = 'e'
      and d.classid = i.classoid and d.objid = i.objoid
      and exists (select from aclexplode(i.initprivs) a where a.grantee not in (0, a.grantor));
select webhook.list_event_types();
