-- Watches every permanent table that is created in this database, and keeps count of those that cannot be watched.
-- The extension is in schema pgw, out of the way of the suites' own names.
create schema torture;
create table torture.watched (relation oid, command text);
create table torture.skipped (relation text, command text, sqlstate text, message text);

-- Tables whose role lacks rights on schema torture are watched too, so it runs with the rights of its owner.
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

-- Roles of the suites write to watched tables without any right on the outbox; their own tables they may watch.
