-- Whose an event is: the text of a column, the result of a function, or a setting of the session.
-- An owner sees nothing of a row that belonged to another owner at the time.
begin;
create view owned as
select type, key, owner, payload, previous from webhook.event where type not like 'webhook.%' order by id;

-- A column. Its text follows no setting of the session.
create table invoice (id int primary key, tenant timestamptz, note text);
select owner_column, owner_function, owner_setting from webhook_watch('invoice', owner_column => 'tenant', exclude => '{tenant}');
set local timezone = 'Asia/Kolkata';
set local datestyle = 'German';
insert into invoice values (1, '2026-01-01 00:00+00', 'a'), (2, null, 'b');
update invoice set note = 'a2' where id = 1;
delete from invoice where id = 1;
truncate invoice;
table owned;
delete from webhook.event;
reset timezone;
reset datestyle;

-- A change of the owner becomes a deletion for the former owner and a new row for the new one.
create table orders (id int primary key, tenant text, note text, secret text);
select owner_column from webhook_watch('orders', owner_column => 'tenant', on_columns => '{note}');
insert into orders values (1, 'acme', 'a', 'of acme'), (2, 'acme', 'b', 'of acme'), (3, null, 'c', 'of no owner');
update orders set tenant = 'globex', note = 'a2', secret = 'of globex' where id = 1;
-- Without a change of a column of on_columns too, and with a change of the key.
update orders set tenant = 'globex', id = 12 where id = 2;
-- From no owner, and to no owner.
update orders set tenant = 'acme' where id = 3;
update orders set tenant = null where id = 3;
-- No change.
update orders set tenant = tenant, note = 'a3' where id = 1;
table owned;
delete from webhook.event;

-- Without a verb for the deletion, the former owner gets nothing. Without a verb for the insert,
-- the new owner gets the update, without former values.
select verbs from webhook_watch('orders', owner_column => 'tenant', verbs => '{"insert": "created", "update": "updated"}');
update orders set tenant = 'acme' where id = 1;
select verbs from webhook_watch('orders', owner_column => 'tenant', verbs => '{"update": "updated", "delete": "deleted"}');
update orders set tenant = 'globex' where id = 1;
select verbs from webhook_watch('orders', owner_column => 'tenant', verbs => '{"update": "updated"}');
update orders set tenant = 'acme', id = 11 where id = 1;
update orders set note = 'a4' where id = 11;
table owned;
delete from webhook.event;

-- What cannot be the name of an owner makes an event without an owner. A tenant cannot name itself
-- "*".
select owner_column from webhook_watch('orders', owner_column => 'tenant', columns => '{id}');
insert into orders values (20, '*'), (21, ''), (22, ' '), (23, e'a\nb'), (24, repeat('x', 201)), (25, repeat('é', 200)), (26, ' a '),
    (27, e'a\u0085b'), (28, repeat('x', 100000));
update orders set tenant = '*' where id = 25;
select type, key, left(owner, 5) as owner, length(owner) as length from webhook.event where type not like 'webhook.%' order by id;
delete from webhook.event;

-- An update that does not change the text of the owner is one update.
create table scale (id int primary key, owner float8);
select owner_column from webhook_watch('scale', owner_column => 'owner');
insert into scale values (1, 'NaN'), (2, 0);
update scale set owner = 'Infinity'::float8 - 'Infinity'::float8 where id = 1;
update scale set owner = '-0' where id = 2;
table owned;
delete from webhook.event;

-- A setting. A row has no former owner.
create table visit (id int primary key, path text);
select owner_setting from webhook_watch('visit', owner_setting => 'app.tenant_id');
insert into visit values (1, '/');
set local app.tenant_id = 'acme';
insert into visit values (2, '/');
set local app.tenant_id = 'globex';
update visit set path = '/a';
set local app.tenant_id = '*';
update visit set path = '/b';
set local app.tenant_id = '';
delete from visit where id = 1;
set local app.tenant_id = 'acme';
truncate visit;
table owned;
delete from webhook.event;

-- A function, called for both rows of an update, with the settings of payload functions.
create table project (id int primary key, name text);
create table task (id int primary key, project int, due timestamptz, title text);
create function task_owner(t task) returns text stable set search_path = public, pg_temp
    return (select p.name from project p where p.id = t.project);
insert into project values (1, 'acme'), (2, 'globex');
select owner_function from webhook_watch('task', owner_function => 'task_owner');
insert into task values (1, 1, null, 'a'), (2, 3, null, 'b');
update task set title = 'a2' where id = 1;
update task set project = 2, title = 'a3' where id = 1;
delete from task;
table owned;
delete from webhook.event;
create or replace function task_owner(t task) returns text return t.due::text;
set local timezone = 'Asia/Kolkata';
insert into task values (3, 1, '2026-01-01 00:00+00', 'c');
reset timezone;
-- With a payload function.
create function task_json(t task) returns json return json_build_object('title', t.title);
create or replace function task_owner(t task) returns text return 'project ' || t.project;
select payload, owner_function from webhook_watch('task', payload => 'task_json', owner_function => 'task_owner');
update task set title = 'c2' where id = 3;
update task set project = 2 where id = 3;
table owned;
delete from webhook.event;
-- The function is kept.
do $$ begin drop function task_owner; exception when dependent_objects_still_exist then raise notice '%', sqlerrm; end $$;
-- An error in it fails the statement.
create or replace function task_owner(t task) returns text return 'project ' || 1 / t.project;
select by_hand.fails('update task set project = 0');

-- A payload over the cap keeps its owner.
set local webhook.payload_bytes_max = 1024;
select owner_column from webhook_watch('orders', owner_column => 'tenant');
insert into orders values (30, 'acme', repeat('x', 2000));
update orders set tenant = 'globex' where id = 30;
table owned;
delete from webhook.event;
reset webhook.payload_bytes_max;

