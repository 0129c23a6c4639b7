-- Rights: nothing for PUBLIC, five parts of the work for roles, and watching for the table's owner.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;  -- compiling the views takes seconds, on empty tables too
\pset format unaligned
\pset tuples_only on
create schema t;
grant usage on schema t to public;

\echo -- no object of the extension is open to PUBLIC
with member as (select classid, objid from pg_depend where deptype = 'e' and refclassid = 'pg_extension'::regclass
                and refobjid = (select oid from pg_extension where extname = 'pg_webhook'))
select 'function ' || p.oid::regprocedure from pg_proc p join member m on m.objid = p.oid and m.classid = 'pg_proc'::regclass
where has_function_privilege('public', p.oid, 'execute')
union all
select 'relation ' || c.oid::regclass from pg_class c join member m on m.objid = c.oid and m.classid = 'pg_class'::regclass
where c.relkind in ('r', 'p', 'v') and has_any_column_privilege('public', c.oid, 'select, insert, update, references')
   or c.relkind in ('r', 'p', 'v') and has_table_privilege('public', c.oid, 'select, insert, update, delete, truncate, references, trigger')
   or c.relkind = 'S' and has_sequence_privilege('public', c.oid, 'usage, select, update')
union all
select 'schema webhook' where has_schema_privilege('public', 'webhook', 'usage, create');
\echo -- every function that runs as its definer has a fixed search path
select p.oid::regprocedure from pg_proc p join pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
join pg_extension x on x.oid = d.refobjid and x.extname = 'pg_webhook'
where p.prosecdef and not coalesce(p.proconfig @> '{"search_path=pg_catalog, pg_temp"}', false) and p.proname not in ('capture');
\echo -- every public function has a comment
select p.oid::regprocedure from pg_proc p join pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
join pg_extension x on x.oid = d.refobjid and x.extname = 'pg_webhook'
where obj_description(p.oid, 'pg_proc') is null;

create role regress_pub; create role regress_sub; create role regress_rea; create role regress_dis; create role regress_adm; create role regress_nobody; create role "regress Odd ""Role""";
\echo -- webhook_grant: mistakes
select by_hand.fails(statement) from unnest(array[
    'select webhook_grant(''regress_pub'', ''king'')', 'select webhook_grant(''regress_pub'', null)', 'select webhook_grant(null, ''reader'')',
    'select webhook_grant(''nobody_at_all'', ''reader'')', 'select webhook_grant(''public'', ''reader'')', 'select webhook_grant(0::oid::regrole, ''reader'')']) statement;
set local role regress_pub;
select by_hand.fails('select webhook_grant(''regress_pub'', ''admin'')');
reset role;
grant execute on function webhook_grant(regrole, text) to regress_pub;
set local role regress_pub;
select by_hand.fails('select webhook_grant(''regress_pub'', ''admin'')');
reset role;
revoke execute on function webhook_grant(regrole, text) from regress_pub;

\echo -- webhook_grant: exactly these rights
select webhook_grant('regress_pub', 'publisher'), webhook_grant('regress_sub', 'subscriber'), webhook_grant('regress_rea', 'reader'),
       webhook_grant('regress_dis', 'dispatcher'), webhook_grant('regress_adm', 'admin'), webhook_grant('"regress Odd ""Role"""', 'reader');
select webhook_grant('regress_pub', 'publisher');
with acl (role, object, privilege) as (
    select a.grantee, 'schema ' || n.nspname, a.privilege_type from pg_namespace n, aclexplode(n.nspacl) a where n.nspname in ('webhook', 'public')
    union all
    select a.grantee, case c.relkind when 'v' then 'view ' else 'table ' end || regexp_replace(c.oid::regclass::text, '_\d+$', '_N'), a.privilege_type
    from pg_class c, aclexplode(c.relacl) a where c.relnamespace = 'webhook'::regnamespace
    union all
    select a.grantee, format('column %s.%s', t.attrelid::regclass, t.attname), a.privilege_type
    from pg_attribute t, aclexplode(t.attacl) a where t.attrelid::regclass::text like 'webhook.%'
    union all
    select a.grantee, 'function ' || p.oid::regproc, a.privilege_type from pg_proc p, aclexplode(p.proacl) a
    where p.pronamespace = 'webhook'::regnamespace or p.proname like 'webhook\_%')
select role::regrole, object, string_agg(distinct lower(privilege), ', ' order by lower(privilege)) || case when count(*) > count(distinct privilege) then format(' (of %s)', count(*) / count(distinct privilege)) else '' end
from acl where role in ('regress_pub'::regrole, 'regress_sub'::regrole, 'regress_rea'::regrole, 'regress_dis'::regrole, 'regress_adm'::regrole) group by 1, 2 order by role::regrole::text collate "C", object collate "C";
select has_table_privilege('regress Odd "Role"', 'webhook.event', 'select');

