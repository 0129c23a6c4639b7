-- A subscription gets the events of its owner and announcements, unless a role that can read every
-- event has chosen more.
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
    select regexp_replace(regexp_replace(r, 'subscription \d+', 'subscription N'), 'evt_[0-9a-f]+', 'evt_N', 'g') from by_hand.tries(who, variadic statements) r
$$;
create function t.id(wanted text) returns bigint language sql stable security definer as $$ select id from webhook.subscription where name = wanted order by id limit 1 $$;
create role regress_anna; create role regress_bert; create role regress_team; create role regress_rea; create role regress_adm;
grant regress_team to regress_anna, regress_rea;
select count(webhook_grant(r::regrole, 'subscriber')) from unnest(array['regress_anna', 'regress_bert', 'regress_team', 'regress_rea']) r;
select webhook_grant('regress_rea', 'reader'), webhook_grant('regress_adm', 'admin'), webhook_grant('regress_adm', 'subscriber');

\echo -- who may choose which scope
select t.tries('regress_anna', 'select webhook_subscribe(''https://example.com'', name => ''anna'')', 'select webhook_subscribe(''https://example.com'', scope => ''own'', name => ''anna2'')',
    'select webhook_subscribe(''https://example.com'', scope => ''all'')', 'select webhook_subscribe(''https://example.com'', scope => ''some'')',
    'select webhook_alter(t.id(''anna''), scope => ''all'')', 'select webhook_alter(t.id(''anna''), scope => ''own'')');
select t.tries('regress_bert', 'select webhook_subscribe(''https://example.com'', name => ''bert'')');
select t.tries('regress_rea', 'select webhook_subscribe(''https://example.com'', name => ''rea'')', 'select webhook_subscribe(''https://example.com'', name => ''rea own'', scope => ''own'')',
    'select webhook_subscribe(''https://example.com'', name => ''rea team'', owner => ''regress_team'', scope => ''all'')');
select t.tries('regress_adm', 'select webhook_subscribe(''https://example.com'', name => ''adm'')', 'select webhook_subscribe(''https://example.com'', name => ''seven'', owner => ''t7'')',
    'select webhook_subscribe(''https://example.com'', name => ''seven all'', owner => ''t7'', scope => ''all'')',
    'select webhook_subscribe(''https://example.com'', name => ''adm'', owner => ''regress_bert'')');
select webhook.act_for('t7', null);
select t.tries('regress_adm', 'select webhook_subscribe(''https://example.com'', name => ''token'')', 'select webhook_subscribe(''https://example.com'', scope => ''all'')',
    'select webhook_alter(t.id(''token''), scope => ''all'')', 'select webhook_alter(t.id(''seven all''), scope => ''all'', timeout => ''2s'')');
select webhook.act_for(null, null);
select name, owner, scope from webhook.subscription order by id;

\echo -- another owner does not get the scope of the former one, unless the caller chooses so
select t.tries('regress_rea', 'select webhook_alter(t.id(''rea''), owner => ''regress_team'')');
select t.tries('regress_anna', 'select webhook_alter(t.id(''rea''), owner => ''regress_anna'')');
select name, owner, scope, scope_since is not null as has_changed from webhook.subscription where name = 'rea';
select t.tries('regress_adm', 'select webhook_alter(t.id(''seven all''), owner => ''t8'')', 'select webhook_alter(t.id(''adm''), owner => ''t7'', name => ''adm7'', scope => ''all'')',
    'select webhook_alter(t.id(''adm7''), owner => ''regress_adm'')');
