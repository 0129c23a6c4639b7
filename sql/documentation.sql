-- Living documentation: what events there are and what is in them, derived from the catalogue at the moment of the call.
--
-- One rule stands above all: whatever a watched table accepts has a payload that its schema accepts, as the extension
-- prints it and as validators read it (numbers in double precision, formats asserted or not). What cannot be said with
-- that certainty is left unsaid. So nothing follows from constraints that are NOT VALID, from NOT NULL of a domain (a
-- sub-select without a row gets round it), from operators that are not Postgres's own, or from what a payload function
-- may return.
--
-- json throughout, put together as text: the order of columns stays.

-- ── Putting JSON together ───────────────────────────────────────────────────────────────────────────────────────

create function webhook.json_members(names text[], members json[]) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select ('{' || coalesce(string_agg(to_json(m.name)::text || ':' || m.member::text, ',' order by m.at), '') || '}')::json
    from unnest(names, members) with ordinality as m (name, member, at)
    where m.member is not null;
end;
comment on function webhook.json_members(text[], json[]) is 'An object of the members that are not null, in this order';

create function webhook.json_elements(elements json[]) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select ('[' || coalesce(string_agg(e.element::text, ',' order by e.at), '') || ']')::json
    from unnest(elements) with ordinality as e (element, at)
    where e.element is not null;
end;
comment on function webhook.json_elements(json[]) is 'An array of the elements that are not null, in this order';

-- ── What a CHECK says: documentation.rs, crates/check_constraint ────────────────────────────────────────────────

create function webhook.check_keywords(expressions text[], subjects text[], kind text, length integer) returns jsonb
    language c immutable parallel safe strict
    as 'MODULE_PATHNAME', 'check_keywords_wrapper';
comment on function webhook.check_keywords(text[], text[], text, integer) is
    'Keywords of JSON Schema that follow from CHECK expressions of one column, as pg_get_expr() prints them with pg_catalog alone in the search path';

-- ── Schemas of values ───────────────────────────────────────────────────────────────────────────────────────────

-- A type that may be null is a list of two in JSON Schema.
create function webhook.schema_of(type text, nullable boolean, names text[] default '{}', members json[] default '{}') returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return webhook.json_members(array['type'] || names,
               array[case when nullable then json_build_array(type, 'null') else to_json(type) end] || members);
comment on function webhook.schema_of(text, boolean, text[], json[]) is 'A schema of one JSON type with these keywords';

create function webhook.schema_any_of(variadic schemas json[]) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return case when num_nonnulls(variadic schemas) > 1 then webhook.json_members('{anyOf}', array[webhook.json_elements(schemas)])
                else (select s from unnest(schemas) s where s is not null) end;
comment on function webhook.schema_any_of(json[]) is 'A schema that accepts what one of these does; nulls are left out, and of nothing else there is none';

-- Values that are printed as text, by their pg_type.oid. What is infinite, before Christ or after the year 9999 has no
-- place in RFC 3339, nor have time zones with seconds (mean local time, before 1900); timestamps without time zone and
-- times have none there at all.
create function webhook.text_schema(type oid, nullable boolean) returns json
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    pattern text;
    example text;
    format text;
    void constant json := case when nullable then json '{"type":"null"}' end;
begin
    case type
        when 'timestamptz'::regtype then
            return webhook.schema_any_of(json '{"type":"string","format":"date-time","examples":["2026-11-22T03:38:00.123456+00:00"]}',
                json '{"type":"string","pattern":"^-?infinity$|^[0-9]{5,6}-| BC$|:[0-9]{2}:[0-9]{2}[+-][0-9]{2}:[0-9]{2}:[0-9]{2}"}', void);
        when 'date'::regtype then
            return webhook.schema_any_of(json '{"type":"string","format":"date","examples":["2026-11-22"]}',
                json '{"type":"string","pattern":"^-?infinity$|^[0-9]{5,7}-| BC$"}', void);
        when 'timestamp'::regtype then
            pattern := '^-?infinity$|^[0-9]{4,6}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?( BC)?$';
            example := '2026-11-22T03:38:00.123456';
        when 'time'::regtype then
            pattern := '^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?$';
            example := '03:38:00';
        when 'timetz'::regtype then
            pattern := '^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?[+-][0-9]{2}(:[0-9]{2}){0,2}$';
            example := '03:38:00+00';
        when 'uuid'::regtype then
            format := 'uuid';
            example := '0190d5a4-7d2f-7cc3-98c4-dc0c0c07398f';
        when 'bit'::regtype, 'varbit'::regtype then
            pattern := '^[01]*$';
            example := '101';
        when 'bytea'::regtype then
            example := '\xdeadbeef';
        when 'interval'::regtype then
            example := '1 day 02:03:04';
        when 'inet'::regtype, 'cidr'::regtype then
            example := '192.0.2.1';
        when 'macaddr'::regtype then
            example := '08:00:2b:01:02:03';
        when 'money'::regtype then
            example := '$1.00';
        else
            null;
    end case;
    return webhook.schema_of('string', nullable, '{format,pattern,examples}',
        array[to_json(format), to_json(pattern), case when example is not null then json_build_array(example) end]);
