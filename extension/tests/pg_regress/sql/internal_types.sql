-- Event types that owners do not see, and the types that are offered to them.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
\pset format unaligned
\pset tuples_only on
create role regress_sub; create role regress_pub; create role regress_rea; create role regress_adm;
select webhook_grant('regress_sub', 'subscriber'), webhook_grant('regress_pub', 'publisher'), webhook_grant('regress_rea', 'reader'), webhook_grant('regress_adm', 'admin');
create table visit (id int primary key, tenant text);
create table fraud (id int primary key, tenant text, score int);
create table setup (id int primary key);
comment on table fraud is 'internal: fraud scores';
select noun from webhook_watch('visit', owner_column => 'tenant');
select noun from webhook_watch('fraud', owner_column => 'tenant');
select noun from webhook_watch('setup');
insert into webhook.event_type (type, description) values ('news.published', 'By hand'), ('secret.thing', 'By hand and internal');
select count(*) from webhook_subscribe('https://example.com');

\echo -- each change of internal is an event, in commit order with the events of the type
delete from webhook.event where xid = webhook.current_xid();
set local role regress_adm;
update webhook.event_type set internal = true where type like 'fraud.%' or type = 'secret.thing';
update webhook.event_type set description = 'By hand and internal.' where type = 'secret.thing';
insert into webhook.event_type (type, internal) values ('gone.soon', true), ('never.internal', false);
delete from webhook.event_type where type in ('gone.soon', 'never.internal');
reset role;
select type, owner, key, payload from webhook.event where xid = webhook.current_xid() and type like 'webhook.event_type.%' order by id;
\echo -- … except for rows of a dump
delete from webhook.event where xid = webhook.current_xid();
update webhook.cursor set restored_at = now();
insert into webhook.event_type (type, internal) values ('from.dump', true);
delete from webhook.event_type where type = 'from.dump';
select count(*) from webhook.event where type = 'webhook.event_type.updated';
update webhook.cursor set restored_at = null;

\echo -- who is offered what
create function pg_temp.sees(who text, tenant text default null) returns setof text language plpgsql as $$
begin
    perform webhook.act_for(tenant, null);
    execute format('set local role %I', who);
    return query select concat_ws(' ', 'types of', who, tenant) || ': ' || string_agg(t, ' ' order by t) from webhook.offered_types() t;
    return query select 'table: ' || string_agg(e.type, ' ' order by e.type) from webhook.event_type e;
    return query select 'described: ' || string_agg(e.type, ' ' order by e.type) from webhook.described_event_types() e;
    return query select 'openapi: ' || string_agg(k, ' ' order by k) from json_object_keys(webhook_openapi() -> 'webhooks') k;
    return query select 'asyncapi: ' || string_agg(k, ' ' order by k) from json_object_keys(webhook_asyncapi() #> '{components,messages}') k;
    return query select 'internal words: ' || ((webhook_openapi()::text || webhook_asyncapi()::text) ~ 'fraud|secret.thing|By hand and internal')::text;
    reset role;
    perform webhook.act_for(null, null);
end
$$;
select pg_temp.sees('regress_sub');
select pg_temp.sees('regress_adm', 't7');
select pg_temp.sees('regress_rea');
select pg_temp.sees('regress_adm');
\echo -- publishers see all types, whose tables they watch
set local role regress_pub;
select string_agg(k, ' ' order by k) from json_object_keys(webhook_openapi() -> 'webhooks') k;
reset role;
\echo -- a type that is not offered does not exist
select by_hand.tries('regress_sub', 'select webhook_event_schema(''visit.created'')', 'select webhook_event_schema(''visit.snapshot'')', 'select webhook_event_example(''news.published'')',
    'select webhook_event_schema(''fraud.created'')', 'select webhook_event_example(''fraud.created'')', 'select webhook_event_schema(''fraud.snapshot'')',
    'select webhook_event_schema(''setup.created'')', 'select webhook_event_schema(''setup.snapshot'')', 'select webhook_event_schema(''secret.thing'')', 'select webhook_event_schema(''no.such'')', 'select webhook_event_schema(null)',
    'select webhook.described_types(true)', 'select webhook.documented_schema(''fraud.created'', true)', 'select webhook.documented_openapi(''{*}'', true)');
\echo -- and a definer function sees what its owner sees
create function pg_temp.types() returns bigint language sql security definer as $$ select count(*) from json_object_keys(webhook_openapi() -> 'webhooks') $$;
grant usage on schema public to regress_sub;
alter function pg_temp.types() owner to regress_sub;
select pg_temp.types() = 4;

\echo -- what remains of a watch without owners is not offered
update webhook.event_type set description = 'The first step of the setup.' where type = 'setup.created';
select webhook_unwatch('setup');
select type, relation from webhook.event_type where type like 'setup.%';
set local role regress_sub;
select string_agg(t, ' ' order by t) from webhook.offered_types() t;
reset role;

\echo -- internal outlives the watch
select webhook_unwatch('fraud');
select type, internal from webhook.event_type where type like 'fraud.%' order by 1;
select noun from webhook_watch('fraud', owner_column => 'tenant');
select type, internal from webhook.event_type where type like 'fraud.%' order by 1;

\echo -- a new type of a table is internal if all others are
create table salary (id int primary key, tenant text);
select noun from webhook_watch('salary', verbs => '{"insert":"created"}', owner_column => 'tenant');
update webhook.event_type set internal = true where type = 'salary.created';
select noun from webhook_watch('salary', owner_column => 'tenant');
select noun from webhook_watch('salary', noun => 'wage', owner_column => 'tenant');
select type, internal from webhook.event_type where type ~ '^(salary|wage)\.' order by 1;
update webhook.event_type set internal = false where type = 'wage.created';
select noun from webhook_watch('salary', noun => 'pay', owner_column => 'tenant');
select type, internal from webhook.event_type where type like 'pay.%' order by 1;
rollback;
