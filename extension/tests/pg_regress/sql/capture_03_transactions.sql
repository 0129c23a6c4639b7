-- An event shares the fate of its change: savepoints, exception blocks, errors, prepared
-- transactions. A statement sees the events of earlier statements.
create table item (id int primary key, name text);
call by_hand.watch('item');
create table audit (n bigint);
create function keys() returns text language sql stable as $$ select string_agg(key, ',' order by id) from webhook.event $$;

begin;
insert into item values (1);
select keys() as one;
savepoint a;
insert into item values (2);
savepoint b;
insert into item values (3);
select keys() as three;
rollback to b;
select keys() as two;
insert into item values (4);
release b;
select keys() as with_4;
rollback to a;
select keys() as one;
insert into item values (5);
savepoint c;
release c;
savepoint d;
insert into item values (6);
release d;
select keys() as one_5_6;
rollback to a;
insert into item values (7);
commit;
select keys() as "1,7";
delete from webhook.event;

-- Exception blocks, in both directions: the changes of the block are undone, earlier and later
-- changes stay.
do $$
begin
    insert into item values (10);
    begin
        insert into item values (11);
        begin
            insert into item values (12);
            raise exception 'inner';
        exception when others then
            insert into item values (13);
        end;
        insert into item values (14);
        perform 1 / (select count(*) - count(*) from webhook.event);
    exception when division_by_zero then
        insert into item values (15);
    end;
    begin
        insert into item values (16);
    exception when others then
        raise;
    end;
    insert into item values (17);
end
$$;
select keys() as "10,15,16,17";
delete from webhook.event;

-- Rows are still in memory when a later trigger opens a subtransaction and rolls it back.
create function trip() returns trigger language plpgsql as $$
begin
    begin
        insert into item values (new.id + 1000);
        if new.id % 2 = 0 then
            raise exception 'even';
        end if;
    exception when raise_exception then
        insert into audit values (new.id);
    end;
    return null;
end
$$;
create trigger zz_trip after insert on item for each row when (new.id < 1000) execute function trip();
insert into item select g from generate_series(100, 105) g;
select keys() as "100 1000+101 …";
drop trigger zz_trip on item;
delete from webhook.event;

-- An error in the middle of a statement undoes all of it, flushed or not.
begin;
insert into item values (200);
savepoint s;
insert into item select case when g = 900 then 1 else 300 + g end from generate_series(1, 1000) g;
rollback to s;
insert into item select g from generate_series(2001, 2400) g;
rollback to s;
commit;
select keys() as "200";
delete from webhook.event;

-- A trigger, a cursor, a function within the statement and a COPY TO all see the events of earlier
-- statements.
create function count_events() returns trigger language plpgsql as $$
begin
    insert into audit select count(*) from webhook.event;
    return null;
end
$$;
create trigger zz_count after insert on item for each statement execute function count_events();
truncate audit;
insert into item values (500), (501);
insert into item values (502);
table audit;
drop trigger zz_count on item;
begin;
insert into item values (503);
declare c cursor for select key from webhook.event order by id;
insert into item values (504);
fetch all c;
copy (select key from webhook.event order by id) to stdout;
with w as (insert into item values (505) returning id) select w.id, keys() from w;
select keys();
rollback;
delete from webhook.event;

-- A hold cursor and a deferred trigger work at commit time, and so does the buffer.
create function late() returns trigger language plpgsql as $$
begin
    insert into item values (new.id + 5000);
    return null;
end
$$;
create constraint trigger zz_late after insert on item deferrable initially deferred for each row
    when (new.id < 1000) execute function late();
begin;
insert into item values (600);
declare h cursor with hold for select count(*) from webhook.event;
commit;
fetch h;
close h;
select keys() as "600,5600";
drop trigger zz_late on item;
delete from webhook.event;

-- PREPARE TRANSACTION: the events appear at COMMIT PREPARED, or never.
begin;
insert into item values (700);
savepoint p;
insert into item values (701);
release p;
prepare transaction 'kept';
begin;
insert into item values (702);
prepare transaction 'dropped';
select keys() as "(none)";
commit prepared 'kept';
rollback prepared 'dropped';
select keys() as "700,701";
delete from webhook.event;

-- A procedure that commits in between.
create procedure in_steps() language plpgsql as $$
begin
    insert into item values (800);
    commit;
    insert into item values (801);
    rollback;
    insert into item values (802);
end
$$;
call in_steps();
select keys() as "800,802";
delete from webhook.event;

-- Serializable and read-only transactions, and a failed transaction that the session ends.
begin isolation level serializable;
insert into item values (810);
select keys() as "810";
commit;
begin read only;
insert into item values (811);
rollback;
begin;
insert into item values (812);
select 1 / 0;
insert into item values (813);
commit;
select keys() as "810";
delete from webhook.event;

-- In the leader of a parallel plan, between two flushes.
begin;
set local parallel_setup_cost = 0;
set local parallel_tuple_cost = 0;
set local min_parallel_table_scan_size = 0;
-- The setting has another name since Postgres 16.
select set_config(name, 'on', true) from pg_settings where name in ('force_parallel_mode', 'debug_parallel_query');
insert into item values (820);
select count(*) > 0 as parallel from item;
insert into item values (821);
select keys() as "820,821";
rollback;

-- Numbers rise with every event of a row, also with rollbacks in between.
begin;
insert into item values (900, 'a');
savepoint s;
update item set name = 'b' where id = 900;
rollback to s;
update item set name = 'c' where id = 900;
update item set name = 'd' where id = 900;
select type, payload->>'name' as name, previous->>'name' as previous from webhook.event order by id;
rollback;

drop table item, audit;
drop function trip, count_events, keys, late;
drop procedure in_steps;
