-- Databases whose encoding is not UTF-8, with bytes that UTF-8 lacks: stored text is unchanged, and
-- a session can ask for replacements to read everything.
\pset format unaligned
\pset tuples_only on
\set VERBOSITY terse
set client_encoding = 'UTF8';
create database win1252 template template0 encoding 'WIN1252' lc_collate 'C' lc_ctype 'C';
create database sql_ascii template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C';
create database euc_jp template template0 encoding 'EUC_JP' lc_collate 'C' lc_ctype 'C';

\c win1252
set client_encoding = 'UTF8';
create extension pg_webhook;
create table thing (id text primary key, note text);
select noun from webhook_watch('thing');
insert into thing values ('a', 'é€'), (e'a\x81', e'\x81'), (e'a\x8d', 'plain'), (e'\x81\x8d', null);
\echo -- by default, a session in UTF-8 gets an error
select payload from webhook.event order by id;
\echo -- a session that asks reads a replacement character, and stores missing characters by their
\echo -- number
select webhook.replace_untranslatable();
select key, payload from webhook.event order by id;
create temp table stored as select 'ł€😀'::text as text;
select text, octet_length(text) from stored;
\echo -- keys that read the same stay different
select key, webhook.exact_utf8(key), count(*) over (partition by webhook.order_key('key', e)) as same
from webhook.event e order by id;
select webhook.exact_utf8('aé') = convert_to('aé', 'UTF8') as equal;
\echo -- functions that hash texts, and functions that return texts
select webhook_erase('thing', e'a\x81');
select count(*) from webhook.erasure;
select id from webhook_subscribe('https://example.com/', name => 'a', filter => '$.key == "a"');
insert into thing values (e'b\x81', 'x');
select key, matches, reason from webhook_dry_run((select id from webhook.subscription), now() - interval '1 hour') where key like 'b%';
select webhook_replay((select id from webhook.subscription), '-infinity') > 0 as replayed;
select length(webhook_openapi() -> 'info' ->> 'version');
\echo -- errors are readable too
select e'\x81'::int;
\echo -- other sessions are unchanged
\c win1252
set client_encoding = 'UTF8';
select payload from webhook.event order by id limit 1;
set client_encoding = 'WIN1252';
select octet_length(key) from webhook.event where type = 'thing.created' order by id;

\c euc_jp
set client_encoding = 'UTF8';
create extension pg_webhook;
create table thing (id text primary key);
select noun from webhook_watch('thing');
insert into thing values ('日本'), (e'\x8f\xa1\xa1'), (e'\x8f\xa1\xa2');
select webhook.replace_untranslatable();
select key, webhook.exact_utf8(key), payload from webhook.event order by id;

\c sql_ascii
create extension pg_webhook;
create table thing (id text primary key);
select noun from webhook_watch('thing');
insert into thing values (e'\xe9'), ('é');
select webhook.replace_untranslatable();
show client_encoding;
select octet_length(key), webhook.exact_utf8(key) from webhook.event order by id;
select webhook_erase('thing', e'\xe9');

\c regress
drop database win1252;
drop database euc_jp;
drop database sql_ascii;
