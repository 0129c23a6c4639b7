-- Watching tables: the functions of extension/src/watch, and what follows a table that is altered
-- or dropped. sql/functions.sql says what its declarations mean.

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
    key_columns text[] default null,
    owner_column text default null,
    owner_function regproc default null,
    owner_setting text default null
) returns webhook.watch
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_watch_wrapper';
comment on function @extschema@.webhook_watch is
    'Watches a table: its changes become events noun.verb. Another call redefines the watch. For the table''s owner';

create function @extschema@.webhook_unwatch(rel regclass) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_unwatch_wrapper';
comment on function @extschema@.webhook_unwatch is 'Ends the watch of a table: its triggers are removed, its past events stay';

create function @extschema@.webhook_migrate(rel regclass, statement text) returns webhook.watch
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_migrate_wrapper';
comment on function @extschema@.webhook_migrate is
    'Runs ALTER TABLE statements that the condition of a watch would prevent, with the caller''s privileges, and keeps the watch. For the table''s owner';

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
    'The watched tables that emit an event type, and the operation: insert, update, delete, truncate, snapshot (a row of a backfill)';

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
    'Description of an event type, from its watch and the table''s comment; null: no watch emits it';

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
    -- Another type of a table that has internal types alone is internal too.
    kept regclass[] := array(select t.relation from webhook.event_type t
                             where t.internal and t.relation is not null
                               and not exists (select from webhook.event_type p where p.relation = t.relation and not p.internal));
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
              and (t.description is distinct from t.derived or t.data_schema is not null or t.example is not null or t.internal);
            delete from webhook.event_type t where t.type = listed and t.relation is not null;
        else
            description := webhook.derived_description(listed);
            update webhook.event_type t
            set relation = source, derived = description,
                description = case when t.description is not distinct from t.derived then description else t.description end
            where t.type = listed and (t.relation, t.derived) is distinct from (source, description);
            insert into webhook.event_type (type, relation, description, derived, internal)
            values (listed, source, description, description, source = any (kept))
            on conflict (type) do nothing;
        end if;
    end loop;
end
$$;
comment on function webhook.list_event_types(text[]) is
    'Updates these event types from webhook.watch; null: all event types';

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
    'Allows the owners of these watched partitioned tables to create partitions; null: all watched partitioned tables';

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
    'Revokes the privilege to create partitions from roles that no longer own a watched partitioned table';

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
comment on function webhook.follow_owners() is 'Allows the new owner of a watched partitioned table to create partitions of it';

-- Postgres has no event triggers for REASSIGN OWNED. After one, webhook_check() lists the owners
-- that lack the right.
create event trigger webhook_follow_owners on ddl_command_end
    when tag in ('ALTER TABLE')
    execute function webhook.follow_owners();
alter event trigger webhook_follow_owners enable always;
comment on event trigger webhook_follow_owners is 'Allows the new owner of a watched partitioned table to create partitions of it';

-- Postgres passes the parse tree of a statement only to C functions: watch/partition.rs.
create function webhook.follow_partitions() returns event_trigger
    language c
    as 'MODULE_PATHNAME', 'webhook_follow_partitions';
comment on function webhook.follow_partitions() is
    'Ends the watch of a table that becomes a partition of a watched table; records a partition that is detached from a watched table';

create event trigger webhook_merge_attached_partitions on ddl_command_start
    when tag in ('ALTER TABLE')
    execute function webhook.follow_partitions();
alter event trigger webhook_merge_attached_partitions enable always;
comment on event trigger webhook_merge_attached_partitions is 'Ends the watch of a table that becomes a partition of a watched table';

create event trigger webhook_note_detached_partitions on ddl_command_end
    when tag in ('ALTER TABLE')
    execute function webhook.follow_partitions();
alter event trigger webhook_note_detached_partitions enable always;
comment on event trigger webhook_note_detached_partitions is 'Records a partition that is detached from a watched table and is no longer captured';