end
$$;
comment on function webhook.text_schema(oid, boolean) is 'Schema of a type whose values are written as text';

-- numeric and float: NaN and the infinities are written as texts. NaN counts as larger than everything.
create function webhook.number_schema(type oid, typmod integer, nullable boolean, words jsonb) returns json
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    whole_digits constant integer := case when type = 'numeric'::regtype and typmod <> -1
        then (((typmod - 4) >> 16) & 65535) - ((((typmod - 4) & 2047) # 1024) - 1024) end;
    precise constant boolean := whole_digits >= 0 and (((typmod - 4) >> 16) & 65535) between whole_digits and 15;
    -- numeric(p,s) holds no infinity.
    spellings constant text[] := array(
        select s from unnest(array['NaN', 'Infinity', '-Infinity']) s
        where (whole_digits is null or s = 'NaN')
          and not (words ? 'upper' and s <> '-Infinity') and not (words ? 'lower' and s = '-Infinity'));
    lowest json := words -> 'exclusiveMinimum';
    highest json := words -> 'exclusiveMaximum';
    numbers json;
begin
    if precise and not words ? 'lower' then
        lowest := to_json(-power(10::numeric, whole_digits)::bigint);
    end if;
    if precise and not words ? 'upper' then
        highest := to_json(power(10::numeric, whole_digits)::bigint);
    end if;
    numbers := webhook.schema_of('number', nullable and spellings = '{}', '{minimum,exclusiveMinimum,maximum,exclusiveMaximum}',
        array[words -> 'minimum', lowest, words -> 'maximum', highest]::json[]);
    if spellings = '{}' then
        return numbers;
    end if;
    return webhook.schema_any_of(numbers, json_build_object('enum', spellings), case when nullable then json '{"type":"null"}' end);
end
$$;
comment on function webhook.number_schema(oid, integer, boolean, jsonb) is
    'Schema of numeric, real or double precision, within the bounds that its constraints set';

-- Constraints come with the name that each gives to the value: the column's, or VALUE in a domain.
create function webhook.type_schema(type oid, typmod integer, nullable boolean, expressions text[], subjects text[]) returns json
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    t pg_type;
    words jsonb;
    allowed json;
    lengths constant boolean := getdatabaseencoding() = 'UTF8'
        or pg_encoding_max_length((select encoding from pg_database where datname = current_database())) = 1;
begin
    loop
        select p.* into t from pg_type p where p.oid = type;
        exit when t.typtype <> 'd';
        if not exists (select from pg_collation l where l.oid = t.typcollation and not l.collisdeterministic) then
            select expressions || array_agg(pg_get_expr(c.conbin, 0)), subjects || array_agg('VALUE'::text)
                into expressions, subjects
                from pg_constraint c where c.contypid = type and c.contype = 'c' and c.convalidated;
        end if;
        type := t.typbasetype;
        typmod := case when typmod = -1 then t.typtypmod else typmod end;
    end loop;

    if t.typelem <> 0 and t.typlen = -1 then
        -- How many dimensions there are is not part of the type.
        return webhook.schema_of('array', nullable, '{items}', array[webhook.schema_any_of(
            webhook.type_schema(t.typelem, typmod, true, '{}', '{}'),
            json '{"type":"array","description":"One more dimension"}')]);
    elsif t.typtype = 'c' then
        return webhook.row_schema(t.typrelid, null, false, nullable);
    elsif type >= 16384 and exists (select from pg_cast c where c.castsource = type and c.casttarget = 'json'::regtype and c.castmethod = 'f') then
        return '{}';
    end if;

    words := webhook.check_keywords(c.expressions, c.subjects, c.kind, typmod - 4)
        -- Rust reads UTF-8; elsewhere what is not ASCII says nothing.
        from (select coalesce(array_agg(c.expression), '{}'), coalesce(array_agg(c.subject), '{}'),
                     case when type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then 'integer'
                          when type = 'numeric'::regtype then
                              case when typmod <> -1 and ((typmod - 4) >> 16) & 65535 <= 15 and (((typmod - 4) & 2047) # 1024) >= 1024
                                   then 'exact numeric' else 'numeric' end
                          when type = 'float8'::regtype then 'double'
                          when type = 'float4'::regtype then 'real'
                          when type in ('text'::regtype, 'varchar'::regtype) then 'text'
                          when type = 'bpchar'::regtype and typmod > 4 then 'padded'
                          when t.typtype = 'e' then 'enum'
                          else '' end
              from unnest(expressions, subjects) as c (expression, subject)
              where getdatabaseencoding() = 'UTF8' or (c.expression || c.subject) collate "C" !~ '[^ -~]') as c (expressions, subjects, kind);
    nullable := nullable and not words ? 'notNull';
    if jsonb_array_length(words -> 'enum') > 0 then
        allowed := case when nullable then (words -> 'enum') || '[null]' else words -> 'enum' end;
    elsif t.typtype = 'e' then
        allowed := webhook.json_elements(array(select to_json(e.enumlabel::text) from pg_enum e where e.enumtypid = type order by e.enumsortorder)
                                         || case when nullable then json 'null' end);
    end if;

    case
        when type in ('json'::regtype, 'jsonb'::regtype) then
            return '{}';
        when type = 'bool'::regtype then
            return webhook.schema_of('boolean', nullable);
        when type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then
            return webhook.schema_of('integer', nullable, '{minimum,maximum,enum}', array[
                to_json(greatest(-power(2::numeric, 8 * t.typlen - 1)::numeric(20), (words ->> 'minimum')::numeric)),
                to_json(least(power(2::numeric, 8 * t.typlen - 1)::numeric(20) - 1, (words ->> 'maximum')::numeric)), allowed]);
        when type in ('numeric'::regtype, 'float4'::regtype, 'float8'::regtype) then
            return case when allowed is not null then webhook.schema_of('number', nullable, '{enum}', array[allowed])
                        else webhook.number_schema(type, typmod, nullable, words) end;
        when type in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype) or t.typtype = 'e' then
            return webhook.schema_of('string', nullable, '{minLength,maxLength,enum}', array[
                -- In SQL_ASCII a character is a byte, of which the receiver may see fewer.
                to_json(case when lengths and getdatabaseencoding() <> 'SQL_ASCII'
                             then coalesce((words ->> 'minLength')::bigint, case when type = 'bpchar'::regtype and typmod > 4 then typmod - 4 end) end),
                to_json(case when lengths then least((words ->> 'maxLength')::bigint,
                        case when type <> 'text'::regtype and typmod > 4 then typmod - 4 end) end), allowed]);
        else
            return webhook.text_schema(type, nullable);
    end case;
end
$$;
comment on function webhook.type_schema(oid, integer, boolean, text[], text[]) is
    'Schema of the values of a type, as capture writes them';

-- Of a composite value nothing but the types is enforced, whatever its table says.
create function webhook.row_schema(rel oid, numbers smallint[], is_table boolean, nullable boolean, description text default null) returns json
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
    select webhook.schema_of('object', row_schema.nullable, '{description,properties,required}', array[
        to_json(row_schema.description),
        webhook.json_members(coalesce(array_agg(c.name order by c.number), '{}'), coalesce(array_agg(
            case when c.comment is null then c.schema
                 when c.schema::text = '{}' then json_build_object('description', c.comment)
                 else ('{"description":' || to_json(c.comment)::text || ',' || substr(c.schema::text, 2))::json end
            order by c.number), '{}')),
        coalesce(json_agg(c.name order by c.number), '[]')])
    from (
        select a.attnum as number, a.attname::text as name, col_description(a.attrelid, a.attnum) as comment,
               webhook.type_schema(a.atttypid, a.atttypmod,
                   not (is_table and a.attnotnull and webhook.is_never_null(a.attrelid, a.attname)),
                   coalesce(k.expressions, '{}'), array_fill(a.attname::text, array[coalesce(cardinality(k.expressions), 0)])) as schema
        from pg_attribute a
        left join lateral (
            select array_agg(pg_get_expr(c.conbin, c.conrelid) order by c.oid) as expressions
            from pg_constraint c
            where is_table and c.conrelid = a.attrelid and c.conkey = array[a.attnum] and c.contype = 'c'
              and c.convalidated and not c.connoinherit
              and not exists (select from pg_collation l where l.oid = a.attcollation and not l.collisdeterministic)) k on true
        where a.attrelid = rel and a.attnum > 0 and not a.attisdropped and (numbers is null or a.attnum = any (numbers))
    ) c
$$;
comment on function webhook.row_schema(oid, smallint[], boolean, boolean, text) is
    'Schema of an object of these columns of a relation (null: of all)';

-- An heir can do without its parent's NOT NULL; since 18 the constraint can be NOT VALID.
create function webhook.is_never_null(rel oid, name name) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    with recursive family (oid) as (
        select is_never_null.rel
        union select i.inhrelid from pg_inherits i join family f on i.inhparent = f.oid)
    select not exists (select from family f join pg_attribute a on a.attrelid = f.oid and a.attname = is_never_null.name
                       where not a.attnotnull
                          or exists (select from pg_constraint c where c.conrelid = f.oid and c.contype = 'n'
                                     and c.conkey = array[a.attnum] and not c.convalidated));
end;
comment on function webhook.is_never_null(oid, name) is 'Whether a column is NOT NULL in a table and in all that inherit from it';

-- ── Which columns a watch means ─────────────────────────────────────────────────────────────────────────────────

-- The triggers tell, not webhook.watch: they know the numbers that columns had, and so survive a rename.
create function webhook.watch_definition(rel oid) returns jsonb
    language sql stable set search_path = pg_catalog, pg_temp
    return (select convert_from(substr(t.tgargs, 1, octet_length(t.tgargs) - 1), getdatabaseencoding())::jsonb
            from pg_trigger t
            where t.tgrelid = rel and t.tgfoid = 'webhook.capture()'::regprocedure
            order by t.tgname limit 1);
comment on function webhook.watch_definition(oid) is 'The definition that the triggers of a watched table carry';

-- The rule of extension/src/capture/resolve.rs.
create function webhook.meant_columns(rel oid, columns jsonb, others boolean) returns smallint[]
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(array_agg(m.number), '{}')
    from jsonb_array_elements(columns) as c
    left join pg_attribute old on old.attrelid = meant_columns.rel and old.attnum = (c ->> 'number')::smallint and not old.attisdropped
    left join pg_attribute new on new.attrelid = meant_columns.rel and new.attname = c ->> 'name' and new.attnum > 0 and not new.attisdropped
    cross join lateral (select case when new.attnum < old.attnum then new.attnum else coalesce(old.attnum, new.attnum) end
                        union select case when meant_columns.others then new.attnum end
                        union select case when meant_columns.others then old.attnum end) as m (number)
    where m.number is not null;
end;
comment on function webhook.meant_columns(oid, jsonb, boolean) is
    'The present numbers of the columns that a watch names; others: those too that it could mean';

create function webhook.captured_columns(rel oid, definition jsonb) returns smallint[]
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(array_agg(a.attnum order by a.attnum), '{}')
    from pg_attribute a
    where a.attrelid = captured_columns.rel and a.attnum > 0 and not a.attisdropped
      -- Since 18 a column can be computed when it is read; a trigger sees no value of it.
      and a.attgenerated <> 'v'
      and (not captured_columns.definition ? 'columns'
           or a.attnum = any (webhook.meant_columns(rel, definition -> 'columns', false)))
      and (not captured_columns.definition ? 'exclude'
           or a.attnum <> all (webhook.meant_columns(rel, definition -> 'exclude', true)));
end;
comment on function webhook.captured_columns(oid, jsonb) is 'The numbers of the columns that a watch puts into "data"';

-- ── Schemas of events ───────────────────────────────────────────────────────────────────────────────────────────

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
                         webhook.row_schema(s.relation, webhook.meant_columns(s.relation, coalesce(d.definition -> 'key', '[]'), false), true, false) -> 'properties',
                         'false']) end),
             (4, case when 'truncate' = any (s.operations) then json '{"type":"object","maxProperties":0}' end)) as v (at, schema)),
        '{}')
