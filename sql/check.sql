-- Checks that everything is watched as it was requested. Owners of tables can drop, disable or
-- replace triggers.

-- Returns the call that creates the watch as its row describes it. Arguments with default values
-- are left out.
create function webhook.watch_statement(watch webhook.watch) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    return format('select @extschema@.webhook_watch(%L, noun => %L, verbs => %L',
                  (select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   where c.oid = (watch).relation), (watch).noun, (watch).verbs)
        || case when (watch).columns is null then '' else format(', columns => %L', (watch).columns) end
        || case when (watch).exclude is null then '' else format(', exclude => %L', (watch).exclude) end
        || case when (watch).on_columns is null then '' else format(', on_columns => %L', (watch).on_columns) end
        || case when (watch).condition is null then '' else format(', condition => %L', (watch).condition) end
        || case when (watch).payload is null then '' else format(', payload => %L', (watch).payload) end
        || format(', key_columns => %L', (watch).key_columns)
        || case when (watch).owner_column is null then '' else format(', owner_column => %L', (watch).owner_column) end
        || case when (watch).owner_function is null then '' else format(', owner_function => %L', (watch).owner_function) end
        || case when (watch).owner_setting is null then '' else format(', owner_setting => %L', (watch).owner_setting) end
        || ')';
comment on function webhook.watch_statement(webhook.watch) is 'The call of webhook_watch() that creates the triggers as this row describes them';

create function webhook.is_numbered_for(relation oid) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    with recursive above (oid) as (
        select is_numbered_for.relation
        union
        select i.inhparent from pg_inherits i join above a on i.inhrelid = a.oid
    )
    select exists (select from above a join webhook.watch w on w.relation = a.oid and is_numbered_for.relation = any (w.numbered_for));
end;
comment on function webhook.is_numbered_for(oid) is
    'Whether the column numbers in this table''s triggers were written for this table, and not for a table that it was restored from';

