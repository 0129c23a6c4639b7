-- webhook_check() lists the reasons why a watched table is not captured, and its statements repair
-- them.
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create schema s;
create table s.orders (id int primary key, customer text, total int, note text);
create table "Odd one" (id int primary key, a text);
create view problems as select coalesce(relation::text, '-') as relation, problem, detail, repair from webhook_check();
-- Executes the repairs, and returns the remaining problems.
create function repair() returns setof text language plpgsql as $$
declare
    r record;
begin
    for r in select * from webhook_check() loop
        execute r.repair;
    end loop;
    return query select p::text from problems p;
end
$$;
create view emitted as select type, payload, previous from webhook.event where type not like 'webhook.%' and xid = webhook.current_xid() order by id;

\echo -- no problems
select noun from webhook_watch('s.orders', noun => 'order', exclude => '{note}', on_columns => '{total,customer}');
select noun from webhook_watch('"Odd one"', noun => 'odd', verbs => '{"insert":"made","truncate":"emptied"}', condition => 'new.a <> ''it''''s''');
table problems;

\echo -- triggers that are dropped, disabled, for replication only, or renamed
drop trigger webhook_update on s.orders;
alter table s.orders disable trigger webhook_insert;
alter table s.orders enable replica trigger webhook_delete;
alter trigger webhook_truncate on "Odd one" rename to mine;
table problems;
select repair();

\echo -- columns that are renamed, dropped and added; the table is renamed and moved
alter table s.orders rename customer to client;
table problems;
insert into s.orders values (1, 'c', 2, 'secret');
update s.orders set client = 'd';
select repair();
alter table s.orders rename to sales;
alter table s.sales set schema public;
alter table sales add column city text;
table problems;
alter table sales drop column total;
table problems;
select repair();
update sales set city = 'Rome';
update sales set client = 'e';
table emitted;
select columns, exclude, on_columns, key_columns from webhook.watch where noun = 'order';

\echo -- a restored table: only names count; a new column that took an old name does not count
create table gap (a int, id int primary key, b int, c int);
alter table gap drop column a;
select noun from webhook_watch('gap', exclude => '{b}');
create table restored_gap (id int primary key, b int, c int);
-- Imitates a dump and restore: another table, with the triggers of the first.
create procedure restore(former regclass, restored regclass) language plpgsql as $$
declare
    statement text;
begin
    for statement in
        select format('create trigger %s %s on %s for each %s execute function webhook.capture(%L)', name,
                      case name when 'webhook_statement' then 'before insert or update or delete or truncate' else 'after ' || substr(name, 9) end,
                      restored, case when name in ('webhook_statement', 'webhook_truncate') then 'statement' else 'row' end, definition)
        from webhook.capture_trigger where relation = former
    loop
        execute statement;
    end loop;
    update webhook.watch set relation = restored where relation = former;
    execute format('drop table %s', former);
end
$$;
call restore('gap', 'restored_gap');
select problem, detail from problems;
insert into restored_gap values (1, 2, 3);
select payload from emitted where type = 'gap.created';
select name, number, webhook.column_now('restored_gap'::regclass, name, number::smallint, false) from (values ('id', 2::smallint), ('b', 3), ('c', 4), ('x', 9)) c (name, number);
drop table restored_gap;
\echo -- a column of the watch is missing; the column that has its number now is not sent
create table nicks (id int primary key, nick text, ssn text);
select noun from webhook_watch('nicks', columns => '{id,nick}');
alter table nicks drop column nick;
create table restored_nicks (id int primary key, ssn text);
call restore('nicks', 'restored_nicks');
insert into restored_nicks values (1, 'secret');
select payload from emitted where type = 'nicks.created';
select webhook_event_schema('nicks.created')::text ~ '"(nick|ssn)"' as has_more;
select problem, detail, repair from problems;
select repair();
drop table restored_nicks;
\echo -- an excluded column is missing and may be any column, so events have only the key
create table person (id int primary key, junk text, ssn text, email text);
select noun from webhook_watch('person', exclude => '{ssn}');
alter table person drop column junk;
alter table person rename column ssn to social;
insert into person values (1, 'secret', 'e@x');
select payload from emitted where type = 'person.created';
create table restored_person (id int primary key, social text, email text);
call restore('person', 'restored_person');
insert into restored_person values (2, 'secret', 'e@x');
update restored_person set email = 'f@x';
update restored_person set email = email;
select payload, previous, truncated from webhook.event where type like 'person.%' and xid = webhook.current_xid() order by id;
select webhook_event_schema('person.created')::text ~ 'social|email' as has_more;
select problem, detail, repair from problems;
select by_hand.fails('select repair()');
select noun from webhook_watch('restored_person', noun => 'person', exclude => '{social}');
update restored_person set email = 'g@x';
select payload, previous from emitted where payload ->> 'email' = 'g@x';
table problems;
drop table restored_person;
\echo -- a restored table that has the same OID by chance is recognized by its columns
create table chance (id int primary key, ssn text, padding text);
call by_hand.watch('chance', jsonb_build_object(
    'columns', '[{"name":"id","number":1},{"name":"nick","number":2}]'::jsonb,
    'table', jsonb_build_object('oid', 'chance'::regclass::oid::bigint, 'columns', '["id","nick","ssn"]'::jsonb)));