-- Partitions with columns in another order. A row that moves is one update, unless its owner
-- changes.
create table part (region int, id int, tenant text, note text, primary key (region, id)) partition by list (region);
create table part_1 partition of part for values in (1);
create table part_2 (note text, id int not null, tenant text, region int not null);
alter table part attach partition part_2 for values in (2);
select owner_column from webhook_watch('part', owner_column => 'tenant', key_columns => '{id}');
insert into part values (1, 1, 'acme', 'a');
update part set region = 2, note = 'moved';
update part set region = 1, tenant = 'globex', note = 'of globex';
delete from part;
table owned;
delete from webhook.event;

-- Child tables, with columns in another order.
create table parent (id int primary key, other text);
create table child (note text, tenant text, id int not null, other text);
alter table parent add column tenant text;
alter table child inherit parent;
select owner_column from webhook_watch('parent', owner_column => 'tenant');
insert into child values ('n', 'acme', 1, 'not the owner');
insert into parent values (2, 'not the owner', 'globex');
select type, table_name, owner from webhook.event where type like 'parent.%' order by id;

-- Nested statements: the events are held in between, and keep their owners.
create table note (id int primary key, tenant text, seen int default 0);
select owner_column from webhook_watch('note', owner_column => 'tenant');
create function assign() returns trigger language plpgsql as $$
begin
    if new.seen = 0 then
        update note set seen = 1 where id = new.id;
        update note set tenant = 'globex', seen = 2 where id = new.id;
        update note set seen = 3 where id = new.id;
    end if;
    return null;
end $$;
create trigger aaa after insert or update on note for each row execute function assign();
insert into note values (1, 'acme');
select type, owner, payload, previous from webhook.event where type like 'note.%' order by id;
delete from webhook.event;
update note set tenant = 'acme', seen = 0;
select type, owner, payload, previous from webhook.event where type like 'note.%' order by id;
rollback;

-- Our own events about a subscription belong to its owner.
begin;
create role owners_subscriber;
select webhook_grant('owners_subscriber', 'subscriber');
set local role owners_subscriber;
select id as subscription from webhook_subscribe('https://a.example/') \gset
select webhook_ping(:subscription) is not null as pinged;
reset role;
select webhook.tell('webhook.subscription.failing', :subscription, '{}');
select webhook.disable_subscription(:subscription, 'test');
-- The former filter belongs to the former owner.
select owner from webhook_alter(:subscription, owner => 'acme', filter => '$.data.id == 1');
select owner from webhook_alter(:subscription, owner => 'globex');
select webhook_unsubscribe(:subscription);
select type, owner from webhook.event order by id;
drop owned by owners_subscriber;
rollback;

-- Random changes: values of one owner never reach another, and the events of each owner end with
-- the rows that it has.
begin;
create table item (region int, id int, tenant text, value text, secret text, primary key (region, id)) partition by list (region);
create table item_1 partition of item for values in (1);
create table item_2 (value text, tenant text, region int not null, secret text, id int not null);
alter table item attach partition item_2 for values in (2);
select owner_column from webhook_watch('item', owner_column => 'tenant', exclude => '{secret,tenant}', key_columns => '{id}');
-- A statement within a statement moves rows too.
create function touch() returns trigger language plpgsql as $$
begin
    if new.secret = 'touch' then
        update item set tenant = 't' || (new.id % 3), value = 't' || (new.id % 3) || '-nested', secret = null where id = new.id;
    end if;
    return null;
end $$;
create trigger aaa after insert or update on item for each row execute function touch();
do $$
declare
    owner text; number int; place int; mark text;
begin
    perform setseed(0.18);
    for step in 1..1500 loop
        owner := (array['t0', 't1', 't2', null])[1 + floor(random() * 4)];
        number := floor(random() * 20);
        place := 1 + floor(random() * 2);
        mark := case when random() < 0.1 then 'touch' end;
        case floor(random() * 6)
            when 0 then
                if not exists (select from item i where i.id = number) then
                    insert into item values (place, number, owner, coalesce(owner, 'none') || '-' || step, mark);
                end if;
            when 1 then delete from item i where i.id = number and random() < 0.3;
            when 2 then update item i set value = coalesce(i.tenant, 'none') || '-' || step where i.id < number;
            when 3 then update item i set region = place, secret = mark where i.id = number;
            when 4 then
                if not exists (select from item i where i.id = 19 - number) then
                    update item i set id = 19 - number, tenant = owner, value = coalesce(owner, 'none') || '-' || step
                    where i.id = number and i.tenant is distinct from owner;
                end if;
            else update item i set region = place, tenant = owner, value = coalesce(owner, 'none') || '-' || step, secret = mark where i.id = number;
        end case;
    end loop;
end $$;
select count(*) > 1000 as many, count(*) filter (where type = 'item.deleted') > 100 as deletions,
       count(*) filter (where previous is not null) > 100 as updates from webhook.event where type like 'item.%';
select type, owner, payload, previous from webhook.event
where type like 'item.%' and (payload ->> 'value' not like coalesce(owner, 'none') || '-%' or previous ->> 'value' not like coalesce(owner, 'none') || '-%');
with last as (
    select distinct on (coalesce(owner, ''), key) owner, key, type, payload from webhook.event where type like 'item.%'
    order by coalesce(owner, ''), key, id desc
)
select l.owner, l.key, l.type, l.payload, i.value
from (select * from last where type <> 'item.deleted') l
full join item i on i.id::text = l.key and coalesce(i.tenant, '') = coalesce(l.owner, '')
where l.payload ->> 'value' is distinct from i.value;
rollback;