select name, owner, scope from webhook.subscription where name in ('rea', 'seven all', 'adm7') order by id;
select (webhook_alter(t.id('adm7'), scope => 'all')).scope;
\echo -- the check lists owners that could not choose their scope
select (webhook_alter(t.id('seven'), scope => 'all')).scope;
select problem, detail, repair from webhook_check() where problem like '%all owners%' order by 2;
select (webhook_alter(t.id('seven'), scope => 'own')).scope;
\echo -- a change is an event with the former owner and scope, and belongs to neither of two owners
delete from webhook.event where xid = webhook.current_xid();
select (webhook_alter(t.id('token'), scope => 'own', timeout => '3s')).timeout, (webhook_alter(t.id('token'), owner => 't9')).owner, (webhook_alter(t.id('token'), scope => 'all')).scope;
select type, owner, payload ->> 'owner' as now, payload ->> 'scope' as scope, payload #>> '{previous,owner}' as was, payload #>> '{previous,scope}' as was_scope
from webhook.event where type = 'webhook.subscription.updated' and xid = webhook.current_xid() order by id;
select webhook_unsubscribe(t.id('token'));

\echo -- one rule: which events are in whose scope
delete from webhook.event where xid = webhook.current_xid();
insert into webhook.event_type (type, internal) values ('fraud.scored', true), ('order.paid', false);
insert into webhook.event (type, key, payload, owner) values
    ('order.paid', 'own', '{"n": 1}', 't7'), ('order.paid', 'other', '{"n": 2}', 't8'), ('order.paid', 'no owner', '{"n": 3}', null), ('order.paid', 'everyone', '{"n": 4}', '*'),
    ('fraud.scored', 'internal', '{}', 't7'), ('fraud.scored', 'internal to all', '{}', '*');
insert into webhook.event (type, key, payload, owner, subscription_id) values
    ('webhook.ping', 'ping', '{}', null, t.id('seven')), ('order.snapshot', 'row of own', '{}', 't7', t.id('seven')), ('order.snapshot', 'row of other', '{}', 't8', t.id('seven'));
create view t.own as select * from webhook.event where xid = webhook.current_xid() and (type like 'order.%' or type like 'fraud.%' or type = 'webhook.ping');
select e.key, s.name, webhook.scope_mismatch(e, s) as scope, regexp_replace(webhook.mismatch(e, s), '\d+', 'N') as mismatch
from webhook.event e cross join webhook.subscription s
where e.xid = webhook.current_xid() and e.key in (select key from t.own) and s.name in ('seven', 'adm7') order by e.id, s.name;
\echo -- pending deliveries come from the indexes on patterns and owners, and are the same
update webhook.cursor set snapshot = '3:3:';
update webhook.subscription set created_snapshot = '3:3:';
select count(*) from ((select u.sequence, u.subscription_id from webhook.unresolved u join t.own o on o.id = u.sequence)
    except (select e.id, s.id from t.own o join webhook.event e on e.id = o.id and e.xid = o.xid cross join webhook.subscription s where webhook.mismatch(e, s) is null)) x;
select count(*) from ((select e.id, s.id from t.own o join webhook.event e on e.id = o.id and e.xid = o.xid cross join webhook.subscription s where webhook.mismatch(e, s) is null)
    except (select u.sequence, u.subscription_id from webhook.unresolved u)) x;
select s.name, string_agg(o.key, ', ' order by o.id) from webhook.search_pending() p join t.own o on o.id = p.sequence join webhook.subscription s on s.id = p.subscription_id
where p.is_pending and s.owner like 't_' group by s.name order by 1;
set local enable_seqscan = off;
create function t.scans(query text) returns setof text language plpgsql as $$
declare line text;
begin
    for line in execute 'explain (costs off) ' || query loop
        if line ~ ' on (subscription|subscription_\w+_idx)( |$)' then return next regexp_replace(line, '^[ >-]*| s(_\d)?$', '', 'g'); end if;
    end loop;
end
$$;
select distinct t.scans('select from webhook.unresolved u where u.sequence = 1') as scan order by scan;
set local enable_seqscan = on;

