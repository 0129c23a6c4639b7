-- Partitions of watched tables: created by an owner who is not a publisher, attached with a watch
-- of their own, detached. Also the limits of EXECUTE on webhook.capture().
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create role regress_owner; create role regress_second; create role regress_forger;
grant create, usage on schema public to regress_owner, regress_second, regress_forger;
create view emitted as select type, table_name, payload from webhook.event where type not like 'webhook.%' and xid = webhook.current_xid() order by id;
create view problems as select relation, problem, detail, repair from webhook_check();

\echo -- the owner of a watched table creates and attaches partitions without being a publisher
set local role regress_owner;
create table orders (id int, at date, primary key (id, at)) partition by range (at);
reset role;
select noun from webhook_watch('orders');
select has_function_privilege('public', 'webhook.capture()', 'execute');
set local role regress_owner;
create table orders_1 partition of orders for values from ('2026-01-01') to ('2027-01-01');
create table orders_2 (like orders including all);
alter table orders attach partition orders_2 for values from ('2027-01-01') to ('2028-01-01');
create table orders_3 partition of orders for values from ('2028-01-01') to ('2029-01-01') partition by list (id);
create table orders_3_1 partition of orders_3 for values in (1);
insert into orders values (1, '2026-05-05'), (1, '2027-05-05'), (1, '2028-05-05');
reset role;
select type, payload from emitted;
table problems;

\echo -- a change of the owner is followed
alter table orders owner to regress_second;
set local role regress_second;
create table orders_4 partition of orders for values from ('2029-01-01') to ('2030-01-01');
reset role;
table problems;

\echo -- only webhook_check() notices REASSIGN OWNED
create role regress_third;
grant create, usage on schema public to regress_third;
reassign owned by regress_second to regress_third;
table problems;
grant execute on function webhook.capture() to regress_third;
table problems;

\echo -- EXECUTE on the trigger function allows no forged events
grant usage on schema webhook to regress_owner, regress_forger;
grant execute on function webhook.capture() to regress_forger;
set local role regress_forger;
select by_hand.fails('select webhook.capture()');
create table mine (id int primary key);
create trigger webhook_insert after insert on mine for each row
    execute function webhook.capture('{"noun":"invoice","verbs":{"insert":"paid"},"key":[{"name":"id","number":1}]}');
insert into mine values (1), (2);
insert into mine values (3);
reset role;
select count(*) from emitted where type = 'invoice.paid';
\echo -- a trigger on a watched table emits only the events of its watch; a trigger on a table where
\echo -- others may create triggers emits nothing
set local role regress_owner;
create trigger forged after insert on orders_1 for each row
    execute function webhook.capture('{"noun":"orders","verbs":{"insert":"paid"}}');
insert into orders_1 values (7, '2026-07-07');
reset role;
select type from emitted where payload ->> 'id' = '7';
create table shared (id int primary key);
grant insert, trigger on shared to regress_forger;
set local role regress_forger;
create trigger webhook_insert after insert on shared for each row
    execute function webhook.capture('{"noun":"invoice","verbs":{"insert":"paid"},"key":[{"name":"id","number":1}]}');
insert into shared values (1);
reset role;
select count(*) from emitted where type = 'invoice.paid';
\echo -- a publisher may emit anyway, and so may a trigger that the publisher creates
select webhook_grant('regress_forger', 'publisher');
create table his (id int primary key);
alter table his owner to regress_forger;
set local role regress_forger;
create trigger webhook_insert after insert on his for each row
    execute function webhook.capture('{"noun":"his","verbs":{"insert":"made"},"key":[{"name":"id","number":1}]}');
insert into his values (1);
reset role;
select type, payload from emitted where type = 'his.made';

\echo -- a watched table that becomes a partition of a watched table is captured once
set local client_min_messages = notice;
create table parts (id int primary key, a text) partition by range (id);
create table parts_1 (id int primary key, a text);
select noun from webhook_watch('parts', noun => 'part');
select noun from webhook_watch('parts_1', noun => 'loner', verbs => '{"insert":"made"}');
alter table parts attach partition parts_1 for values from (0) to (100);
insert into parts_1 values (1, 'x');
select type, payload from emitted where type ~ '^(part|loner)\.';
select relation from webhook.watch where noun in ('part', 'loner');
select count(*) from webhook.event_type where type ~ '^loner';
\echo -- a failed attach changes nothing
create table parts_2 (id int primary key, a text, b text);
select noun from webhook_watch('parts_2', noun => 'loner');
savepoint s;
alter table parts attach partition parts_2 for values from (100) to (200);
rollback to s;
select relation from webhook.watch where noun = 'loner';
drop table parts_2;
\echo -- a detached partition is no longer captured, and a message reports it
alter table parts detach partition parts_1;
insert into parts_1 values (2, 'y');
select count(*) from emitted where payload ->> 'id' = '2' and type = 'part.created';
select problem, detail, repair from problems where relation = 'parts_1'::regclass;
savepoint s;
select webhook_unwatch('parts_1');
select count(*) from webhook.detached_partition;
rollback to s;
do $$ begin execute (select repair from problems where relation = 'parts_1'::regclass); end $$;
select count(*) from webhook.detached_partition;
insert into parts_1 values (3, 'z');
select type, payload from emitted where payload ->> 'id' = '3' and type like 'part.%';
alter table parts attach partition parts_1 for values from (0) to (100);
alter table parts detach partition parts_1;
drop table parts_1;
select count(*) from webhook.detached_partition;
rollback;