insert into chance values (1, 'secret', 'x');
call by_hand.watch('chance', jsonb_build_object(
    'exclude', '[{"name":"padding","number":2}]'::jsonb,
    'table', jsonb_build_object('oid', 'chance'::regclass::oid::bigint, 'columns', '["id","padding",null,null,"x"]'::jsonb)));
insert into chance values (2, 'either', 'x');
select payload from emitted where type = 'chance.created';
drop table chance;
create table again (id int primary key, b int);
select noun from webhook_watch('again', exclude => '{b}');
alter table again rename b to old_b;
alter table again add column b int;
select problem, detail from problems;
select repair();
drop table again;

\echo -- all columns of on_columns are missing; no column could repair this
select noun from webhook_watch('sales', noun => 'order', on_columns => '{client}');
alter table sales drop column client;
select problem, detail from problems;
select noun from webhook_watch('sales', noun => 'order');
table problems;

\echo -- child tables that are added later; partitions, which get their triggers from Postgres
create table export_sales () inherits (sales);
table problems;
select repair();
create table parted (id int primary key) partition by range (id);
select noun from webhook_watch('parted');
create table parted_1 partition of parted for values from (0) to (100);
table problems;
alter table parted detach partition parted_1;
table problems;
select webhook_unwatch('parted');

\echo -- a trigger without a watch; a watch whose trigger was made for another noun
delete from webhook.watch where noun = 'odd';
update webhook.watch set noun = 'sale' where noun = 'order';
table problems;
select repair();

\echo -- the payload function is missing
create function odd_json("Odd one") returns json language sql stable return row_to_json($1);
select noun from webhook_watch('"Odd one"', noun => 'odd', payload => 'odd_json', verbs => '{"insert":"made"}');
alter function odd_json("Odd one") rename to other_json;
table problems;
select repair();

\echo -- a table that was dropped while the event trigger was disabled
alter event trigger webhook_forget_dropped_tables disable;
select noun from webhook_watch('parted');
drop table parted;
select replace(repair, oid::text, 'OID') as repair, problem, replace(detail, oid::text, 'OID') as detail
from problems, (select max(relation::oid) as oid from webhook.watch w where not exists (select from pg_class c where c.oid = w.relation)) o;
select repair();

\echo -- replicated changes emit no events unless the trigger is enabled always; webhook_watch()
\echo -- keeps that setting
create table replicated (id int primary key);
select noun from webhook_watch('replicated');
set local session_replication_role = replica;
insert into replicated values (1);
alter table replicated enable always trigger webhook_insert;
insert into replicated values (2);
set local session_replication_role = origin;
select noun from webhook_watch('replicated', noun => 'copy');
set local session_replication_role = replica;
insert into replicated values (3);
set local session_replication_role = origin;
table problems;
select * from emitted where type ~ 'replicated|copy';

\echo -- handmade triggers with any argument break neither webhook_check() nor the documents
create table by_hand (id int primary key, a text);
select noun from webhook_watch('by_hand');
do $$
declare
    arguments text;
    at int := 0;
begin
    foreach arguments in array array['', '''''', '''{''', '''{}'', ''{}''', '''[]''', '''7''', '''{"noun":1,"verbs":{}}''', '''{"noun":"x"}''', '''{"noun":"\u0000","verbs":{}}''',
        '''{"noun":"x","verbs":{},"columns":5}''', '''{"noun":"x","verbs":{},"key":null}''', '''{"noun":"x","verbs":{},"exclude":[5]}''',
        '''{"noun":"x","verbs":{},"key":[{"name":"id"}]}''', '''{"noun":"x","verbs":{},"more":[{"name":"id","number":40000}]}'''] loop
        at := at + 1;
        execute format('create trigger %I after update on by_hand for each row execute function webhook.capture(%s)', 'aaa_' || at, arguments);
    end loop;
end
$$;
create or replace trigger webhook_delete after delete on by_hand for each row execute function webhook.capture();
select problem, detail, repair from problems;
select webhook_event_schema('by_hand.created') #> '{anyOf,0,properties}', webhook_openapi() is not null, webhook_asyncapi() is not null;
select repair();

\echo -- roles that may call it
create role regress_rea; create role regress_nobody;
select webhook_grant('regress_rea', 'reader');
grant usage on schema public to regress_rea;
set local role regress_rea;
select count(*) from webhook_check();
set local role regress_nobody;
\set ON_ERROR_STOP off
select count(*) from webhook_check();
rollback;
