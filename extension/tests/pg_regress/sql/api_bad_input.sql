-- Every mistake gets a SQLSTATE, a message that names the problem and a hint that is a full
-- sentence, and it leaves no trace.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
\pset format unaligned
\pset tuples_only on
create table orders (id bigint primary key, total numeric, note text);

\echo -- relations that are not tables
create view v as select 1 as x;
create materialized view mv as select 1 as x;
create sequence sq;
create type ct as (x int);
create foreign data wrapper fdw;
create server srv foreign data wrapper fdw;
create foreign table ft (x int) server srv;
create temporary table tmp (x int);
select by_hand.fails(format('select webhook_watch(%L)', rel))
from unnest('{nowhere,v,mv,sq,ct,ft,orders_pkey,tmp,pg_class,information_schema.sql_features,webhook.event,webhook.subscription,0,4000000000}'::text[]) rel;
select by_hand.fails('select webhook_watch(null)');
select by_hand.fails('select webhook_unwatch(null)');
select by_hand.fails('select webhook_unwatch(''orders'')');
select by_hand.fails('select webhook_unwatch(''4000000000'')');

\echo -- nouns and verbs
create table "Orders" (id int);
create table webhook (id int);
select by_hand.fails('select webhook_watch(''"Orders"'')');
select by_hand.fails('select webhook_watch(''webhook'')');
select by_hand.fails(format('select webhook_watch(''orders'', noun => %L)', noun))
from unnest(array['', 'Order', 'a b', 'a.b.c', 'bestellung.größe', '.a', 'a.', 'webhook', 'webhook.x', repeat('x', 201), repeat('x', 193)]) noun;
select by_hand.fails(format('select webhook_watch(''orders'', verbs => %L)', verbs))
from unnest(array['[]', '"created"', '{}', '{"insert":null}', '{"upsert":"x"}', '{"insert":"Created"}', '{"insert":"a.b"}',
                  '{"insert":""}', '{"insert":1}', '{"insert":{"a":1}}']) verbs;
select by_hand.fails('select webhook_watch(''orders'', verbs => null)');

\echo -- columns
select by_hand.fails(format('select webhook_watch(''orders'', %s)', arguments))
from unnest(array[
    'columns => ''{totl}''', 'exclude => ''{TOTAL}''', 'on_columns => ''{id,amount_in_cents}''', 'key_columns => ''{ctid}''',
    'columns => ''{}''', 'columns => ''{id,id}''', 'columns => ''{id,null}''', 'exclude => ''{id,total,note}''', 'on_columns => ''{}''',
    'columns => ''{id}'', exclude => ''{note}''', 'on_columns => ''{id}'', verbs => ''{"insert":"created"}''']) arguments;
alter table orders drop column note;
select by_hand.fails('select webhook_watch(''orders'', columns => ''{note}'')');

\echo -- conditions
select by_hand.fails(format('select webhook_watch(''orders'', condition => %L, verbs => ''{"insert":"created"}'')', condition))
from unnest(array[
    '', '  ', 'new.total >', 'new.total > 100)', '(new.total > 100', 'true) execute function f(); drop table orders; --',
    'true; drop table orders', 'true;', 'true, true', 'true as x', 'true x', 'true from orders', 'true where true', 'true union select true',
    'true order by 1', 'true limit 1', 'true for update', 'distinct true', 'all true', 'true into t', '*', 'new.*', 'select true', '(select true)',
    'exists (select 1)', 'true /*', 'true */', '''abc', '$$', 'nwe.total > 1', 'new.totl > 1', 'total > 1', 'new.total', '1', 'null::text',
    'new.total = ''x''', 'count(*) > 1', 'row_number() over () > 1', 'generate_series(1, 2) = 1', 'nothing(new.total)', '$1', 'new.id = new.nope']) condition;
\echo -- … and rows that the operation does not have
select by_hand.fails('select webhook_watch(''orders'', condition => ''new.total > 1'')');
select by_hand.fails('select webhook_watch(''orders'', condition => ''old.total > 1'')');
select by_hand.fails('select webhook_watch(''orders'', condition => ''old.total <> new.total'')');
select by_hand.fails('select webhook_watch(''orders'', condition => ''new is distinct from old'', verbs => ''{"delete":"deleted"}'')');
select by_hand.fails('select webhook_watch(''orders'', condition => ''old.id = 1'', verbs => ''{"insert":"created","truncate":"truncated"}'')');

\echo -- payload functions
create function takes_none() returns json language sql return '{}'::json;
create function takes_int(int) returns json language sql return '{}'::json;
create function takes_two(orders, int) returns json language sql return '{}'::json;
create function gives_text(orders) returns text language sql return 'x';
create function gives_many(orders) returns setof json language sql begin atomic select '{}'::json; end;
create function twice(orders) returns json language sql return '{}'::json;
create function twice(int) returns json language sql return '{}'::json;
create procedure proc(orders) language sql begin atomic select 1; end;
select by_hand.fails('select webhook_watch(''orders'', payload => ''twice'', columns => ''{id}'')');
select by_hand.fails(format('select webhook_watch(''orders'', payload => %L)', f))
from unnest('{nothing,takes_none,takes_int,takes_two,gives_text,gives_many,twice,proc,json_agg,-}'::text[]) f;

\echo -- a trigger of the application with one of our names
create trigger webhook_update before update on orders for each row execute function suppress_redundant_updates_trigger();
select by_hand.fails('select webhook_watch(''orders'')');
drop trigger webhook_update on orders;
create table parted (id int) partition by list (id);
create table parted_1 partition of parted for values in (1);
create trigger webhook_insert before insert on parted_1 for each row execute function suppress_redundant_updates_trigger();
select by_hand.fails('select webhook_watch(''parted'')');
select tgfoid::regproc from pg_trigger where tgrelid = 'parted_1'::regclass;
drop table parted;

