-- The SQL API. The bodies are in extension/src, in the file named above each group. The
-- declarations define who may call a function, with which arguments, and with whose rights it runs.
-- The functions are in the schema that the extension is created in (@extschema@), and their helpers
-- are in schema webhook. At the end, sql/grants.sql revokes all rights from PUBLIC.

-- -- Watching tables: watch/ ----------------------------------------------------------------------

-- Not security definer: these two must know their caller, and parse a condition with its author's
-- rights. They switch to the extension's owner after a check that the caller owns the table
-- (rights.rs).
create function @extschema@.webhook_watch(
    rel regclass,
    noun text default null,
    verbs jsonb default '{"insert":"created","update":"updated","delete":"deleted","truncate":"truncated"}',
    columns text[] default null,
    exclude text[] default null,
    on_columns text[] default null,
    condition text default null,
    payload regproc default null,
    key_columns text[] default null
) returns webhook.watch
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_watch_wrapper';
comment on function @extschema@.webhook_watch is
    'Watch a table: its changes become events noun.verb. Calling again redefines. For the table''s owner';

create function @extschema@.webhook_unwatch(rel regclass) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_unwatch_wrapper';
comment on function @extschema@.webhook_unwatch is 'Watch a table no longer: its triggers go, its past events stay';

create function @extschema@.webhook_migrate(rel regclass, statement text) returns webhook.watch
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_migrate_wrapper';
comment on function @extschema@.webhook_migrate is
    'Run ALTER TABLE statements that the condition of a watch stands in the way of, with the caller''s rights, and watch the table as before. For the table''s owner';

create function webhook.noun_of(event_type text) returns text
    language sql immutable parallel safe strict
    return regexp_replace(event_type, '\.[^.]*$', '');
comment on function webhook.noun_of(text) is 'The noun of an event type, with its namespace: everything before the last dot';

-- Returns the changes of watched tables that emit an event type. A backfill's noun.snapshot is not
-- a verb of the watch.
create function webhook.sources(event_type text) returns table (relation regclass, operations text[], payload text)
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select w.relation, array_agg(v.key order by array_position('{insert,update,delete,truncate,snapshot}', v.key)), w.payload
    from webhook.watch w,
         lateral (select e.key, e.value from jsonb_each_text(w.verbs) e union all select 'snapshot', 'snapshot') v
    -- The noun finds the watches by its index.
    where w.noun = webhook.noun_of(sources.event_type) and w.noun || '.' || v.value = sources.event_type
    group by w.relation
    order by w.relation::oid;
end;
comment on function webhook.sources(text) is
    'The watched tables that emit an event type, and on what: insert, update, delete, truncate, snapshot (a row of a backfill)';

create function webhook.derived_description(event_type text) returns text
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select string_agg(concat_ws(' ', o.sentences, obj_description(s.relation, 'pg_class')), E'\n' order by s.relation::oid)
    from webhook.sources(event_type) s
    cross join lateral (
        select string_agg(format(case o.operation when 'insert' then 'A row was inserted into %s.'
                                                  when 'update' then 'A row of %s was updated.'
                                                  when 'delete' then 'A row of %s was deleted.'
                                                  when 'truncate' then '%s was emptied.'
                                                  else 'A row that %s held already.' end, s.relation), ' ' order by o.at)
        from unnest(s.operations) with ordinality as o (operation, at)) as o (sentences);
end;
comment on function webhook.derived_description(text) is
    'What an event type says, from its watch and the table''s comment; null: no watch emits it';

-- Event types follow from the watches. Types without a table were entered by hand, and stay. A
-- description that a user has written for a watch's type stays too, also after the watch. The
-- function reads and locks the rows of the given types only. So watches of different types do not
-- wait for one another, and their number does not slow it down.
create function webhook.list_event_types(types text[] default null) returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    listed text;
    source regclass;
    description text;