\echo -- a token of the owner reads and redelivers only these
create function t.sees(who text) returns setof text language plpgsql as $$
begin
    perform webhook.act_for(who, null);
    set local role regress_adm;
    return query select 'matching: ' || string_agg(m.key, ', ' order by m.sequence) from webhook.matching_event m where m.key <> m.subscription_id::text
        union all select 'delivered: ' || string_agg(distinct m.key, ', ') from webhook.delivered_event m where m.key <> m.subscription_id::text
        union all select 'delivery: ' || string_agg(distinct d.key, ', ') from webhook.delivery d where d.key <> d.subscription_id::text
        union all select 'recorded: ' || string_agg(d.key, ', ' order by d.sequence) from webhook.recorded_delivery d
        union all select 'attempts: ' || count(*) from webhook.attempt
        union all select 'dry run: ' || string_agg(d.key, ', ' order by d.sequence) from webhook.subscription s cross join lateral webhook_dry_run(s.id, now() - interval '1 hour') d where d.key !~ '^\d+$';
    reset role;
    perform webhook.act_for(null, null);
end
$$;
select t.sees('t7');
select t.sees('t8');
create function t.event(wanted text) returns text language sql stable security definer as $$ select webhook.public_id(e.id, e.created_at) from t.own e where e.key = wanted $$;
create function t.redeliver(event_key text, subscription text) returns void language sql as $$ select webhook_redeliver(t.event(event_key), t.id(subscription)) $$;
update webhook.cursor set snapshot = pg_current_snapshot();
\echo -- an admin redelivers any event in the scope; an owner only what matches or was delivered
select (webhook_alter(t.id('seven'), events => '{fax.*}')).events;
select t.tries('regress_adm', 'select t.redeliver(''own'', ''seven'')', 'select t.redeliver(''other'', ''seven'')', 'select t.redeliver(''internal'', ''seven'')', 'select t.redeliver(''row of other'', ''seven'')');
delete from webhook.queue;
select webhook.act_for('t7', null);
select t.tries('regress_adm', 'select t.redeliver(''own'', ''seven'')', 'select t.redeliver(''other'', ''seven'')', 'select t.redeliver(''internal'', ''seven'')', 'select t.redeliver(''ping'', ''seven'')');
\echo -- a replay of other patterns adds only events that match the patterns of the subscription too
set local role regress_adm;
select webhook_replay(t.id('seven'), '-infinity', 'infinity', '{order.*}');
reset role;
select webhook.act_for(null, null);
set local role regress_adm;
select webhook_replay(t.id('seven'), '-infinity', 'infinity', '{order.*,fraud.*}');
reset role;
select o.key from webhook.queue q join t.own o on o.id = q.event_id where q.subscription_id = t.id('seven') order by 1;

\echo -- after a transfer, the queue holds what is in scope, and the log starts again
select (webhook_alter(t.id('seven'), events => '{*}')).events;
delete from webhook.queue;
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state)
    select t.id('seven'), o.id, o.xid, o.slot, 'backlog' from t.own o where o.key in ('own', 'everyone');
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, response)
    select o.id, o.xid, t.id('seven'), clock_timestamp(), 1, o.slot, 1, 500, 'http_error', 'echo of t7' from t.own o where o.key in ('own', 'everyone');
insert into webhook.given_up (subscription_id, event_id, event_slot, given_up_at) select t.id('seven'), o.id, o.slot, now() from t.own o where o.key in ('own', 'everyone');
select t.sees('t7');
select (webhook_alter(t.id('seven'), owner => 't8')).owner;
select o.key from webhook.queue q join t.own o on o.id = q.event_id where q.subscription_id = t.id('seven') order by 1;
select o.key from webhook.given_up g join t.own o on o.id = g.event_id where g.subscription_id = t.id('seven') order by 1;
select t.sees('t7');
select t.sees('t8');
select webhook.act_for('t8', null);
select t.tries('regress_adm', 'select t.redeliver(''own'', ''seven'')');
select webhook.act_for(null, null);
\echo -- … which readers still see
set local role regress_rea;
select count(*) from webhook.attempt where response = 'echo of t7';
reset role;
rollback;
