-- Is everything watched as it was asked for? Triggers are tables' own business: they can be dropped, disabled, outdated.

-- The call that would make the watch what its row says; what is as by default is left out.
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
        || format(', key_columns => %L)', (watch).key_columns);
comment on function webhook.watch_statement(webhook.watch) is 'The call of webhook_watch() that makes a table''s triggers what this row says';

-- The rule of capture (extension/src/capture/resolve.rs): a rename keeps the number, a restore keeps the name alone.
create function webhook.numbers_hold(relation oid, definition jsonb) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select not exists (
               select from jsonb_array_elements_text(definition #> '{table,columns}') with ordinality as l (name, number)
               join pg_attribute a on a.attrelid = numbers_hold.relation and a.attnum > 0 and not a.attisdropped
                   and (l.name is null and a.attnum = l.number or a.attname = l.name and a.attnum < l.number))
           and (select c.relnatts from pg_class c where c.oid = numbers_hold.relation) >= jsonb_array_length(definition #> '{table,columns}')
    where (definition #>> '{table,oid}')::oid = numbers_hold.relation;
end;
comment on function webhook.numbers_hold(oid, jsonb) is
    'Whether a definition''s numbers are those of the table''s columns; false: it is doubtful; null: they were written for another table';

create function webhook.column_now(relation oid, name text, number smallint, numbers_hold boolean) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    return (select coalesce(min(a.attname) filter (where a.attnum = column_now.number and column_now.numbers_hold),
                            min(a.attname) filter (where a.attname = column_now.name))::text
            from pg_attribute a where a.attrelid = column_now.relation and a.attnum > 0 and not a.attisdropped
                and (a.attname = column_now.name or a.attnum = column_now.number));
comment on function webhook.column_now(oid, text, smallint, boolean) is
    'What a column is called that a watch knows by this name and number; null: it is gone, or it cannot be told which it is';

create function webhook.lost_columns(relation oid, definition jsonb) returns text[]
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select array_agg(c.col ->> 'name' order by c.place)
    from jsonb_array_elements(definition -> 'exclude') with ordinality as c (col, place)
    where webhook.numbers_hold(lost_columns.relation, definition) is not true
      and webhook.column_now(lost_columns.relation, c.col ->> 'name', null, false) is null;
end;
comment on function webhook.lost_columns(oid, jsonb) is
    'Excluded columns that may have any name by now; as long as there are some, capture tells nothing but the key';

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
               -- An excluded one that cannot be found stays: webhook_watch() refuses it until its present name is put in.
               where n.name is not null or (list.key = 'exclude' and c.col ->> 'name' = any (webhook.lost_columns(watch.relation, definition)))))
    into present
    from jsonb_each(definition) as list where jsonb_typeof(list.value) = 'array';
    watch.columns := case when watch.columns is not null then array(select jsonb_array_elements_text(present -> 'columns')) end;
    watch.exclude := case when watch.exclude is not null then array(select jsonb_array_elements_text(present -> 'exclude')) end;
    watch.on_columns := case when watch.on_columns is not null then array(select jsonb_array_elements_text(present -> 'on_columns')) end;
    watch.key_columns := array(select jsonb_array_elements_text(coalesce(present -> 'key', '[]')));
    return watch;
end
$$;
comment on function webhook.present_columns(webhook.watch, jsonb) is 'A watch with its columns under their present names, without those that are gone';

-- A table's owner can make a trigger by hand, with any argument. What reads definitions must stand that; a cast that fails
-- tells most of it.
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
                      case when jsonb_typeof(l.value) = 'array' or l.key in ('columns', 'exclude', 'on_columns', 'key') then l.value else '[]' end) col
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
    'The definition in the argument of a trigger (pg_trigger.tgargs); null: webhook_watch() has not written it';

create view webhook.capture_trigger as
select t.oid, t.tgrelid as relation, t.tgname as name, t.tgenabled as enabled,
       webhook.trigger_definition(t.tgargs) as definition
from pg_trigger t
where t.tgfoid = 'webhook.capture()'::regprocedure and t.tgparentid = 0 and not t.tgisinternal;
comment on view webhook.capture_trigger is 'The triggers of watched tables, but for those that partitions have from their root, with the definition that they carry';