begin
    if types is null then
        select array_agg(t.type) into types from (
            select e.type from webhook.event_type e
            union select w.noun || '.' || v.value from webhook.watch w cross join jsonb_each_text(w.verbs) v) t;
    end if;
    -- Sorted, so that two transactions with the same types lock them in the same order.
    for listed in select distinct t from unnest(types) t where t is not null order by 1 loop
        -- Deletes the type of an ended watch. It locks the row first and then checks, so that it
        -- sees a watch that commits meanwhile. A watch of the same type only keeps the row from
        -- being deleted.
        if exists (select from webhook.sources(listed) s where s.operations <> '{snapshot}') then
            perform from webhook.event_type t where t.type = listed for key share;
        else
            perform from webhook.event_type t where t.type = listed and t.relation is not null for update;
        end if;
        select min(s.relation::oid)::regclass into source from webhook.sources(listed) s where s.operations <> '{snapshot}';
        if source is null then
            update webhook.event_type t set relation = null
            where t.type = listed and t.relation is not null
              and (t.description is distinct from t.derived or t.data_schema is not null or t.example is not null);
            delete from webhook.event_type t where t.type = listed and t.relation is not null;
        else
            description := webhook.derived_description(listed);
            update webhook.event_type t
            set relation = source, derived = description,
                description = case when t.description is not distinct from t.derived then description else t.description end
            where t.type = listed and (t.relation, t.derived) is distinct from (source, description);
            insert into webhook.event_type (type, relation, description, derived)
            values (listed, source, description, description)
            on conflict (type) do nothing;
        end if;
    end loop;
end
$$;
comment on function webhook.list_event_types(text[]) is
    'Brings these event types in line with webhook.watch; null: all of them';

-- DROP TABLE drops the triggers of a table, but not its row in webhook.watch.
create function webhook.forget_dropped_tables() returns event_trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    gone oid[];
    types text[];
begin
    select array_agg(d.objid) into gone
    from pg_event_trigger_dropped_objects() d
    where d.classid = 'pg_class'::regclass and d.objsubid = 0 and d.object_type = 'table' and not d.is_temporary;
    if gone is null then
        return;
    end if;
    delete from webhook.detached_partition d where d.relation = any (gone);
    with forgotten as (
        delete from webhook.watch w where w.relation = any (gone) returning w.noun, w.verbs)
    select array_agg(f.noun || '.' || v.value) into types from forgotten f cross join jsonb_each_text(f.verbs) v;
    if types is not null then
        perform webhook.list_event_types(types);
        perform webhook.dismiss_partition_owners();
    end if;
exception
    -- An error in our tables must not prevent a user from dropping theirs.
    when others then
        raise warning 'pg_webhook could not forget a dropped table: %', sqlerrm;
end
$$;
comment on function webhook.forget_dropped_tables() is 'Removes the watches of tables that have been dropped';

create event trigger webhook_forget_dropped_tables on sql_drop
    when tag in ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP EXTENSION', 'DROP TYPE')
    execute function webhook.forget_dropped_tables();
alter event trigger webhook_forget_dropped_tables enable always;
comment on event trigger webhook_forget_dropped_tables is 'Removes the watches of tables that have been dropped';

-- Postgres copies the triggers of a partitioned table to each new partition, as the role that
-- creates the partition, and requires that this role may execute their function. So the owners of
-- watched partitioned tables have this right. With that right alone, a role can neither call the
-- function nor name it in a trigger, and capture ignores triggers that webhook_watch() did not
-- create (extension/src/capture/origin.rs).
create function webhook.admit_partition_owners(relations oid[] default null) returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    owner regrole;
    is_locked boolean := false;
begin
    for owner in
        select distinct c.relowner::regrole
        from pg_class c
        where c.relkind = 'p' and (relations is null or c.oid = any (relations))
          and exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgfoid = 'webhook.capture()'::regprocedure)
          and not has_function_privilege(c.relowner, 'webhook.capture()'::regprocedure, 'execute')
        order by 1
    loop
        -- Postgres fails a GRANT that runs at the same time as another one for the same function.
        -- This is rare: once for each owner who is not a publisher.
        if not is_locked then
            perform from webhook.setting for update;
            is_locked := true;
        end if;
        execute format('grant execute on function webhook.capture() to %s', owner);
    end loop;
