-- The documentation of events is made from the system catalog: descriptions, schemas, examples,
-- documents.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
\pset format unaligned
\pset tuples_only on
create type mood as enum ('sad', 'it''s ok');
create domain share as numeric(5,2) not null check (value between 0 and 100);
create type address as (street text, number int);
create table thing (
    id bigint primary key, state text not null check (state in ('new', 'paid')), amount numeric check (amount > 0), price numeric(10,2) not null,
    count smallint check (count >= 1 and count < 10), share share, mood mood, name varchar(20) not null check (name <> ''), code char(2),
    place address, tags text[], at timestamptz not null, day date, body jsonb, ratio real check (ratio > 0.1), secret text);
comment on table thing is 'What we "sell".';
comment on column thing.amount is 'How many, in "pieces"';
select noun from webhook_watch('thing', exclude => '{secret}');

\echo -- descriptions of the event types
select type, relation, description from webhook.event_type order by type;
\echo -- the schema of each column
select p.key, p.value from json_each(webhook_event_schema('thing.created') #> '{anyOf,0,properties}') p;
select webhook_event_schema('thing.created') #> '{anyOf,0,required}';
select webhook_event_schema('thing.created') #> '{anyOf,1}';
select webhook_event_schema('thing.truncated');
select webhook_event_schema('thing.snapshot')::jsonb - 'title' = webhook_event_schema('thing.created')::jsonb - 'title';
\echo -- an example
select webhook_event_example('thing.created');

\echo -- the documentation follows the system catalog: columns are renamed, added and made
\echo -- nullable; values are no longer certain
alter table thing rename secret to hidden;
alter table thing rename id to number;
alter table thing drop column body, drop column tags, alter column state drop not null, add column added uuid;
alter table thing drop constraint thing_amount_check, add constraint amount_is_positive check (amount > 0) not valid;
comment on column thing.amount is null;
comment on table thing is 'Sold.';
select string_agg(p.key, ' ') from json_each(webhook_event_schema('thing.created') #> '{anyOf,0,properties}') p;
select p.value from json_each(webhook_event_schema('thing.created') #> '{anyOf,0,properties}') p where p.key in ('state', 'amount');
select webhook_openapi() #>> '{webhooks,thing.created,post,description}';

\echo -- a column of a child table may be null although the column of its parent may not
create table parent (id int primary key, note text not null);
create table child () inherits (parent);
select noun from webhook_watch('parent');
select webhook_event_schema('parent.created') #> '{anyOf,0,properties,note}';
-- Since Postgres 18, a child table cannot drop NOT NULL from an inherited column.
do $$ begin alter table child alter column note drop not null; exception when invalid_table_definition then null; end $$;
select (webhook_event_schema('parent.created') #>> '{anyOf,0,properties,note,type}')
       = (select case when a.attnotnull then 'string' else '["string", "null"]' end from pg_attribute a where a.attrelid = 'child'::regclass and a.attname = 'note');

\echo -- the result of a payload function is unknown; two tables may emit the same event type
create function thing_json(thing) returns jsonb language sql return to_jsonb($1.number);
select noun from webhook_watch('thing', payload => 'thing_json');
select webhook_event_schema('thing.created');
create table other (id int primary key);
select noun from webhook_watch('other', noun => 'parent', verbs => '{"insert":"created"}');
select json_array_length(webhook_event_schema('parent.created') -> 'anyOf'), description from webhook.event_type where type = 'parent.created';

\echo -- descriptions entered by hand stay
update webhook.event_type set description = 'Ours' where type = 'parent.deleted';
insert into webhook.event_type (type, description, data_schema, example)
    values ('invoice.paid', 'By hand', '{"type":"object","properties":{"no":{"type":"string"}}}', '{"no":"2026-17"}'), ('parent.updated2', null, null, null);
insert into webhook.event_type (type, description) values ('late.created', 'Before the watch');
create table late (id int);
select noun from webhook_watch('late');
select noun from webhook_watch('parent');
select type, relation, description from webhook.event_type where description in ('Ours', 'By hand', 'Before the watch') order by type;
-- They outlive the watch; an event type without a description is removed with it.
update webhook.event_type set example = '{"id":7}' where type = 'late.deleted';
select webhook_unwatch('late');
select type, relation, description, example from webhook.event_type where type ~ '^late' order by type;
select noun from webhook_watch('late');
select type, relation, description, example from webhook.event_type where type ~ '^late' order by type;
select webhook_event_schema('invoice.paid'), webhook_event_example('invoice.paid');
select webhook_event_schema('parent.updated2'), webhook_event_example('parent.updated2');

\echo -- the documents
select d.key, left(d.value::text, 40) from json_each(webhook_openapi()) d where d.key <> 'info';
select i.key, case i.key when 'version' then length(i.value #>> '{}')::text else i.value::text end from json_each(webhook_openapi() -> 'info') i;
select webhook_openapi() #> '{webhooks,invoice.paid,post}';
select webhook_openapi() #> '{components,schemas,invoice.paid}';
select webhook_openapi() #> '{components,responses}';
select k from json_object_keys(webhook_openapi('{invoice.*,thing.updated,nothing.here}') -> 'webhooks') k;
select k from json_object_keys(webhook_asyncapi('{thing.updated}') #> '{components,messages}') k;
select webhook_openapi('{}') -> 'webhooks', (select count(*) from json_object_keys(webhook_openapi(null) -> 'webhooks')) = (select count(*) from webhook.event_type);
select webhook_openapi('{late.*}') #> '{webhooks,late.updated,post,requestBody,content,application/json,example}';
select d.key from json_each(webhook_asyncapi()) d;
select webhook_asyncapi() #> '{components,messages,invoice.paid}';
select webhook_asyncapi() -> 'operations', webhook_asyncapi() #> '{channels,webhooks,messages,invoice.paid}';

\echo -- roles that may read them
create role regress_doc_pub; create role regress_doc_sub; create role regress_doc_read; create role regress_doc_adm; create role regress_doc_none;
select webhook_grant('regress_doc_pub', 'publisher'), webhook_grant('regress_doc_sub', 'subscriber'), webhook_grant('regress_doc_read', 'reader'), webhook_grant('regress_doc_adm', 'admin');
set local role regress_doc_pub; select json_typeof(webhook_openapi()), json_typeof(webhook_asyncapi()), json_typeof(webhook_event_schema('invoice.paid')), json_typeof(webhook_event_example('invoice.paid'));
set local role regress_doc_sub; select json_typeof(webhook_openapi()), json_typeof(webhook_asyncapi()), string_agg(type, ' ' order by type) from webhook.event_type;
set local role regress_doc_read; select json_typeof(webhook_openapi()), json_typeof(webhook_asyncapi());
set local role regress_doc_adm; select json_typeof(webhook_openapi()), json_typeof(webhook_asyncapi());
update webhook.event_type set data_schema = '{}', example = '1' where type = 'invoice.paid';
savepoint a;
set local role regress_doc_none; select webhook_openapi();
rollback to a;
reset role;

\echo -- mistakes
savepoint a; select webhook_event_schema('nothing.known'); rollback to a;
select webhook_event_example(null); rollback to a;
insert into webhook.event_type (type, data_schema) values ('a.b', '"text"'); rollback to a;
\pset format aligned
\pset tuples_only off
rollback;
