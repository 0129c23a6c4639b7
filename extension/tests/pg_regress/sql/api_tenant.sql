-- webhook.act_for() limits one transaction to one owner's subscriptions, with any rights of the
-- role.
begin;
create role regress_tenants;
select webhook_grant('regress_tenants', 'subscriber');
select id is not null as made from webhook_subscribe('https://example.com/1', name => 'one', owner => 't1');
select id is not null as made from webhook_subscribe('https://example.com/2', name => 'two', owner => 't2');
select webhook.tenant();

-- New subscriptions belong to the tenant, and subscriptions of other owners do not exist.
select webhook.act_for('t1', null);
set local role regress_tenants;
select webhook.tenant(), webhook.may_see_all(), webhook.may_see('t1', null), webhook.may_see('t2', null), webhook.may_see('regress_tenants', 'regress_tenants'::regrole);
select id is not null as made from webhook_subscribe('https://example.com/3', name => 'three');
select name, owner from webhook.subscription order by name;
-- The name of another owner's subscription is free, so a caller who tries it learns nothing.
select id is not null as made from webhook_subscribe('https://example.com/5', name => 'two');
select name, owner from webhook_alter((select id from webhook.subscription where name = 'three'), name => 'two''s');
savepoint n;
select webhook_subscribe('https://example.com/6', name => 'one');
rollback to n;
select webhook_alter((select id from webhook.subscription where name = 'two''s'), name => 'two');
rollback to n;
select name from webhook.subscription_stats order by name;
select name from webhook.subscription_health order by name;
savepoint s;
select webhook_pause(s.id) from generate_series(1, (select max(id) from webhook.subscription)) as s (id) where not exists (select from webhook.subscription x where x.id = s.id) limit 1;
rollback to s;
select webhook_try_now(s.id) from generate_series(1, (select max(id) from webhook.subscription)) as s (id) where not exists (select from webhook.subscription x where x.id = s.id) limit 1;
rollback to s;
select webhook_redeliver_failed(s.id) from generate_series(1, (select max(id) from webhook.subscription)) as s (id) where not exists (select from webhook.subscription x where x.id = s.id) limit 1;
rollback to s;
-- What was given up is not readable, and what the view counts is the tenant's.
select count(*) from webhook.given_up;
rollback to s;
select webhook_subscribe('https://example.com/4', owner => 't2');
rollback to s;
-- No caller can leave the tenant or become another one.
set local webhook.tenant = 't2';
rollback to s;
select set_config('webhook.tenant', '', true);
rollback to s;
select webhook.act_for('t2', null);
rollback to s;

-- Null: the role decides again.
reset role;
select webhook.act_for(null, null);
set local role regress_tenants;
select webhook.tenant(), count(*) from webhook.subscription group by 1;
reset role;
select webhook.tenant(), array_agg(name order by name) from webhook.subscription;
-- An owner cannot get a subscription whose name it uses already, unless the call clears the name.
savepoint n;
select webhook_alter((select id from webhook.subscription where name = 'two' and owner = 't1'), owner => 't2');
rollback to n;
select name, owner from webhook_alter((select id from webhook.subscription where name = 'two' and owner = 't1'), owner => 't2', clear => '{name}');
select name, owner from webhook_alter((select id from webhook.subscription where name = 'two''s'), owner => 't2');
rollback;
