-- Owners of subscriptions: owners and their members see and change their own, readers see all,
-- admins change all.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create schema t;
grant usage on schema t to public;
create function t.tries(who text, variadic statements text[]) returns setof text language sql as $$
    select regexp_replace(r, '(subscription|backfill) \d+', '\1 N') from by_hand.tries(who, variadic statements) r
$$;
create role regress_anna; create role regress_bert; create role regress_team; create role regress_rea; create role regress_dis; create role regress_adm;
create role "regress Odd ""Role""";
create role regress_carl in role regress_team;
select count(webhook_grant(r::regrole, 'subscriber')) from unnest(array['regress_anna', 'regress_bert', 'regress_team', '"regress Odd ""Role"""']) r;
select webhook_grant('regress_rea', 'reader'), webhook_grant('regress_dis', 'dispatcher'), webhook_grant('regress_adm', 'admin');

\echo -- a subscription belongs to the role that creates it
set local role regress_anna;
select count(*) from webhook_subscribe('https://example.com/anna', name => 'anna');
set local role regress_bert;
select count(*) from webhook_subscribe('https://example.com/bert', name => 'bert');
set local role regress_carl;
select count(*) from webhook_subscribe('https://example.com/carl', name => 'carl');
select count(*) from webhook_subscribe('https://example.com/team', name => 'team', owner => 'regress_team');
set local role "regress Odd ""Role""";
select count(*) from webhook_subscribe('https://example.com/odd', name => 'odd');
reset role;
select count(*) from webhook_subscribe('https://example.com/tenant', name => 'tenant', owner => 'tenant-7; drop table "x"');
select name, owner from webhook.subscription order by id;

create function t.id(wanted text) returns bigint language sql stable security definer as $$ select id from webhook.subscription where name = wanted $$;
create function t.backfill_of(wanted text) returns bigint language sql stable security definer as
    $$ select b.id from webhook.backfill b join webhook.subscription s on s.id = b.subscription_id where s.name = wanted $$;
\echo -- deliveries, attempts and a backfill for each
insert into webhook.event (id, type, payload, owner) select -s.id, 'order.created', '{}', s.owner from webhook.subscription s;
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
    select -s.id, webhook.current_xid(), s.id, now(), 1, webhook.ring_slot(now()), 1, 200, 'succeeded' from webhook.subscription s;
create table orders (id int primary key);
insert into webhook.backfill (subscription_id, relation, requested_by, search_path) select s.id, 'orders', 'postgres', 'public' from webhook.subscription s;
select webhook_rotate_secret(t.id('anna')) <> '', (select webhook_alter(t.id('anna'), signature => '{standard,standard-v1a}')).signature;

create function t.sees(who text) returns text language plpgsql as $$
declare
    seen text;
begin
    execute format('set local role %I', who);
    select format('%s: %s | stats %s | attempts %s | deliveries %s | backfills %s | keys %s', who,
        (select string_agg(name, ' ' order by id) from webhook.subscription), (select count(*) from webhook.subscription_stats),
        (select count(*) from webhook.attempt), (select count(*) from webhook.delivery where sequence < 0), (select count(*) from webhook.backfill),
        (select count(*) from webhook.public_key)) into seen;
    reset role;
    return seen;
end
$$;
select t.sees(r) from unnest(array['regress_anna', 'regress_bert', 'regress_carl', 'regress_team', 'regress Odd "Role"', 'regress_rea', 'regress_adm']) r;
set local role regress_dis;
select count(*) = (select count(*) from webhook.attempt) from webhook.subscription;
reset role;

\echo -- no call finds a subscription of another owner
select t.tries('regress_bert', variadic array[
    'select webhook_pause(t.id(''anna''))', 'select webhook_resume(t.id(''anna''))', 'select webhook_unsubscribe(t.id(''anna''))',
    'select webhook_alter(t.id(''anna''), url => ''https://example.com/bert'')', 'select webhook_alter(t.id(''anna''), owner => ''regress_bert'')',
    'select webhook_rotate_secret(t.id(''anna''))', 'select webhook_ping(t.id(''anna''))',
    'select webhook_redeliver(''evt_000000000000000'', t.id(''anna''))', 'select webhook_replay(t.id(''anna''), now() - interval ''1 day'')',
    'select webhook_dry_run(t.id(''anna''), now() - interval ''1 day'')',
    'select webhook_backfill_cancel(t.backfill_of(''anna''))', 'select webhook_pause(0)']);
\echo -- … and no query shows it
select t.tries('regress_bert', 'select from webhook.secret', 'select from webhook.event', 'select from webhook.queue', 'select from webhook.attempt_3',
    'update webhook.subscription set owner = ''regress_bert''', 'insert into webhook.attempt select * from webhook.attempt', 'select from webhook.sealing_key');