-- The rule of capture (extension/src/capture/resolve.rs): a rename keeps the number, and a restore
-- keeps only the name.
create function webhook.numbers_hold(relation oid, definition jsonb) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select not exists (
               select from jsonb_array_elements_text(definition #> '{table,columns}') with ordinality as l (name, number)
               join pg_attribute a on a.attrelid = numbers_hold.relation and a.attnum > 0 and not a.attisdropped
                   and (l.name is null and a.attnum = l.number or a.attname = l.name and a.attnum < l.number))
           and (select c.relnatts from pg_class c where c.oid = numbers_hold.relation) >= jsonb_array_length(definition #> '{table,columns}')
    where case when definition #> '{table,oid}' is not null then (definition #>> '{table,oid}')::oid = numbers_hold.relation
               else definition #> '{table,columns}' is not null and webhook.is_numbered_for(numbers_hold.relation) end;
end;
comment on function webhook.numbers_hold(oid, jsonb) is
    'Whether the column numbers of a definition are valid for the table; false: doubtful; null: they were written for another table';

create function webhook.column_now(relation oid, name text, number smallint, numbers_hold boolean) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    return (select coalesce(min(a.attname) filter (where a.attnum = column_now.number and column_now.numbers_hold),
                            min(a.attname) filter (where a.attname = column_now.name))::text
            from pg_attribute a where a.attrelid = column_now.relation and a.attnum > 0 and not a.attisdropped
                and (a.attname = column_now.name or a.attnum = column_now.number));
comment on function webhook.column_now(oid, text, smallint, boolean) is
    'Current name of a column that a watch stores with this name and number; null: the column was dropped or cannot be identified';

create function webhook.lost_columns(relation oid, definition jsonb) returns text[]
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select array_agg(c.col ->> 'name' order by c.place)
    from jsonb_array_elements(definition -> 'exclude') with ordinality as c (col, place)
    where webhook.numbers_hold(lost_columns.relation, definition) is not true
      and webhook.column_now(lost_columns.relation, c.col ->> 'name', null, false) is null;
end;
comment on function webhook.lost_columns(oid, jsonb) is
    'Excluded columns that may have been renamed; while there are any, events contain only the key';

-- The rule of capture (find_certain in extension/src/capture/resolve.rs): events have no owner if
-- it is not certain that the column is the same one.
create function webhook.owner_column_now(relation oid, definition jsonb) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select case when count(*) = 1 and (h.hold is null or bool_and(a.attnum = c.number and (h.hold or a.attname = c.name)))
                then min(a.attname)::text end
    from (select definition #>> '{owner_column,0,name}', (definition #>> '{owner_column,0,number}')::smallint) as c (name, number)
    cross join (select webhook.numbers_hold(owner_column_now.relation, definition)) as h (hold)
    join pg_attribute a on a.attrelid = owner_column_now.relation and a.attnum > 0 and not a.attisdropped
        and (a.attname = c.name or h.hold is not null and a.attnum = c.number)
    group by h.hold;
end;
comment on function webhook.owner_column_now(oid, jsonb) is
    'Current name of the owner column of a definition; null: there is none, or it cannot be identified';

create function webhook.present_columns(watch webhook.watch, definition jsonb) returns webhook.watch
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    present jsonb;
begin
    select jsonb_object_agg(list.key, (
               select coalesce(jsonb_agg(coalesce(n.name, c.col ->> 'name') order by c.place), '[]')
               from jsonb_array_elements(list.value) with ordinality as c (col, place)
               cross join webhook.column_now(watch.relation, c.col ->> 'name', (c.col ->> 'number')::smallint,
                                             webhook.numbers_hold(watch.relation, definition)) as n (name)
               -- An excluded column that cannot be found stays. webhook_watch() rejects it until
               -- the user enters its present name.
               where n.name is not null or (list.key = 'exclude' and c.col ->> 'name' = any (webhook.lost_columns(watch.relation, definition)))))
    into present
    from jsonb_each(definition) as list where jsonb_typeof(list.value) = 'array';
    watch.columns := case when watch.columns is not null then array(select jsonb_array_elements_text(present -> 'columns')) end;
    watch.exclude := case when watch.exclude is not null then array(select jsonb_array_elements_text(present -> 'exclude')) end;
    watch.on_columns := case when watch.on_columns is not null then array(select jsonb_array_elements_text(present -> 'on_columns')) end;
    watch.key_columns := array(select jsonb_array_elements_text(coalesce(present -> 'key', '[]')));
    -- One that cannot be found stays. webhook_watch() rejects it until the user enters another.
    watch.owner_column := coalesce(webhook.owner_column_now(watch.relation, definition), watch.owner_column);
    return watch;
end
$$;
comment on function webhook.present_columns(webhook.watch, jsonb) is 'A watch with the current names of its columns, without dropped columns';

-- The owner of a table can create a trigger by hand, with any argument. Functions that read
-- definitions must accept that. A failed cast shows most mistakes.
create function webhook.trigger_definition(arguments bytea) returns jsonb
    language plpgsql stable strict set search_path = pg_catalog, pg_temp
as $$
declare
    definition jsonb;
begin
    definition := convert_from(substr(arguments, 1, octet_length(arguments) - 1), getdatabaseencoding())::jsonb;
    if jsonb_typeof(definition -> 'noun') is distinct from 'string' or jsonb_typeof(definition -> 'verbs') is distinct from 'object'
       or exists (select from jsonb_each(definition) l
                  cross join jsonb_array_elements(
                      case when jsonb_typeof(l.value) = 'array' or l.key in ('columns', 'exclude', 'on_columns', 'key', 'owner_column') then l.value else '[]' end) col
                  where col ->> 'name' is null or (col ->> 'number')::smallint is null) then
        return null;
    end if;
    return definition;
exception
    when data_exception or program_limit_exceeded then
        return null;
end
$$;
comment on function webhook.trigger_definition(bytea) is
    'The definition in the argument of a trigger (pg_trigger.tgargs); null: webhook_watch() did not write the argument';

create view webhook.capture_trigger as
select t.oid, t.tgrelid as relation, t.tgname as name, t.tgenabled as enabled,
       webhook.trigger_definition(t.tgargs) as definition
from pg_trigger t
where t.tgfoid = 'webhook.capture()'::regprocedure and t.tgparentid = 0 and not t.tgisinternal;
comment on view webhook.capture_trigger is 'The triggers of watched tables with their definitions, without triggers that partitions inherit from their root';

-- A watch that gets fewer verbs, or ends, disables triggers. It drops them at commit if no reader
-- uses the table then.
create function webhook.is_wanted(relation oid, trigger name) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    with recursive above (oid, is_root) as (
        select is_wanted.relation, true
        union
        select i.inhparent, false from above a
        join pg_class c on c.oid = a.oid and not c.relispartition
        join pg_inherits i on i.inhrelid = a.oid
    )
    select exists (
        select from above a
        join webhook.watch w on w.relation = a.oid
        join pg_class c on c.oid = is_wanted.relation
        cross join lateral jsonb_strip_nulls(w.verbs) as v (verbs)
        where is_wanted.trigger ~ '^webhook_(insert|update|delete|truncate)$'
          and (v.verbs ? substr(is_wanted.trigger::text, 9) and (a.is_root or is_wanted.trigger <> 'webhook_truncate')
               or c.relkind = 'p' and is_wanted.trigger in ('webhook_insert', 'webhook_delete')
                  and v.verbs ?| '{insert,update,delete}'));
end;
comment on function webhook.is_wanted(oid, name) is 'Whether a watch needs a trigger of this name on a table';

create view webhook.leftover_trigger as
select t.oid, t.relation, t.name from webhook.capture_trigger t
where t.enabled = 'D' and not webhook.is_wanted(t.relation, t.name);
comment on view webhook.leftover_trigger is 'Disabled triggers of watches that ended or lost a verb; they do nothing';

create function webhook.trigger_condition(relation oid) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select substring(pg_get_triggerdef(t.oid) from 'FOR EACH ROW WHEN \((.*?)\) EXECUTE FUNCTION webhook\.capture\(')
    from pg_trigger t
    where t.tgrelid = trigger_condition.relation and t.tgfoid = 'webhook.capture()'::regprocedure and t.tgqual is not null
    order by t.tgname <> 'webhook_update', t.tgname
    limit 1;
end;
comment on function webhook.trigger_condition(oid) is 'The condition in the triggers of a watched table, as Postgres prints it; null: none';

-- The triggers contain what a lost row of webhook.watch contained.
create function webhook.watch_of_triggers(relation oid, definition jsonb) returns webhook.watch
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select webhook.present_columns(
        (watch_of_triggers.relation::regclass, definition ->> 'noun', definition -> 'verbs',
         case when definition ? 'columns' then '{}'::text[] end, case when definition ? 'exclude' then '{}'::text[] end,
         case when definition ? 'on_columns' then '{}'::text[] end, webhook.trigger_condition(watch_of_triggers.relation),
         definition ->> 'payload', '{}', now(), '{}', definition #>> '{owner_column,0,name}', definition ->> 'owner_function',
         definition ->> 'owner_setting')::webhook.watch, definition);
end;
comment on function webhook.watch_of_triggers(oid, jsonb) is 'The row of webhook.watch that the triggers of a table were created for';

create function webhook.key_of(relation oid, is_primary boolean) returns text[]
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select array_agg(a.attname::text order by k.place)
    from (select x.* from pg_index x
          where x.indrelid = key_of.relation and x.indisunique and x.indisvalid and x.indexprs is null and x.indpred is null
            and (x.indisprimary or not key_of.is_primary)
          order by not x.indisprimary, x.indnkeyatts, x.indexrelid) i
    cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where k.place <= i.indnkeyatts
    group by i.indexrelid, i.indisprimary, i.indnkeyatts
    having bool_and(a.attnotnull)
    order by not i.indisprimary, i.indnkeyatts, i.indexrelid
    limit 1;
end;
comment on function webhook.key_of(oid, boolean) is
    'The columns of the primary key, or otherwise of a unique index without nulls; is_primary: only of the primary key';

-- Returns the effects of a watch that its owner may not want. webhook_watch() warns of them, and
-- webhook_check() lists them. It names no subscription, because only their owners may see them. The
-- statement that finds subscriptions runs with its caller's rights.
create function webhook.advice(watch webhook.watch) returns table (problem text, detail text, repair text)
    language sql stable set search_path = pg_catalog, pg_temp set jit = off
begin atomic
    select 'key came later', format('events of %s have no key, but the table now has a primary key', (watch).relation),
           webhook.watch_statement(jsonb_populate_record(watch, jsonb_build_object('key_columns', k.columns)))
    from webhook.key_of((watch).relation, true) as k (columns)
    where (watch).key_columns = '{}' and k.columns is not null
    union all
    select 'events have no key', format('a subscription orders by key, but events of %s have no key, so all of them wait for one another', (watch).relation),
           case when k.columns is not null
                then webhook.watch_statement(jsonb_populate_record(watch, jsonb_build_object('key_columns', k.columns)))
                else format('select @extschema@.webhook_alter(s.id, ordering => ''none'') from webhook.subscription s where s.ordering = ''key'''
                            ' and exists (select from unnest(%L::text[]) t where webhook.pattern_matches(s.events, t))', t.types) end
    from webhook.key_of((watch).relation, false) as k (columns)
    cross join lateral (select array_agg((watch).noun || '.' || v.value order by v.value) from jsonb_each_text((watch).verbs) v) as t (types)
    where (watch).key_columns = '{}' and webhook.key_of((watch).relation, true) is null
      and exists (select from webhook.subscription s cross join unnest(t.types) as u (type)
                  where s.ordering = 'key' and webhook.pattern_matches(s.events, u.type))
    union all
    select u.kind || ' function follows search_path',
           format('%s finds tables and functions through the search_path of each session that writes to %s', u.function, (watch).relation),
           format('alter function %s set search_path = %s, pg_temp', p.oid::regprocedure,
                  (select string_agg(format('%I', x.nspname), ', ' order by x.nspname) from pg_namespace x
                   where x.oid in (p.pronamespace, c.relnamespace)))
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (values ('payload', (watch).payload), ('owner', (watch).owner_function)) as u (kind, function)
    join pg_proc p on p.oid = to_regprocedure(u.function || format('(%I.%I)', n.nspname, c.relname))
    join pg_language l on l.oid = p.prolang
    where c.oid = (watch).relation and p.prosqlbody is null and l.lanname not in ('c', 'internal')
      and not exists (select from unnest(p.proconfig) o where o like 'search_path=%');
end;
comment on function webhook.advice(webhook.watch) is
    'Problems of a watch whose triggers are correct, and the statements that repair them';

create function @extschema@.webhook_check() returns table (relation regclass, problem text, detail text, repair text)
    -- Compiling the query takes longer than running it.
    language sql stable security definer set search_path = pg_catalog, pg_temp set jit = off
begin atomic
    -- Read once, because each definition is parsed in a subtransaction.
    with recursive present as materialized (
        select t.oid, t.relation, t.name, t.enabled, t.definition from webhook.capture_trigger t
    ), family (root, relation, is_root) as (
        select w.relation::oid, w.relation::oid, true from webhook.watch w
        union
        select f.root, i.inhrelid, false from family f
        join pg_inherits i on i.inhparent = f.relation
        join pg_class c on c.oid = i.inhrelid and not c.relispartition
    ), wanted as (
        select w.relation as root, f.relation, v.key as event, 'webhook_' || v.key as name, w
        from webhook.watch w
        join family f on f.root = w.relation
        join pg_class c on c.oid = f.relation
        -- For a partitioned table, an insert and a delete can be the two halves of an update
        -- (extension/src/watch/triggers.rs).
        cross join lateral (
            select v.key from jsonb_each_text(w.verbs) v where v.value is not null and (f.is_root or v.key <> 'truncate')
            union
            select h.key from unnest('{insert,delete}'::text[]) h (key)
            where c.relkind = 'p' and jsonb_strip_nulls(w.verbs) ?| '{insert,update,delete}'
            union
            -- Fires before each statement for which one of the others fires.
            select 'statement' from jsonb_each_text(w.verbs) v where v.value is not null and (f.is_root or v.key <> 'truncate')) v
    ), named as (
        select r.relation, format('%I.%I', n.nspname, c.relname) as qualified
        from (select t.relation from present t union select f.relation from family f) r
        join pg_class c on c.oid = r.relation join pg_namespace n on n.oid = c.relnamespace
    ), representative as (
        -- One of the triggers stands for all, because they are created together.
        select distinct on (w.relation) w.relation, w as watch, t.definition
        from webhook.watch w join present t on t.relation = w.relation and t.definition is not null
        order by w.relation, t.enabled = 'D', t.name
    ), stale as (
        select w.relation, w.watch, w.definition, c.changes, webhook.lost_columns(w.relation, w.definition) as lost,
               w.definition ->> 'noun' <> (w.watch).noun or w.definition -> 'verbs' <> jsonb_strip_nulls((w.watch).verbs) as is_other,
               w.definition ? 'owner_column' and webhook.owner_column_now(w.relation, w.definition) is null as is_ownerless
        from representative w
        cross join lateral (
            select string_agg(distinct case when n.name is null then format('column %s does not exist', col ->> 'name')
                                            else format('column %s is now called %s', col ->> 'name', n.name) end, '; ') as changes
            from jsonb_each(w.definition) l
            cross join lateral jsonb_array_elements(case when jsonb_typeof(l.value) = 'array' then l.value else '[]' end) col
            cross join webhook.column_now(w.relation, col ->> 'name', (col ->> 'number')::smallint,
                                          webhook.numbers_hold(w.relation, w.definition)) as n (name)
            where n.name is distinct from (col ->> 'name')) c
    ), orphaned as (
        -- Triggers from webhook_watch() on a table without a row in webhook.watch. Those of a child
        -- table belong to the watch of its parent.
        select t.oid, t.relation, t.name, t.definition,
               exists (select from pg_inherits i join present p on p.relation = i.inhparent
                       where i.inhrelid = t.relation and p.enabled <> 'D' and p.definition ->> 'noun' = t.definition ->> 'noun') as is_child
        from present t join pg_class c on c.oid = t.relation
        where t.definition is not null and t.enabled <> 'D'
          and (t.name ~ '^webhook_(insert|update|delete|truncate)$'
               and jsonb_strip_nulls(t.definition -> 'verbs') ? substr(t.name::text, 9)
               or c.relkind = 'p' and t.name in ('webhook_insert', 'webhook_delete')
               or t.name = 'webhook_statement' and t.relation in (
                   select o.relation from present o
                   where o.name <> 'webhook_statement' and o.definition is not null and o.enabled <> 'D'))
          -- EXCEPT, because the planner would compare each trigger with each watch.
          and t.relation in (select p.relation from present p except select f.relation from family f)
    ), replaced as (
        select w.relation, format('%I.%I', n.nspname, c.relname) as former,
               jsonb_populate_record(w, jsonb_build_object('relation', c.oid::text)) as watch
        from webhook.watch w
        join (select distinct t.relation, t.definition #>> '{table,name,0}' as schema, t.definition #>> '{table,name,1}' as name
              from present t) d on d.relation = w.relation
        join pg_namespace n on n.nspname = d.schema
        join pg_class c on c.relnamespace = n.oid and c.relname = d.name and c.relkind in ('r', 'p')
        where c.oid <> w.relation
          and not exists (select from family f where f.relation = c.oid)
          and not exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgfoid = 'webhook.capture()'::regprocedure)
    )
    select w.relation, 'table is gone', format('relation with OID %s does not exist', w.relation::oid),
           format('select @extschema@.webhook_unwatch(%s)', w.relation::oid)
    from webhook.watch w where not exists (select from pg_class c where c.oid = w.relation)
    union all
    select w.relation::regclass, 'trigger is missing', format('%s, for %s', w.name, w.event), webhook.watch_statement(w.w)
    from wanted w
    where not exists (select from present t where t.relation = w.relation and t.name = w.name)
    union all
    select t.relation::regclass, case t.enabled when 'D' then 'trigger is disabled' else 'trigger fires in replication only' end, t.name::text,
           format('alter table %s enable trigger %I', n.qualified, t.name)
    from present t join named n on n.relation = t.relation
    where t.enabled = 'R' or t.enabled = 'D' and webhook.is_wanted(t.relation, t.name)
    union all
    select t.relation::regclass, 'trigger does not belong to a watch', t.name::text,
           format('drop trigger %I on %s', t.name, n.qualified)
    from (select p.relation, p.name::text from present p except select w.relation, w.name from wanted w) t
    join named n on n.relation = t.relation
    where not exists (select from orphaned o where o.relation = t.relation and o.name = t.name)
    union all
    (select distinct on (o.relation) o.relation::regclass, 'watch is missing',
            format('its triggers emit %s events, but webhook.watch has no row for the table (as after pg_dump --schema-only); webhook_unwatch() removes the triggers',
                   o.definition ->> 'noun'),
            webhook.watch_statement(webhook.watch_of_triggers(o.relation, o.definition))
     from orphaned o where not o.is_child order by o.relation, o.name)
    union all
    select r.relation, 'table was replaced',
           format('%s is the watched table, which was called %s; another table now has that name and is not watched', n.qualified, r.former),
           webhook.watch_statement(r.watch) || format('; select @extschema@.webhook_unwatch(%L)', n.qualified)
    from replaced r join named n on n.relation = r.relation
    union all
    select d.relation, 'partition was detached', format('%s is no longer captured: it was detached from %s', n.qualified, r.qualified),
           -- Its rows have another type than the functions take.
           webhook.watch_statement(jsonb_populate_record(w, jsonb_build_object('relation', d.relation::oid::text, 'payload', null, 'owner_function', null)))
    from webhook.detached_partition d
    join webhook.watch w on w.relation = d.root
    join named r on r.relation = d.root
    join pg_class c on c.oid = d.relation and not c.relispartition
    cross join lateral (select format('%I.%I', x.nspname, c.relname) from pg_namespace x where x.oid = c.relnamespace) as n (qualified)
    where not exists (select from family f where f.relation = d.relation)
    union all
    select w.relation, a.problem, a.detail, a.repair from webhook.watch w cross join lateral webhook.advice(w) a
    union all
    select c.oid::regclass, 'owner cannot create partitions', pg_get_userbyid(c.relowner)::text,
           format('grant execute on function webhook.capture() to %s', c.relowner::regrole)
    from pg_class c
    where c.relkind = 'p' and exists (select from present t where t.relation = c.oid)
      and not has_function_privilege(c.relowner, 'webhook.capture()'::regprocedure, 'execute')
    union all
    select s.relation, case when s.lost is not null then 'excluded column is not found'
                            when s.is_ownerless then 'owner column is not found' else 'trigger is stale' end,
           case when s.lost is null and s.is_ownerless
                then format('%s; events have no owner until this is repaired. Put the current name of the column into the statement, or omit owner_column',
                            s.definition #>> '{owner_column,0,name}')
                when s.lost is null then concat_ws('; ', s.changes, case when s.is_other then 'it was created for another noun or other verbs' end)
                else format('%s; events contain only the key until this is repaired. Put the current name of the column into the statement, or omit the column if it was dropped',
                            array_to_string(s.lost, ', ')) end,
           webhook.watch_statement(case when s.changes is null then s.watch else webhook.present_columns(s.watch, s.definition) end)
    from stale s where s.changes is not null or s.is_other or s.is_ownerless
    union all
    select t.relation::regclass, 'trigger is stale', format('%s has an argument that webhook_watch() did not write', t.name),
           webhook.watch_statement(w.w)
    from present t join wanted w on w.relation = t.relation and w.name = t.name
    where t.definition is null
    union all
    select w.relation, u.kind || ' function is gone', u.function,
           webhook.watch_statement(jsonb_populate_record(w, jsonb_build_object(u.argument, null)))
    from webhook.watch w join named n on n.relation = w.relation
    cross join lateral (values ('payload', 'payload', w.payload), ('owner', 'owner_function', w.owner_function)) as u (kind, argument, function)
    where u.function is not null and to_regprocedure(u.function || format('(%s)', n.qualified)) is null
    union all
    select null, p.problem, p.detail, p.repair from webhook.own_problem() p
    union all
    -- Names no subscription, because only admins may see these.
    select 'webhook.subscription'::regclass, 'owner was dropped',
           format('subscriptions that belong to dropped roles: %s; only admins can see and change them', count(*)),
           'select @extschema@.webhook_alter(s.id, owner => current_user) from webhook.subscription s where s.owner_role is not null and not exists (select from pg_roles r where r.oid = s.owner_role)'
    from webhook.subscription s
    where s.owner_role is not null and not exists (select from pg_roles r where r.oid = s.owner_role)
    having count(*) > 0
    union all
    select 'webhook.subscription'::regclass, 'subscription exceeds a limit',
           format('%s of %s subscriptions of owner "%s" exceed webhook.owner_limit: made by an admin, or before the limit', e.option, count(*), s.owner),
           case e.option when 'max_in_flight' then format('select @extschema@.webhook_alter(s.id, max_in_flight => (webhook.limit_of(s.owner, s.owner_role)).max_in_flight) from webhook.subscription s cross join lateral webhook.exceeded_limit(s) e where e.option = ''max_in_flight'' and s.owner = %L', s.owner)
                         when 'tls' then format('select @extschema@.webhook_alter(s.id, clear => ''{tls}'') from webhook.subscription s where s.tls is not null and s.owner = %L', s.owner)
                         when 'secret' then format('select s.id, s.name from webhook.subscription s cross join lateral webhook.exceeded_limit(s) e where e.option = ''secret'' and s.owner = %L', s.owner)
                         when 'verification' then format('select @extschema@.webhook_alter(s.id, verification => ''ping'') from webhook.subscription s where s.verification = ''none'' and s.owner = %L', s.owner)
                         else format('select @extschema@.webhook_alter(s.id, clear => ''{rate_limit}'') from webhook.subscription s cross join lateral webhook.exceeded_limit(s) e where e.option = ''rate_limit'' and s.owner = %L', s.owner) end
    from webhook.subscription s cross join lateral webhook.exceeded_limit(s) e
    where exists (select from webhook.owner_limit) and not coalesce(webhook.is_admin(s.owner_role), false)
    group by e.option, s.owner
    union all
    select 'webhook.subscription'::regclass, 'owner has too many subscriptions',
           format('owner "%s" has %s subscriptions, and can have at most %s by webhook.owner_limit', o.owner, o.count, l.subscriptions),
           format('select s.id, s.name from webhook.subscription s where s.owner = %L', o.owner)
    from (select s.owner, s.owner_role, count(*) as count from webhook.subscription s group by s.owner, s.owner_role) o
    cross join lateral webhook.limit_of(o.owner, o.owner_role) l
    where o.count > l.subscriptions and not coalesce(webhook.is_admin(o.owner_role), false)
    union all
    select 'webhook.subscription'::regclass, 'subscription gets events of all owners',
           format('%s subscriptions of owner "%s" have scope all, which this owner could not choose: made by an admin, or before an update; with scope own, they get only its own events',
                  count(*), s.owner),
           format('select @extschema@.webhook_alter(s.id, scope => ''own'') from webhook.subscription s where s.scope = ''all'' and s.owner = %L', s.owner)
    from webhook.subscription s
    where s.scope = 'all' and not coalesce(has_table_privilege(s.owner_role, 'webhook.event'::regclass, 'select'), false)
    group by s.owner
    union all
    select 'webhook.subscription'::regclass, 'subscription is locked',
           format('deliveries of %s subscriptions wait for the transaction of process %s (role %s, application "%s") since %s',
                  count(*), l.pid, l.role, l.application, min(l.since)),
           coalesce('select pg_terminate_backend(' || l.pid || ')', 'select * from pg_prepared_xacts')
    from webhook.locked_subscription l
    group by l.pid, l.role, l.application
    union all
    -- Delivered events have been removed. The limit does not remove the rest.
    select 'webhook.event'::regclass,
           case when r.bytes > r.bytes_max then 'ring is over its limit' else 'ring is nearly full' end,
           format('%s of at most %s (ring_bytes_max), %s of it in slots with undelivered events',
                  pg_size_pretty(r.bytes), pg_size_pretty(r.bytes_max), pg_size_pretty(r.held_bytes)),
           'select * from webhook.subscription_stats order by queued + retrying desc'
    from webhook.ring_size() r
    -- Between two rounds of the daemon, there may be one more slot.
    where r.bytes > r.bytes_max + r.bytes_max / 8 or r.held_bytes > r.bytes_max / 10 * 8
    order by 1, 2, 3;
end;
comment on function @extschema@.webhook_check is
    'Problems that prevent watched tables from being captured as requested, such as missing, disabled or stale triggers, and the statement that repairs each. No rows: no problems';