create function @extschema@.webhook_check() returns table (relation regclass, problem text, detail text, repair text)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    with recursive family (root, relation, is_root) as (
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
        -- Of a partitioned table an insert and a delete can be the two halves of an update (extension/src/watch/triggers.rs).
        cross join lateral (
            select v.key from jsonb_each_text(w.verbs) v where v.value is not null and (f.is_root or v.key <> 'truncate')
            union
            select h.key from unnest('{insert,delete}'::text[]) h (key)
            where c.relkind = 'p' and jsonb_strip_nulls(w.verbs) ?| '{insert,update,delete}') v
    ), named as (
        select r.relation, format('%I.%I', n.nspname, c.relname) as qualified
        from (select t.relation from webhook.capture_trigger t union select f.relation from family f) r
        join pg_class c on c.oid = r.relation join pg_namespace n on n.oid = c.relnamespace
    ), stale as (
        -- One of the triggers speaks for all: they are made together.
        select distinct on (w.relation) w.relation, w, t.definition, c.changes, webhook.lost_columns(w.relation, t.definition) as lost,
               t.definition ->> 'noun' <> w.noun or t.definition -> 'verbs' <> jsonb_strip_nulls(w.verbs) as is_other
        from webhook.watch w join webhook.capture_trigger t on t.relation = w.relation and t.definition is not null
        cross join lateral (
            select string_agg(distinct case when n.name is null then format('column %s is gone', col ->> 'name')
                                            else format('column %s is called %s now', col ->> 'name', n.name) end, '; ') as changes
            from jsonb_each(t.definition) l
            cross join lateral jsonb_array_elements(case when jsonb_typeof(l.value) = 'array' then l.value else '[]' end) col
            cross join webhook.column_now(w.relation, col ->> 'name', (col ->> 'number')::smallint,
                                          webhook.numbers_hold(w.relation, t.definition)) as n (name)
            where n.name is distinct from (col ->> 'name')) c
        order by w.relation, t.name
    )
    select w.relation, 'table is gone', format('there is no relation with number %s', w.relation::oid),
           format('select @extschema@.webhook_unwatch(%s)', w.relation::oid)
    from webhook.watch w where not exists (select from pg_class c where c.oid = w.relation)
    union all
    select w.relation::regclass, 'trigger is missing', format('%s, for %s', w.name, w.event), webhook.watch_statement(w.w)
    from wanted w
    where not exists (select from webhook.capture_trigger t where t.relation = w.relation and t.name = w.name)
    union all
    select t.relation::regclass, case t.enabled when 'D' then 'trigger is disabled' else 'trigger fires in replication only' end, t.name::text,
           format('alter table %s enable trigger %I', n.qualified, t.name)
    from webhook.capture_trigger t join named n on n.relation = t.relation
    where t.enabled in ('D', 'R')
    union all
    select t.relation::regclass, 'trigger belongs to no watch', t.name::text,
           format('drop trigger %I on %s', t.name, n.qualified)
    from webhook.capture_trigger t join named n on n.relation = t.relation
    where not exists (select from wanted w where w.relation = t.relation and w.name = t.name)
    union all
    select s.relation, case when s.lost is null then 'trigger is stale' else 'excluded column is not found' end,
           case when s.lost is null then concat_ws('; ', s.changes, case when s.is_other then 'it was made for another noun or other verbs' end)
                else format('%s; only the key is told meanwhile. Put its present name into the statement, or leave it out if it is gone',
                            array_to_string(s.lost, ', ')) end,
           webhook.watch_statement(case when s.changes is null then s.w else webhook.present_columns(s.w, s.definition) end)
    from stale s where s.changes is not null or s.is_other
    union all
    select t.relation::regclass, 'trigger is stale', format('%s carries nothing that webhook_watch() has written', t.name),
           webhook.watch_statement(w.w)
    from webhook.capture_trigger t join wanted w on w.relation = t.relation and w.name = t.name
    where t.definition is null
    union all
    select w.relation, 'payload function is gone', w.payload, webhook.watch_statement(
        (w.relation, w.noun, w.verbs, w.columns, w.exclude, w.on_columns, w.condition, null, w.key_columns, w.created_at)::webhook.watch)
    from webhook.watch w join named n on n.relation = w.relation
    where w.payload is not null and to_regprocedure(format('%s(%s)', w.payload, n.qualified)) is null
    union all
    select null, 'event trigger is disabled', e.evtname::text, format('alter event trigger %I enable', e.evtname)
    from pg_event_trigger e
    where e.evtfoid = 'webhook.forget_dropped_tables()'::regprocedure and e.evtenabled = 'D'
    union all
    -- What is delivered has been removed by then: the rest is not removed for its size.
    select 'webhook.event'::regclass,
           case when r.bytes > r.bytes_max then 'ring is over its limit' else 'ring is nearly full' end,
           format('%s of at most %s (ring_bytes_max), %s of it in slots with undelivered events',
                  pg_size_pretty(r.bytes), pg_size_pretty(r.bytes_max), pg_size_pretty(r.held_bytes)),
           'select * from webhook.subscription_stats order by queued + retrying desc'
    from webhook.ring_size() r
    -- Between two rounds of the daemon there may be a slot more.
    where r.bytes > r.bytes_max + r.bytes_max / 8 or r.held_bytes > r.bytes_max / 10 * 8
    order by 1, 2, 3;
end;
comment on function @extschema@.webhook_check is
    'What keeps watched tables from being captured as was asked for: triggers missing, disabled, stale, and the statement that repairs each. No row: all is well';
