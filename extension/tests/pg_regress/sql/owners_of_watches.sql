-- The sources of owners as arguments of webhook_watch(), and what becomes of them.
begin;
create role owners_writer;
create schema app authorization owners_writer;
select webhook_grant('owners_writer', 'publisher');
grant usage on schema by_hand to owners_writer;
create table orders (id int primary key, tenant text, note text);
create function orders_owner(o orders) returns text return o.tenant;
create function orders_number(o orders) returns int return o.id;
create function orders_json(o orders) returns json return '{}'::json;
create function other_owner(o int) returns text return 'x';
create function set_owner(o orders) returns setof text begin atomic select o.tenant; end;

-- Bad input names the argument.
select by_hand.fails(s) from unnest(array[
    $$select webhook_watch('orders', owner_column => 'tennant')$$,
    $$select webhook_watch('orders', owner_column => '')$$,
    $$select webhook_watch('orders', owner_column => 'tenant', owner_setting => 'app.tenant')$$,
    $$select webhook_watch('orders', owner_column => 'tenant', owner_function => 'orders_owner')$$,
    $$select webhook_watch('orders', owner_function => 'orders_number')$$,
    $$select webhook_watch('orders', owner_function => 'orders_json')$$,
    $$select webhook_watch('orders', owner_function => 'other_owner')$$,
    $$select webhook_watch('orders', owner_function => 'set_owner')$$,
    $$select webhook_watch('orders', owner_function => 4711)$$,
    $$select webhook_watch('orders', owner_setting => 'tenant')$$,
    $$select webhook_watch('orders', owner_setting => '')$$,
    $$select webhook_watch('orders', owner_setting => 'app.')$$,
    $$select webhook_watch('orders', owner_setting => 'app.1')$$,
    $$select webhook_watch('orders', owner_setting => 'app.te nant')$$,
    $$select webhook_watch('orders', owner_setting => 'app.' || repeat('x', 200))$$]) s;
select count(*) from webhook.watch where relation = 'orders'::regclass;
revoke execute on function orders_owner from public;
alter table orders owner to owners_writer;
select by_hand.tries('owners_writer', $$select webhook_watch('public.orders', owner_function => 'orders_owner')$$);
alter table orders owner to current_user;

-- A watch shows its source, a second call replaces it, and the printed call creates it again.
select owner_column, owner_function, owner_setting from webhook_watch('orders', owner_function => 'orders_owner');
select webhook.watch_statement(w) from webhook.watch w where relation = 'orders'::regclass;
select owner_column, owner_function, owner_setting from webhook_watch('orders', owner_setting => 'app.tenant');
select webhook.watch_statement(w) from webhook.watch w where relation = 'orders'::regclass;
select owner_column, owner_function, owner_setting from webhook_watch('orders', owner_column => 'tenant');
select webhook.watch_statement(w) from webhook.watch w where relation = 'orders'::regclass;
select owner_column, owner_function, owner_setting from webhook_watch('orders');
select webhook.watch_statement(w) from webhook.watch w where relation = 'orders'::regclass;

-- The column is followed through a rename. A new column with its former name makes it uncertain
-- which one is the owner, and is not the owner when the other one is gone.
select owner_column from webhook_watch('orders', owner_column => 'tenant', condition => 'new.note <> ''x''', verbs => '{"insert": "created"}');
alter table orders rename column tenant to account;
insert into orders values (1, 'acme', 'renamed');
select relation, problem, detail, repair from webhook_check();
alter table orders add column tenant text;
insert into orders values (2, 'acme', 'uncertain', 'globex');
select relation, problem, detail, repair from webhook_check();
drop function orders_owner, set_owner;
alter table orders drop column account;
insert into orders values (3, 'new column', 'globex');
alter table orders drop column tenant;
insert into orders values (4, 'dropped');
select relation, problem, detail, repair from webhook_check();
select type, key, owner, payload from webhook.event where type like 'orders.%' order by id;
delete from webhook.event;
-- The repair needs a column.
select by_hand.fails(repair) from webhook_check();

-- Two columns that exchange their names make it uncertain too.
create table swap (id int primary key, a text, b text);
select owner_column from webhook_watch('swap', owner_column => 'a');
alter table swap rename column a to c;
alter table swap rename column b to a;
alter table swap rename column c to b;
insert into swap values (1, 'was a', 'was b');
select type, owner from webhook.event where type like 'swap.%';
select relation, problem, detail, repair from webhook_check() where relation = 'swap'::regclass;