end
$$;
comment on function webhook.admit_partition_owners(oid[]) is
    'Lets the owners of watched partitioned tables make partitions; null: all of them';

-- A role that still has a right cannot be dropped.
create function webhook.dismiss_partition_owners() returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    owner regrole;
    is_locked boolean := false;
begin
    for owner in
        select a.grantee::regrole
        from pg_proc p cross join aclexplode(p.proacl) a
        where p.oid = 'webhook.capture()'::regprocedure and a.grantee not in (0, p.proowner)
          and not has_function_privilege(a.grantee, '@extschema@.webhook_unwatch(regclass)'::regprocedure, 'execute')
          and not exists (
              select from pg_class c join pg_trigger t on t.tgrelid = c.oid
              where c.relkind = 'p' and c.relowner = a.grantee and t.tgfoid = p.oid)
        order by 1
    loop
        if not is_locked then
            perform from webhook.setting for update;
            is_locked := true;
        end if;
        execute format('revoke execute on function webhook.capture() from %s', owner);
    end loop;
end
$$;
comment on function webhook.dismiss_partition_owners() is
    'Takes the right to make partitions back from those who own no watched partitioned table any longer';

create function webhook.follow_owners() returns event_trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform webhook.admit_partition_owners(array(
        select d.objid from pg_event_trigger_ddl_commands() d where d.classid = 'pg_class'::regclass));
exception
    when others then
        raise warning 'pg_webhook could not let a new owner make partitions: %', sqlerrm;
end
$$;
comment on function webhook.follow_owners() is 'Lets the new owner of a watched partitioned table make partitions of it';

-- Postgres has no event triggers for REASSIGN OWNED. After one, webhook_check() lists the owners
-- that lack the right.
create event trigger webhook_follow_owners on ddl_command_end
    when tag in ('ALTER TABLE')
    execute function webhook.follow_owners();
alter event trigger webhook_follow_owners enable always;
comment on event trigger webhook_follow_owners is 'Lets the new owner of a watched partitioned table make partitions of it';

-- Postgres passes the parse tree of a statement only to C functions: watch/partition.rs.
create function webhook.follow_partitions() returns event_trigger
    language c
    as 'MODULE_PATHNAME', 'webhook_follow_partitions';
comment on function webhook.follow_partitions() is
    'Ends the watch of a table that becomes a partition of a watched one; notes a partition that leaves a watched table';

create event trigger webhook_merge_attached_partitions on ddl_command_start
    when tag in ('ALTER TABLE')
    execute function webhook.follow_partitions();
alter event trigger webhook_merge_attached_partitions enable always;
comment on event trigger webhook_merge_attached_partitions is 'Ends the watch of a table that becomes a partition of a watched one';

create event trigger webhook_note_detached_partitions on ddl_command_end
    when tag in ('ALTER TABLE')
    execute function webhook.follow_partitions();
alter event trigger webhook_note_detached_partitions enable always;
comment on event trigger webhook_note_detached_partitions is 'Notes a partition that leaves a watched table, which is captured no longer';

-- -- Events: emit.rs, delivery.rs -----------------------------------------------------------------

-- Runs no SQL, so it needs neither SECURITY DEFINER nor a search path, which would cost more than
-- the call itself.
create function @extschema@.webhook_emit(event_type text, payload json, key text default null) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_wrapper';
comment on function @extschema@.webhook_emit(text, json, text) is
    'Put an application event into the outbox, in this transaction; returns its id (evt_...)';

