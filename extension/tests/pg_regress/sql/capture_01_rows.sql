-- Every way to change a row, and the events that it emits.
begin;
create table orders (id int primary key, status text, total numeric(10, 2));
call by_hand.watch('orders', '{"noun": "sales.order"}');

-- One event per row, in order. An update that changes nothing emits none. previous has exactly the
-- changed columns.
insert into orders values (1, 'new', 9.90), (2, 'new', null);
update orders set status = 'paid', total = 10 where id = 1;
update orders set status = status, total = total;
update orders set total = 9.90 where id = 1;
update orders set status = null where id = 2;
delete from orders where id = 2;
truncate orders;
table by_hand.event;
delete from webhook.event;

-- Values that all events of a statement share, and values that are unique to each event.
insert into orders select g, 'new' from generate_series(1, 3) g;
select bool_and(xid = pg_current_xact_id()::text::bigint) as own_xid,
       bool_and(created_at between now() and clock_timestamp()) as created_now,
       bool_and(slot = webhook.ring_slot(created_at)) as own_slot,
       bool_and(table_name = 'public.orders') as own_table,
       count(subscription_id) as subscriptions, bool_or(truncated) as truncated,
       array_agg(key order by id) as keys_by_id, array_agg(key order by created_at, id) as keys_by_time
from webhook.event;
select tableoid::regclass = ('webhook.event_' || slot)::regclass as in_its_partition from webhook.event limit 1;
delete from webhook.event;

-- Many rows, more than one buffer: each emits one event, in order.
insert into orders select g, 'bulk' from generate_series(10, 1009) g;
select count(*), count(distinct id), min(key::int), max(key::int),
       bool_and(key::int = g) as in_order
from (select id, key, row_number() over (order by id) + 9 as g from webhook.event) e;
update orders set status = repeat('x', 1000) where id >= 10;
select count(*) filter (where type = 'sales.order.updated'), max(length(payload::text)) from webhook.event;
truncate orders;
delete from webhook.event;

-- ON CONFLICT, MERGE, COPY, a modifying CTE, a rule, a prepared statement.
insert into orders values (1, 'a');
insert into orders values (1, 'b'), (2, 'b') on conflict (id) do nothing;
insert into orders values (1, 'c'), (3, 'c') on conflict (id) do update set status = excluded.status;
merge into orders o using (values (1, 'm'), (2, 'd'), (9, 'n')) as s (id, status) on o.id = s.id
    when matched and s.status = 'd' then delete
    when matched then update set status = s.status
    when not matched then insert values (s.id, s.status);
copy orders (id, status) from stdin;
20	copied
21	\N
\.
with gone as (delete from orders where id = 20 returning id) insert into orders select id + 100, 'moved' from gone;
prepare change (int, text) as update orders set status = $2 where id = $1;
execute change (1, 'prepared');
execute change (1, 'prepared');
deallocate change;
table by_hand.event;
delete from webhook.event;

-- Cascades fire the triggers of the tables that they reach.
create table lines (order_id int references orders on delete cascade on update cascade, no int, primary key (order_id, no));
call by_hand.watch('lines');
insert into lines values (1, 1), (1, 2), (3, 1);
update orders set id = 11 where id = 1;
delete from orders where id = 11;
table by_hand.event;
delete from webhook.event;

-- A bulk insert with foreign key checks runs a statement per row, and still emits all events.
insert into lines select 3, g from generate_series(2, 400) g;
select count(*), count(distinct key) from webhook.event;
rollback;

begin;
-- Keys: none, one, several; nulls.
create table keyless (a int, b text);
call by_hand.watch('keyless');
create table pair (a int, b text, c timestamptz);
call by_hand.watch('pair', jsonb_build_object('key', by_hand.columns('pair', 'b', 'a', 'c')));
create table moment (at timestamptz primary key);
call by_hand.watch('moment');
set local timezone = 'UTC';
set local datestyle = 'German';
insert into keyless values (1, 'x');
insert into pair values (1, 'q"uote', '2026-01-02 03:04:05.6+00'), (null, null, null);
insert into moment values ('2026-01-02 03:04:05+00'), ('infinity');
table by_hand.event;
delete from webhook.event;

-- Inheritance: rows of a child table do not fire the parent's triggers. The child's own triggers
-- emit events under its own name.
create table parent (id int, name text);
create table child (extra text) inherits (parent);
call by_hand.watch('parent');
insert into child values (1, 'no trigger on the child', 'x');
update parent set name = 'still none';
call by_hand.watch('child', '{"noun": "kid"}');
insert into parent values (2, 'parent');
update parent set name = 'both';
delete from parent;
select type, table_name, payload, previous from webhook.event order by id;
delete from webhook.event;

-- Verbs that are not given emit nothing, even if the trigger exists. Names are quoted as needed.
create schema "Odd.Schema";
create table "Odd.Schema"."Odd ""Table""" ("the Id" int primary key, "wéird €" text);
call by_hand.watch('"Odd.Schema"."Odd ""Table"""', '{"noun": "odd", "verbs": {"update": "changed"}}');
insert into "Odd.Schema"."Odd ""Table""" values (1, 'a');
update "Odd.Schema"."Odd ""Table""" set "wéird €" = 'ü';
delete from "Odd.Schema"."Odd ""Table""";
truncate "Odd.Schema"."Odd ""Table""";
select type, table_name, key, payload, previous from webhook.event order by id;
delete from webhook.event;

-- A condition in the trigger.
create table big (id int primary key, amount int);
call by_hand.watch('big', '{"verbs": {"insert": "created"}}');
drop trigger webhook_update on big;
drop trigger webhook_delete on big;
drop trigger webhook_insert on big;
do $$ begin
    execute format('create trigger webhook_insert after insert on big for each row when (new.amount > 100) '
        'execute function webhook.capture(%L)', '{"noun": "big", "verbs": {"insert": "created"}}');
end $$;
insert into big values (1, 100), (2, 101);
table by_hand.event;
rollback;

-- The ring: the extension and the SQL function choose the same slot at every moment.
select count(*) from webhook.event;
