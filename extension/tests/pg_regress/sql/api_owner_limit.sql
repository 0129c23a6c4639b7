-- What an operator enforces on owners cannot be chosen away.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create schema t;
grant usage on schema t to public;
create role regress_anna; create role regress_bert; create role regress_adm;
select webhook_grant('regress_anna', 'subscriber'), webhook_grant('regress_bert', 'subscriber'), webhook_grant('regress_adm', 'admin');
create function t.id(wanted text) returns bigint language sql stable security definer as $$ select id from webhook.subscription where name = wanted $$;
set local role regress_anna;
select count(*) from webhook_subscribe('https://example.com/', name => 'old', rate_limit => 500);

\echo -- only admins set limits
select by_hand.tries('regress_anna', variadic array['insert into webhook.owner_limit (owner) values (''regress_anna'')', 'select from webhook.owner_limit']);
set local role regress_adm;
insert into webhook.owner_limit (owner, rate_limit, verification_required) values ('*', 50, true);
insert into webhook.owner_limit (owner, rate_limit, verification_required) values ('regress_bert', 2, false), ('tenant-7', 0.5, false);
select owner, owner_role::regrole, rate_limit, verification_required from webhook.owner_limit order by 1;
reset role;
select by_hand.fails($$insert into webhook.owner_limit (owner, rate_limit) values ('tenant-8', 0)$$);

\echo -- an owner cannot exceed them
select by_hand.tries('regress_anna', variadic array[
    'select webhook_subscribe(''https://example.com/'')',
    'select webhook_subscribe(''https://example.com/'', verification => ''ping'', rate_limit => 51)',
    'select webhook_alter(t.id(''old''), name => ''older'')',
    'select webhook_alter(t.id(''old''), verification => ''ping'')',
    'select webhook_alter(t.id(''old''), verification => ''ping'', rate_limit => 50)',
    'select webhook_alter(t.id(''old''), verification => ''none'')',
    'select webhook_alter(t.id(''old''), url => ''https://victim.example.com/'', verification => ''none'')',
    'select webhook_pause(t.id(''old''))']);
select by_hand.tries('regress_bert', variadic array['select webhook_subscribe(''https://example.com/'', name => ''bert'')',
    'select webhook_alter(t.id(''bert''), rate_limit => 2.5)', 'select webhook_alter(t.id(''bert''), rate_limit => 1)',
    'select webhook_alter(t.id(''bert''), clear => ''{rate_limit}'')']);
select s.name, s.rate_limit, s.verification from webhook.subscription s order by 1;

\echo -- a token of an owner neither
set local role regress_adm;
select by_hand.fails($$select webhook_subscribe('https://example.com/', name => 'seven', owner => 'tenant-7', rate_limit => 9)$$);
reset role;
select webhook.act_for('tenant-7', null);
select by_hand.tries('regress_adm', variadic array['select webhook_alter(t.id(''seven''), events => ''{order.*}'')', 'select webhook_alter(t.id(''seven''), clear => ''{rate_limit}'')']);
select webhook.act_for(null, null);
select s.rate_limit from webhook.subscription s where s.name = 'seven';

\echo -- admins may exceed them, and the check says so
set local role regress_adm;
select count(*) from webhook_subscribe('https://example.com/', name => 'own', rate_limit => 1000);
select (webhook_alter(t.id('bert'), rate_limit => 100)).rate_limit;
select c.problem, c.detail, c.repair from webhook_check() c where c.problem like '%limit%' order by c.detail;
select format('select count(*) from (%s) x', c.repair) from webhook_check() c where c.problem like '%limit%' order by c.detail \gexec
select count(*) from webhook_check() c where c.problem like '%limit%';
select s.name, s.rate_limit, s.verification from webhook.subscription s order by 1;

\echo -- a limit follows a role that is renamed, and not its name
reset role;
alter role regress_bert rename to regress_bertha;
create role regress_bert;
select webhook_grant('regress_bert', 'subscriber');
select by_hand.tries('regress_bertha', variadic array['select webhook_subscribe(''https://example.com/'', rate_limit => 3)']);
select by_hand.tries('regress_bert', variadic array['select webhook_subscribe(''https://example.com/'', verification => ''ping'', rate_limit => 3)']);
select webhook.follow_roles();
select owner from webhook.owner_limit order by 1;

\echo -- and another row may have the new name
insert into webhook.owner_limit (owner, rate_limit) values ('regress_cora', 1);
alter role regress_bertha rename to regress_cora;
select webhook.follow_roles();
select by_hand.tries('regress_cora', 'select webhook_subscribe(''https://example.com/'', rate_limit => 3)');

\echo -- no owner is called *
select by_hand.fails($$select webhook_subscribe('https://example.com/', owner => '*')$$);
rollback;