-- If a call has untyped literals or parameters and several functions match, Postgres prefers those
-- with the preferred type of a category. For strings, this is text and never a domain. So such
-- calls go to the function above, as they did before there were others, and infer json for the
-- payload.
create domain webhook.event_type_name as text;
comment on domain webhook.event_type_name is
    'An event type where text would make calls of webhook_emit() with untyped arguments ambiguous';

create function @extschema@.webhook_emit(event_type text, payload json, key anynonarray) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_typed_wrapper';
comment on function @extschema@.webhook_emit(text, json, anynonarray) is
    'webhook_emit() with a key of any type; it is written as the key of a watched table is';

create function @extschema@.webhook_emit(event_type webhook.event_type_name, payload jsonb, key text default null) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_typed_wrapper';
comment on function @extschema@.webhook_emit(webhook.event_type_name, jsonb, text) is
    'webhook_emit() of a jsonb payload';

create function @extschema@.webhook_emit(event_type webhook.event_type_name, payload jsonb, key anynonarray) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_typed_wrapper';
comment on function @extschema@.webhook_emit(webhook.event_type_name, jsonb, anynonarray) is
    'webhook_emit() of a jsonb payload with a key of any type';

create function @extschema@.webhook_ping(id bigint) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_ping_wrapper';
comment on function @extschema@.webhook_ping is 'Send webhook.ping to one subscription; returns the event''s id (evt_...)';

create function @extschema@.webhook_redeliver(event_id text, subscription_id bigint) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_redeliver_wrapper';
comment on function @extschema@.webhook_redeliver is
    'Delivers an event to a subscription again, now and with the same id, with a fresh retry schedule';

create function @extschema@.webhook_replay(
    subscription_id bigint,
    since timestamptz,
    until timestamptz default now(),
    events text[] default null
) returns bigint
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_replay_wrapper';
comment on function @extschema@.webhook_replay is
    'Delivers the events of a time range again, in order and with the same ids, including events older than the subscription. Returns their number';

create function @extschema@.webhook_dry_run(subscription_id bigint, since timestamptz)
    returns table (event_id text, sequence bigint, type text, key text, created_at timestamptz, matches boolean, reason text)
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_dry_run_wrapper';
comment on function @extschema@.webhook_dry_run is
    'Which events since then a subscription would have got as it is now, and why not the others. Delivers nothing';

-- -- Backfills: backfill/ -------------------------------------------------------------------------

-- Not security definer: it must know its caller, and parses the condition with the caller's rights.
create function @extschema@.webhook_backfill(subscription_id bigint, rel regclass, condition text default null) returns bigint
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_backfill_wrapper';
comment on function @extschema@.webhook_backfill is
    'Send the rows that a watched table has to one subscription, as events noun.snapshot, between the changes to it; returns the id in webhook.backfill';

-- Ends a running backfill. Returns false if it is not running.
create function webhook.end_backfill(id bigint, state text, error text default null) returns boolean
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    ended webhook.backfill;
begin
    update webhook.backfill b set state = state, error = error, updated_at = clock_timestamp()
        where b.id = id and b.state = 'running'
        returning * into ended;
    if not found then
        return false;
    end if;
    insert into webhook.event (type, key, payload)
    values ('webhook.backfill.' || state, id::text,
            json_build_object('id', id, 'subscription_id', ended.subscription_id, 'table', ended.relation::text,
                              'rows', ended.rows_done, 'error', error));
    perform webhook.gate_ring();
    return true;
end
$$;
comment on function webhook.end_backfill(bigint, text, text) is
    'Ends a backfill as done, failed or cancelled, and tells (webhook.backfill.done ...); false: it is not running';

create function @extschema@.webhook_backfill_cancel(id bigint) returns boolean
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_backfill_cancel_wrapper';
comment on function @extschema@.webhook_backfill_cancel is
    'Stops a backfill. Events that were sent stay sent. Returns false if it has already ended';

