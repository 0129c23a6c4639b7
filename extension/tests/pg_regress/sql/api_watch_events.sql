-- A watch captures what it names: one event per change, with its columns, condition and verbs.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create function pg_temp.events() returns setof text language plpgsql as $$
begin
    return query select concat_ws(' | ', e.type, e.table_name, e.key, e.payload, e.previous) from webhook.event e
        where e.xid = pg_current_xact_id()::text::bigint and e.id > coalesce(current_setting('t.last', true)::bigint, 0) order by e.id;
    perform set_config('t.last', (select coalesce(max(e.id), 0) from webhook.event e)::text, true);
end
$$;
select set_config('t.last', (select coalesce(max(e.id), 0) from webhook.event e)::text, true) \gset
create table orders (id int primary key, total numeric, note text, secret text);

\echo -- all changes
select noun from webhook_watch('orders', noun => 'shop.order');
insert into orders values (1, 10, 'a', 'x'), (2, 200, 'b', 'y');
update orders set total = total + 1 where id = 1;
update orders set total = total;
delete from orders where id = 2;
truncate orders;
select pg_temp.events();

\echo -- redefined: only the new rules apply
select noun from webhook_watch('orders', noun => 'order', verbs => '{"insert":"placed","update":"changed","truncate":"emptied"}', columns => '{id,total}',
                               on_columns => '{note}', condition => 'new.total > 100 or new.note = ''vip''');
insert into orders values (1, 10, 'a', 'x'), (2, 200, 'b', 'y'), (3, 1, 'vip', 'z');
update orders set total = total + 1;
update orders set note = note || '!' where id in (1, 2);
update orders set note = null, total = 1 where id = 2;
delete from orders;
truncate orders;
select pg_temp.events();

\echo -- a condition over old, a payload function, another key
create function order_json(orders) returns jsonb language sql stable return jsonb_build_object('no', $1.id, 'note', upper($1.note));
select noun from webhook_watch('orders', verbs => '{"update":"renamed","delete":"gone"}', condition => 'old.note is not null',
                               payload => 'order_json', key_columns => '{note,id}');
insert into orders values (1, 10, 'a', 'x'), (2, 200, null, 'y');
update orders set note = 'c';
update orders set total = 5;
delete from orders;
select pg_temp.events();

\echo -- unwatched: no events
select webhook_unwatch('orders');
insert into orders values (1, 10, 'a', 'x');
truncate orders;
select pg_temp.events();

\echo -- a partitioned table is one table, in any partition and across moves
create table mover (id int primary key, v text) partition by range (id);
create table mover_low partition of mover for values from (0) to (10);
create table mover_high partition of mover for values from (10) to (20);
create function move(verbs jsonb, condition text default null) returns setof text language plpgsql as $$
begin
    delete from mover;
    insert into mover values (1, 'a');
    perform webhook_watch('mover', noun => 'mover', verbs => move.verbs, condition => move.condition);
    return query select 'problem: ' || c.problem from webhook_check() c where c.relation = 'mover'::regclass;
    delete from webhook.event;
    update mover set id = 11;
    update mover set id = 2, v = 'b';
    return query select concat_ws(' ', type, payload, previous) from webhook.event where type like 'mover.%' order by id;
end
$$;
\echo -- only events that have a verb, and never half of an update
select move('{"update":"changed"}');
select move('{"insert":"placed","update":"changed"}');
select move('{"update":"changed","delete":"gone"}');
select move('{"insert":"placed"}');
select move('{"delete":"gone"}');
select move('{"truncate":"emptied"}');
\echo -- conditions on one row; conditions on both rows, which cannot judge a move
select move('{"insert":"placed","update":"changed"}', 'new.v = ''b''');
select move('{"update":"changed"}', 'new.v = ''b''');
select move('{"update":"changed","delete":"gone"}', 'old.id = 1');
select move('{"update":"changed"}', 'old.v is distinct from new.v');
\echo -- triggers of an earlier version, which lacks those for insert and delete
drop trigger webhook_insert on mover;
drop trigger webhook_delete on mover;
select relation, problem, detail from webhook_check() where relation = 'mover'::regclass;
delete from webhook.event;
drop table mover;
create table part (id int primary key, v text) partition by range (id);
create table part_low partition of part for values from (0) to (10);
create table part_high (v text, id int not null);
alter table part attach partition part_high for values from (10) to (20);
select noun from webhook_watch('part', columns => '{v}');
insert into part values (1, 'a'), (11, 'b');
update part set v = 'A' where id = 1;
update part set id = 12 where id = 1;
create table part_next partition of part for values from (20) to (30);
insert into part_next values (21, 'c');
truncate part;
select pg_temp.events();
create function part_json(part) returns json language sql stable return json_build_object('nr', $1.id, 'v', $1.v);
select noun from webhook_watch('part', payload => 'part_json', condition => 'new.v <> ''''', verbs => '{"insert":"created","update":"updated"}');
insert into part values (1, 'a'), (11, 'b'), (12, '');
update part set v = v || '!';
select pg_temp.events();

\echo -- child tables emit the events of their parent under their own name; TRUNCATE of the parent emits one event
create table base (id int primary key, kind text);
create table gap (other text);
create table child (extra int) inherits (gap, base);
select noun from webhook_watch('base', columns => '{kind}');
insert into base values (1, 'b');
insert into child (id, kind, other, extra) values (2, 'h', 'o', 3);
update base set kind = upper(kind);
delete from base where id = 2;
truncate base;
select pg_temp.events();


\echo -- a role that may only write to the table
create role regress_writer;
grant insert on orders to regress_writer;
select noun from webhook_watch('orders', condition => 'new.total > 0', verbs => '{"insert":"created"}');
set local role regress_writer;
insert into orders values (1, 10, 'a', 'x'), (2, 0, 'b', 'y');
reset role;
select pg_temp.events();
\pset format aligned
\pset tuples_only off
rollback;
