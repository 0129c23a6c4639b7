-- webhook_erase() blanks the data about a subject; the events, the attempts and their proof stay.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
-- Updates of tables without a replica identity fail while this publication exists, so the test
-- shows that every table has one. Hide the warning that wal_level is too low to publish.
set local client_min_messages = error;
create publication everything for all tables;
set local client_min_messages = warning;
create table person (id int primary key, email text);
create table "Other" (a int, b text, primary key (a, b));
select (webhook_watch('person')).noun, (webhook_watch('"Other"', noun => 'other')).noun;
insert into person values (1, 'one@example.com'), (2, 'two@example.com');
update person set email = 'new@example.com' where id = 1;
delete from person where id = 1;
insert into "Other" values (1, 'x');
select webhook_emit('person.seen', '{"email": "one@example.com"}', '1') <> '';
select id as subscription from webhook_subscribe('https://example.com') \gset
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, response)
    select e.id, e.xid, :subscription, now(), 1, e.slot, 1, 400, 'http_error', 'no such person: one@example.com' from webhook.event e where e.type = 'person.updated';
create temp table was as select id, payload::text, previous::text from webhook.event;

select webhook_erase('person', '1');
select e.type, e.key, e.payload, e.previous, x.event_id is not null as erased,
       x.payload_sha256 = sha256(convert_to(was.payload, 'UTF8')) and x.previous_sha256 is not distinct from sha256(convert_to(was.previous, 'UTF8')) as proven
from webhook.event e join was using (id) left join webhook.erasure x on x.event_id = e.id and x.event_xid = e.xid where e.type not like 'webhook.%' order by e.id;
select count(*), count(response), min(status) from webhook.attempt where subscription_id = :subscription;
select bool_and(erased_by = session_user) from webhook.erasure;
\echo -- a second call erases nothing and leaves the proof unchanged
select webhook_erase('person', '1'), count(*) from webhook.erasure;
\echo -- several key columns; events of webhook_emit
select webhook_erase('"Other"', '[1,"x"]'), webhook_erase('"Other"', '1'), webhook_erase(null, '1');
select key from webhook.event where type = 'other.created';
select type, payload from webhook.event where type not like 'webhook.%' order by id;
\echo -- mistakes
savepoint s;
select webhook_erase('person', null);
\echo :SQLSTATE
rollback to s;
select webhook_erase(1::oid::regclass, '1');
\echo :SQLSTATE
rollback;
