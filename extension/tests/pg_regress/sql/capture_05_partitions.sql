-- Partitions: one watch on the root, one name, one order of columns; and rows that move between
-- partitions.
begin;
create table parted (id int, region text, note text, extra int, primary key (id, region)) partition by list (region);
create table parted_eu partition of parted for values in ('eu');
-- Another order of columns, a dropped column before them, other numbers.
create table parted_us (gone int, note text, extra int, region text not null, id int not null);
alter table parted_us drop column gone;
alter table parted attach partition parted_us for values in ('us');
create table parted_rest partition of parted default partition by range (id);
create table parted_rest_low partition of parted_rest for values from (minvalue) to (100);
call by_hand.watch('parted', jsonb_build_object('exclude', by_hand.columns('parted', 'extra')));

insert into parted values (1, 'eu', 'n', 1), (2, 'us', 'n', 2), (3, 'asia', 'n', 3);
insert into parted_us (id, region, note) values (4, 'us', 'direct');
update parted set note = 'm' where id < 3;
update parted set extra = 9;
delete from parted where id = 4;
select type, table_name, key, payload, previous from webhook.event order by id;
delete from webhook.event;

-- A move is one update, with the changed columns.
update parted set region = 'us', note = 'moved' where id = 1;
update parted set region = 'asia' where id = 1;
update parted set region = case region when 'us' then 'eu' else 'us' end;
select type, table_name, key, payload, previous from webhook.event order by id;
delete from webhook.event;
merge into parted p using (values (1, 'eu'), (2, 'africa')) as s (id, region) on p.id = s.id
    when matched then update set region = s.region, note = 'merged';
select type, key, payload, previous from webhook.event order by id;
delete from webhook.event;
select count(*), count(distinct id) from parted;

-- Many moves at once.
insert into parted select g, 'eu', 'bulk', g from generate_series(1000, 1999) g;
update parted set region = 'us' where id >= 1000;
select type, count(*), min(previous::text), max(previous::text) from webhook.event group by type order by type;
delete from parted where id >= 1000;
delete from webhook.event;

-- on_columns and excluded columns apply to moves too.
call by_hand.watch('parted', jsonb_build_object('on_columns', by_hand.columns('parted', 'note')));
update parted set region = 'us' where id = 1;
update parted set region = 'eu', note = 'both' where id = 1;
select type, payload, previous from webhook.event order by id;
delete from webhook.event;
call by_hand.watch('parted');

-- A BEFORE trigger on the target rejects the row, so the row is deleted.
create function refuse() returns trigger language plpgsql as $$ begin return null; end $$;
create trigger refuse before insert on parted_us for each row execute function refuse();
update parted set region = 'us' where id = 1;
select type, payload, previous from webhook.event order by id;
delete from webhook.event;
insert into parted values (1, 'eu', 'back', 1), (5, 'eu', 'stays', 1);
update parted set region = case id when 1 then 'us' else 'asia' end where id in (1, 5);
select type, payload, previous from webhook.event order by id;
drop trigger refuse on parted_us;
delete from webhook.event;

-- Other triggers of the deleted row write to watched tables in between.
create table journal (id int, what text);
call by_hand.watch('journal');
create function note_it() returns trigger language plpgsql as $$
begin
    insert into journal values (old.id, 'left');
    begin
        insert into journal values (old.id, 'undone');
        raise exception 'undo';
    exception when raise_exception then null;
    end;
    return null;
end
$$;
create trigger zz_note after delete on parted for each row execute function note_it();
update parted set region = 'us' where id = 5;
select type, key, payload, previous from webhook.event order by id;
drop trigger zz_note on parted;
delete from webhook.event;

-- They fail and the error is caught, or they move rows too: the outer moves are still updates.
create table strict (id int primary key);
create table follower (id int references strict);
create function fail_quietly() returns trigger language plpgsql as $$
begin
    begin
        insert into follower values (old.id);
    exception when foreign_key_violation then null;
    end;
    return null;
end
$$;
create trigger zz_fail after delete on parted for each row execute function fail_quietly();
insert into parted values (6, 'eu', 'f', 1), (7, 'eu', 'f', 1), (8, 'eu', 'f', 1);
delete from webhook.event;
update parted set region = 'us' where id in (6, 7, 8);
select type, key, payload, previous from webhook.event order by id;
drop trigger zz_fail on parted;
delete from webhook.event;
create table other (id int, region text) partition by list (region);
create table other_eu partition of other for values in ('eu');
create table other_us partition of other for values in ('us');
call by_hand.watch('other');
insert into other values (1, 'us'), (2, 'us');
create function move_other() returns trigger language plpgsql as $$
begin
    update other set region = case region when 'us' then 'eu' else 'us' end;
    begin
        update other set region = case region when 'us' then 'eu' else 'us' end;
        perform 1 / 0;
    exception when division_by_zero then null;
    end;
    delete from other where id = 2;
    return null;
end
$$;
create trigger zz_move after delete on parted for each row execute function move_other();
delete from webhook.event;
update parted set region = 'eu' where id in (6, 7);
select type, key, payload, previous from webhook.event order by id;
drop trigger zz_move on parted;
delete from parted where id in (6, 7, 8);
delete from webhook.event;

-- A move is rolled back.
savepoint s;
update parted set region = 'eu' where id = 5;
rollback to s;
select count(*) from webhook.event;

rollback;

begin;
-- A cascade that moves rows.
create table reg (code text primary key);
create table city (id int, code text references reg on update cascade, primary key (id, code)) partition by list (code);
create table city_a partition of city for values in ('a');
create table city_b partition of city for values in ('b');
call by_hand.watch('city');
insert into reg values ('a');
insert into city values (1, 'a'), (2, 'a');
delete from webhook.event;
update reg set code = 'b';
select type, key, payload, previous from webhook.event order by id;
delete from webhook.event;
-- The root is renamed and so is a column, while partitions have cached plans.
alter table city rename column id to ident;
alter table city rename to town;
update town set ident = 3 where ident = 1;
select type, table_name, key, payload, previous from webhook.event order by id;
delete from webhook.event;
-- Partitions are attached later and detached again.
create table city_c (code text not null, ident int not null);
alter table town attach partition city_c for values in ('c');
insert into reg values ('c');
insert into town values (9, 'c');
alter table town detach partition city_c;
insert into city_c values ('c', 10);
truncate town;
select type, table_name, key, payload from webhook.event order by id;
rollback;
