-- pg_webhook 0.1.0 becomes 0.2.0. Written by scripts/upgrade.sh from extension/upgrade/0.1.0--0.2.0.sql; docs/RELEASE.md.

-- As in a fresh installation: nothing is looked up where others may create.
set local search_path = pg_catalog, pg_temp;

-- The update waits for open transactions that have written events, and writers queue behind the wait.
do $$
begin
    if current_setting('lock_timeout') = '0' then
        set local lock_timeout = '5s';
    end if;
end
$$;

-- -- Tables and rows ---------------------------------------------------------------------------------------------

-- A number becomes the name that it stands for, for pg_upgrade refuses regproc.
alter table webhook.watch alter column payload type text using payload::oid::text;
update webhook.watch w
    set payload = (select format('%I.%I', n.nspname, p.proname) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                   where p.oid::text = w.payload)
    where w.payload is not null;

alter table webhook.watch add column numbered_for oid[] not null default '{}';
create index watch_noun_idx on webhook.watch (noun);
create table webhook.detached_partition (
    relation    regclass    primary key,
    root        regclass    not null,
    detached_at timestamptz not null default now()
);
drop function webhook.list_event_types();
-- The code below replaces the function and comments on the event trigger, but does not create it.
create function webhook.follow_owners() returns event_trigger language plpgsql as 'begin end';
create event trigger webhook_follow_owners on ddl_command_end
    when tag in ('ALTER TABLE')
    execute function webhook.follow_owners();
create function webhook.follow_partitions() returns event_trigger language c as 'MODULE_PATHNAME', 'webhook_follow_partitions';
create event trigger webhook_merge_attached_partitions on ddl_command_start
    when tag in ('ALTER TABLE')
    execute function webhook.follow_partitions();
create event trigger webhook_note_detached_partitions on ddl_command_end
    when tag in ('ALTER TABLE')
    execute function webhook.follow_partitions();

alter table webhook.event_type
    add column derived text,
    add column data_schema json,
    add column example json,
    add constraint data_schema_is_an_object check (json_typeof(data_schema) = 'object');
-- The instance is null: the first daemon that delivers after the update decides.
alter table webhook.cursor
    add column restored_at timestamptz,
    add column instance text,
    add column refused_instance text,
    add constraint instance_is_a_line check (instance !~ '^$|[[:cntrl:]]' and refused_instance !~ '^$|[[:cntrl:]]');
alter table webhook.receiver add column held_because text;

-- A name is one owner's.
alter table webhook.subscription
    drop constraint subscription_name_key,
    add constraint name_is_unique_for_its_owner unique (owner, name),
    drop constraint format_is_known,
    add constraint format_is_known check (format in
        ('standard', 'cloudevents-structured', 'cloudevents-binary', 'form', 'raw', 'supabase', 'hasura'));
-- Reads the whole of both tables, and events are captured meanwhile.
create index attempt_failed_idx on webhook.attempt (event_id) where outcome <> 'succeeded';
drop index webhook.queue_next_at_idx;
create index queue_next_at_idx on webhook.queue (next_at, subscription_id, event_id) where state = 'waiting';
create index queue_event_id_idx on webhook.queue ((event_id + 0));

create table webhook.setting (
    singleton        boolean  primary key default true,
    retention        boolean  not null default true,
    retention_period interval not null default '30 days',
    max_age          interval not null default '35 days',
    dump_events      boolean  not null default false,
    ring_bytes_max   bigint   default 10737418240,
    constraint there_is_one_row check (singleton),
    constraint retention_period_is_at_most_35_days check (retention_period between '0' and '35 days'),
    constraint max_age_is_from_the_retention_period_to_37_days check (max_age between retention_period and '37 days'),
    constraint ring_bytes_max_is_at_least_64_mib check (ring_bytes_max >= 67108864)
);
insert into webhook.setting default values;

-- Until now the clock chose the slot: all may hold what the daemon has not read. A session with the library of 0.1 goes on
-- to let the clock choose, so no slot is closed before the last of them has ended.
create table webhook.ring_head (
    singleton      boolean    primary key default true,
    present        smallint   not null,
    open           smallint[] not null,
    changes        bigint     not null default 0,
    sessions_since timestamptz,
    constraint there_is_one_row check (singleton),
    constraint the_present_slot_is_open check (present between 0 and 15 and present = any (open))
);
insert into webhook.ring_head (present, open, sessions_since)
    select webhook.ring_slot(clock_timestamp()), array(select n::smallint from generate_series(0, 15) n), clock_timestamp();
create table webhook.ring_turn (
    slot         smallint primary key,
    turn         bigint   not null default 0,
    began_at     timestamptz,
    ended_at     timestamptz,
    rows         bigint,
    first_at     timestamptz,
    last_at      timestamptz,
    held         text,
    removed_upto timestamptz,
    constraint slot_is_from_0_to_15 check (slot between 0 and 15)
);
insert into webhook.ring_turn (slot, turn, began_at)
    select n, case n when h.present then 1 else 0 end, case n when h.present then clock_timestamp() end
    from generate_series(0, 15) n cross join webhook.ring_head h;

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

create domain webhook.event_type_name as text;

create sequence webhook.timeline_seq;

create table webhook.own_part (
    kind   text not null,
    name   text not null,
    state  text not null,
    repair text not null,
    constraint own_part_pkey primary key (kind, name)
);

-- -- What a fresh installation says ------------------------------------------------------------------------------

-- @code@

-- -- Rights and rows that follow from it -------------------------------------------------------------------------

-- Who had a part of the work gets what has been added to it. A part is known by a right that no other part has.
do $$
declare
    had record;
begin
    for had in
        select distinct a.grantee, r.what
        from (values ('publisher', '@extschema@.webhook_unwatch(regclass)'::regprocedure),
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
select webhook.admit_partition_owners();
-- What is granted while the script of an extension runs is taken for the extension's own, and pg_dump leaves it out. But to
-- whom something is granted has been somebody's decision: only the owner's rights and PUBLIC's are ours.
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