$$;
comment on function webhook.data_schema(text) is
    'JSON Schema of "data": as entered by hand, else from the watched tables; {} says nothing';

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
comment on function webhook.previous_schema(text) is 'JSON Schema of "previous"; null: events of this type have none';

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

-- ── Examples ────────────────────────────────────────────────────────────────────────────────────────────────────

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
comment on function webhook.schema_example(json) is 'A value that a schema of ours accepts';

create function webhook.data_example(event_type text) returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return coalesce((select t.example from webhook.event_type t where t.type = event_type),
                    webhook.schema_example(webhook.data_schema(event_type)));
comment on function webhook.data_example(text) is 'An example of "data": as entered by hand, else from the schema';

create function webhook.body_example(event_type text) returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return webhook.json_members('{id,type,timestamp,sequence,table,data}', array[
        json '"evt_0660d5342ff8402a"', to_json(event_type), '"2026-11-22T03:38:00.123456Z"', '42',
        to_json((select s.relation::text from webhook.sources(event_type) s limit 1)), webhook.data_example(event_type)]);
comment on function webhook.body_example(text) is 'An example of a whole body in format standard';

-- ── What receivers are given ────────────────────────────────────────────────────────────────────────────────────

-- Live, where nobody has written another.
create function webhook.described_event_types() returns table (type text, description text)
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select t.type, case when t.description is not distinct from t.derived then webhook.derived_description(t.type) else t.description end
    from webhook.event_type t;
