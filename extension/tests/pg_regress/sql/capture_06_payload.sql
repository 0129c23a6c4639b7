-- Payload functions, and the cap on the size of a payload.
begin;
create table account (id int primary key, first text, last text, hash text);
create function account_json(a account) returns json language sql stable
    return case when a.last is not null then json_build_object('id', a.id, 'name', a.first || ' ' || a.last) end;
create function account_jsonb(a account) returns jsonb language plpgsql stable as $$
begin
    return jsonb_build_object('name', a.last, 'id', a.id, 'tags', array[a.first]);
end
$$;
call by_hand.watch('account', '{"payload": "public.account_json"}');
insert into account values (1, 'Ann', 'Lee', 'h'), (2, 'Bob', null, 'h');
update account set hash = 'h2';
update account set last = 'Ray' where id = 1;
update account set last = 'Fox' where id = 2;
update account set last = null where id = 2;
delete from account;
table by_hand.event;
delete from webhook.event;

call by_hand.watch('account', '{"payload": "public.account_jsonb"}');
insert into account values (1, 'Ann', 'Lee', 'h');
update account set first = 'Eve';
-- Replaced: the next statement uses the new function.
create or replace function account_jsonb(a account) returns jsonb language sql as $$ select '[1]'::jsonb $$;
update account set hash = 'h3';
delete from account;
table by_hand.event;
delete from webhook.event;

-- On a partitioned table the function gets the root's row from every partition, and moves are
-- updates.
create table acc (id int, region text, note text) partition by list (region);
create table acc_1 partition of acc for values in ('1');
create table acc_2 (note text, region text, id int);
alter table acc attach partition acc_2 for values in ('2');
create function acc_json(a acc) returns json language sql return json_build_object('id', a.id, 'in', a.region, 'type', pg_typeof(a));
call by_hand.watch('acc', '{"payload": "acc_json"}');
insert into acc values (1, '1', 'x'), (2, '2', 'x');
update acc set note = 'y';
update acc set region = '2' where id = 1;
table by_hand.event;
delete from webhook.event;
rollback;

-- A function that is missing, has the wrong type, or fails.
begin;
create table plain (id int primary key);
call by_hand.watch('plain', '{"payload": "public.no_such_function"}');
savepoint s;
insert into plain values (1);
rollback to s;
create function plain_text(p plain) returns text language sql return 'x';
call by_hand.watch('plain', '{"payload": "public.plain_text"}');
savepoint s;
insert into plain values (1);
rollback to s;
create function plain_set(p plain) returns setof json language sql as 'select null::json';
call by_hand.watch('plain', '{"payload": "public.plain_set"}');
savepoint s;
insert into plain values (1);
rollback to s;
create function plain_fails(p plain) returns json language plpgsql as $$ begin raise exception 'from the function' using errcode = 'ABC12', hint = 'a hint'; end $$;
call by_hand.watch('plain', '{"payload": "public.plain_fails"}');
savepoint s;
\set SHOW_CONTEXT always
insert into plain values (1);
\set SHOW_CONTEXT errors
rollback to s;
do $$ begin insert into plain values (1); exception when sqlstate 'ABC12' then raise notice '% %', sqlstate, sqlerrm; end $$;
rollback to s;
-- A function that writes to a watched table.
create table side (n int);
call by_hand.watch('side');
create function plain_writes(p plain) returns json language plpgsql as $$
begin
    insert into side values (p.id);
    return json_build_object('id', p.id);
end
$$;
call by_hand.watch('plain', '{"payload": "public.plain_writes"}');
insert into plain values (1), (2);
table by_hand.event;
rollback;

-- The cap applies to payload and previous together.
begin;
set local webhook.payload_bytes_max = '1kB';
create table doc (id int, kind text, body text, primary key (id, kind));
call by_hand.watch('doc');
insert into doc values (1, 'k', repeat('x', 900)), (2, 'k', repeat('x', 1100));
update doc set body = repeat('y', 900) where id = 1;
update doc set body = 'short' where id = 2;
update doc set body = repeat('"', 600) where id = 2;
delete from doc;
select type, key, truncated, length(payload::text), length(previous::text),
       case when truncated then payload end as payload
from webhook.event order by id;
delete from webhook.event;
-- Large values that are stored out of line are left out without being fetched.
create table blob (id int primary key, b bytea, j jsonb);
alter table blob alter column b set storage external;
call by_hand.watch('blob');
insert into blob select 1, decode(repeat('00', 5000000), 'hex'), jsonb_build_object('a', repeat('x', 5000000));
insert into blob values (2, '\x00', '{}');
select key, truncated, payload from webhook.event order by id;
delete from webhook.event;
-- A key over the cap is not sent.
create table longkey (k text, v int);
call by_hand.watch('longkey', jsonb_build_object('key', by_hand.columns('longkey', 'k')));
insert into longkey values (repeat('k', 2000), 1);
select key, truncated, payload from webhook.event order by id;
delete from webhook.event;
-- The cap applies to the result of a payload function too.
create function doc_json(d doc) returns json language sql return json_build_object('b', d.body);
call by_hand.watch('doc', '{"payload": "doc_json"}');
insert into doc values (3, 'k', repeat('x', 2000)), (4, 'k', 'x');
select key, truncated, payload from webhook.event order by id;
delete from webhook.event;
-- strict: the statement fails and is undone.
set local webhook.payload_over_cap = 'strict';
call by_hand.watch('doc');
savepoint s;
insert into doc values (5, 'k', 'fits'), (6, 'k', repeat('x', 2000));
rollback to s;
\set VERBOSITY sqlstate
insert into doc values (6, 'k', repeat('x', 2000));
\set VERBOSITY default
rollback to s;
insert into doc values (5, 'k', 'fits');
table by_hand.event;
rollback;
