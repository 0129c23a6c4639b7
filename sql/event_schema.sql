-- Documentation of events, second part: JSON Schemas and examples of events, from the watches and
-- their tables.

-- -- Which columns a watch means ------------------------------------------------------------------

-- From the triggers and not from webhook.watch: they contain the numbers of columns, and so survive
-- a rename.
create function webhook.watch_definition(rel oid) returns jsonb
    language sql stable set search_path = pg_catalog, pg_temp
    return (select d.definition
            from pg_trigger t cross join webhook.trigger_definition(t.tgargs) as d (definition)
            where t.tgrelid = rel and t.tgfoid = 'webhook.capture()'::regprocedure and d.definition is not null
            -- A retired trigger contains a former definition.
            order by t.tgenabled = 'D', t.tgname limit 1);
comment on function webhook.watch_definition(oid) is 'The definition in the triggers of a watched table';

-- The rule of extension/src/capture/resolve.rs.
create function webhook.meant_columns(rel oid, definition jsonb, list text, others boolean) returns smallint[]
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(array_agg(m.number), '{}')
    from webhook.numbers_hold(rel, definition) as hold
    cross join jsonb_array_elements(definition -> list) as c
    left join pg_attribute old on old.attrelid = meant_columns.rel and old.attnum = (c ->> 'number')::smallint and not old.attisdropped
    left join pg_attribute new on new.attrelid = meant_columns.rel and new.attname = c ->> 'name' and new.attnum > 0 and not new.attisdropped
    cross join lateral (select case when hold then coalesce(old.attnum, new.attnum) else new.attnum end
                        union select case when meant_columns.others then new.attnum end
                        union select case when meant_columns.others and hold is not null then old.attnum end) as m (number)
    where m.number is not null;
end;
comment on function webhook.meant_columns(oid, jsonb, text, boolean) is
    'The current numbers of the columns in a list of a watch; others: include the columns that it could mean';

create function webhook.captured_columns(rel oid, definition jsonb) returns smallint[]
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(array_agg(a.attnum order by a.attnum), '{}')
    from pg_attribute a
    where a.attrelid = captured_columns.rel and a.attnum > 0 and not a.attisdropped
      and (not captured_columns.definition ? 'columns'
           or a.attnum = any (webhook.meant_columns(rel, definition, 'columns', false)))
      and (not captured_columns.definition ? 'exclude'
           or a.attnum <> all (webhook.meant_columns(rel, definition, 'exclude', true)))
      and (webhook.lost_columns(rel, definition) is null
           or a.attnum = any (webhook.meant_columns(rel, definition, 'key', false)));
end;
comment on function webhook.captured_columns(oid, jsonb) is 'The numbers of the columns in "data" of a watch';

-- -- Schemas of events ----------------------------------------------------------------------------

create function webhook.data_schema(event_type text) returns json
    language sql stable set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (select t.data_schema from webhook.event_type t where t.type = event_type),
        (select webhook.schema_any_of(variadic array_agg(v.schema order by s.relation::oid, v.at))
         from webhook.sources(event_type) s
         cross join lateral webhook.watch_definition(s.relation) as d (definition)
         cross join lateral (values
             (1, case when s.payload is not null and s.operations <> '{truncate}' then json '{}' end),
             (2, case when s.payload is null and s.operations <> '{truncate}' then
                     webhook.row_schema(s.relation, webhook.captured_columns(s.relation, d.definition), true, false) end),
             (3, case when s.payload is null and s.operations <> '{truncate}' then
                     webhook.json_members('{title,type,description,properties,additionalProperties}', array[
                         json '"Key only"', '"object"', '"If the row was too large (truncated) or has been erased: at most its key columns"',
                         webhook.row_schema(s.relation, webhook.meant_columns(s.relation, d.definition, 'key', false), true, false) -> 'properties',
                         'false']) end),
             (4, case when 'truncate' = any (s.operations) then json '{"type":"object","maxProperties":0}' end)) as v (at, schema)),
        '{}')
$$;
comment on function webhook.data_schema(text) is
    'JSON Schema of "data": as entered by hand, or otherwise from the watched tables; {} if nothing is known';

create function webhook.previous_schema(event_type text) returns json
    language sql stable set search_path = pg_catalog, pg_temp
as $$
    select webhook.schema_any_of(variadic array_agg(
               case when s.payload is not null then json '{"type":"object"}'
                    else webhook.json_members('{type,description,properties}', array[
                             json '"object"', '"The former values of the columns that changed"',
                             webhook.row_schema(s.relation, webhook.captured_columns(s.relation, webhook.watch_definition(s.relation)),
                                                true, false) -> 'properties']) end
               order by s.relation::oid))
    from webhook.sources(event_type) s
    where 'update' = any (s.operations)
    having count(*) > 0
$$;
comment on function webhook.previous_schema(text) is 'JSON Schema of "previous"; null: events of this type do not have it';

create function webhook.body_schema(event_type text) returns json
    language sql stable set search_path = pg_catalog, pg_temp
as $$
    select webhook.schema_of('object', false, '{properties,required}', array[
        webhook.json_members('{id,type,timestamp,sequence,table,actor,truncated,compacted,data,previous}', array[
            json '{"type":"string","description":"The event: the same for every attempt to deliver it, and equal to the header webhook-id","pattern":"^evt_[0-9a-f]{15,30}$"}',
            json_build_object('type', 'string', 'const', event_type),
            '{"type":"string","description":"When the change was made, in UTC","format":"date-time"}',
            '{"type":"integer","description":"Rises from event to event; the events of one row rise","minimum":0}',
            case when exists (select from webhook.sources(event_type)) then json '{"type":"string","description":"The table"}' end,
            '{"type":"string","description":"Who made the change, if the application said so"}',
            '{"type":"boolean","description":"The row was too large: data holds its key columns only","const":true}',
            '{"type":"integer","description":"How many changes this one event stands for","minimum":2}',
            webhook.data_schema(event_type), webhook.previous_schema(event_type)]),
        '["id","type","timestamp","sequence","data"]'])