end;
comment on function webhook.described_event_types() is 'All event types, described as of now';

create function webhook.check_event_type(event_type text) returns text
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if event_type is null then
        raise exception using errcode = 'null_value_not_allowed', message = 'event_type must not be null',
            hint = 'Name one of webhook.event_type.';
    elsif not exists (select from webhook.event_type t where t.type = event_type)
          and not exists (select from webhook.sources(event_type)) then
        raise exception using errcode = 'undefined_object', message = format('there is no event type "%s"', event_type),
            hint = 'webhook.event_type lists them. Add a row there for a type that the application emits itself.';
    end if;
    return event_type;
end
$$;
comment on function webhook.check_event_type(text) is 'Raises if nothing is known of an event type';

-- Definer: the schema and the watches are not for everybody's eyes, and what is shown of them here is public knowledge
-- among those who may subscribe.
create function webhook_event_schema(event_type text) returns json
    language sql stable security definer set search_path = pg_catalog, pg_temp
    return (select ('{"$schema":"https://json-schema.org/draft/2020-12/schema","title":' || to_json(event_type)::text
                    || case when s.schema = '{}' then '}' else ',' || substr(s.schema, 2) end)::json
            from (select webhook.data_schema(webhook.check_event_type(event_type))::text) as s (schema));
comment on function webhook_event_schema is
    'JSON Schema of "data" of an event type, from the catalogue as it is now';

