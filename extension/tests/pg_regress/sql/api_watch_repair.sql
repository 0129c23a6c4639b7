-- Problems that stop or change capture without an error. webhook_check() lists them with the
-- repair, and webhook_watch() warns. They include triggers without a watch, and changes of a column
-- that a condition uses.
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create view problems as select relation, problem, detail, repair from webhook_check();
create view emitted as select type, payload, previous from webhook.event where type not like 'webhook.%' and xid = webhook.current_xid() order by id;
create function repair() returns void language plpgsql as $$
declare
    r record;
begin
    for r in select * from webhook_check() loop
        execute r.repair;
    end loop;
end
$$;

\echo -- equal tables have equal triggers, with any OIDs
create table same (id int primary key, gone int, note text);
alter table same drop column gone;
create table arguments (at int, tgname name, tgargs bytea);
select noun from webhook_watch('same', exclude => '{note}');
insert into arguments select 1, tgname, tgargs from pg_trigger where tgrelid = 'same'::regclass;
drop table same;
create table same (id int primary key, gone int, note text);
alter table same drop column gone;
select noun from webhook_watch('same', exclude => '{note}');
select count(*) from arguments a join pg_trigger t using (tgname) where t.tgrelid = 'same'::regclass and t.tgargs = a.tgargs;
\echo -- a renamed column is followed; in a restored copy only the name counts
alter table same rename column note to remark;
insert into same values (1, 'secret');
select payload from emitted;
update webhook.watch set numbered_for = '{1}' where relation = 'same'::regclass;
alter table same add column more int;
insert into same values (2, 'secret', 3);
select payload from emitted where payload ->> 'id' = '2';
select problem, detail from problems;
drop table same;

\echo -- triggers without their watch, as pg_dump --schema-only restores them
create table customers (id int primary key, name text, age int, ssn text);
create table customers_old () inherits (customers);
create function customer_json(c customers) returns json language sql begin atomic select json_build_object('id', (c).id); end;
select noun from webhook_watch('customers', noun => 'crm.customer', verbs => '{"insert":"added","update":"changed"}',
    exclude => '{ssn}', on_columns => '{name,age}', condition => 'new.name <> '') EXECUTE FUNCTION''');
create table pets (id int primary key);
select noun from webhook_watch('pets', verbs => '{"truncate":"emptied"}');
create table before as select * from webhook.watch;
delete from webhook.watch;
table problems;
insert into customers values (1, 'captured', 5, 'x');
select type, payload from emitted where type ~ 'customer';
select repair();
table problems;
select b.noun, b.verbs = w.verbs, b.exclude = w.exclude, b.on_columns = w.on_columns, b.key_columns = w.key_columns, w.condition
from before b left join webhook.watch w using (relation, noun) order by 1;
insert into customers values (2, ') EXECUTE FUNCTION', 5, 'x');
insert into customers_old values (3, 'child', 5, 'x');
select type, payload from emitted where type ~ 'customer';
select webhook_unwatch('pets');
drop table customers, customers_old, pets, before cascade;

\echo -- tables that swap places
create table jobs (id int primary key, a text);
select noun from webhook_watch('jobs', noun => 'job', exclude => '{a}');
create table jobs_new (like jobs including all);
alter table jobs rename to jobs_old;
table problems;
alter table jobs_new rename to jobs;
table problems;
select repair();
table problems;
insert into jobs values (1, 'a');
insert into jobs_old values (2, 'a');
select type, payload from emitted where type = 'job.created';
drop table jobs, jobs_old;

\echo -- a table without a key under a subscription that orders by key; a key that is added later
create table lines (no int not null, a text);
select noun from webhook_watch('lines', noun => 'line');
table problems;
select id is not null from webhook_subscribe('https://example.com/ordered', events => '{line.*}', ordering => 'key', name => 'ordered');
select ordering from webhook_alter((select id from webhook.subscription where name = 'ordered'), ordering => 'none');
select ordering from webhook_alter((select id from webhook.subscription where name = 'ordered'), ordering => 'key');
table problems;
create unique index lines_no on lines (no);
table problems;
select repair();
table problems;
select noun from webhook_watch('lines', noun => 'line', key_columns => '{}');
alter table lines add primary key (no);
table problems;
select repair();
select key_columns from webhook.watch where relation = 'lines'::regclass;
table problems;
drop table lines;
create table nokey (a text);
select noun from webhook_watch('nokey', noun => 'line');
select repair();
select ordering from webhook.subscription where name = 'ordered';
table problems;
drop table nokey;

\echo -- a payload function that resolves tables by the search_path of the writing session
create schema app;
create table app.rate (currency text primary key, rate numeric);
insert into app.rate values ('EUR', 1.1);
create table app.price (id int primary key, currency text, amount numeric);
set local search_path = app, public;
create function app.price_json(p app.price) returns jsonb language sql stable as
    'select jsonb_build_object(''id'', p.id, ''usd'', p.amount * r.rate) from rate r where r.currency = p.currency';
