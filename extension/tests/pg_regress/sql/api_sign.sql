-- webhook_sign and webhook_verify: Standard Webhooks v1.
\encoding UTF8
begin;
set local search_path = public;
\pset format unaligned
\pset tuples_only on
create temporary table message (secret text, id text, ts bigint, body text, header text);
insert into message values
    ('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, '{"test": 2432232314}',
     'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='),
    ('whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD', 'msg_27UH4WbU6Z5A5EzD8u03UvzRbpk', 1649367553,
     '{"email":"test@example.com","username":"test_user"}', 'v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw='),
    ('whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=', 'msg_1', 1700000000, '{"name":"Zoë 🚀"}',
     'v1,h4wM0iJBg86tjddY9w57S2oGX7vmhxNSYAqdgUYnv2c=');
\echo -- known answers
select webhook_sign(secret, id, ts, body) = header, webhook_verify(secret, id, ts, body, header, now => to_timestamp(ts)) from message;
\echo -- a signature made now verifies without an explicit time
select webhook_verify(secret, id, now, body, webhook_sign(secret, id, now, body)) from message, cast(extract(epoch from now()) as bigint) as now limit 1;

\echo -- a tolerance of five minutes in both directions
select seconds, webhook_verify(secret, id, ts, body, header, to_timestamp(ts + seconds))
from message, unnest('{-301,-300,0,300,301,1e9}'::float8[]) seconds where id = 'msg_1';
select webhook_verify(secret, id, ts, body, header, at), at
from message, unnest('{-infinity,infinity}'::timestamptz[]) at where id = 'msg_1';
\echo -- another id, time, body, secret, version or half of the token does not verify
select webhook_verify(secret, 'msg_2', ts, body, header, to_timestamp(ts)),
       webhook_verify(secret, id, ts + 1, body, header, to_timestamp(ts)),
       webhook_verify(secret, id, ts, body || ' ', header, to_timestamp(ts)),
       webhook_verify('whsec_AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=', id, ts, body, header, to_timestamp(ts)),
       webhook_verify(secret, id, ts, body, replace(header, 'v1,', 'v2,'), to_timestamp(ts)),
       webhook_verify(secret, id, ts, body, left(header, 20), to_timestamp(ts)),
       webhook_verify(secret, id, ts, body, '', to_timestamp(ts))
from message where id = 'msg_1';
\echo -- one valid token of several is enough
select webhook_verify(secret, id, ts, body, 'v1a,zzz v1,AAAA ' || header || ' v1,', to_timestamp(ts)) from message;
\echo -- a missing part gives false, not null; a message with a missing part has no signature
select webhook_verify(secret, null, ts, body, header, to_timestamp(ts)), webhook_verify(secret, id, null, body, header, to_timestamp(ts)),
       webhook_verify(secret, id, ts, null, header, to_timestamp(ts)), webhook_verify(secret, id, ts, body, null, to_timestamp(ts)),
       webhook_verify(secret, id, ts, body, header, null), webhook_sign(secret, null, ts, body) is null
from message where id = 'msg_1';
\echo -- a bad secret is an error that does not repeat the secret
\set ON_ERROR_ROLLBACK on
select webhook_sign('hunter2', 'a', 1, '');
\echo :SQLSTATE
select webhook_verify('whsec_hunter2', 'a', 1, '', '');
\echo :SQLSTATE
select webhook_verify(null, 'a', 1, '', '');
\echo :SQLSTATE
\set ON_ERROR_ROLLBACK off
\pset format aligned
\pset tuples_only off
rollback;