-- The daemon's session allows index scans only. Here, the planner decides, because the table is not
-- ours.
create function webhook.backfill_step(id bigint, rows_max integer) returns boolean
    language c volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
    set enable_seqscan = on set enable_bitmapscan = on set enable_sort = on set enable_incremental_sort = on
    set enable_hashjoin = on set enable_mergejoin = on set enable_material = on
    as 'MODULE_PATHNAME', 'backfill_step_wrapper';
comment on function webhook.backfill_step(bigint, integer) is
    'Daemon: send the next rows of a backfill, at most so many, in a transaction of its own; true: it has ended';

-- -- Subscriptions: subscribe/ --------------------------------------------------------------------

create function @extschema@.webhook_subscribe(
    url text,
    events text[] default '{*}',
    name text default null,
    secret text default null,
    timeout interval default '15 seconds',
    retry interval[] default '{5s,5min,30min,2h,5h,10h,14h,20h,24h}',
    max_in_flight integer default 512,
    enabled boolean default true,
    filter jsonpath default null,
    format text default 'standard',
    payload_mode text default 'full',
    headers jsonb default '{}',
    rate_limit numeric default null,
    ordering text default 'none',
    batch_size integer default 1,
    batch_window interval default '0',
    compact boolean default false,
    exclude_origin text[] default '{}',
    verification text default 'none',
    signature text[] default '{standard}',
    owner text default null,
    tls text default null
) returns table (id bigint, secret text)
    language c volatile parallel unsafe rows 1
    as 'MODULE_PATHNAME', 'webhook_subscribe_wrapper';
comment on function @extschema@.webhook_subscribe is
    'Deliver events that match the patterns to a URL, from this transaction on. The secret is shown here only; of a key pair (standard-v1a) its public half';

create function @extschema@.webhook_alter(
    id bigint,
    url text default null,
    events text[] default null,
    name text default null,
    secret text default null,
    timeout interval default null,
    retry interval[] default null,
    max_in_flight integer default null,
    enabled boolean default null,
    filter jsonpath default null,
    format text default null,
    payload_mode text default null,
    headers jsonb default null,
    rate_limit numeric default null,
    ordering text default null,
    batch_size integer default null,
    batch_window interval default null,
    compact boolean default null,
    exclude_origin text[] default null,
    verification text default null,
    signature text[] default null,
    owner text default null,
    tls text default null,
    clear text[] default null
) returns webhook.subscription
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_alter_wrapper';
comment on function @extschema@.webhook_alter is
    'Change a subscription; null leaves as is, clear ends name, filter, rate_limit or tls. A secret given here replaces all others at once';

create function @extschema@.webhook_unsubscribe(id bigint) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_unsubscribe_wrapper';
comment on function @extschema@.webhook_unsubscribe is
    'End a subscription, with its secrets and what is queued for it; past attempts stay';

create function @extschema@.webhook_pause(id bigint, reason text default null) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_pause_wrapper';
comment on function @extschema@.webhook_pause is 'Stop delivering to a subscription; what matches meanwhile is kept';

create function @extschema@.webhook_resume(id bigint, skip_backlog boolean default false) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_resume_wrapper';
comment on function @extschema@.webhook_resume is
    'Deliver to a subscription again, what was kept first; skip_backlog drops what is queued instead';

create function @extschema@.webhook_rotate_secret(id bigint, overlap interval default '24 hours') returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_rotate_secret_wrapper';
comment on function @extschema@.webhook_rotate_secret is
    'Make a new signing secret and return it (of a key pair: the public half); the old ones sign beside it until the overlap is over';

create function @extschema@.webhook_seal(public_key text) returns bigint
    language c volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'webhook_seal_wrapper';
comment on function @extschema@.webhook_seal is
    'Keep signing secrets sealed for the daemon''s key from now on (webhookd keygen prints its public half); those in clear are sealed at once. Returns how many that were';

-- -- Signatures: signing.rs -----------------------------------------------------------------------

create function @extschema@.webhook_sign(secret text, id text, ts bigint, body text) returns text
    language c immutable parallel safe strict
    as 'MODULE_PATHNAME', 'webhook_sign_wrapper';
