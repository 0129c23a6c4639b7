-- Keys of subscriptions: kinds, display, storage and replacement.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create schema t;
-- The stored keys, without their random parts.
create function t.kinds(wanted text) returns text language sql as $$
    select string_agg(regexp_replace(k.secret, '(whs[a-z]+_|v1:).*', '\1') || coalesce(' ' || left(k.public_key, 5), '')
                      || case when k.expires_at is null then '' else ' expiring' end, ', ' order by k.id)
    from webhook.secret k join webhook.subscription s on s.id = k.subscription_id where s.name = wanted $$;
create function t.id(wanted text) returns bigint language sql as $$ select id from webhook.subscription where name = wanted $$;
select secrets, sealing_key from webhook.health;

\echo -- one key of each kind that the profiles need; the owner sees what receivers need
create temp table made as
    select p.name, s.id, s.secret
    from unnest(array['{standard}', '{github,stripe,svix}', '{standard-v1a}', '{standard,standard-v1a}', '{none}', '{stripe,standard,stripe}']) p (name),
         lateral webhook_subscribe('https://example.com', name => p.name, signature => p.name::text[]) s;
select name, substring(secret from '^whs[a-z]+_|^whpk_'), length(secret), t.kinds(name), s.signature from made join webhook.subscription s using (id, name) order by id;
select m.name, m.secret = p.public_key from made m join webhook.public_key p on p.subscription_id = m.id order by m.id;

\echo -- secrets that the caller brings
\set pair 'whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA=='
\set own 'whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='
select secret = :'own' from webhook_subscribe('https://example.com', name => 'own', secret => :'own');
select secret from webhook_subscribe('https://example.com', name => 'pair', secret => :'pair', signature => '{standard-v1a}');
select left(secret, 6) from webhook_subscribe('https://example.com', name => 'both', secret => :'pair', signature => '{standard,standard-v1a}');
select t.kinds('both'), t.kinds('pair');
select secret from webhook_subscribe('https://example.com', name => 'env', secret => 'env:WEBHOOKD_SECRET_A');
select secret from webhook_subscribe('https://example.com', name => 'file', secret => 'file:sub/orders', signature => '{standard-v1a}');
select t.kinds('env'), t.kinds('file');

\echo -- errors name the rule and never repeat the text
select by_hand.fails(format('select webhook_subscribe(''https://example.com'', secret => %L, signature => %L)', s.secret, s.signature)) from (values
    ('hunter2', '{standard}'), ('whsec_hunter2', '{standard}'), ('whsk_hunter2', '{standard-v1a}'), ('whsk_' || encode('\x00', 'base64'), '{standard-v1a}'),
    ('env:PGPASSWORD', '{standard}'), ('env:', '{standard}'), ('file:', '{standard}'), ('file:/etc/passwd', '{standard}'), ('file:../x', '{standard}'), ('file:a' || chr(10), '{standard}'),
    ('sealed:v1:0123456789abcdef:AAAA', '{standard}'),
    (:'own', '{none}'), (:'own', '{standard-v1a}'), (:'pair', '{github}'), ('env:WEBHOOKD_SECRET_A', '{none}'),
    (null, '{}'), (null, '{none,standard}'), (null, '{Standard}'), (null, '{null}'), (null, '{"standard; drop table x"}')) s (secret, signature);
