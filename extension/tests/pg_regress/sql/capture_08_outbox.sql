-- Outbox tables with more indexes, with more columns, and after they were dropped and created
-- again.
set client_min_messages = warning;
create table item (id int primary key, name text);
call by_hand.watch('item');

-- C and SQL choose the same slot and notice a turn at once; see also own_slot in capture_01_rows.
begin;
insert into item values (1000, 'before');
select webhook.turn_ring(true) is not null;
insert into item values (1001, 'after');
select count(distinct e.slot), bool_or(e.slot = h.present and e.key = '1001'), webhook.present_slot() = h.present
from webhook.event e cross join webhook.ring_head h where e.xid = webhook.current_xid() group by h.present;
savepoint a;
insert into item values (1002, 'later');
select webhook.turn_ring(true) is not null;
rollback to a;
insert into item values (1003, 'later');
select e.slot = h.present from webhook.event e cross join webhook.ring_head h where e.key = '1003';
rollback;

begin;
create index on webhook.event (table_name, key);
create index on webhook.event using brin (created_at);
create index on webhook.event using hash (key);
insert into item select g, 'n' || g from generate_series(1, 300) g;
insert into item values (301);
set local enable_seqscan = off;
set local enable_bitmapscan = off;
explain (costs off) select type from webhook.event_0 where table_name = 'public.item' and key = '300';
select type from webhook.event where table_name = 'public.item' and key in ('300', '301');
rollback;

begin;
create function loud(text) returns text language plpgsql immutable as $$ begin return upper($1); end $$;
create index on webhook.event (loud(key)) where type like 'item.%';
create unique index on webhook.event (slot, (payload->>'name')) where payload->>'name' like 'u%';
insert into item select g, 'n' || g % 5 from generate_series(1, 300) g;
insert into item values (301, 'u1'), (302, 'u2');
set local enable_seqscan = off;
select type, key from webhook.event where loud(key) = '300' and type like 'item.%';
savepoint s;
\set VERBOSITY sqlstate
insert into item values (303, 'u1');
\set VERBOSITY default
rollback to s;
do $$
declare c text;
begin
    insert into item values (303, 'u1');
exception when unique_violation then
    get stacked diagnostics c = constraint_name;
    raise warning '%', c ~ '^event_\d+_slot_expr_idx$';
end
$$;
insert into item values (304, 'u4');
select count(*) from webhook.event;
rollback;

-- An index function writes to a watched table and fails in a block of its own while a batch is
-- inserted.
begin;
create function write_item(n int) returns void language plpgsql as $$
begin
    insert into item values (n);
    begin
        insert into item values (n + 1000);
        perform 1 / 0;
    exception when division_by_zero then null;
    end;
end
$$;
create function meddle(k text) returns text language plpgsql immutable as $$
begin
    if k::int <= 300 then
        perform write_item(k::int + 1000);
    end if;
    return k;
end
$$;
create index on webhook.event (meddle(key));
insert into item select g from generate_series(1, 300) g;
commit;
select count(*), count(distinct key), count(distinct id), min(key::int), max(key::int) from webhook.event;
drop function meddle cascade;
drop function write_item;
truncate item;
truncate webhook.event;

-- An operator has added columns, between ours or after them.
begin;
alter table webhook.event add column remark text, add column n int default 1;
insert into item values (1, 'a');
select type, key, payload, remark from webhook.event;
alter table webhook.event rename column traceparent to trace_parent;
savepoint s;
insert into item values (2);
rollback to s;
rollback;

-- The extension is dropped and created again in one session.
begin;
insert into item values (1);
drop extension pg_webhook cascade;
insert into item values (2);
create extension pg_webhook;
call by_hand.watch('item');
insert into item values (3);
select type, key, payload from webhook.event;
rollback;
insert into item values (4);
drop extension pg_webhook cascade;
create extension pg_webhook;
create view by_hand.event as select type, key, payload, previous from webhook.event order by id;
call by_hand.watch('item');
insert into item values (5);
insert into item values (6);
table by_hand.event;

-- A partition of the outbox, or the whole outbox, is missing: the statement fails, and the error
-- says why.
begin;
do $$ begin execute format('alter table webhook.event_%s rename to gone', webhook.ring_slot(clock_timestamp())); end $$;
savepoint s;
\set VERBOSITY sqlstate
insert into item values (7);
\set VERBOSITY default
rollback to s;
alter sequence webhook.event_id_seq rename to gone_seq;
insert into item values (7);
rollback;
insert into item values (8);
select key from webhook.event order by id;

truncate webhook.event;
drop table item;
