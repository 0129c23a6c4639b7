-- pg_webhook 0.1.0 becomes 0.2.0. Written by scripts/upgrade.sh from extension/upgrade/0.1.0--0.2.0.sql; docs/RELEASE.md.
--
-- ALTER EXTENSION takes locks that wait for open transactions which have written to a watched table, and others wait behind
-- them: docs/OPERATIONS.md tells how to go about that.

-- ── Tables and rows ─────────────────────────────────────────────────────────────────────────────────────────────

-- A number becomes the name that it stands for, for pg_upgrade refuses regproc.
alter table webhook.watch alter column payload type text using payload::oid::text;
update webhook.watch w
    set payload = (select format('%I.%I', n.nspname, p.proname) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                   where p.oid::text = w.payload)
    where w.payload is not null;

alter table webhook.event_type
    add column derived text,
    add column data_schema json,
    add column example json,
    add constraint data_schema_is_an_object check (json_typeof(data_schema) = 'object');
alter table webhook.cursor add column restored_at timestamptz;
alter table webhook.receiver add column held_because text;

create table webhook.setting (
    singleton        boolean  primary key default true,
    retention        boolean  not null default true,
    retention_period interval not null default '30 days',
    max_age          interval not null default '35 days',
    dump_events      boolean  not null default false,
    constraint there_is_one_row check (singleton),
    constraint retention_period_is_at_most_35_days check (retention_period between '0' and '35 days'),
    constraint max_age_is_from_the_retention_period_to_37_days check (max_age between retention_period and '37 days')
);
insert into webhook.setting default values;

create table webhook.token (
    id           bigint      generated always as identity primary key,
    name         text        not null,
    token_sha256 bytea       not null unique,
    role         name        not null,
    owner        text,
    created_at   timestamptz not null default now(),
    created_by   name        not null default session_user,
    expires_at   timestamptz,
    constraint name_has_1_to_200_characters check (length(name) between 1 and 200 and name !~ '[[:cntrl:]]'),
    constraint owner_has_1_to_200_characters check (length(owner) between 1 and 200 and owner !~ '[[:cntrl:]]'),
    constraint token_sha256_has_32_bytes check (length(token_sha256) = 32)
);

create table webhook.idempotency (
    caller          text        not null,
    key             text        not null,
    request_sha256  bytea       not null,
    subscription_id bigint,
    created_at      timestamptz not null default now(),
    constraint idempotency_pkey primary key (caller, key),
    constraint key_has_1_to_255_characters check (length(key) between 1 and 255)
);
create index idempotency_created_at_idx on webhook.idempotency (created_at);

-- ── What a fresh installation says ──────────────────────────────────────────────────────────────────────────────

-- @code@

-- ── Rights and rows that follow from it ─────────────────────────────────────────────────────────────────────────

-- Who had a part of the work gets what has been added to it. A part is known by a right that no other part has.
do $$
declare
    had record;
begin
    for had in
        select distinct a.grantee, r.what
        from (values ('publisher', 'webhook.capture()'::regprocedure),
                     ('subscriber', (select p.oid from pg_proc p where p.proname = 'webhook_subscribe' and p.pronamespace = '@extschema@'::regnamespace)),
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
select webhook.list_event_types();