$$;
comment on function webhook.body_schema(text) is 'JSON Schema of a whole body in format standard';

-- -- Examples -------------------------------------------------------------------------------------

create function webhook.number_example(schema json) returns numeric
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
    step constant numeric := case when schema #>> '{type,0}' = 'integer' or schema ->> 'type' = 'integer' then 1 else 0 end;
    over constant numeric := (schema ->> 'exclusiveMinimum')::numeric;
    under constant numeric := (schema ->> 'exclusiveMaximum')::numeric;
    lowest numeric := (schema ->> 'minimum')::numeric;
    highest numeric := (schema ->> 'maximum')::numeric;
begin
    if step = 1 then
        lowest := greatest(ceil(lowest), floor(over) + 1);
        highest := least(floor(highest), ceil(under) - 1);
        return greatest(lowest, least(1, highest));
    end if;
    if 1 >= coalesce(lowest, 1) and 1 > coalesce(over, 0) and 1 <= coalesce(highest, 1) and 1 < coalesce(under, 2) then
        return 1;
    elsif lowest is not null or highest is not null then
        return coalesce(lowest, highest);
    elsif over is not null and under is not null then
        return trim_scale((over + under) / 2);
    end if;
    return coalesce(over + 1, under - 1);
end
$$;
comment on function webhook.number_example(json) is 'A number that a schema accepts, 1 if possible';

create function webhook.schema_example(schema json) returns json
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
    type constant text := case json_typeof(schema -> 'type') when 'array' then schema #>> '{type,0}' else schema ->> 'type' end;
begin
    if json_typeof(schema) <> 'object' then
        return '{}';
    elsif schema -> 'examples' is not null then
        return schema #> '{examples,0}';
    elsif schema -> 'const' is not null then
        return schema -> 'const';
    elsif schema -> 'enum' is not null then
        return schema #> '{enum,0}';
    elsif schema -> 'anyOf' is not null then
        return webhook.schema_example(schema #> '{anyOf,0}');
    end if;
    case type
        when 'object' then
            return (select webhook.json_members(coalesce(array_agg(p.key order by p.at), '{}'),
                                                coalesce(array_agg(webhook.schema_example(p.value) order by p.at), '{}'))
                    from json_each(schema -> 'properties') with ordinality as p (key, value, at));
        when 'array' then
            return webhook.json_elements(array[webhook.schema_example(schema -> 'items')]);
        when 'boolean' then
            return 'true';
        when 'integer', 'number' then
            return to_json(webhook.number_example(schema));
        when 'string' then
            return to_json(left(rpad('text', greatest(4, least(coalesce((schema ->> 'minLength')::integer, 0), 10000)), ' text'),
                                coalesce((schema ->> 'maxLength')::integer, 10000)));
        when 'null' then
            return 'null';
        else
            return '{}';
    end case;
end
$$;
comment on function webhook.schema_example(json) is 'A value that a schema of pg_webhook accepts';

create function webhook.data_example(event_type text) returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return coalesce((select t.example from webhook.event_type t where t.type = event_type),
                    webhook.schema_example(webhook.data_schema(event_type)));
comment on function webhook.data_example(text) is 'An example of "data": as entered by hand, or otherwise from the schema';

-- Returns a value other than the present example, if the schema has one.
create function webhook.former_example(schema json) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return case when json_typeof(schema -> 'enum') = 'array' then schema #> '{enum,-1}'
                when (schema -> 'type')::jsonb @> '"null"' or (schema -> 'anyOf')::jsonb @> '[{"type":"null"}]' then 'null'
                when schema ->> 'type' = 'boolean' then 'false'
                else webhook.schema_example(schema) end;
comment on function webhook.former_example(json) is 'A value that a schema accepts, different from schema_example() if possible';

-- One column is enough for "previous": the last one whose change is certain.
create function webhook.previous_example(schema json, data json) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return (select webhook.json_members(array[p.key], array[webhook.former_example(p.value)])
            from json_each(coalesce(schema #> '{anyOf,0,properties}', schema -> 'properties')) with ordinality as p (key, value, at)
            where webhook.former_example(p.value)::text is distinct from (data -> p.key)::text
            order by p.at desc limit 1);
comment on function webhook.previous_example(json, json) is 'An example of "previous" for this example of "data"; null: there is no "previous", or no example can be derived';

-- The schema is an argument, because computing it is expensive.
create function webhook.body_example(event_type text, body_schema json) returns json
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    with known as materialized (
        select coalesce((select t.example from webhook.event_type t where t.type = body_example.event_type),
                        webhook.schema_example(body_schema #> '{properties,data}')) as data)
    select webhook.json_members('{id,type,timestamp,sequence,table,data,previous}', array[
        json '"evt_0660d5342ff8402a"', to_json(event_type), '"2026-11-22T03:38:00.123456Z"', '42',
        to_json((select s.relation::text from webhook.sources(event_type) s limit 1)), k.data,
        webhook.previous_example(body_schema #> '{properties,previous}', k.data)])
    from known k;
end;
comment on function webhook.body_example(text, json) is 'An example of a whole body in format standard; body_schema: its schema';
