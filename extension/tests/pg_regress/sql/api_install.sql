-- A role that may create objects in the extension's schema cannot get its functions called, neither
-- when the extension is created or updated nor later.
\pset format unaligned
\pset tuples_only on
set client_min_messages = warning;
create role intruder;

-- These functions fit calls better than those of Postgres, which take "any", anyarray, or another
-- type.
create temporary table trap as select $$
    create function {s}.trap() returns void language plpgsql as 'begin raise exception ''caught: %'', current_user; end';
    create function {s}.format(text, integer, integer) returns text language sql as 'select {s}.trap(); select ''''';
    create function {s}.format(text, integer) returns text language sql as 'select {s}.trap(); select ''''';
    create function {s}.format(text, text) returns text language sql as 'select {s}.trap(); select ''''';
    create function {s}.format(text, text, text) returns text language sql as 'select {s}.trap(); select ''''';
    create function {s}.format(text, name, name) returns text language sql as 'select {s}.trap(); select ''''';
    create function {s}.format(text, bigint) returns text language sql as 'select {s}.trap(); select ''''';
    create function {s}.format(text, regclass) returns text language sql as 'select {s}.trap(); select ''''';
    create function {s}.format(text, regprocedure) returns text language sql as 'select {s}.trap(); select ''''';
    create function {s}.unnest(text[]) returns setof text language sql as 'select {s}.trap(); select ''''';
    create function {s}.array_position(text[], text) returns integer language sql as 'select {s}.trap(); select 1';
    create function {s}.array_agg(text) returns text[] language sql as 'select {s}.trap(); select null::text[]';
    create function {s}.concat_ws(text, text, text) returns text language sql as 'select {s}.trap(); select ''''';
    create function {s}.json_build_object(text, text) returns json language sql as 'select {s}.trap(); select null::json';
    create function {s}.to_json(text) returns json language sql as 'select {s}.trap(); select null::json';
    create function {s}.quote_ident(name) returns text language sql as 'select {s}.trap(); select ''''';
    create function {s}.length(name) returns integer language sql as 'select {s}.trap(); select 1';
    create function {s}.pg_extension_config_dump(text, text) returns void language sql as 'select {s}.trap()';
    create function {s}.eq(oid, regclass) returns boolean language sql as 'select {s}.trap(); select true';
    create operator {s}.= (leftarg = oid, rightarg = regclass, function = {s}.eq);
    create function {s}.eq(oid, regprocedure) returns boolean language sql as 'select {s}.trap(); select true';
    create operator {s}.= (leftarg = oid, rightarg = regprocedure, function = {s}.eq);
    create function {s}.eq(text[], text[]) returns boolean language sql as 'select {s}.trap(); select true';
    create operator {s}.&& (leftarg = text[], rightarg = text[], function = {s}.eq);
$$ as code;
select format('set role intruder; %s reset role', replace(code, '{s}', 'public')) as set_in_public,
       format('set role intruder; %s reset role', replace(code, '{s}', 'api')) as set_in_api from trap \gset
-- Finds objects of the extension that refer to an object of the intruder. Such a reference would be
-- permanent.
select $$
    set search_path = pg_catalog;
    select pg_describe_object(d.classid, d.objid, d.objsubid), 'means', pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
    from pg_depend d left join pg_proc p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
    left join pg_operator o on d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid
    where 'intruder'::regrole in (p.proowner, o.oprowner)
      and not exists (select from pg_proc i where d.classid = 'pg_proc'::regclass and i.oid = d.objid and i.proowner = 'intruder'::regrole)
      and not exists (select from pg_operator i where d.classid = 'pg_operator'::regclass and i.oid = d.objid and i.oprowner = 'intruder'::regrole)
    order by 1, 3;
    reset search_path
$$ as led_astray \gset

\echo -- created in a schema where the intruder may create
create database hostile template template0;
\c hostile
set client_min_messages = warning;
grant create on schema public to intruder;
:set_in_public;
create extension pg_webhook;
show search_path;
:led_astray;
-- Every table of the extension has a replica identity (see api_arm).
select c.oid::regclass from pg_class c
where c.relnamespace = 'webhook'::regnamespace and c.relkind in ('r', 'p') and c.relreplident <> 'f'
  and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary);
create table t (id int primary key, a text);
select noun from webhook_watch('t', columns => '{id,a}');
select id > 0 from webhook_subscribe('https://example.com', events => '{t.*}');
insert into t values (1, 'x');
update t set a = 'y';
select webhook_backfill(1, 't', 'id = 1') > 0;
select webhook.backfill_step(1, 10);
select type from webhook.event order by id;
select count(*) from webhook.delivery;
select count(*) from webhook_check();
select webhook_openapi() is not null, webhook_asyncapi() is not null;
select webhook_erase('t', '1');
select webhook_grant('intruder', 'subscriber');
select rolsuper from pg_roles where rolname = 'intruder';
\c regress
drop database hostile;

\echo -- updated, in another schema
create database hostile template template0;
\c hostile
set client_min_messages = warning;
create schema api;
grant create, usage on schema api to intruder;
create extension pg_webhook version '0.2.0' schema api;
:set_in_api;
set search_path = api, public;
alter extension pg_webhook update;
show search_path;
:led_astray;
create table public.t (id int primary key, a text);
select noun from api.webhook_watch('t');
insert into t values (1, 'x');
select type from webhook.event order by id;
select count(*) from api.webhook_check();
select distinct p.pronamespace::regnamespace from pg_proc p where p.proname like 'webhook\_%';
select rolsuper from pg_roles where rolname = 'intruder';
\c regress
drop database hostile;
drop role intruder;

\echo -- in a database of another encoding: a script must be readable there
select file from pg_config c, lateral pg_ls_dir(c.setting || '/extension') file
where c.name = 'SHAREDIR' and file ~ '^pg_webhook--.*0\.2\..*\.sql$'
  and convert_from(pg_read_binary_file(c.setting || '/extension/' || file), 'UTF8') ~ '[^\x01-\x7F]';
create database euc_jp template template0 encoding 'EUC_JP' lc_collate 'C' lc_ctype 'C';
\c euc_jp
set client_encoding = 'UTF8';
create extension pg_webhook;
create table customer (id int primary key, name text);
select noun from webhook_watch('customer');
insert into customer values (1, '東京');
select table_name, payload from webhook.event where type = 'customer.created';
select webhook_subscribe('https://example.com', retry => '{-1s}');
\c regress
drop database euc_jp;