\echo -- … nor the events, event types, log and limits of others
insert into webhook.event_type (type, internal) values ('fraud.scored', true), ('order.created', false);
insert into webhook.owner_limit (owner, log_days) values ('regress_anna', 1), ('regress_bert', 2);
insert into webhook.event (type, key, payload, owner) values ('order.created', 'of anna', '{}', 'regress_anna'), ('order.created', 'of team', '{}', 'regress_team'), ('order.created', 'unowned', '{}', null),
    ('fraud.scored', 'internal', '{}', 'regress_bert'), ('order.created', 'everyone', '{}', '*');
create function t.sees_events(who text) returns text language plpgsql as $$
declare
    seen text;
begin
    execute format('set local role %I', who);
    select format('%s: %s | %s | log of %s', who, (select string_agg(e.key, ', ' order by e.sequence) from webhook.owned_event e where e.sequence > 0 and e.type not like 'webhook.%'),
        (select string_agg(o, ' ' order by o) from webhook.offered_types() o), (select string_agg(s.name, ' ' order by s.id) from webhook.visible_log v join webhook.subscription s on s.id = v.subscription_id)) into seen;
    reset role;
    return seen;
end
$$;
select t.sees_events(r) from unnest(array['regress_anna', 'regress_bert', 'regress_carl', 'regress_rea', 'regress_adm']) r;
create function t.event(wanted text) returns text language sql stable security definer as
    $$ select webhook.public_id(e.id, e.created_at) from webhook.event e where e.key = wanted and e.xid = webhook.current_xid() and e.type not like 'webhook.%' $$;
select regexp_replace(r, 'evt_[0-9a-f]+', 'evt_N', 'g') from t.tries('regress_bert', 'select webhook_redeliver(t.event(''of anna''), t.id(''bert''))', 'select webhook_redeliver(t.event(''unowned''), t.id(''bert''))',
    'select webhook_redeliver(t.event(''internal''), t.id(''bert''))', 'select webhook_redeliver(t.event(''everyone''), t.id(''anna''))', 'select webhook_alter(t.id(''bert''), scope => ''all'')',
    'select webhook_alter(t.id(''bert''), locked => ''{url}'')', 'select webhook_forget_owner(''regress_bert'')', 'select webhook.blank_events(''owner'', ''regress_anna'')', 'select from webhook.token',
    'select from webhook.portal_link', 'select from webhook.owner_limit', 'select webhook.create_token(''x'', sha256(''x''), ''regress_bert'', null, null)',
    'select webhook.create_portal_link(sha256(''x''), ''regress_bert'', ''regress_anna'', 5)', 'select webhook_emit(''order.created'', ''{}'', owner => ''regress_anna'')') r;
create function t.leaks(text) returns boolean language plpgsql cost 0.0000001 as $$ begin raise warning 'leaked %', $1; return true; end $$;
set local role regress_bert;
select count(*) from webhook.subscription where t.leaks(name);
select count(*) from webhook.subscription_stats where t.leaks(name);
reset role;

\echo -- a role may change its own subscriptions and those of its team
select t.tries('regress_carl', variadic array[
    'select webhook_pause(t.id(''team''))', 'select webhook_resume(t.id(''team''))',
    'select webhook_alter(t.id(''carl''), owner => ''regress_team'')', 'select webhook_alter(t.id(''carl''), owner => ''regress_anna'')',
    'select webhook_subscribe(''https://example.com'', owner => ''regress_anna'')', 'select webhook_subscribe(''https://example.com'', owner => ''no such role'')',
    'select webhook_subscribe(''https://example.com'', owner => '' '')', 'select webhook_unsubscribe(t.id(''team''))']);
\echo -- a definer function acts for its owner
create schema app authorization regress_anna;
set local role regress_anna;
create function app.pause(id bigint) returns void language sql security definer set search_path = public as 'select webhook_pause(id)';
grant usage on schema app to public;
reset role;
select t.tries('regress_bert', 'select app.pause(t.id(''anna''))', 'select app.pause(t.id(''bert''))');
\echo -- admins change everything, readers nothing
select t.tries('regress_adm', 'select webhook_pause(t.id(''anna''))', 'select webhook_alter(t.id(''tenant''), owner => ''tenant-8'')',
    'select webhook_unsubscribe(t.id(''bert''))');
select t.tries('regress_rea', 'select webhook_pause(t.id(''anna''))');
select name, owner, enabled from webhook.subscription order by id;
rollback;