\echo -- each part can do its work, and nothing else
create table orders (id int primary key);
select count(*) from webhook_subscribe('https://example.com');
select by_hand.tries('regress_nobody', 'select webhook_emit(''a.b'', ''{}'')', 'select webhook_watch(''orders'')', 'select webhook_subscribe(''https://example.com'')',
    'select from webhook.event', 'select webhook_sign('''', '''', 1, '''')', 'select webhook.gate_ring()');
select by_hand.tries('regress_pub', 'select webhook_emit(''a.b'', ''{}'')', 'select webhook_watch(''orders'')', 'select webhook_unwatch(''orders'')',
    'select webhook_subscribe(''https://example.com'')', 'select from webhook.event');
select by_hand.tries('regress_sub', 'select webhook_subscribe(''https://example.com'')', 'select from webhook.subscription', 'select from webhook.delivery',
    'select from webhook.subscription_stats', 'select from webhook.secret', 'select from webhook.event', 'select webhook_emit(''a.b'', ''{}'')');
select by_hand.tries('regress_rea', 'select from webhook.event', 'select from webhook.attempt', 'select from webhook.delivery', 'select from webhook.pending', 'select from webhook.health',
    'select from webhook.subscription_stats', 'select from webhook.secret', 'delete from webhook.queue', 'select webhook_subscribe(''https://example.com'')');
select by_hand.tries('regress_dis', 'select from webhook.event_3', 'select from webhook.secret', 'insert into webhook.attempt_0 select * from webhook.attempt_0',
    'delete from webhook.queue', 'update webhook.cursor set epoch = epoch + 1', 'select webhook.gate_ring()', 'select from webhook.health',
    'select webhook.disable_subscription(1, ''410'')', 'update webhook.subscription set enabled = false, paused_reason = ''410''', 'update webhook.subscription set url = ''http://x''',
    'insert into webhook.event (type, payload) values (''a.b'', ''{}'')', 'delete from webhook.attempt');
select by_hand.tries('regress_adm', 'select webhook_emit(''a.b'', ''{}'')', 'select webhook_subscribe(''https://example.com'')', 'select from webhook.event',
    'insert into webhook.event_type (type, description) values (''a.b'', ''by hand'')', 'update webhook.event_type set description = ''x''',
    'update webhook.event_type set relation = null', 'select from webhook.secret', 'select webhook_grant(''regress_nobody'', ''admin'')');

\echo -- the owner of a table and its members may watch, with any session user
grant create on schema public to regress_pub;
create role regress_member in role regress_pub;
grant usage on schema webhook to regress_nobody;
grant execute on function webhook_watch(regclass, text, jsonb, text[], text[], text[], text, regproc, text[], text, regproc, text), webhook_unwatch(regclass) to regress_nobody;
set local role regress_pub;
create table his (id int primary key, v int);
create function his_json(his) returns json language sql stable return '{}'::json;
revoke all on function his_json(his) from public;
reset role;
select by_hand.tries('regress_pub', 'select webhook_watch(''his'', payload => ''his_json'')', 'select webhook_unwatch(''his'')');
select by_hand.tries('regress_member', 'select webhook_watch(''his'')', 'select webhook_unwatch(''his'')');
select by_hand.tries('regress_nobody', 'select webhook_watch(''his'')', 'select webhook_unwatch(''his'')');
select noun from webhook_watch('his');
alter table his owner to regress_nobody;
select by_hand.tries('regress_nobody', 'select webhook_watch(''his'')');
grant execute on function webhook.capture() to regress_nobody;
select by_hand.tries('regress_nobody', 'select webhook_watch(''his'', payload => ''his_json'')');
alter table his owner to regress_pub;

\echo -- a definer function watches with the rights of its owner only, even if a superuser calls it
grant all on schema public to regress_nobody;
set local role regress_nobody;
create function deputy(rel regclass) returns void language sql security definer set search_path = public
    begin atomic select webhook_watch(rel, noun => 'stolen'); end;
grant execute on function deputy to public;
reset role;
select by_hand.fails('select deputy(''orders'')');
select by_hand.fails('select deputy(''his'')');
\echo -- … and with all rights of its owner, for any caller
set local role regress_pub;
create function helper(rel regclass) returns text language sql security definer set search_path = public
    begin atomic select noun from webhook_watch(rel, noun => 'helped'); end;
grant execute on function helper to public;
reset role;
set local role regress_nobody;
select helper('his');
reset role;

\echo -- reading a condition can run code of its author: with the rights of the author, not with
\echo -- ours
set local role regress_pub;
create function whoami(v int) returns boolean language plpgsql as $$ begin raise warning 'read as %', current_user; return true; end $$;
create domain sly as int check (whoami(value));
create table trap (id int primary key, v sly[]);
\set VERBOSITY terse
select noun from webhook_watch('trap', verbs => '{"insert":"created"}', condition => 'new.v <> ''{1}''::sly[]');
\set VERBOSITY default
select webhook_unwatch('trap');
reset role;
select by_hand.tries('regress_pub', 'create trigger x after insert on trap for each row execute function webhook.capture(''{"noun":"webhook","verbs":{"insert":"ping"}}'')',
    'insert into trap values (1)');
drop trigger x on trap;

\echo -- a failure half-way leaves user and search path unchanged
create function t.refuse() returns event_trigger language plpgsql as $$
begin
    raise exception 'no triggers today';
end
$$;
create event trigger refuse on ddl_command_end when tag in ('CREATE TRIGGER') execute function t.refuse();
set local role regress_pub;
set local search_path = public, t;
do $$
begin
    perform webhook_watch('his');
exception when raise_exception then
    raise warning '% (user %, search_path %)', sqlerrm, current_user, current_setting('search_path');
end
$$;
savepoint s;
select webhook_watch('his');
rollback to s;
select current_user, current_setting('search_path');
reset role;
drop event trigger refuse;
set local role regress_pub;
select noun from webhook_watch('his', verbs => '{"insert":"created"}');
select current_user, current_setting('search_path');
reset role;
set local search_path = public;
select relation, noun, verbs from webhook.watch;

\echo -- a child table of another owner is not watched through its parent
create table child () inherits (his);
select by_hand.tries('regress_pub', 'select webhook_watch(''his'')');
\pset format aligned
\pset tuples_only off
rollback;
