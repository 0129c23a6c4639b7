-- Options that an admin has locked, which the owner of the subscription cannot change.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
\pset format unaligned
\pset tuples_only on
create schema t;
grant usage on schema t to public;
create function t.id(wanted text) returns bigint language sql stable security definer as $$ select id from webhook.subscription where name = wanted $$;
create role regress_anna; create role regress_adm;
select webhook_grant('regress_anna', 'subscriber'), webhook_grant('regress_adm', 'admin'), webhook_grant('regress_adm', 'subscriber');

\echo -- only admins lock
select by_hand.tries('regress_anna', 'select webhook_subscribe(''https://example.com'', name => ''anna'', locked => ''{}'')',
    'select webhook_subscribe(''https://example.com'', locked => ''{url}'')', 'select webhook_alter(t.id(''anna''), locked => ''{url}'')',
    'select webhook_alter(t.id(''anna''), locked => ''{}'')');
select by_hand.tries('regress_adm', 'select webhook_alter(t.id(''anna''), locked => ''{name}'')', 'select webhook_alter(t.id(''anna''), locked => ''{null}'')',
    'select webhook_subscribe(''https://example.com/7'', name => ''seven'', owner => ''t7'', events => ''{order.*}'', filter => ''$.data.n > 1'', locked => ''{url,filter,url,events}'')');
select name, locked from webhook.subscription order by 1;

\echo -- the owner cannot change them, and can change everything else
select webhook.act_for('t7', null);
select by_hand.tries('regress_adm',
    'select webhook_alter(t.id(''seven''), url => ''https://evil.example.com/'')', 'select webhook_alter(t.id(''seven''), events => ''{*}'')',
    'select webhook_alter(t.id(''seven''), filter => ''$.data.n > 0'')', 'select webhook_alter(t.id(''seven''), clear => ''{filter}'')',
    'select webhook_alter(t.id(''seven''), locked => ''{}'')', 'select webhook_alter(t.id(''seven''), locked => ''{url}'', url => ''https://evil.example.com/'')',
    'select webhook_alter(t.id(''seven''), timeout => ''3s'', url => ''https://example.com/7'', events => ''{order.*}'', locked => ''{events,filter,url}'')');
\echo -- … and end the subscription
savepoint a;
select by_hand.tries('regress_adm', 'select webhook_unsubscribe(t.id(''seven''))');
rollback to a;
\echo -- an admin can change and unlock them
select webhook.act_for(null, null);
select by_hand.tries('regress_adm', 'select webhook_alter(t.id(''seven''), url => ''https://example.com/8'')', 'select webhook_alter(t.id(''seven''), locked => ''{url}'')');
select webhook.act_for('t7', null);
select by_hand.tries('regress_adm', 'select webhook_alter(t.id(''seven''), events => ''{*}'')', 'select webhook_alter(t.id(''seven''), url => ''https://example.com/9'')');
select webhook.act_for(null, null);
select url, events, filter, locked from webhook.subscription where name = 'seven';
\echo -- the table
select by_hand.fails($$update webhook.subscription set locked = '{name}'$$);
rollback;
