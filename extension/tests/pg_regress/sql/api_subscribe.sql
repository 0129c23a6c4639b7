-- The life of a subscription. The ids come from a sequence that other tests use too, so the output
-- shows none.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
\pset format unaligned
\pset tuples_only on

\echo -- the first subscription creates the checkpoint, for this cluster and database
delete from webhook.cursor;
select id as one, secret as first_secret from webhook_subscribe('https://example.com/hooks', name => 'one') \gset
select singleton, epoch, system_identifier = (select system_identifier from pg_control_system()),
       database_oid = (select oid from pg_database where datname = current_database())
from webhook.cursor;
\echo -- defaults; the secret has 32 bytes, and only webhook.secret holds it
select name, url, events, enabled, paused_reason, timeout, retry, max_in_flight, created_at = now(), updated_at = now()
from webhook.subscription where id = :one;
select :'first_secret' ~ '^whsec_[A-Za-z0-9+/]{43}=$', secret = :'first_secret', expires_at from webhook.secret where subscription_id = :one;
select count(distinct secret) from (select (webhook_subscribe('https://example.com')).secret from generate_series(1, 20)) s;
delete from webhook.subscription where id <> :one;

\echo -- the checkpoint and the subscription treat this transaction as unseen, although others have
\echo -- ended meanwhile
select not pg_visible_in_snapshot(pg_current_xact_id(), snapshot) from webhook.cursor;
select not pg_visible_in_snapshot(pg_current_xact_id(), created_snapshot) from webhook.subscription where id = :one;

\echo -- the daemon is notified through the outbox
select type, key = :'one', payload->>'name', payload->>'enabled' from webhook.event where key = :'one' order by id;

\echo -- all options; any number of subscriptions may be unnamed; names are unique per owner
select id as two, secret as second_secret from webhook_subscribe(
    url => 'http://[::1]:8080/a?b=c', events => '{order.created,sales.*,*,webhook.subscription.updated}', name => 'zwei ☃',
    secret => 'whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=', timeout => '1 ms', retry => '{}', max_in_flight => 4096,
    enabled => false) \gset
select name, url, events, enabled, timeout, retry, max_in_flight from webhook.subscription where id = :two;
select :'second_secret';
select count(*) from (select webhook_subscribe('https://example.com') from generate_series(1, 2)) s;
savepoint s;
select webhook_subscribe('https://example.com', name => 'one');
\echo :SQLSTATE
rollback to s;
select webhook_alter(:two, name => 'one');
\echo :SQLSTATE
rollback to s;
select count(*) from webhook.cursor;

\echo -- a URL is stored in the form that is called
create function pg_temp.kept(url text) returns text language plpgsql as $$
begin
    return (select s.url from webhook_alter((select w.id from webhook_subscribe(url) w)) s);
end
$$;
select url, pg_temp.kept(url)
from unnest('{https://example.com,HTTPS://EXAMPLE.com:443/A/../b,http://example.com:80,https://example.com:8443/x?y=%20,https://bücher.example/ö,http://0x7f.1/,http://2130706433,https://example.com./,https://example.com/a@b?c@d}'::text[]) url;

\echo -- alter: null changes nothing; every option; the result is the row
select name, url, events, enabled, timeout, retry, max_in_flight, updated_at = now() from webhook_alter(:two);
select name, url, events, enabled, timeout, retry, max_in_flight
from webhook_alter(:two, url => 'https://example.org/x', events => '{a.b}', name => 'deux', timeout => '5 min', retry => '{0s,7days}',
                   max_in_flight => 1, enabled => true);
select name from webhook_alter(:two, name => 'deux');
select count(*) from webhook.secret where subscription_id = :two;
select id = :two from webhook_alter(:two, secret => 'whsec_HxwdHh8AAQIDBAUGBwgJCgsMDQ4PEBESExQVFhc=');
select secret, expires_at from webhook.secret where subscription_id = :two;