comment on function @extschema@.webhook_sign is
    'The header webhook-signature (Standard Webhooks v1) of a message: "v1," and base64; ts in seconds since 1970';

create function @extschema@.webhook_verify(
    secret text,
    id text,
    ts bigint,
    body text,
    header text,
    now timestamptz default clock_timestamp()
) returns boolean
    language c immutable parallel safe
    as 'MODULE_PATHNAME', 'webhook_verify_wrapper';
comment on function @extschema@.webhook_verify is
    'Whether a webhook-signature header fits the message and its timestamp lies within 5 minutes of now; a missing part: false';

-- -- Ownership ------------------------------------------------------------------------------------

-- The functions above call it on behalf of their caller. A role that may arm is an admin.
create function webhook.may_manage(role oid, owner text) returns boolean
    language sql stable parallel safe
    return case when webhook.tenant() is not null then owner = webhook.tenant()
                else has_function_privilege(role, '@extschema@.webhook_arm()'::regprocedure, 'execute')
                     or coalesce(pg_has_role(role, to_regrole(quote_ident(owner)), 'usage'), false) end;
comment on function webhook.may_manage(oid, text) is 'Whether a role may change what this owner has: it is the owner, a member, or an admin';

-- -- Erasure --------------------------------------------------------------------------------------

create table webhook.erasure (
    event_id        bigint      not null,
    event_xid       bigint      not null,
    payload_sha256  bytea       not null,
    previous_sha256 bytea,
    erased_at       timestamptz not null default now(),
    erased_by       name        not null default session_user,
    constraint erasure_pkey primary key (event_id, event_xid)
);
comment on table  webhook.erasure is 'Events whose payload webhook_erase() has blanked, and what proves what it was';
comment on column webhook.erasure.payload_sha256 is 'SHA-256 of webhook.event.payload as it was, in UTF-8';
comment on column webhook.erasure.previous_sha256 is 'The same of webhook.event.previous, if there was one';
select pg_extension_config_dump('webhook.erasure', '');

create function @extschema@.webhook_erase(rel regclass, key text) returns bigint
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    name text;
    count bigint;
begin
    if webhook_erase.key is null then
        raise exception using errcode = 'null_value_not_allowed', message = 'key must not be null',
            hint = 'Pass what webhook.event.key holds: the key column''s text, or a JSON array of them when there are several.';
    end if;
    -- Events may name a table that no longer exists. regclass has no name for it.
    select format('%I.%I', n.nspname, c.relname) into name
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = webhook_erase.rel;
    if webhook_erase.rel is not null and name is null then
        raise exception using errcode = 'undefined_table',
            message = format('there is no relation with number %s', webhook_erase.rel::oid),
            hint = 'It may have been dropped just now.';
    end if;
    with subject as (
        select e.slot, e.xid, e.id, e.payload, e.previous from webhook.event e
        where e.key = webhook_erase.key and e.table_name is not distinct from name and e.type not like 'webhook.%'
          and not exists (select from webhook.erasure x where x.event_id = e.id and x.event_xid = e.xid)
    ), proof as (
        insert into webhook.erasure (event_id, event_xid, payload_sha256, previous_sha256)
        select s.id, s.xid, sha256(webhook.exact_utf8(s.payload::text)), sha256(webhook.exact_utf8(s.previous::text))
        from subject s
    ), blanked as (
        update webhook.event e set payload = '{}', previous = case when e.previous is not null then json '{}' end
        from subject s where e.slot = s.slot and e.xid = s.xid and e.id = s.id
    ), echoed as (
        update webhook.attempt a set response = null
        from subject s where a.event_id = s.id and a.event_xid = s.xid and a.response is not null
    )
    select count(*) into count from subject;
    return count;
end
$$;
comment on function @extschema@.webhook_erase is
    'Blanks the payloads of all events about a subject, and the answers of receivers. Attempts and hashes stay. rel null: events of webhook_emit(). Returns the number of events';