-- webhook_migrate() keeps the source, and follows a rename.
create table doc (id int primary key, tenant text, size int);
select owner_column from webhook_watch('doc', owner_column => 'tenant', condition => 'new.size > 0', verbs => '{"insert": "created"}');
select owner_column, condition from webhook_migrate('doc', 'alter table doc alter size type bigint; alter table doc rename tenant to account');
select by_hand.fails($$select webhook_migrate('doc', 'alter table doc drop account')$$);
insert into doc values (1, 'acme', 1);
select type, owner from webhook.event where type like 'doc.%';

-- A restored table has other numbers and another OID: the name finds the column.
create table gap (id int primary key, gone int, note text, tenant text);
alter table gap drop column gone;
select owner_column from webhook_watch('gap', owner_column => 'tenant', verbs => '{"insert": "created"}');
select format('create trigger webhook_insert after insert on restored for each row execute function webhook.capture(%L)',
              webhook.watch_definition('gap'::regclass)) as trigger \gset
create table restored (id int primary key, note text, tenant text, other text);
:trigger;
insert into restored values (1, 'n', 'acme', 'not the owner');
select type, owner from webhook.event where type = 'gap.created';
select problem, repair from webhook_check() where relation = 'restored'::regclass;
drop trigger webhook_insert on restored;
alter table restored rename tenant to account;
:trigger;
insert into restored values (2, 'n', 'acme', 'not the owner');
select type, owner from webhook.event where type = 'gap.created' order by id;
drop table restored;

-- Partitions: a detached one keeps the column, and not the function.
create table part (id int, tenant text) partition by list (id);
create table part_1 partition of part for values in (1);
select owner_column from webhook_watch('part', owner_column => 'tenant', key_columns => '{id}');
set local client_min_messages = error;
alter table part detach partition part_1;
reset client_min_messages;
select problem, repair from webhook_check() where relation = 'part_1'::regclass;
drop table part, part_1;

-- A function that is gone is listed, and so is one that follows the search path.
create table task (id int primary key, tenant text);
create function task_owner(t task) returns text language sql as 'select t.tenant';
select owner_function from webhook_watch('task', owner_function => 'task_owner');
alter function task_owner rename to owner_of_task;
select problem, detail, repair from webhook_check() where relation = 'task'::regclass;
select by_hand.fails('insert into task values (1, ''acme'')');
drop table task cascade;

-- Child tables: not with a function.
create table parent (id int primary key, tenant text);
create table child () inherits (parent);
create function parent_owner(p parent) returns text return p.tenant;
select by_hand.fails($$select webhook_watch('parent', owner_function => 'parent_owner')$$);
rollback;

-- An internal type stays when its watch ends, and when it begins again.
begin;
create table audit (id int primary key);
select noun from webhook_watch('audit', verbs => '{"insert": "created", "delete": "deleted"}');
update webhook.event_type set internal = true where type = 'audit.created';
select webhook_unwatch('audit');
select type, relation, internal from webhook.event_type where type like 'audit.%';
select noun from webhook_watch('audit', verbs => '{"insert": "created", "delete": "deleted"}');
select type, relation, internal from webhook.event_type where type like 'audit.%' order by type;
rollback;

-- webhook_emit(): the owner is the last argument of all four.
begin;
create view owned as select type, key, owner, payload from webhook.event where type not like 'webhook.%' order by id;
select count(webhook_emit('a.b', '{}', 'k', 'acme')), count(webhook_emit('a.b', '{}', owner => 'acme')),
       count(webhook_emit('a.b', '{}'::jsonb, 'k', 'acme')), count(webhook_emit('a.b', '{}'::jsonb, owner => 'acme')),
       count(webhook_emit('a.b', '{}', 7, 'acme')), count(webhook_emit('a.b', '{}'::json, key => 7, owner => 'acme')),
       count(webhook_emit('a.b', '{}'::jsonb, 7, 'acme')), count(webhook_emit(event_type => 'a.b', payload => '{}', owner => '*')),
       count(webhook_emit('a.b', '{}', null, 'acme')), count(webhook_emit('a.b', '{}', null, null)), count(webhook_emit('a.b', '{}'));
prepare emit as select count(webhook_emit($1, $2, $3, $4));
execute emit ('a.c', '{}', 'k', 'acme');
table owned;
select by_hand.fails(format('select webhook_emit(''a.b'', ''{}'', owner => %L)', o))
from unnest(array['', ' ', e'a\nb', repeat('x', 201), '**', repeat('é', 200)]) o;
set local webhook.payload_bytes_max = 1024;
select count(webhook_emit('a.d', to_json(repeat('x', 2000)), 'k', 'acme'));
select * from owned where type = 'a.d';
rollback;
