-- Virtual generated columns, the default kind since Postgres 18. Earlier versions do not have them;
-- see the other expected output.
select current_setting('server_version_num')::int >= 180000 as has_virtual \gset
\if :has_virtual
\else
\echo no virtual generated columns
\quit
\endif
begin;
set local client_min_messages = warning;
create table item (
    id int primary key, price numeric, amount int, note text,
    total numeric generated always as (price * amount) virtual,
    label text generated always as (upper(note) || repeat('!', 3)),
    stored int generated always as (amount + 1) stored
);
select noun from webhook_watch('item');
insert into item values (1, 1.50, 2, 'a'), (2, null, 2, null);
update item set amount = 3 where id = 1;
delete from item where id = 2;
table by_hand.event;
select e.payload::text = row_to_json(i)::text as as_row_to_json
from item i join webhook.event e on e.key = i.id::text order by e.id desc limit 1;
delete from webhook.event;

-- Captured alone, excluded, in on_columns, and as the key.
select noun from webhook_watch('item', columns => '{id,total}');
update item set note = 'b';
update item set price = 2;
select noun from webhook_watch('item', exclude => '{total}');
update item set price = 3;
select noun from webhook_watch('item', on_columns => '{total}');
update item set note = 'c';
update item set note = 'd', price = 6, amount = 1;
update item set price = 4;
select noun from webhook_watch('item', key_columns => '{label}');
update item set amount = 2;
update item set note = 'e';
select type, key, payload, previous from webhook.event order by id;
delete from webhook.event;

-- In a condition.
select noun from webhook_watch('item', condition => 'new.total > 10', verbs => '{"insert":"created","update":"updated"}');
update item set price = 5;
update item set price = 6;
select type, key, payload, previous from webhook.event order by id;
delete from webhook.event;

-- A payload function can read them.
create function item_json(i item) returns jsonb language plpgsql as $$ begin return jsonb_build_object('total', i.total, 'label', i.label); end $$;
create function item_sql(i item) returns json language sql return json_build_object('total', i.total, 'label', i.label);
select noun from webhook_watch('item', payload => 'item_json');
update item set price = 7;
select noun from webhook_watch('item', payload => 'item_sql');
update item set price = 8;
select type, key, payload, previous from webhook.event order by id;
delete from webhook.event;

-- An expression changes and a column is renamed, in a session that has cached the plan.
select noun from webhook_watch('item', columns => '{id,total}');
update item set price = 1;
alter table item alter column total set expression as (price * amount * 100);
update item set price = 2;
alter table item rename column total to cents;
update item set price = 3;
select * from webhook_check();
select type, key, payload, previous from webhook.event order by id;
delete from webhook.event;

-- A backfill sends the same payload, and the documents describe the columns.
select id from webhook_subscribe('https://example.com') \gset
select noun from webhook_watch('item', exclude => '{note,label}');
select webhook_backfill(:id, 'item') as backfill \gset
select webhook.backfill_step(:backfill, 10);
select type, payload from webhook.event where type = 'item.snapshot';
select webhook_event_schema('item.created')::text like '%"cents"%' as knows_cents;
delete from webhook.event;

-- Restored, with other numbers: an excluded virtual column is found by its name, and nothing is
-- cut.
call by_hand.watch('item', '{"noun": "item", "table": null, "exclude": [{"name": "label", "number": 77}, {"name": "cents", "number": 78}]}');
update item set price = 9;
select type, payload, previous, truncated from webhook.event order by id;
delete from webhook.event;

-- Partitions with expressions of their own and with columns in another order; moves.
create table part (id int, region text, n int, double int generated always as (n * 2) virtual) partition by list (region);
create table part_1 partition of part for values in ('1');
create table part_2 (n int, double int generated always as (n * 20) virtual, region text, id int);
alter table part attach partition part_2 for values in ('2');
create function part_json(p part) returns json language sql return json_build_object('double', p.double);
select noun from webhook_watch('part', key_columns => '{id}');
insert into part (id, region, n) values (1, '1', 1), (2, '2', 1);
update part set region = '2' where id = 1;
select noun from webhook_watch('part', key_columns => '{id}', payload => 'part_json');
update part set n = 2;
select type, key, payload, previous from webhook.event order by id;
delete from webhook.event;

-- Toasted inputs, a null row, an expression that fails: the statement fails as it does with a
-- stored column.
create table odd (id int primary key, big text, zero int, head text generated always as (left(big, 3)), inverse int generated always as (10 / zero));
select noun from webhook_watch('odd', exclude => '{big}');
insert into odd values (1, repeat('abc', 100000), 2);
update odd set zero = 5;
savepoint s;
insert into odd values (2, null, 0);
rollback to s;
select noun from webhook_watch('odd', exclude => '{big,inverse}');
insert into odd values (2, null, 0);
select type, key, payload, previous from webhook.event order by id;
rollback;