\echo -- pause and resume
select webhook_pause(:one);
select enabled, paused_reason from webhook.subscription where id = :one;
select webhook_pause(:one, 'they asked for it');
select enabled, paused_reason from webhook.subscription where id = :one;
select enabled, paused_reason from webhook_alter(:one, timeout => '1 s');
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state, next_at) values
    (:one, 1, 3, 0, 'backlog', null), (:one, 2, 3, 0, 'waiting', now()), (:two, 1, 3, 0, 'backlog', null);
select webhook_resume(:one);
select enabled, paused_reason from webhook.subscription where id = :one;
select subscription_id = :one as of_one, event_id, state from webhook.queue order by 1, 2;
select webhook_resume(:one, skip_backlog => true);
select subscription_id = :one as of_one, event_id, state from webhook.queue order by 1, 2;
select enabled, paused_reason from webhook_alter(:one, enabled => false);
select webhook_pause(:one, 'again');
select enabled, paused_reason from webhook_alter(:one, enabled => true);

\echo -- rotate: the old and the new secret both sign until the overlap ends
select webhook_rotate_secret(:one) as new_secret \gset
select secret = :'first_secret' as first, secret = :'new_secret' as newest, expires_at - clock_timestamp() between '23:59' and '24:00' as ends_in_24_hours
from webhook.secret where subscription_id = :one order by id;
\echo -- a shorter overlap shortens the remaining time; a longer one does not extend it
select webhook_rotate_secret(:one, '1 hour') <> :'new_secret';
select webhook_rotate_secret(:one, '7 days') <> :'new_secret';
select date_trunc('hour', justify_hours(expires_at - clock_timestamp() + interval '1 min')) from webhook.secret where subscription_id = :one order by id;
\echo -- expired secrets are removed at the next rotation; at most ten are in force
update webhook.secret set expires_at = now() - interval '1 s' where secret = :'first_secret';
select count(*) from (select webhook_rotate_secret(:one) from generate_series(1, 7)) s;
select count(*), bool_or(secret = :'first_secret') from webhook.secret where subscription_id = :one;
do $$
begin
    perform webhook_rotate_secret((select id from webhook.subscription where name = 'one'));
exception when program_limit_exceeded then
    raise warning '%', regexp_replace(sqlerrm, 'subscription \d+', 'subscription N');
end
$$;
\echo -- no overlap: the other secrets end at once
select webhook_rotate_secret(:one, '0') as last_secret \gset
select secret = :'last_secret', expires_at from webhook.secret where subscription_id = :one;

\echo -- unsubscribe: secrets and queue rows are removed too
select webhook_unsubscribe(:two);
select count(*) from webhook.subscription where id = :two;
select count(*) from webhook.secret where subscription_id = :two;
select count(*) from webhook.queue where subscription_id = :two;
select type from webhook.event where key = :'two' order by id desc limit 1;

\echo -- no event, view or other table contains a secret
select count(*) from webhook.event where xid = pg_current_xact_id()::text::bigint and payload::text like '%whsec%';
\pset format aligned
\pset tuples_only off
rollback;

-- If a later transaction ends first, a plain snapshot shows this transaction's own id as visible.
begin;
set local client_min_messages = warning;
create extension dblink;
select pg_current_xact_id() is not null as this_one_has_an_id;
select * from dblink(format('host=%s port=%s dbname=%s user=%s', split_part(current_setting('unix_socket_directories'), ',', 1),
                            current_setting('port'), current_database(), current_user),
                     'select pg_current_xact_id() is not null') as t (a_later_one_has_ended boolean);
select pg_visible_in_snapshot(pg_current_xact_id(), pg_current_snapshot()) as a_plain_snapshot_sees_us;
select id from webhook_subscribe('https://example.com') \gset
select pg_visible_in_snapshot(pg_current_xact_id(), s.created_snapshot) as the_subscription_does,
       pg_visible_in_snapshot(pg_current_xact_id(), c.snapshot) as the_checkpoint_does
from webhook.subscription s, webhook.cursor c where s.id = :id;
rollback;