select by_hand.fails(statement) from unnest(array[
    'select webhook_subscribe(''https://example.com'', signature => null)',
    'select webhook_subscribe(''https://example.com'', tls => '''')', 'select webhook_subscribe(''https://example.com'', tls => ''../x'')',
    'select webhook_subscribe(''https://example.com'', tls => repeat(''x'', 64))', 'select webhook_seal(null)', 'select webhook_seal(''hunter2'')',
    'select webhook_seal(''webhookd_private_AAAA'')', 'select webhook_seal(''webhookd_public_AAAA'')',
    -- An invented key: the form without a proof, and the proof of another key.
    'select webhook_seal(''webhookd_public_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA4fVVp'')',
    'select webhook_seal(''webhookd_public_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA4fVVp.3eXaNbBEtV6OENM5XGVQz2fdiCYw3wlUOwhsPJX9lopeCy93CvHptg63kJcO734yJpZP2jjVx1grxEBHt023DQ'')']) statement;

\echo -- altered: a given secret replaces the others of its kind, a missing one is created, an
\echo -- unused one is deleted
select count(*) from webhook_subscribe('https://example.com', name => 'a', tls => 'bank');
select tls from webhook.subscription where name = 'a';
select (webhook_alter(t.id('a'), clear => '{tls}')).tls;
select (webhook_alter(t.id('a'), signature => '{standard,standard-v1a}')).signature, t.kinds('a');
select t.kinds('a');
select (webhook_alter(t.id('a'), secret => :'own')).name;
select t.kinds('a'), exists (select from webhook.secret where secret = :'own' and subscription_id = t.id('a'));
select (webhook_alter(t.id('a'), secret => :'pair')).name;
select t.kinds('a'), (select public_key from webhook.public_key where subscription_id = t.id('a'));
select (webhook_alter(t.id('a'), secret => 'env:WEBHOOKD_SECRET_B')).name;
select t.kinds('a');
select (webhook_alter(t.id('a'), signature => '{github}')).name;
select t.kinds('a');
select (webhook_alter(t.id('a'), signature => '{none}')).name;
select t.kinds('a'), by_hand.fails(format('select webhook_alter(%s, signature => ''{stripe}'')', t.id('a'))), regexp_replace(by_hand.fails(format('select webhook_rotate_secret(%s)', t.id('a'))), '\d+ is not', 'N is not');
select (webhook_alter(t.id('a'), signature => '{standard-v1a}')).name;
select t.kinds('a'), by_hand.fails(format('select webhook_alter(%s, secret => %L)', t.id('a'), :'own'));

\echo -- rotated: a new key of each kind; the old keys stay valid for a while
select left(webhook_rotate_secret(t.id('{standard,standard-v1a}')), 6);
select t.kinds('{standard,standard-v1a}'), (select count(*) from webhook.public_key where subscription_id = t.id('{standard,standard-v1a}'));
select left(webhook_rotate_secret(t.id('{standard-v1a}'), '0'), 5);
select t.kinds('{standard-v1a}');
select count(webhook_rotate_secret(t.id('own'), '7 days')) from generate_series(1, 9);
select regexp_replace(by_hand.fails(format('select webhook_rotate_secret(%s)', t.id('own'))), 'subscription \d+', 'subscription N');

\echo -- sealed: new secrets and existing ones
select secrets ~ '^\d+ in clear, ' from webhook.health;
\set key_a 'webhookd_public_B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHza5IVk.3eXaNbBEtV6OENM5XGVQz2fdiCYw3wlUOwhsPJX9lopeCy93CvHptg63kJcO734yJpZP2jjVx1grxEBHt023DQ'
\set key_b 'webhookd_public_q58mKMMlwUHp+yQw8QaFD2KTC8PwsS3zmpuEpJx8HRIWhoR/.pTUrJmMdY84TLE97DHMixi3ofO4TajODyEiS6EdRAvvaDnhHRfzy4Wkh0XP3atp8FknAJPN5Owt2G9uBFk2NAw'
select count(*) as in_clear from webhook.secret where secret ~ '^whs' \gset
select webhook_seal(:'key_a') = :in_clear, :in_clear > 10;
select secrets, sealing_key, count(*) filter (where secret ~ '^whs') in_clear, count(*) filter (where secret ~ ('^sealed:v1:' || sealing_key || ':')) > 10 sealed,
       count(*) filter (where secret ~ '^(env|file):') elsewhere
from webhook.health, webhook.secret group by 1, 2;
select t.kinds('{standard,standard-v1a}'), t.kinds('own') like 'sealed%', t.kinds('env'), t.kinds('file');
select left(secret, 6) from webhook_subscribe('https://example.com', name => 'late', signature => '{standard,standard-v1a}');
select t.kinds('late'), count(*) from webhook.public_key where subscription_id = t.id('late');
select left(webhook_rotate_secret(t.id('late')), 6), t.kinds('late');
select (webhook_alter(t.id('late'), signature => '{standard-v1a}')).name;
select t.kinds('late');
\echo -- for another key: sealed secrets stay (webhookd rekey has both keys), later ones are for the new key
select webhook_seal(:'key_b'), webhook_seal(:'key_b');
select count(*), bool_and(set_by = session_user) from webhook.sealing_key;
select count(distinct split_part(secret, ':', 3)) from webhook.secret where secret ~ '^sealed:';
select count(*) from webhook_subscribe('https://example.com', name => 'later');
select secret ~ ('^sealed:v1:' || (select sealing_key from webhook.health)) from webhook.secret where subscription_id = t.id('later');
rollback;
