-- Objects that the regression files share. The test run executes this file once, before them.
--
-- by_hand.watch() creates triggers from the definition alone, so a file about capture tests only
-- capture.

create schema by_hand;
grant usage on schema by_hand to public;

-- Returns columns as a definition holds them.
create function by_hand.columns(rel regclass, variadic names text[]) returns jsonb
    language sql stable
    return (select coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'number', a.attnum) order by n.at), '[]')
            from unnest(names) with ordinality as n (name, at)
            join pg_attribute a on a.attrelid = rel and a.attname = n.name);

-- Watches a table. `definition` overrides the defaults of a watch: all verbs, all columns, the
-- primary key.
create procedure by_hand.watch(rel regclass, definition jsonb default '{}', condition text default null)
    language plpgsql set client_min_messages = warning
as $$
declare
    noun text := (select relname from pg_class where oid = rel);
    key jsonb := (select coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'number', a.attnum) order by k.at), '[]')
                  from pg_index i, unnest(i.indkey) with ordinality as k (number, at)
                  join pg_attribute a on a.attnum = k.number
                  where i.indrelid = rel and i.indisprimary and a.attrelid = rel);
    layout jsonb := (select jsonb_build_object('oid', rel::oid::bigint, 'columns', jsonb_agg(case when not a.attisdropped then a.attname end order by a.attnum))
                     from pg_attribute a where a.attrelid = rel and a.attnum > 0);
    whole jsonb := jsonb_build_object('noun', noun, 'key', key, 'table', layout, 'verbs',
        '{"insert": "created", "update": "updated", "delete": "deleted", "truncate": "truncated"}'::jsonb) || definition;
    operation text;
begin
    foreach operation in array array['insert', 'update', 'delete', 'truncate'] loop
        execute format('drop trigger if exists webhook_%s on %s', operation, rel);
        execute format('create trigger webhook_%s after %s on %s for each %s %s execute function webhook.capture(%L)',
            operation, operation, rel, case operation when 'truncate' then 'statement' else 'row' end,
            case when condition is not null and operation <> 'truncate' then format('when (%s)', condition) end, whole);
    end loop;
end
$$;

-- The events of the current transaction, and those of earlier ones, in order.
create view by_hand.event as
select type, key, payload, previous from webhook.event order by id;

-- Returns a statement's SQLSTATE, error message and hint, without the parts that vary between runs.
create function by_hand.fails(statement text) returns text language plpgsql as $$
declare
    state text; message text; hint text;
begin
    execute statement;
    return 'allowed';
exception when others then
    get stacked diagnostics state = returned_sqlstate, message = message_text, hint = pg_exception_hint;
    message := regexp_replace(regexp_replace(message, 'pg_temp_\d+', 'pg_temp_N'), 'before .* have been removed', 'before MOMENT have been removed');
    return format('%s %s%s', state, message, E'\n      ' || nullif(hint, ''));
end
$$;

-- Executes statements as a role, each in a subtransaction. Returns the results of by_hand.fails().
create function by_hand.tries(who text, variadic statements text[]) returns setof text language plpgsql as $$
declare
    statement text;
begin
    foreach statement in array statements loop
        execute format('set local role %I', who);
        return next format('%s: %s: %s', who, statement, by_hand.fails(statement));
        reset role;
    end loop;
end
$$;
