-- A backfill for a subscription of scope own sends the rows of its owner only.
begin;
set local client_min_messages = warning;
create role owners_subscriber;
select webhook_grant('owners_subscriber', 'subscriber');
create table orders (id int primary key, tenant text, note text);
grant select on orders to owners_subscriber;
insert into orders values (1, 'owners_subscriber', 'own'), (2, 'globex', 'secret'), (3, null, 'secret'), (4, '*', 'secret'), (5, 'owners_subscriber', 'own');
select owner_column from webhook_watch('orders', owner_column => 'tenant', exclude => '{tenant}');
set local role owners_subscriber;
select id as own from webhook_subscribe('https://a.example/') \gset
reset role;
select id as every from webhook_subscribe('https://b.example/') \gset
update webhook.subscription set scope = case id when :own then 'own' else 'all' end;
create view sent as
select e.key, e.owner, e.payload, e.subscription_id = (select s.id from webhook.subscription s where s.scope = 'own') as for_own
from webhook.event e where e.type like '%.snapshot' order by e.id;
set local role owners_subscriber;
select webhook_backfill(:own, 'orders') as backfill \gset
reset role;
select webhook.backfill_step(:backfill, 2), webhook.backfill_step(:backfill, 2), webhook.backfill_step(:backfill, 2);
select state, rows_done, error from webhook.backfill where id = :backfill;
table sent;
delete from webhook.event where type like '%.snapshot';
-- The events of a backfill belong to the owner of its subscription.
select type, owner from webhook.event where type like 'webhook.backfill.%' order by id;

-- All rows, each with its owner.
select webhook_backfill(:every, 'orders') as backfill \gset
select webhook.backfill_step(:backfill, 10);
table sent;
delete from webhook.event where type like '%.snapshot';

-- A function.
create function orders_owner(o orders) returns text return case o.id when 2 then 'owners_subscriber' end;
select owner_function from webhook_watch('orders', owner_function => 'orders_owner');
select webhook_backfill(:own, 'orders') as backfill \gset
select webhook.backfill_step(:backfill, 10);
table sent;
delete from webhook.event where type like '%.snapshot';
revoke execute on function orders_owner from public;
select by_hand.tries('owners_subscriber', format('select webhook_backfill((select max(id) from webhook.subscription where scope = %L), %L)', 'own', 'orders'));

-- Rows without an owner, and internal types, are not for a subscription of scope own.
select owner_setting from webhook_watch('orders', owner_setting => 'app.tenant');
select regexp_replace(by_hand.fails(format('select webhook_backfill(%s, ''orders'')', :own)), 'subscription \d+', 'subscription N');
set local app.tenant = 'globex';
select webhook_backfill(:every, 'orders') as backfill \gset
select webhook.backfill_step(:backfill, 1);
table sent;
select owner_column from webhook_watch('orders');
select regexp_replace(by_hand.fails(format('select webhook_backfill(%s, ''orders'')', :own)), 'subscription \d+', 'subscription N');
select owner_column from webhook_watch('orders', owner_column => 'tenant');
update webhook.event_type set internal = true where type = 'orders.created';
select regexp_replace(by_hand.fails(format('select webhook_backfill(%s, ''orders'')', :own)), 'subscription \d+', 'subscription N');
-- A type that becomes internal ends a running backfill.
update webhook.event_type set internal = false where type = 'orders.created';
select webhook_backfill(:own, 'orders') as backfill \gset
update webhook.event_type set internal = true where type = 'orders.created';
select webhook.backfill_step(:backfill, 10);
select state, rows_done, regexp_replace(error, 'subscription \d+', 'subscription N') as error from webhook.backfill where id = :backfill;
drop owned by owners_subscriber;
rollback;
