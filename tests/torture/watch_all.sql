-- Watches every permanent table that is created in this database, and records the tables that
-- cannot be watched. The extension is in schema pgw, where its names do not clash with the suites'
-- own names.
create schema torture;
create table torture.watched (relation oid, command text);
create table torture.skipped (relation text, command text, sqlstate text, message text);

-- SECURITY DEFINER, because roles without rights on schema torture create tables too.
create function torture.watch_new_tables() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    command record;
begin
    for command in
        select distinct on (c.oid) c.oid, c.oid::regclass::text as name, d.command_tag as tag
        from pg_event_trigger_ddl_commands() d
        join pg_class c on c.oid = d.objid
        join pg_namespace n on n.oid = c.relnamespace
        where d.classid = 'pg_class'::regclass and d.objsubid = 0 and not d.in_extension
            and c.relkind in ('r', 'p') and c.relpersistence <> 't'
            and n.nspname not in ('torture', 'webhook', 'pgw')
    loop
        begin
            perform pgw.webhook_watch(command.oid, noun => 't' || command.oid);
            insert into torture.watched values (command.oid, command.tag);
        exception when others then
            insert into torture.skipped values (command.name, command.tag, sqlstate, sqlerrm);
        end;
    end loop;
end
$$;

create event trigger torture_watch on ddl_command_end
    when tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
    execute function torture.watch_new_tables();

-- Unwatches a table before it becomes a partition of another watched table, unless the extension
-- does it. Postgres rejects a second trigger of the same name.
create function torture.unwatch_before_attach() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    attached text[];
    relation oid;
begin
    -- Unwatching may alter the table, which would call this function again.
    if exists (select from pg_event_trigger where evtname = 'webhook_merge_attached_partitions')
        or current_setting('torture.is_unwatching', true) = 'yes'
    then
        return;
    end if;
    perform set_config('torture.is_unwatching', 'yes', true);
    -- Each table that the client's text names. A name may have no schema, and this function has
    -- another search path than the caller, so the newest table of the name counts.
    for attached in
        select parse_ident(match[1])
        from regexp_matches(current_query(), '\mattach\s+partition\s+([\w."]+)', 'gi') match
    loop
        select c.oid into relation
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        join webhook.watch w on w.relation = c.oid
        where c.relname = attached[cardinality(attached)] and (cardinality(attached) = 1 or n.nspname = attached[1])
        order by c.oid desc limit 1;
        if relation is not null then
            perform pgw.webhook_unwatch(relation);
        end if;
    end loop;
    perform set_config('torture.is_unwatching', '', true);
end
$$;

create event trigger torture_unwatch on ddl_command_start
    when tag in ('ALTER TABLE')
    execute function torture.unwatch_before_attach();
