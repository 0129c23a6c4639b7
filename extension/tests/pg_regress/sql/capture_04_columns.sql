-- The columns of an event, the columns that decide whether there is one, and the effects of a later
-- ALTER TABLE.
begin;
create table person (id int primary key, name text, email text, secret text, seen int);
call by_hand.watch('person', jsonb_build_object('exclude', by_hand.columns('person', 'secret', 'seen')));
insert into person values (1, 'Ann', 'a@x', 'hidden', 0);
update person set secret = 'also hidden', seen = 1;
update person set secret = 'x', name = 'Anne';
delete from person;
table by_hand.event;
delete from webhook.event;

call by_hand.watch('person', jsonb_build_object('columns', by_hand.columns('person', 'email', 'name')));
insert into person values (1, 'Ann', 'a@x', 'hidden', 0);
update person set secret = 'y';
update person set email = 'b@x', secret = 'z';
table by_hand.event;
delete from webhook.event;

-- on_columns decides, whether or not the event has these columns.
call by_hand.watch('person', jsonb_build_object('columns', by_hand.columns('person', 'id', 'name'),
                                                'on_columns', by_hand.columns('person', 'seen', 'name')));
update person set email = 'c@x';
update person set seen = 7;
update person set name = 'Bea', seen = 8;
table by_hand.event;
delete from webhook.event;

-- An excluded key is not sent either.
call by_hand.watch('person', jsonb_build_object('exclude', by_hand.columns('person', 'id')));
update person set name = 'Cle';
table by_hand.event;
delete from webhook.event;

-- No columns.
call by_hand.watch('person', '{"columns": []}');
update person set name = 'Dan';
insert into person values (2);
table by_hand.event;
rollback;

-- DDL after the watch, in a session that has cached the plan.
begin;
create table thing (id int primary key, a text, b text, c int);
call by_hand.watch('thing', jsonb_build_object('exclude', by_hand.columns('thing', 'b')));
create table sel (id int primary key, a text, b text, c int);
call by_hand.watch('sel', jsonb_build_object('columns', by_hand.columns('sel', 'id', 'a', 'b'),
                                              'on_columns', by_hand.columns('sel', 'b')));
insert into thing values (1, 'a', 'secret', 1);
insert into sel values (1, 'a', 'b', 1);
alter table thing add column d int default 4;
alter table sel add column d int default 4;
update thing set c = 2;
update sel set b = 'b2';
alter table thing rename column b to b_renamed;
alter table sel rename column b to b_renamed;
update thing set c = 3, b_renamed = 'secret too';
update sel set b_renamed = 'b3';
-- A new column takes the old name: both the old column and the new one are excluded.
alter table thing add column b text default 'new b';
alter table sel add column b text default 'new b';
update thing set c = 4, b = 'x';
update sel set b = 'not on it', c = 5;
update sel set b_renamed = 'b4';
alter table thing alter column c type text using 'c' || c;
update thing set c = 'c5';
alter table thing drop column a;
alter table sel drop column a;
update thing set c = 'c6';
update sel set b_renamed = 'b5';
alter table thing rename to thing_renamed;
update thing_renamed set c = 'c7';
create schema elsewhere;
alter table thing_renamed set schema elsewhere;
update elsewhere.thing_renamed set c = 'c8';
alter schema elsewhere rename to "Somewhere";
update "Somewhere".thing_renamed set c = 'c9';
select type, table_name, payload, previous from webhook.event order by id;
delete from webhook.event;
-- The key column is renamed and dropped.
alter table sel rename column id to ident;
update sel set b_renamed = 'b6';
alter table sel drop column ident;
update sel set b_renamed = 'b7';
table by_hand.event;
rollback;

-- After a dump and restore the columns have new numbers, and their names count.
begin;
create table restored (id int primary key, b text, c text);
call by_hand.watch('restored', '{"noun": "restored", "table": null,
    "columns": [{"name": "id", "number": 1}, {"name": "b", "number": 3}],
    "on_columns": [{"name": "b", "number": 3}], "key": [{"name": "id", "number": 1}]}');
insert into restored values (1, 'b', 'never sent');
update restored set c = 'not on it';
update restored set b = 'b2';
call by_hand.watch('restored', '{"noun": "restored", "table": null, "exclude": [{"name": "b", "number": 3}]}');
update restored set b = 'b3', c = 'c3';
-- An excluded column that is missing may be any column, even the key.
call by_hand.watch('restored', '{"noun": "restored", "table": {"oid": 1, "columns": []}, "exclude": [{"name": "x", "number": 2}]}');
update restored set b = 'b4';
call by_hand.watch('restored', '{"noun": "restored", "table": null, "exclude": [{"name": "x", "number": 2}],
    "key": [{"name": "id", "number": 1}, {"name": "x", "number": 2}]}');
update restored set b = 'b5';
table by_hand.event;
rollback;

-- A table is watched again, in the same session and transaction.
begin;
create table again (id int primary key, a text);
call by_hand.watch('again', '{"noun": "first"}');
insert into again values (1);
call by_hand.watch('again', '{"noun": "second"}');
insert into again values (2);
savepoint s;
call by_hand.watch('again', '{"noun": "third"}');
insert into again values (3);
rollback to s;
insert into again values (4);
table by_hand.event;
rollback;