select noun from webhook_watch('app.price', payload => 'app.price_json');
set local search_path = '';
savepoint s;
insert into app.price values (1, 'EUR', 10);
rollback to s;
select relation, problem, detail, repair from public.webhook_check();
do $$ begin execute (select repair from public.webhook_check()); end $$;
insert into app.price values (1, 'EUR', 10);
select payload from public.emitted where type = 'price.created';
select count(*) from public.webhook_check();
set local search_path = public;
drop schema app cascade;

\echo -- a new type for a column of a condition
create table bills (id int primary key, total int, note text);
create table bills_old () inherits (bills);
select noun from webhook_watch('bills', noun => 'bill', columns => '{id,total}', condition => 'new.total > 100', verbs => '{"insert":"made","update":"changed"}');
create table before as select w.*, t.tgname, pg_get_triggerdef(t.oid) as definition from webhook.watch w join pg_trigger t on t.tgrelid = w.relation;
select by_hand.fails('alter table bills alter column total type numeric(12,2)');
select relation, noun, columns, condition from webhook_migrate('bills', 'alter table bills alter column total type numeric(12,2) using total / 2.0');
select w.noun = b.noun and w.verbs = b.verbs and w.columns = b.columns and w.condition = b.condition as is_same_watch,
       replace(pg_get_triggerdef(t.oid), '(100)::numeric', '100') = b.definition as is_same_trigger
from before b join webhook.watch w using (relation) join pg_trigger t on t.tgrelid = w.relation and t.tgname = b.tgname;
insert into bills values (1, 100.5), (2, 99);
insert into bills_old values (3, 200);
select payload from emitted where type = 'bill.made';
table problems;
\echo -- after a rename, which the trigger follows; several statements; renames within them
alter table bills rename column total to amount;
select columns, condition from webhook_migrate('bills', 'alter table bills alter column amount type bigint; alter table bills rename column note to remark; alter table bills add column more int');
insert into bills values (4, 300);
select payload from emitted where payload ->> 'id' = '4';
\echo -- mistakes, and statements other than ALTER TABLE
select by_hand.fails($$select webhook_migrate('bills', 'delete from bills')$$);
select by_hand.fails($$select webhook_migrate('bills', 'alter table bills add column x int; drop table bills')$$);
select by_hand.fails($$select webhook_migrate('bills', '')$$);
select by_hand.fails($$select webhook_migrate('bills', 'alter table bills alter column amount type json')$$);
select by_hand.fails($$select webhook_migrate('bills_old', 'alter table bills add column x int')$$);
select by_hand.fails($$select webhook_migrate('before', 'alter table before add column x int')$$);
select by_hand.fails($$select webhook_migrate('bills', null)$$);
create role regress_other;
grant usage on schema public, webhook to regress_other;
grant execute on function webhook_migrate(regclass, text) to regress_other;
set local role regress_other;
select by_hand.fails($$select webhook_migrate('bills', 'alter table bills add column x int')$$);
reset role;
select pg_get_triggerdef(oid) ~ 'WHEN' from pg_trigger where tgrelid = 'bills'::regclass order by tgname;

\echo -- tables that are not watched stay untouched
create table parent (id int primary key);
create table child () inherits (parent);
select noun from webhook_watch('child');
select by_hand.fails('select webhook_unwatch(''parent'')');
select count(*) from pg_trigger where tgrelid = 'child'::regclass and tgenabled = 'O';
create role regress_child_owner;
select webhook_unwatch('child');
select noun from webhook_watch('parent');
alter table child owner to regress_child_owner;
create role regress_parent_owner;
grant usage on schema public, webhook to regress_parent_owner;
select webhook_grant('regress_parent_owner', 'publisher');
alter table parent owner to regress_parent_owner;
set local role regress_parent_owner;
select by_hand.fails('select webhook_unwatch(''parent'')');
reset role;
rollback;

-- Fewer verbs: the triggers are disabled at once and removed after the commit.
create table fewer (id int primary key);
select noun from webhook_watch('fewer');
begin;
select noun from webhook_watch('fewer', verbs => '{"insert":"created"}');
select tgname, tgenabled from pg_trigger where tgrelid = 'fewer'::regclass order by 1;
select count(*) from webhook.leftover_trigger;
savepoint s;
select webhook_unwatch('fewer');
rollback to s;
commit;
select tgname, tgenabled from pg_trigger where tgrelid = 'fewer'::regclass order by 1;
select webhook_unwatch('fewer');
select count(*) from pg_trigger where tgrelid = 'fewer'::regclass;
drop table fewer;
