-- The events of a row are in the order of its changes, with any other triggers. A session's first
-- statement, which loads the library, emits the same events as a later one.
\t on
set client_min_messages = warning;
\pset format unaligned
create schema o;
create table o.item (id int primary key, no text, parent int references o.item on update cascade on delete cascade);
select noun from webhook_watch('o.item');

-- The setting o.NAME is the statement that trigger NAME executes, with $1 = the row's id.
create function o.act() returns trigger language plpgsql as $$
declare
    statement text := nullif(current_setting('o.' || tg_name, true), '');
    id int := case when tg_level = 'ROW' then case tg_op when 'DELETE' then old.id else new.id end end;
begin
    if statement is not null and coalesce(nullif(current_setting('o.depth', true), ''), '0') = '0' then
        perform set_config('o.depth', '1', true);
        execute replace(statement, '$1', coalesce(id::text, 'null'));
        perform set_config('o.depth', '0', true);
    end if;
    if tg_op = 'DELETE' then return old; else return new; end if;
end
$$;
create trigger before before insert or update or delete on o.item for each row execute function o.act();
create trigger ahead after insert or update or delete on o.item for each row execute function o.act();
create trigger zz_behind after insert or update or delete on o.item for each row execute function o.act();
create trigger zz_statement after insert or update or delete on o.item for each statement execute function o.act();
create trigger a_truncate after truncate on o.item for each statement execute function o.act();

create function o.make(id int) returns int language plpgsql as $$
begin
    insert into o.item values (id, 'inner');
    update o.item set no = 'again' where o.item.id = make.id or o.item.id = make.id + 9;
    return id;
end
$$;
create function o.try(id int) returns void language plpgsql as $$
begin
    begin
        update o.item set no = 'undone' where o.item.id = try.id;
        begin
            delete from o.item where o.item.id = 1;
        end;
        raise 'undo';
    exception when raise_exception then
        update o.item set no = 'caught' where o.item.id = try.id;
    end;
    begin
        update o.item set no = no || '!' where o.item.id = try.id;
        perform 1 / (id - 5);
    exception when division_by_zero then null;
    end;
end
$$;
create function o.nest(id int) returns void language plpgsql as $$
begin
    perform set_config('o.depth', '0', true);
    perform set_config('o.ahead', 'update o.item set no = concat(no, ''+'') where id = $1 or id = 1', true);
    update o.item set no = concat(no, '-') where o.item.id in (nest.id, 5);
    perform set_config('o.ahead', 'select o.nest($1)', true);
end
$$;

\set prepare 'set session_replication_role = replica; truncate o.item; insert into o.item select g, ''old'', nullif(g - 1, 0) from generate_series(1, 3) g; truncate webhook.event; reset session_replication_role;'
\set events 'select ''   '' || coalesce(string_agg(concat_ws('' '', split_part(type, ''.'', 2), key, payload ->> ''no''), '', '' order by id), ''none'') from webhook.event;'
\set rows 'select '' = '' || coalesce(string_agg(concat_ws('' '', id, no), '', '' order by id), ''none'') from o.item;'
-- Each case runs in a new session, and again in the same session.
\set twice ':prepare \\c \\\\ begin; :settings :do :events :rows commit; :prepare begin; :settings :do :events :rows commit;'

\echo -- a trigger before ours changes its own row, and so does a trigger after ours
\set settings 'set local o.ahead = ''update o.item set no = ''''ahead'''' where id = $1''; set local o.zz_behind = ''update o.item set no = ''''behind'''' where id = $1'';'
\set do 'insert into o.item values (4), (5);'
:twice

\echo -- a trigger deletes the row
\set settings 'set local o.ahead = ''delete from o.item where id = $1 and id = 4'';'
\set do 'insert into o.item values (4), (5);'
:twice

\echo -- a nested delete of an updated row
\set settings 'set local o.ahead = ''delete from o.item where id = $1 and id = 2'';'
\set do 'update o.item set no = ''new'' where id < 3;'
:twice

