-- webhook_watch() and webhook_unwatch() change only the triggers of their own watch, at every level
-- of child tables and partitions, and only with the rights of every owner.
begin;
set local client_min_messages = warning;
set local search_path = public;
\pset format unaligned
\pset tuples_only on
-- Enabled triggers of each table, except those that a partition has from its root.
create function pg_temp.captured() returns table (captured text) language sql as $$
    select format('%s: %s %s', t.relation::regclass, min(t.definition ->> 'noun'), string_agg(substr(t.name, 9), ' ' order by t.name))
    from webhook.capture_trigger t where t.enabled <> 'D' group by t.relation order by t.relation::regclass::text collate "C"
$$;

\echo -- a parent that is not watched: its child keeps its watch
create table parent (id int primary key);
create table child () inherits (parent);
create table grandchild () inherits (child);
select noun from webhook_watch('child');
select by_hand.fails('select webhook_unwatch(''parent'')');
select by_hand.fails('select webhook_watch(''parent'')');
select pg_temp.captured();
insert into grandchild values (1);
select type from webhook.event where table_name = 'public.grandchild';
\echo -- also if another role owns the child
create role regress_above;
create role regress_below;
grant usage, create on schema public to regress_above, regress_below;
select webhook_grant(r, 'publisher') from unnest('{regress_above,regress_below}'::regrole[]) r;
alter table parent owner to regress_above;
alter table child owner to regress_below;
alter table grandchild owner to regress_below;
set local role regress_above;
select by_hand.fails('select webhook_unwatch(''parent'')');
select by_hand.fails('select webhook_unwatch(''child'')');
select by_hand.fails('select webhook_watch(''parent'')');
\echo -- and if the parent has a trigger with the noun of that watch
reset role;
select definition from webhook.capture_trigger where relation = 'child'::regclass limit 1 \gset
set local role regress_above;
savepoint s;
create trigger mine after insert on parent for each row execute function webhook.capture(:'definition');
select webhook_unwatch('parent');
reset role;
select pg_temp.captured();
rollback to s;
reset role;
select pg_temp.captured();
alter table child owner to current_user;
alter table grandchild owner to current_user;
drop table parent cascade;

\echo -- a parent that is watched: children with a watch of their own, or another watched parent, stay
create table top (id int primary key);
create table top_child () inherits (top);
create table shared () inherits (top_child);
create table alike () inherits (top_child);
create table own (id int primary key);
create table other (id int primary key);
create table namesake (id int primary key);
select string_agg(noun, ' ') from unnest('{top,own,other}'::regclass[]) t, lateral webhook_watch(t);
select noun from webhook_watch('namesake', noun => 'top');
alter table own inherit top;
alter table shared inherit other;
alter table alike inherit namesake;
select pg_temp.captured();
select webhook_unwatch('top');
select pg_temp.captured();
drop table top, top_child, own, other, namesake, shared, alike cascade;

\echo -- a child of a watched table and of another one
create table one (id int primary key);
create table two (id int primary key);
create table both_of () inherits (one, two);
select noun from webhook_watch('one');
select by_hand.fails('select webhook_unwatch(''two'')');
select by_hand.fails('select webhook_watch(''two'')');
select pg_temp.captured();
\echo -- a row without triggers: its children had them from it
drop trigger webhook_insert on one;
drop trigger webhook_update on one;
drop trigger webhook_delete on one;
drop trigger webhook_truncate on one;
drop trigger webhook_statement on one;
select webhook_unwatch('one');
select pg_temp.captured();
drop table one, two cascade;

\echo -- without rows in webhook.watch, as after a restore of the tables alone
create table base (id int primary key);
create table plain () inherits (base);
create table deep () inherits (plain);
create table different (id int primary key);
create table same (id int primary key);
select noun from webhook_watch('base', noun => 'thing');
select noun from webhook_watch('different');
select noun from webhook_watch('same', noun => 'thing');
delete from webhook.watch;
alter table different inherit base;
alter table same inherit plain;
select pg_temp.captured();
select by_hand.fails('select webhook_watch(''base'', noun => ''thing'')');
alter table different no inherit base;
select by_hand.fails('select webhook_watch(''base'', noun => ''thing'')');
alter table different inherit base;
alter table plain owner to regress_below;
alter table base owner to regress_above;
set local role regress_above;
select by_hand.fails('select webhook_unwatch(''base'')');
reset role;
select pg_temp.captured();
alter table plain owner to regress_above;
alter table deep owner to regress_above;
set local role regress_above;
select webhook_unwatch('base');
reset role;
select pg_temp.captured();
select webhook_unwatch('different'), webhook_unwatch('same');
select pg_temp.captured();
drop table base, plain, deep, different, same cascade;

\echo -- partitions
create table parts (id int) partition by list (id);
create table parts_1 partition of parts for values in (1) partition by list (id);
create table parts_1_1 partition of parts_1 for values in (1);
create table parts_2 partition of parts for values in (2);
select noun from unnest('{parts_1,parts_2}'::regclass[]) t, lateral webhook_watch(t);
select by_hand.fails('select webhook_unwatch(''parts'')');
select by_hand.fails('select webhook_unwatch(''parts_1_1'')');
select by_hand.fails('select webhook_watch(''parts'')');
alter table parts owner to regress_above;
set local role regress_above;
select by_hand.fails('select webhook_unwatch(''parts'')');
reset role;
select pg_temp.captured();
insert into parts values (1), (2);
select type from webhook.event where table_name like 'public.parts%' order by id;
rollback;