create function webhook_event_example(event_type text) returns json
    language sql stable security definer set search_path = pg_catalog, pg_temp
    return webhook.data_example(webhook.check_event_type(event_type));
comment on function webhook_event_example is 'An example of "data" of an event type';

-- What stands at the head of both documents. The version changes when anything that is described does.
create function webhook.documentation_info(content json) returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return json_build_object(
        'title', format('Events of %s', current_database()),
        'version', left(encode(sha256(convert_to(content::text, 'UTF8')), 'hex'), 12),
        'description', 'Sent as signed POST requests (Standard Webhooks), at least once: deduplicate by webhook-id. '
            || 'Members may be added; ignore those that you do not know.');
comment on function webhook.documentation_info(json) is 'The member "info" of a document with this content';

create function webhook.header_schemas() returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return json '{"webhook-id":{"type":"string","description":"The event: the same for every attempt to deliver it","examples":["evt_0660d5342ff8402a"]},'
        '"webhook-timestamp":{"type":"string","pattern":"^[0-9]+$","description":"When this attempt was made, in seconds since 1970","examples":["1795318680"]},'
        '"webhook-signature":{"type":"string","description":"v1, and the base64 of HMAC-SHA256 over webhook-id.webhook-timestamp.body; several, separated by a space, while a secret is being replaced","examples":["v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="]}}';
comment on function webhook.header_schemas() is 'JSON Schemas of the headers that every webhook carries';

create function webhook_openapi() returns json
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    webhooks json;
    schemas json;
    parameters json;
    components json;