\echo -- the trigger of one row changes another row whose event is not emitted yet
\set settings 'set local o.ahead = ''update o.item set no = coalesce(no, '''''''') || ''''x'''' where id = $1 + 1 or id = 6'';'
\set do 'insert into o.item values (4), (5), (6);'
:twice

\echo -- a deleted row is inserted again
\set settings 'set local o.ahead = ''insert into o.item values ($1, ''''back'''')'';'
\set do 'delete from o.item where id < 3;'
:twice

\echo -- a BEFORE trigger makes room for the row
\set settings 'set local o.before = ''delete from o.item where id = $1'';'
\set do 'insert into o.item values (1, ''new''), (4, ''new'');'
:twice

\echo -- a BEFORE trigger renames the existing row
\set settings 'set local o.before = ''update o.item set id = id + 10, no = ''''version'''' where id = $1'';'
\set do 'insert into o.item values (1, ''new'');'
:twice

\echo -- a BEFORE trigger changes the rows before it
\set settings 'set local o.before = ''update o.item set no = no || $1 where id between 4 and $1 - 1'';'
\set do 'insert into o.item select g, ''new'' from generate_series(4, 6) g;'
:twice

\echo -- a BEFORE trigger deletes the row before it and inserts another
\set settings 'set local o.before = ''with d as (delete from o.item where id = $1 - 1 returning id) insert into o.item select 40 + id, ''''made'''' from d'';'
\set do 'insert into o.item values (4, ''new''), (5, ''new'');'
:twice

\echo -- a cascade, and triggers that change the rows that it deletes
\set settings 'set local o.ahead = ''update o.item set no = no || ''''*'''' where parent = $1'';'
\set do 'delete from o.item where id = 1;'
:twice

\echo -- a function of the statement writes the table
\set settings ''
\set do 'insert into o.item select 10 + o.make(g), ''outer'' from generate_series(4, 5) g;'
:twice

\echo -- exception blocks: undone changes emit no events
\set settings 'set local o.ahead = ''select o.try($1)'';'
\set do 'insert into o.item values (4), (5);'
:twice