\echo -- partitions and child tables
create table part (id int) partition by list (id);
create table part_1 partition of part for values in (1);
select noun from webhook_watch('part');
select by_hand.fails('select webhook_watch(''part_1'')');
select by_hand.fails('select webhook_unwatch(''part_1'')');
select webhook_unwatch('part');
select noun from webhook_watch('part_1');
select by_hand.fails('select webhook_watch(''part'')');
select webhook_unwatch('part_1');
create table base (id int);
create table child () inherits (base);
create function base_json(base) returns json language sql stable return row_to_json($1);
select by_hand.fails('select webhook_watch(''base'', payload => ''base_json'')');
select noun from webhook_watch('base');
select by_hand.fails('select webhook_watch(''child'')');
select by_hand.fails('select webhook_unwatch(''child'')');
select webhook_unwatch('base');

\echo -- the rejected calls left no trace
select count(*) from webhook.watch;
select count(*) from webhook.event_type;
select count(*) from pg_trigger where tgname like 'webhook\_%' and tgrelid >= 16384;

\echo -- URLs: the message never repeats the URL
select rpad(left(url, 40), 40) || ' ' || by_hand.fails(format('select webhook_subscribe(%L)', url))
from unnest(array[
    '', 'example.com', '//example.com/x', 'ftp://example.com', 'file:///etc/passwd', 'javascript:alert(1)', 'http:example.com', 'https:/example.com',
    'http://', 'https:///x', 'https://?x', 'https://:80/', 'https://user@example.com', 'https://user:hunter2@example.com/', 'https://@example.com/', 'https://:@example.com/',
    'https://example.com/#frag', 'https://example.com/#', ' https://example.com', 'https://example.com ', E'https://exa\tmple.com', E'https://example.com/\n',
    'https://exa mple.com', 'https://example.com\@evil', E'https://example.com/\u200b\u00a0', 'https://exa%00mple.com', 'https://[::1', 'https://1.2.3.4.5', 'https://256.1.1.1',
    'https://example.com:0/', 'https://example.com:65536/', 'https://example.com:x/', 'https://' || repeat('a', 2041) , 'https://example.com/' || repeat('ä', 400)]) url;

\echo -- other options of a subscription
select by_hand.fails(format('select webhook_subscribe(''https://example.com'', %s)', arguments))
from unnest(array[
    'events => ''{}''', 'events => ''{null}''', 'events => ''{order.created,Order.*}''', 'events => ''{order}''', 'events => ''{*.created}''', 'events => ''{a.b.c.d}''',
    'events => array_fill(''a.b''::text, array[1001])', 'events => null',
    'name => ''''', 'name => '' ''', 'name => repeat(''x'', 201)', 'name => E''a\nb''',
    'secret => ''''', 'secret => ''hunter2''', 'secret => ''whsec_hunter2!''', 'secret => ''whsec_AAEC''', 'secret => ''whsec_'' || repeat(''A'', 88)',
    'timeout => ''0''', 'timeout => ''999 microseconds''', 'timeout => ''5 min 1 us''', 'timeout => ''-1 s''', 'timeout => ''1 month''', 'timeout => null',
    'retry => ''{-1s}''', 'retry => ''{5s,8days}''', 'retry => ''{1mon}''', 'retry => ''{5s,null}''', 'retry => array_fill(interval ''1s'', array[51])', 'retry => null',
    'max_in_flight => 0', 'max_in_flight => 4097', 'enabled => null']) arguments;
select by_hand.fails('select webhook_subscribe(null)');

\echo -- objects that do not exist
select by_hand.fails(statement) from unnest(array[
    'select webhook_alter(-1)', 'select webhook_unsubscribe(-1)', 'select webhook_pause(-1)', 'select webhook_resume(-1)', 'select webhook_ping(-1)',
    'select webhook_rotate_secret(-1)', 'select webhook_redeliver(''evt_000000000000011'', -1)', 'select webhook_alter(null)', 'select webhook_unsubscribe(null)',
    'select webhook_pause(null)', 'select webhook_resume(null)', 'select webhook_ping(null)', 'select webhook_rotate_secret(null)', 'select webhook_redeliver(null, 1)']) statement;
select count(*) from webhook.subscription;
select count(*) from webhook.secret;

\echo -- events
select by_hand.fails(format('select webhook_emit(%L, ''{}'')', type))
from unnest(array['', 'paid', 'Order.paid', 'order.', 'a.b.c.d', 'order.*', 'order paid.x', repeat('x', 200) || '.y', 'webhook.ping', 'webhook.subscription.deleted']) type;
select by_hand.fails('select webhook_emit(null, ''{}'')');
select by_hand.fails('select webhook_emit(''a.b'', null)');
select by_hand.fails('select webhook_emit(''a.b'', ''{'')');
select by_hand.fails('select webhook_emit(''a.b'', ''{}'', repeat(''k'', 1025))');
set local webhook.payload_over_cap = 'strict';
set local webhook.payload_bytes_max = 1024;
select by_hand.fails(format('select webhook_emit(''a.b'', %L)', to_json(repeat('x', 1023))));
reset webhook.payload_over_cap;
reset webhook.payload_bytes_max;
select by_hand.fails(format('select webhook_redeliver(%L, 1)', id))
from unnest(array['', 'x', 'msg_1', 'evt_', 'evt_123', 'evt_0000000000000000000000000000000000', 'evt_0000000000000g', 'evt_00000000000000ffffffffffffffff', 'EVT_000000000000011']) id;
select count(*) from webhook.event where xid = pg_current_xact_id()::text::bigint;
\pset format aligned
\pset tuples_only off
rollback;
