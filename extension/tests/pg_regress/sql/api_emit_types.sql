-- webhook_emit() with payloads and keys of several types. Calls with untyped arguments stay
-- unambiguous.
begin;
set local client_min_messages = warning;
set local search_path = public;
set local timezone = 'Asia/Kathmandu';
set local bytea_output = 'escape';
create temp view emitted as
select coalesce(key, '(null)') as key, payload from webhook.event e where e.xid = webhook.current_xid() order by e.id;

-- Payloads: untyped, json, jsonb, results of functions of both, domains of them; with and without a
-- key; positional and named.
create domain some_json as json;
create domain some_jsonb as jsonb;
select count(*) from (values
    (webhook_emit('a.b', '{"b": 1.50,"a":1,"b":2}')),
    (webhook_emit('a.b', '{"b": 1.50,"a":1,"b":2}'::json)),
    (webhook_emit('a.b', '{"b": 1.50,"a":1,"b":2}'::jsonb)),
    (webhook_emit('a.b', '{"b": 1.50,"a":1,"b":2}'::some_json)),
    (webhook_emit('a.b', '{"b": 1.50,"a":1,"b":2}'::some_jsonb)),
    (webhook_emit('a.b', json_build_object('n', 1))),
    (webhook_emit('a.b', jsonb_build_object('n', 1))),
    (webhook_emit('a.b', to_jsonb(array[1]))),
    (webhook_emit('a.b', '{}', 'k')),
    (webhook_emit('a.b', '{}'::json, 'k')),
    (webhook_emit('a.b', '{}'::jsonb, 'k')),
    (webhook_emit('a.b', payload => '{}')),
    (webhook_emit('a.b', payload => '{}'::jsonb)),
    (webhook_emit(event_type => 'a.b', payload => '{}', key => 'k')),
    (webhook_emit(event_type => 'a.b', payload => '{}'::json, key => 'k')),
    (webhook_emit(key => 'k', payload => '{}'::jsonb, event_type => 'a.b'))) as v (id);
table emitted;
delete from webhook.event;

-- Event types of every string type.
select count(*) from (values
    (webhook_emit('a.b'::text, '{}')), (webhook_emit('a.b'::varchar, '{}')), (webhook_emit('a.b'::char(3), '{}')), (webhook_emit('a.b'::name, '{}')),
    (webhook_emit('a.b'::text, '{}', 'k')), (webhook_emit('a.b'::varchar, '{}', key => 'k')), (webhook_emit('a.b'::text, '{}', key => 7)),
    (webhook_emit('a.b'::text, '{}'::jsonb)), (webhook_emit('a.b'::varchar, '{}'::jsonb, 'k')), (webhook_emit('a.b'::varchar, '{}'::jsonb, 7)),
    (webhook_emit(('a.' || repeat('b', 100))::text, '{}'::jsonb)), (webhook_emit('a.b'::varchar, '{ "a" : 1 }'))) as v (id);
table emitted;
select max(length(type)) from webhook.event where xid = webhook.current_xid();
delete from webhook.event;

-- Keys: each is written like the key of a watched table.
create type mood as enum ('sad', 'ok');
create domain order_number as bigint;
create table keyed (id bigint, at timestamptz);
select count(*) from (values
    (webhook_emit('a.b', '{}', 42)), (webhook_emit('a.b', '{}', key => 42)), (webhook_emit('a.b', '{}', key => 42::smallint)),
    (webhook_emit('a.b', '{}', key => 42::bigint)), (webhook_emit('a.b', '{}', key => 4.20)), (webhook_emit('a.b', '{}', key => 42::order_number)),
    (webhook_emit('a.b', '{}', key => 0.1::float8 + 0.2)), (webhook_emit('a.b', '{}', key => true)),
    (webhook_emit('a.b', '{}', key => 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid)),
    (webhook_emit('a.b', '{}', key => timestamptz '2026-01-01 12:00+00')), (webhook_emit('a.b', '{}', key => date '2026-01-01')),
    (webhook_emit('a.b', '{}', key => '\x00ff'::bytea)), (webhook_emit('a.b', '{}', key => 'ok'::mood)),
    (webhook_emit('a.b', '{}', key => 'k'::varchar)), (webhook_emit('a.b', '{}', key => 'k'::name)), (webhook_emit('a.b', '{}', key => 'k'::text)),
    (webhook_emit('a.b', '{}', key => 'k '::char(3))), (webhook_emit('a.b', '{}', key => '[1,"x"]'::jsonb)),
    (webhook_emit('a.b', '{}'::json, key => 42)), (webhook_emit('a.b', '{}'::jsonb, key => 42)), (webhook_emit('a.b', '{"x":1}'::jsonb, 4.20)),
    (webhook_emit('a.b', '{}', null)), (webhook_emit('a.b', '{}', key => null)), (webhook_emit('a.b', '{}'::jsonb, key => null)),
    (webhook_emit('a.b', '{}', key => null::bigint)), (webhook_emit('a.b', '{}'::jsonb, key => null::uuid))) as v (id);
table emitted;
delete from webhook.event;
insert into keyed values (7, '2026-01-01 12:00+00');
select webhook_emit('a.b', to_jsonb(k), k.id) is not null, webhook_emit('a.b', row_to_json(k), k.at) is not null from keyed k;
table emitted;
delete from webhook.event;

-- Parameters without a type resolve as before: text, json, text.
prepare two as select webhook_emit($1, $2);
prepare three as select webhook_emit($1, $2, $3);
prepare named as select webhook_emit(event_type => $1, payload => $2, key => $3);
prepare half as select webhook_emit('a.b', $1, key => $2);
prepare typed_key as select webhook_emit($1, $2, $3::bigint);
prepare typed_payload as select webhook_emit($1, $2::jsonb, $3);
select name, parameter_types from pg_prepared_statements order by name;
\o /dev/null
execute three('a.b', '{ "a":1 }', 'k');
\o
deallocate all;

-- PL/pgSQL, with variables.
do $$
declare
    j jsonb := '{"a": 1}'; n bigint := 9; t text := 'a.b';
begin
    perform webhook_emit(t, j, n), webhook_emit(t, j), webhook_emit('a.b', j, key => n), webhook_emit(t, to_json(n), 'k');
end
$$;
table emitted;
delete from webhook.event;

-- Rejected calls, and their errors.
select by_hand.fails(statement) from (values
    ('select webhook_emit(''a.b'', ''{}'', array[1])'), ('select webhook_emit(''a.b'', ''{}''::text)'), ('select webhook_emit(''a.b'', 1)'),
    ('select webhook_emit(''a.b'', null::jsonb)'), ('select webhook_emit(null, ''{}''::jsonb)'), ('select webhook_emit(''a'', ''{}''::jsonb)'),
    ('select webhook_emit(''webhook.b'', ''{}''::jsonb, 1)'), ('select webhook_emit(''a.b'', ''{}'', to_jsonb(repeat(''k'', 1025)))')) as v (statement);
set local webhook.payload_bytes_max = 1024;
select webhook_emit('a.b', to_jsonb(repeat('x', 2000)), 7) is not null;
set local webhook.payload_over_cap = 'strict';
select by_hand.fails('select webhook_emit(''a.b'', to_jsonb(repeat(''x'', 2000)))');
table emitted;
rollback;
