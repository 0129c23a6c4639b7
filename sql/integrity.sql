-- Are our own tables as they were made? An index that was dropped makes every look-up
-- slow, a disabled trigger loses changes, a missing policy shows one owner's data to another, and
-- nothing fails.

create table webhook.own_part (
    kind   text not null,
    name   text not null,
    state  text not null,
    repair text not null,
    constraint own_part_pkey primary key (kind, name)
);
comment on table  webhook.own_part is 'Indexes, constraints, triggers and policies of pg_webhook''s tables, as installed';
comment on column webhook.own_part.state is 'The installed state; webhook_check() reports another one';
comment on column webhook.own_part.repair is 'The statement that restores it';

-- How definitions are printed depends on settings.
create function webhook.installed_part() returns table (kind text, name text, state text, repair text)
    language sql stable set search_path = pg_catalog, pg_temp
    set quote_all_identifiers = off set standard_conforming_strings = on set intervalstyle = 'postgres' set datestyle = 'ISO, MDY'
    set timezone = 'UTC'
begin atomic
    with ours as (
        select c.oid, c.relname, c.relrowsecurity, c.relispartition, format('%I.%I', n.nspname, c.relname) as qualified
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'webhook' and c.relkind in ('r', 'p')
    )
    -- Those of partitions come and go with the parent's, unless they are damaged by themselves.
    select 'index', i.indexrelid::regclass::text,
           case when i.indisvalid and i.indisready then pg_get_indexdef(i.indexrelid) else 'invalid' end,
           case when i.indisvalid and i.indisready then replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
                else format('reindex index %s', i.indexrelid::regclass) end
    from pg_index i join ours o on o.oid = i.indrelid
    where not exists (select from pg_constraint c where c.conindid = i.indexrelid and c.contype in ('p', 'u', 'x'))
      and (not o.relispartition or not i.indisvalid)
    union all
    select 'constraint', format('%I on %s', c.conname, o.qualified), pg_get_constraintdef(c.oid),
           format('alter table %s add constraint %I %s', o.qualified, c.conname, pg_get_constraintdef(c.oid))
    from pg_constraint c join ours o on o.oid = c.conrelid
    where c.contype in ('p', 'u', 'c', 'f') and c.conparentid = 0 and not o.relispartition
    union all
    -- Those of partitions too: some are enabled there alone.
    select 'trigger', format('%I on %s', t.tgname, o.qualified), concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid)),
           concat_ws('; ', case when t.tgparentid = 0 then pg_get_triggerdef(t.oid) end,
                     case when t.tgenabled = 'A' then format('alter table %s enable always trigger %I', o.qualified, t.tgname) end)
    from pg_trigger t join ours o on o.oid = t.tgrelid
    where not t.tgisinternal or t.tgparentid <> 0
    union all
    select 'event trigger', e.evtname::text, concat_ws(' ', e.evtenabled, e.evtevent, e.evttags::text, e.evtfoid::regprocedure),
           format('alter event trigger %I enable always', e.evtname)
    from pg_event_trigger e join pg_proc p on p.oid = e.evtfoid
    where p.pronamespace = 'webhook'::regnamespace
    union all
    select 'policy', format('%I on %s', p.polname, o.qualified),
           concat_ws(' ', p.polcmd, p.polpermissive, p.polroles::text, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)),
           format('create policy %I on %s for %s', p.polname, o.qualified,
                  case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end)
           || case when p.polqual is null then '' else format(' using (%s)', pg_get_expr(p.polqual, p.polrelid)) end
           || case when p.polwithcheck is null then '' else format(' with check (%s)', pg_get_expr(p.polwithcheck, p.polrelid)) end
    from pg_policy p join ours o on o.oid = p.polrelid
    union all
    select 'row-level security', o.qualified, 'enabled', format('alter table %s enable row level security', o.qualified)
    from ours o where o.relrowsecurity;
end;
comment on function webhook.installed_part() is 'Current indexes, constraints, triggers and policies of pg_webhook''s tables';

create function webhook.note_own_parts() returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    delete from webhook.own_part;
    insert into webhook.own_part select * from webhook.installed_part();
end
$$;
comment on function webhook.note_own_parts() is 'Installation: records the current parts of pg_webhook''s tables as the correct ones';

create function webhook.own_problem() returns table (problem text, detail text, repair text)
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select case when i.name is null then 'part of pg_webhook is missing' else 'part of pg_webhook was changed' end,
           format('%s %s', o.kind, o.name),
           case when i.name is null then o.repair
                when o.kind = 'index' then case when i.state = 'invalid' then i.repair else format('drop index %s; %s', o.name, o.repair) end
                when o.kind = 'constraint' then format('alter table %s drop constraint %s; %s', split_part(o.name, ' on ', 2),
                                                       split_part(o.name, ' on ', 1), o.repair)
                when o.kind = 'trigger' and left(i.state, 1) <> left(o.state, 1) and substr(i.state, 2) = substr(o.state, 2)
                    then format('alter table %s enable%s trigger %s', split_part(o.name, ' on ', 2),
                                case left(o.state, 1) when 'A' then ' always' else '' end, split_part(o.name, ' on ', 1))
                when o.kind = 'trigger' then format('drop trigger %s; %s', o.name, o.repair)
                when o.kind = 'policy' then format('drop policy %s; %s', o.name, o.repair)
                else o.repair end
    from webhook.own_part o
    left join webhook.installed_part() i on i.kind = o.kind and i.name = o.name
    where i.state is distinct from o.state
    union all
    select 'part of pg_webhook was changed', format('%s %s', i.kind, i.name), i.repair
    from webhook.installed_part() i
    where i.kind = 'index' and i.state = 'invalid' and not exists (select from webhook.own_part o where o.kind = 'index' and o.name = i.name);
end;
comment on function webhook.own_problem() is 'Parts of pg_webhook''s tables that differ from the installation, and the statement that repairs each';
