-- Documentation of events, first part: JSON Schemas of values, from their types and constraints in
-- the system catalog.
--
-- One rule is above all others: the schema accepts every payload of a row that the watched table
-- accepts, as the extension prints it and as validators read it (numbers in double precision,
-- formats asserted or not). A schema contains only what is certain in this sense. So it does not
-- use constraints that are NOT VALID, NOT NULL of a domain (a sub-select without a row passes it),
-- operators that are not Postgres's own, or the result of a payload function.
--
-- All of it is json, composed as text, so that the order of columns stays.

-- -- Putting JSON together ------------------------------------------------------------------------

create function webhook.json_members(names text[], members json[]) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select ('{' || coalesce(string_agg(to_json(m.name)::text || ':' || m.member::text, ',' order by m.at), '') || '}')::json
    from unnest(names, members) with ordinality as m (name, member, at)
    where m.member is not null;
end;
comment on function webhook.json_members(text[], json[]) is 'A JSON object of the members that are not null, in this order';

create function webhook.json_elements(elements json[]) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select ('[' || coalesce(string_agg(e.element::text, ',' order by e.at), '') || ']')::json
    from unnest(elements) with ordinality as e (element, at)
    where e.element is not null;
end;
comment on function webhook.json_elements(json[]) is 'A JSON array of the elements that are not null, in this order';

-- -- What a CHECK says: documentation.rs, crates/check_constraint ---------------------------------

create function webhook.check_keywords(expressions text[], subjects text[], kind text, length integer) returns jsonb
    language c immutable parallel safe strict
    as 'MODULE_PATHNAME', 'check_keywords_wrapper';
comment on function webhook.check_keywords(text[], text[], text, integer) is
    'JSON Schema keywords that follow from the CHECK expressions of one column, as pg_get_expr() prints them with only pg_catalog in the search path';

-- -- Schemas of values ----------------------------------------------------------------------------

-- In JSON Schema, a type that may be null is a list of two.
create function webhook.schema_of(type text, nullable boolean, names text[] default '{}', members json[] default '{}') returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return webhook.json_members(array['type'] || names,
               array[case when nullable then json_build_array(type, 'null') else to_json(type) end] || members);
comment on function webhook.schema_of(text, boolean, text[], json[]) is 'A schema of one JSON type with these keywords';

create function webhook.schema_any_of(variadic schemas json[]) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return case when num_nonnulls(variadic schemas) > 1 then webhook.json_members('{anyOf}', array[webhook.json_elements(schemas)])
                else (select s from unnest(schemas) s where s is not null) end;
comment on function webhook.schema_any_of(json[]) is 'A schema that accepts the values of each of these schemas; nulls are ignored; null if all are null';

-- Values that are printed as text, by their pg_type.oid. RFC 3339 has no infinite times, no times
-- before Christ or after the year 9999, and no timestamps or times without time zone. Its durations
-- have no inner signs.
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
                json '{"type":"string","pattern":"^-?infinity$|^[0-9]{5,6}-| BC$"}', void);
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
            pattern := '^\\x[0-9a-f]*$';
            example := '\xdeadbeef';
        when 'interval'::regtype then
            pattern := '^P(-?[0-9]+Y)?(-?[0-9]+M)?(-?[0-9]+D)?(T(-?[0-9]+H)?(-?[0-9]+M)?(-?[0-9]+(\.[0-9]{1,6})?S)?)?$|^-?infinity$';
            example := 'P1DT2H3M4S';
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

-- numeric and float: NaN and the infinities are written as texts. NaN is larger than all numbers.
create function webhook.number_schema(type oid, typmod integer, nullable boolean, words jsonb) returns json
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    whole_digits constant integer := case when type = 'numeric'::regtype and typmod <> -1
        then (((typmod - 4) >> 16) & 65535) - ((((typmod - 4) & 2047) # 1024) - 1024) end;
    precise constant boolean := whole_digits >= 0 and (((typmod - 4) >> 16) & 65535) between whole_digits and 15;
    -- numeric(p,s) contains no infinity.
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

-- Each constraint comes with its name for the value: the column's name, or VALUE in a domain.
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
        -- The number of dimensions is not part of the type.
        return webhook.schema_of('array', nullable, '{items}', array[webhook.schema_any_of(
            webhook.type_schema(t.typelem, typmod, true, '{}', '{}'),
            json '{"type":"array","description":"One more dimension"}')]);
    elsif t.typtype = 'c' then
        return webhook.row_schema(t.typrelid, null, false, nullable);
    elsif type >= 16384 and exists (select from pg_cast c where c.castsource = type and c.casttarget = 'json'::regtype and c.castmethod = 'f') then
        return '{}';
    end if;

    words := webhook.check_keywords(c.expressions, c.subjects, c.kind, typmod - 4)
        -- Rust reads UTF-8. In other encodings, constraints with characters outside ASCII are not
        -- used.
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
                -- In SQL_ASCII, a character is a byte, and the receiver may see fewer characters.
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

-- Of a composite value, only the types are enforced, and not the constraints of its table.
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
    'Schema of an object with these columns of a relation (null: all columns)';

-- A child table can omit its parent's NOT NULL. Since 18, the constraint can be NOT VALID.
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
comment on function webhook.is_never_null(oid, name) is 'Whether a column is NOT NULL in a table and in all its child tables';
