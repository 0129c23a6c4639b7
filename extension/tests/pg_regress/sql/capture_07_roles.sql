-- Roles: a role with rights on its own table alone emits events; settings; the first statement of a
-- session.
create role app login;
create table app_table (id int primary key, note text, secret text);
call by_hand.watch('app_table', jsonb_build_object('exclude', by_hand.columns('app_table', 'secret')));
grant select, insert, update, delete, truncate on app_table to app;

-- The library is not loaded yet: its hooks are installed in the middle of this statement.
\c - app
begin;
insert into app_table select g, 'first', 's' from generate_series(1, 300) g;
update app_table set note = 'second' where id = 1;
commit;
select count(*) from webhook.event;
select nextval('webhook.event_id_seq');
insert into webhook.event (type, payload) values ('a.b', '{}');
call webhook.gate_sleep(1);
create temp table mine (id int);
create trigger t after insert on mine for each row execute function webhook.capture('{"noun": "x", "verbs": {"insert": "y"}}');
\c - postgres
select type, count(*), count(distinct key), bool_or(payload::text ~ 'secret') from webhook.event group by type order by type;
truncate webhook.event;

-- The library is loaded by a COPY, by a statement in a savepoint that is rolled back, and by a
-- statement whose function fails.
\c - app
copy app_table (id, note) from stdin;
1001	copied
1002	copied
\.
\c - app
begin;
savepoint s;
insert into app_table values (1003);
rollback to s;
insert into app_table values (1004);
commit;
\c - app
begin;
insert into app_table values (1005);
savepoint s;
insert into app_table values (1006), (1005);
rollback to s;
savepoint t;
insert into app_table values (1007);
release t;
commit;
\c - app
do $$
begin
    insert into app_table values (1008);
    begin
        insert into app_table values (1009);
        raise exception 'no';
    exception when others then null;
    end;
end
$$;
\c - postgres
select type, key from webhook.event order by id;
truncate webhook.event;
truncate app_table;
truncate webhook.event;

-- The first statement is a move between partitions: one that succeeds, and one that the target
-- rejects.
create table app_parted (id int, p int) partition by list (p);
create table app_parted_1 partition of app_parted for values in (1);
create table app_parted_2 partition of app_parted for values in (2);
call by_hand.watch('app_parted', jsonb_build_object('key', by_hand.columns('app_parted', 'id')));
create function refuse_3() returns trigger language plpgsql as $$ begin if new.id = 3 then return null; end if; return new; end $$;
create trigger refuse before insert on app_parted_2 for each row execute function refuse_3();
insert into app_parted values (1, 1), (2, 1), (3, 1);
grant select, insert, update, delete on app_parted to app;
truncate webhook.event;
\c - app
update app_parted set p = 2 where id = 1;
\c - app
begin;
update app_parted set p = 2 where id = 3;
insert into app_parted values (4, 2);
commit;
\c - postgres
select type, key, previous from webhook.event order by id;
truncate webhook.event;
drop table app_parted;
drop function refuse_3;

-- Settings.
\c - app
set webhook.actor = 'user:7';
set webhook.mute = on;
insert into app_table values (1);
show webhook.actor;
set webhook.mute = on;
set webhook.payload_bytes_max = 5000;
set webhook.payload_over_cap = 'strict';
set webhook.no_such_setting = 1;
begin;
set local webhook.origin = 'crm';
set local webhook.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
insert into app_table values (2);
set local webhook.actor = 'job "x" é';
insert into app_table values (3);
commit;
set webhook.actor = '';
insert into app_table values (4);
select set_config('webhook.actor', 'user:8', false);
update app_table set note = 'n' where id = 4;
\c - postgres
load 'pg_webhook';
set webhook.mute = on;
insert into app_table values (5);
truncate app_table;
set webhook.mute = off;
insert into app_table values (6);
select type, key, actor, origin, traceparent from webhook.event order by id;
truncate webhook.event;

-- The payload function has exactly the rights of the writing role.
create table vault (n int);
insert into vault values (42);
create function app_json(a app_table) returns json language plpgsql as $$
begin
    return json_build_object('vault', (select n from vault), 'user', current_user);
end
$$;
call by_hand.watch('app_table', '{"payload": "public.app_json"}');
\c - app
-- Postgres 18 gives this kind of expression another name.
\set SHOW_CONTEXT never
insert into app_table values (10);
\set SHOW_CONTEXT errors
\c - postgres
grant select on vault to app;
\c - app
insert into app_table values (10);
\c - postgres
revoke execute on function app_json from public;
\c - app
insert into app_table values (11);
\c - postgres
table by_hand.event;
truncate webhook.event;
drop table app_table, vault cascade;

-- Row security and revoked rights on the outbox do not affect capture. session_replication_role
-- works as in Postgres.
create table ruled (id int primary key);
call by_hand.watch('ruled');
set session_replication_role = replica;
insert into ruled values (1);
reset session_replication_role;
insert into ruled values (2);
table by_hand.event;
truncate webhook.event;
drop table ruled;
drop role app;
