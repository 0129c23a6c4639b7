-- The audit that the differential test compares the outbox with. It is independent of the
-- extension: PL/pgSQL triggers record each change of a row, with its time on one clock.
--
-- Tables whose rows are changed by other triggers meanwhile are "stamped": a BEFORE trigger that
-- sorts last takes the time directly before the change, and writes it into column v of the row. No
-- user code runs in between, so stamps give the true order with any order of AFTER triggers. Each
-- version of a row has its own v, which identifies the change that an event reports. An AFTER
-- trigger then confirms that the change was made.
--
-- Other tables have only the AFTER trigger, so they behave like tables without BEFORE triggers.
-- Their v comes from the column's default and from the statements.
create schema torture;

create sequence torture.clock;

create table torture.change (
    at bigint not null default nextval('torture.clock'),
    xid bigint not null default pg_current_xact_id()::text::bigint,
    tag text default current_setting('torture.tag', true),
    noun text not null,
    -- b: about to be made; a: made.
    phase text not null,
    -- I, U, D, T.
    operation text not null,
    former_v bigint,
    -- Column v of a new row before the stamp. A row that moves between partitions has a stamp
    -- already.
    given_v bigint,
    v bigint,
    former_key text,
    key text,
    former text,
    data text
);

create function torture.stamp() returns trigger language plpgsql as $$
declare
    at constant bigint := nextval('torture.clock');
begin
    if tg_op = 'DELETE' then
        insert into torture.change (at, noun, phase, operation, former_v) values (at, tg_argv[0], 'b', 'D', old.v);
        return old;
    elsif tg_op = 'INSERT' then
        insert into torture.change (at, noun, phase, operation, given_v, v) values (at, tg_argv[0], 'b', 'I', new.v, at);
        new.v := at;
    -- An update that changes no bit is not a change.
    elsif new *<> old then
        insert into torture.change (at, noun, phase, operation, former_v, v) values (at, tg_argv[0], 'b', 'U', old.v, at);
        new.v := at;
    end if;
    return new;
end
$$;

-- Returns a row as JSON, with the columns in the order of the watched table. It does not read
-- pg_attribute, which may be older than the table under REPEATABLE READ.
create function torture.object(data json, relation oid, root regclass) returns text language plpgsql as $$
declare
    model json;
begin
    if relation = root then
        return data;
    end if;
    execute format('select row_to_json(r) from (select (null::%s).*) r', root) into model;
    return (
        select '{' || string_agg(to_json(name)::text || ':' || (data -> name)::text, ',' order by n) || '}'
        from json_object_keys(model) with ordinality k (name, n)
    );
end
$$;

create function torture.key(data json, columns text[]) returns text language sql immutable as $$
    select case cardinality(columns)
        when 0 then null
        when 1 then data ->> columns[1]
        else '[' || (select string_agg((data -> c)::text, ',' order by n) from unnest(columns) with ordinality k (c, n)) || ']' end
$$;

-- Arguments: noun, key columns, and the table whose order of columns counts.
create function torture.record() returns trigger language plpgsql
set timezone = 'UTC' set datestyle = 'ISO' set intervalstyle = 'iso_8601' set bytea_output = 'hex' set extra_float_digits = 1
as $$
declare
    former json;
    data json;
    root regclass;
    keys text[];
begin
    if tg_op = 'TRUNCATE' then
        insert into torture.change (noun, phase, operation) values (tg_argv[0], 'a', 'T');
        return null;
    end if;
    keys := tg_argv[1];
    root := coalesce(nullif(tg_argv[2], '')::regclass, tg_relid::regclass);
    if tg_op = 'INSERT' then
        data := row_to_json(new);
        insert into torture.change (noun, phase, operation, v, key, data)
        values (tg_argv[0], 'a', 'I', new.v, torture.key(data, keys), torture.object(data, tg_relid, root));
    elsif tg_op = 'DELETE' then
        former := row_to_json(old);
        insert into torture.change (noun, phase, operation, former_v, former_key, former)
        values (tg_argv[0], 'a', 'D', old.v, torture.key(former, keys), torture.object(former, tg_relid, root));
    elsif new *<> old then
        former := row_to_json(old);
        data := row_to_json(new);
        insert into torture.change (noun, phase, operation, former_v, v, former_key, key, former, data)
        values (tg_argv[0], 'a', 'U', old.v, new.v, torture.key(former, keys), torture.key(data, keys),
            torture.object(former, tg_relid, root), torture.object(data, tg_relid, root));
    end if;
    return null;
end
$$;