begin
    select webhook.json_members(
               coalesce(array_agg(t.type order by t.type), '{}'),
               coalesce(array_agg(json_build_object('post', webhook.json_members(
                   '{operationId,summary,description,tags,parameters,requestBody,responses}', array[
                   to_json(t.type), to_json(t.type), to_json(t.description),
                   json_build_array(regexp_replace(t.type, '\.[^.]*$', '')),
                   '[{"$ref":"#/components/parameters/webhook-id"},{"$ref":"#/components/parameters/webhook-timestamp"},{"$ref":"#/components/parameters/webhook-signature"}]',
                   json_build_object('required', true, 'content', json_build_object('application/json', json_build_object(
                       'schema', json_build_object('$ref', '#/components/schemas/' || t.type),
                       'example', webhook.body_example(t.type)))),
                   '{"2XX":{"$ref":"#/components/responses/accepted"},"410":{"$ref":"#/components/responses/gone"},'
                   '"429":{"$ref":"#/components/responses/slower"},"default":{"$ref":"#/components/responses/failed"}}']))
                   order by t.type), '{}')),
           webhook.json_members(coalesce(array_agg(t.type order by t.type), '{}'),
                                coalesce(array_agg(webhook.body_schema(t.type) order by t.type), '{}'))
        into webhooks, schemas
        from webhook.described_event_types() t;
    select webhook.json_members(array_agg(h.key order by h.at), array_agg(json_build_object(
               'name', h.key, 'in', 'header', 'required', true, 'schema', h.value) order by h.at))
        into parameters
        from json_each(webhook.header_schemas()) with ordinality as h (key, value, at);
    components := webhook.json_members('{schemas,parameters,responses}', array[schemas, parameters,
        '{"accepted":{"description":"Delivered. The body of the answer does not matter"},'
        '"gone":{"description":"Send no more: the subscription is switched off at once"},'
        '"slower":{"description":"Tried again on the schedule, and sent to more slowly from then on",'
        '"headers":{"Retry-After":{"description":"Not before: seconds, or a date; at most 24 hours","schema":{"type":"string"}}}},'
        '"failed":{"description":"Failed, and tried again on the schedule: with 5xx and 4xx as with a redirect, which is not followed"}}']);
    return webhook.json_members('{openapi,info,webhooks,components}', array[
        json '"3.1.0"', webhook.documentation_info(webhook.json_elements(array[webhooks, components])), webhooks, components]);
end
$$;
comment on function webhook_openapi is
    'The events as an OpenAPI 3.1 document (member webhooks), from the catalogue as it is now';

create function webhook_asyncapi() returns json
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    messages json;
    channel_messages json;
    channels json;
    operations json;
begin
    select webhook.json_members(
               coalesce(array_agg(t.type order by t.type), '{}'),
               coalesce(array_agg(webhook.json_members('{name,title,description,contentType,headers,payload,examples}', array[
                   to_json(t.type), to_json(t.type), to_json(t.description), '"application/json"',
                   webhook.schema_of('object', false, '{properties,required}', array[
                       webhook.header_schemas(), '["webhook-id","webhook-timestamp","webhook-signature"]']),
                   webhook.body_schema(t.type), 
                   case when json_typeof(webhook.body_example(t.type)) = 'object' then
                       json_build_array(json_build_object('payload', webhook.body_example(t.type))) end]) order by t.type), '{}')),
           webhook.json_members(coalesce(array_agg(t.type order by t.type), '{}'),
               coalesce(array_agg(json_build_object('$ref', '#/components/messages/' || t.type) order by t.type), '{}'))
        into messages, channel_messages
        from webhook.described_event_types() t;
    channels := json_build_object('webhooks', webhook.json_members('{address,description,messages}', array[
        json 'null', '"The URL of a subscription"', channel_messages]));
    operations := '{"sendEvent":{"action":"send","channel":{"$ref":"#/channels/webhooks"},'
                  '"summary":"An event is sent to each subscription that it matches","bindings":{"http":{"method":"POST"}}}}';
    return webhook.json_members('{asyncapi,info,defaultContentType,channels,operations,components}', array[
        json '"3.0.0"', webhook.documentation_info(webhook.json_elements(array[messages, channels])), '"application/json"',
        channels, operations, json_build_object('messages', messages)]);
end
$$;
comment on function webhook_asyncapi is 'The events as an AsyncAPI 3 document, from the catalogue as it is now';