\echo -- a statement trigger
\set settings 'set local o.zz_statement = ''update o.item set no = ''''total'''''';'
\set do 'insert into o.item values (4), (5);'
:twice

\echo -- MERGE
\set settings 'set local o.ahead = ''update o.item set no = no || ''''*'''' where id = $1'';'
\set do 'merge into o.item i using generate_series(3, 4) s (id) on i.id = s.id when matched then update set no = ''merged'' when not matched then insert values (s.id, ''merged'');'
:twice

\echo -- ON CONFLICT
\set settings 'set local o.ahead = ''update o.item set no = no || ''''*'''' where id = $1'';'
\set do 'insert into o.item values (3, ''c''), (4, ''c'') on conflict (id) do update set no = ''conflict'';'
:twice

\echo -- a CTE that deletes what another inserts
\set settings 'set local o.ahead = ''update o.item set no = no || ''''*'''' where id > 1'';'
\set do 'with d as (delete from o.item where id = 3 returning *) insert into o.item select 4, no from d;'
:twice

\echo -- two levels
\set settings 'set local o.ahead = ''select o.nest($1)'';'
\set do 'insert into o.item values (4), (5);'
:twice

\echo -- COPY
\set settings 'set local o.ahead = ''update o.item set no = no || ''''*'''' where id = $1 or id = 5''; set local o.before = ''delete from o.item where id = $1 - 3'';'
\set do 'copy o.item from program ''printf "4\\t4\\t\\\\N\\n5\\t5\\t\\\\N\\n"'';'
:twice

\echo -- TRUNCATE
\set settings 'set local o.a_truncate = ''insert into o.item values (7, ''''seed'''')'';'
\set do 'truncate o.item;'
:twice

-- Partitions: statements on the root, and on a partition directly.
create table o.part (id int, region text, no text, primary key (id, region)) partition by list (region);
create table o.part_eu partition of o.part for values in ('eu');
create table o.part_us partition of o.part for values in ('us');
select noun from webhook_watch('o.part');
create table o.log (id int);
create trigger before before insert or update or delete on o.part for each row execute function o.act();
create trigger ahead after insert or update or delete on o.part for each row execute function o.act();
create trigger zz_behind after insert or update or delete on o.part for each row execute function o.act();
\set prepare 'set session_replication_role = replica; truncate o.part; insert into o.part select g, ''eu'', ''old'' from generate_series(1, 3) g; truncate webhook.event; reset session_replication_role;'
\set rows 'select '' = '' || coalesce(string_agg(concat_ws('' '', id, region, no), '', '' order by id), ''none'') from o.part;'

\echo -- a row that moves is one update, even if another trigger runs SQL
\set settings 'set local o.ahead = ''insert into o.log values ($1)''; set local o.zz_behind = ''insert into o.log values ($1)'';'
\set do 'update o.part set region = ''us'' where id < 3;'
:twice

\echo -- a trigger changes a row that moves
\set settings 'set local o.ahead = ''update o.part set no = no || ''''*'''' where id = $1'';'
:twice

\echo -- a statement on a partition
\set do 'update o.part_eu set no = ''direct'' where id < 3;'
:twice

\echo -- a statement on a partition, and a trigger that moves the row
\set settings 'set local o.ahead = ''update o.part set region = ''''us'''' where id = $1'';'
:twice

\echo -- in a function, through a cursor of the client, in a rule
\set settings 'set local o.ahead = ''update o.part set no = no || ''''*'''' where id = $1'';'
create function o.write() returns void language sql as $$ update o.part set no = 'sql' where id < 3 $$;
\set do 'select o.write();'
:twice
create view o.seen as select * from o.part;
create rule write as on update to o.seen do instead (insert into o.log values (new.id); update o.part set no = new.no where id = old.id);
\set do 'update o.seen set no = ''rule'' where id = 1;'
:twice

-- Triggers of an earlier version, without a statement trigger.
drop trigger webhook_statement on o.item;
drop trigger webhook_statement on o.part;
\echo -- webhook_check() reports a watch of an earlier version
select relation, problem, detail from webhook_check() order by 1;
\echo -- its events are in order where a statement of the client comes first
\set do 'update o.part set no = ''new'' where id < 3;'
:twice
\set settings 'set local o.ahead = ''insert into o.log values ($1)''; set local o.zz_behind = ''insert into o.log values ($1)'';'
\set do 'update o.part set region = ''us'' where id < 3;'
:twice

\echo -- more events than fit into work_mem, some of them undone
select noun from webhook_watch('o.item');
create function o.many() returns void language plpgsql as $$
begin
    begin
        update o.item set no = repeat('x', 1000);
        raise 'undo';
    exception when raise_exception then null;
    end;
    update o.item set no = repeat('y', 1000);
    begin
        update o.item set no = repeat('z', 1000);
        raise 'undo';
    exception when raise_exception then null;
    end;
    update o.item set no = 'last ' || id;
end
$$;
begin;
set local work_mem = '64kB';
set local o.zz_statement = 'select o.many()';
delete from webhook.event;
insert into o.item select g, 'new' from generate_series(1001, 1500) g;
select type, count(*), max(length(payload ->> 'no')) from webhook.event where key::int > 1000 group by type order by type;
select count(*) from (
    select distinct on (key) key, payload ->> 'no' as no from webhook.event order by key, id desc) last
join o.item on id = key::int and item.no = last.no;
rollback;

\echo -- a prepared transaction
begin;
set local o.ahead = 'update o.item set no = ''ahead'' where id = $1';
insert into o.item values (2001);
prepare transaction 'order';
commit prepared 'order';
select type, payload ->> 'no' from webhook.event where key = '2001' order by id;

set client_min_messages = warning;
drop schema o cascade;
delete from webhook.event;
