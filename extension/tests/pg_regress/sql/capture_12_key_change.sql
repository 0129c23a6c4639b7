-- An update that changes the key is sent as deleted and created, because consumers know rows by
-- their key.
begin;
create table orders (id int primary key, note text, secret text, seen int);
call by_hand.watch('orders', jsonb_build_object('exclude', by_hand.columns('orders', 'secret')));
insert into orders values (1, 'a', 'x', 0), (2, 'b', 'x', 0);
update orders set id = 11, note = 'a2' where id = 1;
-- Each row takes the key of the next one.
update orders set id = id + 1 where id = 2;
-- No change of the key.
update orders set id = id, note = 'b2' where id = 3;
table by_hand.event;
delete from webhook.event;

-- on_columns limits updates only. The key need not be captured.
call by_hand.watch('orders', jsonb_build_object('columns', by_hand.columns('orders', 'note'), 'on_columns', by_hand.columns('orders', 'seen')));
update orders set id = 12 where id = 11;
update orders set secret = 'y';
table by_hand.event;
delete from webhook.event;

-- A watch that lacks a verb for one of the halves sends an update, under the new key.
call by_hand.watch('orders', '{"verbs": {"insert": "created", "update": "updated"}}');
update orders set id = 13 where id = 12;
call by_hand.watch('orders', '{"verbs": {"update": "updated", "delete": "deleted"}}');
update orders set id = 14 where id = 13;
table by_hand.event;
delete from webhook.event;

-- An excluded key is not sent, and neither is its change.
call by_hand.watch('orders', jsonb_build_object('exclude', by_hand.columns('orders', 'id')));
update orders set id = 15 where id = 14;
update orders set id = 16, note = 'a3' where id = 15;
table by_hand.event;
delete from webhook.event;

-- A key without the primary key names a group: the row stays the same.
create table line (id int primary key, order_id int);
call by_hand.watch('line', jsonb_build_object('key', by_hand.columns('line', 'order_id')));
insert into line values (1, 7);
update line set order_id = 8;
call by_hand.watch('line', jsonb_build_object('key', by_hand.columns('line', 'order_id', 'id')));
update line set order_id = 9;
table by_hand.event;
delete from webhook.event;

-- Without a primary key, only the named key identifies a row; null is no key.
create table keyed (code text, note text);
call by_hand.watch('keyed', jsonb_build_object('key', by_hand.columns('keyed', 'code')));
insert into keyed values ('a', 'x'), (null, 'y');
update keyed set code = 'b' where code = 'a';
update keyed set code = 'c' where code is null;
update keyed set code = null where code = 'c';
table by_hand.event;
delete from webhook.event;

-- Two values with the same text are the same key.
create table scale (f float8 primary key, note text);
call by_hand.watch('scale');
insert into scale values ('NaN', 'x');
update scale set f = 'Infinity'::float8 - 'Infinity'::float8;
update scale set note = 'y';
table by_hand.event;
delete from webhook.event;

-- A key of several columns, in a partitioned table with columns in another order, with and without
-- a move.
create table part (region text, id int, note text, primary key (region, id)) partition by list (region);
create table part_1 partition of part for values in ('1');
create table part_2 (note text, id int not null, region text not null);
alter table part attach partition part_2 for values in ('2', '3');
call by_hand.watch('part');
insert into part values ('1', 1, 'x');
update part set region = '2', note = 'moved';
update part set region = '3';
update part set id = 2;
update part set note = 'z';
table by_hand.event;
delete from webhook.event;

-- The partition key identifies a row if there is no other key.
create table ranged (id int primary key, note text) partition by range (id);
create table ranged_1 partition of ranged for values from (0) to (100);
create table ranged_2 partition of ranged for values from (100) to (200);
call by_hand.watch('ranged');
insert into ranged values (1, 'x');
update ranged set id = 2;
update ranged set id = 101, note = 'y';
update ranged set note = 'z';
table by_hand.event;
delete from webhook.event;

-- The cap and the payload function apply to each half.
set local webhook.payload_bytes_max = 1024;
call by_hand.watch('orders');
update orders set id = 21, note = repeat('x', 2000) where id = 16;
update orders set id = 22, note = 'short' where id = 21;
table by_hand.event;
delete from webhook.event;
reset webhook.payload_bytes_max;
create function order_json(o orders) returns json language sql return case when o.note <> 'hidden' then json_build_object('no', o.id) end;
call by_hand.watch('orders', '{"payload": "public.order_json"}');
update orders set id = 23 where id = 22;
update orders set id = 24, note = 'hidden' where id = 23;
update orders set id = 25, note = 'shown' where id = 24;
table by_hand.event;
delete from webhook.event;

-- Deleted comes first, and each half has the order key of its own key.
call by_hand.watch('orders');
update orders set id = 26 where id = 25;
select array_agg(type order by id), count(distinct webhook.order_key('key', e)) as lines from webhook.event e;
-- Erasing the old key erases only its own events.
select webhook_erase('orders', '25');
select type, key, payload from webhook.event order by id;
rollback;
