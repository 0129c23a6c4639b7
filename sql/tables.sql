-- The contract between the two halves: the extension writes webhook.event, the daemon writes
-- webhook.attempt and webhook.queue, and everyone reads them. Nothing else passes between the two
-- halves, except a wake-up without content.

-- The script of an extension runs as a superuser. Its search path begins with the schema that it is
-- created in. Anyone with CREATE in that schema could add a function that matches better
-- (format(text, integer, integer), for example). So this script does not search there. Names in
-- that schema are written as @extschema@.webhook_...
set local search_path = pg_catalog, pg_temp;

create schema webhook;
comment on schema webhook is 'pg_webhook: events, attempts, subscriptions, and the state of delivery';
revoke all on schema webhook from public;

-- -- Small truths that both halves compute --------------------------------------------------------

-- The ring has 16 slots. One of them is the present slot, and captured events go there. Its turn
-- ends when it is old or large enough (webhook.turn_ring), and an empty slot comes next. So no
-- clock decides where a row is, or where to read. A slot is open from the start of its turn until
-- no transaction can write to it any longer, and the daemon reads the open slots.
-- docs/ARCHITECTURE.md proves that the daemon misses no row.
create table webhook.ring_head (
    singleton      boolean    primary key default true,
    present        smallint   not null,
    open           smallint[] not null,
    changes        bigint     not null default 0,
    sessions_since timestamptz,
    constraint there_is_one_row check (singleton),
    constraint the_present_slot_is_open check (present between 0 and 15 and present = any (open))
);
comment on table  webhook.ring_head is 'One row: the current slot of the ring, and the slots that transactions may still write to';
comment on column webhook.ring_head.present is 'Slot of newly captured events';
comment on column webhook.ring_head.open is
    'Slots that transactions may still write to: the current slot, and earlier slots that open transactions have written to';
comment on column webhook.ring_head.changes is 'Number of changes of this row';
comment on column webhook.ring_head.sessions_since is
    'Set by an update after which older libraries may write to another slot; no slot is closed while a session from before this time is connected';
insert into webhook.ring_head (present, open) values (0, '{0}');

create table webhook.ring_turn (
    slot         smallint primary key,
    turn         bigint   not null default 0,
    began_at     timestamptz,
    ended_at     timestamptz,
    rows         bigint,
    first_at     timestamptz,
    last_at      timestamptz,
    held         text,
    removed_upto timestamptz,
    constraint slot_is_from_0_to_15 check (slot between 0 and 15)
);
comment on table  webhook.ring_turn is 'The last turn of each slot of the ring';
comment on column webhook.ring_turn.turn is 'Number of the turn, from 1; 0: no turn since the installation or the update';
comment on column webhook.ring_turn.began_at is 'When the slot became the current slot';
comment on column webhook.ring_turn.ended_at is 'When the last transaction that could write to it had ended; null: transactions can still write to it';
comment on column webhook.ring_turn.rows is 'Number of events at the end of the turn; null: not counted yet';
comment on column webhook.ring_turn.first_at is 'Smallest created_at of its events; null: not known yet';
comment on column webhook.ring_turn.last_at is 'Largest created_at of its events';
comment on column webhook.ring_turn.held is
    'Why retention kept the slot when it was last due: in use, undelivered or unresolved; null: it was not kept';
comment on column webhook.ring_turn.removed_upto is
    'Events up to this time of capture have been removed from the slot; null: no events have been removed';
insert into webhook.ring_turn (slot, turn, began_at)
    select n, case n when 0 then 1 else 0 end, case n when 0 then clock_timestamp() end from generate_series(0, 15) n;

-- Locks the partition first, so that the slot stays open until the transaction ends.
create function webhook.present_slot() returns smallint
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'present_slot_wrapper';
comment on function webhook.present_slot() is
    'The slot for a new event; it stays open until this transaction ends';

create function webhook.slot_is_open(slot smallint) returns boolean
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'slot_is_open_wrapper';
comment on function webhook.slot_is_open(smallint) is
    'Whether the daemon reads the slot; reliable only in a transaction that holds a lock on the partition';

create function webhook.ring_changed() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'ring_changed_wrapper';
comment on function webhook.ring_changed() is 'Notifies all sessions of a change of webhook.ring_head when this transaction commits';

create function webhook.announce_ring() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform webhook.ring_changed();
    return null;
end
$$;
comment on function webhook.announce_ring() is 'Makes writers see a change of webhook.ring_head before their next event';
create trigger announce after insert or update or delete or truncate on webhook.ring_head
    for each statement execute function webhook.announce_ring();
alter table webhook.ring_head enable always trigger announce;

create function webhook.ring_slot(at timestamptz) returns smallint
    language sql stable parallel safe strict security definer set search_path = pg_catalog, pg_temp
    return coalesce((select t.slot from webhook.ring_turn t
                     where t.began_at <= at and (t.ended_at is null or t.ended_at > at)
                     order by t.turn desc limit 1),
                    (select h.present from webhook.ring_head h where h.singleton));
comment on function webhook.ring_slot(timestamptz) is
    'The slot whose turn it was at a given time, by the server''s clock; the current slot if there was none';

create function webhook.current_xid() returns bigint
    language sql volatile parallel unsafe
    return pg_current_xact_id()::text::bigint;
comment on function webhook.current_xid() is
    'The full id of the top-level transaction; savepoints share it, so one comparison shows whether an event is committed';

-- A transaction's own id is in no snapshot that it takes: once a later transaction has ended, the
-- snapshot shows our own changes as visible. A subscription or the checkpoint must see our changes
-- as not visible yet, so their ids are added.
create function webhook.snapshot_before_this_transaction() returns pg_snapshot
    language sql volatile parallel unsafe
    return (select case when t.own >= pg_snapshot_xmax(t.seen) then t.seen
                        else format('%s:%s:%s', pg_snapshot_xmin(t.seen), pg_snapshot_xmax(t.seen),
                                    (select string_agg(x.id::text, ',' order by x.id)
                                     from (select pg_snapshot_xip(t.seen) union select t.own) as x (id)))::pg_snapshot
                   end
            from (select pg_current_xact_id() as own, pg_current_snapshot() as seen) as t);
comment on function webhook.snapshot_before_this_transaction() is
    'The snapshot of the committed transactions, without this transaction';

-- 14 hex digits of microseconds since 1970, then the sequence number in hex. With the time, ids
-- stay unique if a point-in-time restore assigns the same numbers again, and ids sort by age.
create function webhook.public_id(sequence bigint, created_at timestamptz) returns text
    language sql immutable parallel safe strict
    return 'evt_' || lpad(to_hex((extract(epoch from created_at) * 1000000)::bigint), 14, '0') || to_hex(sequence);
comment on function webhook.public_id(bigint, timestamptz) is
    'The id that receivers see (webhook-id, and "id" in the body), from webhook.event.id and created_at';

create function webhook.event_sequence(event_id text) returns bigint
    language sql immutable parallel safe strict
    return case when event_id ~ '^evt_[0-9a-f]{15,30}$'
                then ('x' || lpad(substr(event_id, 19), 16, '0'))::bit(64)::bigint end;
comment on function webhook.event_sequence(text) is
    'webhook.event.id of a public id, or null if the text is not a public id: where sequence = webhook.event_sequence(''evt_...'')';

create function webhook.event_created_at(event_id text) returns timestamptz
    language sql immutable parallel safe strict
    return case when event_id ~ '^evt_[0-9a-f]{15,30}$'
                then timestamptz 'epoch' + ('x' || substr(event_id, 5, 14))::bit(56)::bigint * interval '1 microsecond' end;
comment on function webhook.event_created_at(text) is 'webhook.event.created_at of a public id, or null if the text is not a public id';

-- The same rule as crates/event_type: `*` matches everything outside the namespace `webhook`, and
-- `order.*` is a prefix. A type has two or three segments, so at most four patterns match it. There
-- is no subquery, because there may be thousands of subscriptions.
create function webhook.pattern_matches(events text[], type text) returns boolean
    language sql immutable parallel safe
    return events && array[type, case when not starts_with(type, 'webhook.') then '*' end,
                           case when split_part(type, '.', 2) <> '' then split_part(type, '.', 1) || '.*' end,
                           case when split_part(type, '.', 3) <> ''
                                then split_part(type, '.', 1) || '.' || split_part(type, '.', 2) || '.*' end];
comment on function webhook.pattern_matches(text[], text) is 'Whether an event type matches a subscription''s patterns';

-- -- Outbox: an append-only ring ------------------------------------------------------------------

-- Cache 1: ids are assigned in the order in which rows were locked, so the events of one row sort
-- by id.
create sequence webhook.event_id_seq;

-- A recovery sets the sequence above back to an earlier value. Each recovery and each promotion
-- starts a new timeline. This sequence contains the timeline of the last number. The first event of
-- another timeline skips numbers (extension/src/outbox/number.rs). It is not a row, because both
-- changes must be visible at once and must survive a rollback.
create sequence webhook.timeline_seq;

create function webhook.next_number() returns bigint
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'next_number_wrapper';
comment on function webhook.next_number() is
    'The number for a new event; after a recovery, higher than all numbers that may have been delivered';

create function webhook.skip_numbers(beyond bigint default 0) returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'skip_numbers_wrapper';
comment on function webhook.skip_numbers(bigint) is
    'Daemon: skips all numbers up to this one, and enough more numbers that no delivered number is used again';

create function webhook.note_timeline() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'note_timeline_wrapper';
comment on function webhook.note_timeline() is 'Installation: records that the numbers so far belong to the current timeline';
select webhook.note_timeline();

create table webhook.event (
    -- Not an identity column: before PG 17, a row inserted directly into a partition would get no
    -- value.
    id              bigint      not null default nextval('webhook.event_id_seq'),
    -- bigint and not xid8, which has no cast to bigint and no arithmetic.
    xid             bigint      not null default webhook.current_xid(),
    created_at      timestamptz not null default clock_timestamp(),
    subscription_id bigint,
    slot            smallint    not null default webhook.ring_slot(clock_timestamp()),
    truncated       boolean     not null default false,
    type            text        not null,
    table_name      text,
    key             text,
    actor           text,
    origin          text,
    traceparent     text,
    -- json and not jsonb: the bytes are sent as they were written, including number spelling and
    -- key order.
    payload         json        not null,
    previous        json,
    owner           text,
    constraint type_is_noun_verb check (length(type) <= 200 and type ~ '^[a-z0-9_]+(\.[a-z0-9_]+){1,2}$')
) partition by list (slot);

comment on table  webhook.event is 'Events, each written in the transaction that caused it; append-only';
comment on column webhook.event.id is 'Sequence number; it increases over the events of one row';
comment on column webhook.event.xid is 'Full id of the top-level transaction that wrote it';
comment on column webhook.event.created_at is 'When the change was captured, within its transaction';
comment on column webhook.event.subscription_id is 'The only subscription of the event (a ping); null: all matching subscriptions';
comment on column webhook.event.slot is 'Slot of the ring';
comment on column webhook.event.truncated is 'The payload was too large and was reduced to the key columns';
comment on column webhook.event.type is 'noun.verb or namespace.noun.verb';
comment on column webhook.event.table_name is 'Qualified name of the table; null for webhook_emit()';
comment on column webhook.event.key is
    'Key of the subject: the text of the key column, or a JSON array for several key columns';
comment on column webhook.event.actor is 'Setting webhook.actor of the session: who made the change';
comment on column webhook.event.origin is 'Setting webhook.origin of the session: the system that made the change';
comment on column webhook.event.traceparent is 'Setting webhook.traceparent of the session (W3C Trace Context)';
comment on column webhook.event.payload is '"data" in the body';
comment on column webhook.event.owner is
    'Owner of the event: subscriptions with scope own get it only if they have the same owner; *: every owner; null: no owner';
comment on column webhook.event.previous is '"previous" in the body: former values of the columns that an update changed';

-- The only index. Each further one would cost a watched single-row INSERT a fifth of all that
-- capture costs. It serves the reader, by transaction: "xid >= $1" (a window), "xid = any ($2)"
-- (transactions that ended since), and with ranges of ids the pages of a large window. It also
-- serves every look-up of one event by (xid, id), which queue and attempts store.
create index event_xid_id_idx on webhook.event (xid, id);

-- -- Texts that UTF-8 lacks: extension/src/encoding/replace.rs ------------------------------------

create function webhook.exact_utf8(text text) returns bytea
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'exact_utf8_wrapper';
comment on function webhook.exact_utf8(text) is
    'A text in UTF-8, different for different texts; bytes that have no UTF-8 equivalent are marked. Raises no errors';

create function webhook.replace_untranslatable() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'replace_untranslatable_wrapper';
comment on function webhook.replace_untranslatable() is
    'Makes this session read U+FFFD for characters that UTF-8 does not have, and store <U+0142> for characters that the database encoding does not have';

-- The function above selects these two. Without it, they do what the built-in conversions do.
create function webhook.convert_encoding(integer, integer, cstring, internal, integer, boolean) returns integer
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'convert_encoding_wrapper';
comment on function webhook.convert_encoding(integer, integer, cstring, internal, integer, boolean) is
    'Conversion between the encoding of the database and UTF-8';
do $$
declare
    encoding constant text := getdatabaseencoding();
begin
    if exists (select from pg_conversion c
               where c.connamespace = 'pg_catalog'::regnamespace and c.condefault
                 and pg_encoding_to_char(c.conforencoding) = encoding and pg_encoding_to_char(c.contoencoding) = 'UTF8') then
        execute format('create default conversion webhook.to_utf8 for %L to ''UTF8'' from webhook.convert_encoding', encoding);
        execute format('create default conversion webhook.from_utf8 for ''UTF8'' to %L from webhook.convert_encoding', encoding);
    end if;
end
$$;

-- The daemon computes the same value. A test compares them.
create function webhook.order_key(ordering text, event webhook.event) returns bigint
    language sql immutable parallel safe
    return case ordering
        when 'strict' then 0
        when 'key' then ('x' || encode(substr(sha256(webhook.exact_utf8(coalesce((event).key, (event).table_name, (event).type))),
                                              1, 8), 'hex'))::bit(64)::bigint
    end;
comment on function webhook.order_key(text, webhook.event) is
    'Order group of an event: events of a subscription with the same number wait for one another; null: no order';

-- -- Attempts: what happened on the wire, append-only ---------------------------------------------

create table webhook.attempt (
    event_id        bigint      not null,
    event_xid       bigint      not null,
    subscription_id bigint      not null,
    started_at      timestamptz not null,
    duration_ms     real        not null,
    slot            smallint    not null,
    attempt         smallint    not null,
    status          smallint,
    outcome         text        not null,
    next_at         timestamptz,
    error           text,
    response        text,
    dns_ms          real,
    connect_ms      real,
    tls_ms          real,
    first_byte_ms   real,
    batch_id        text,
    constraint attempts_start_at_1 check (attempt >= 1),
    constraint duration_is_not_negative check (duration_ms >= 0),
    constraint outcome_is_known check (outcome in
        ('succeeded', 'http_error', 'timeout', 'dns', 'connect', 'tls', 'protocol', 'refused')),
    constraint success_has_a_2xx_status check (outcome <> 'succeeded' or status between 200 and 299),
    constraint success_is_final check (outcome <> 'succeeded' or next_at is null)
) partition by list (slot);

comment on table  webhook.attempt is 'Attempts to deliver an event to a subscription, including successful ones; append-only';
comment on column webhook.attempt.event_id is 'webhook.event.id';
comment on column webhook.attempt.event_xid is 'webhook.event.xid: events are found by transaction and id';
comment on column webhook.attempt.started_at is 'When the request was handed to the network, by the daemon''s clock';
comment on column webhook.attempt.duration_ms is 'Time until the outcome was known, in milliseconds';
comment on column webhook.attempt.slot is 'Current slot of the ring when the row was written';
comment on column webhook.attempt.attempt is 'Number of the attempt, from 1';
comment on column webhook.attempt.status is 'HTTP status, if one was received';
comment on column webhook.attempt.outcome is
    'succeeded, http_error (any status except 2xx), timeout, dns, connect, tls, protocol, or refused (blocked by the daemon''s address policy or by a fault of the daemon, which does not count against the receiver)';
comment on column webhook.attempt.next_at is 'When the next attempt is due; null: this was the last attempt';
comment on column webhook.attempt.error is 'The error message';
comment on column webhook.attempt.dns_ms is 'Time to resolve the host name, in milliseconds; null: a kept-alive connection, or an address in the URL';
comment on column webhook.attempt.connect_ms is 'Time to connect over TCP, in milliseconds; null: a kept-alive connection';
comment on column webhook.attempt.tls_ms is 'Time of the TLS handshake, in milliseconds; null: a kept-alive connection, or plain http';
comment on column webhook.attempt.first_byte_ms is 'Time from the written request to the headers of the answer, in milliseconds';
comment on column webhook.attempt.batch_id is
    'webhook-id of a request with several events, or with one event for several changes; each event has its own attempt row';
comment on column webhook.attempt.response is 'Start of the response body, at most 4 KiB; of successful attempts only if the subscription has keep_response';

-- The attempts of one delivery (webhook.delivery). After a crash, also the pairs of a page of
-- events that are done.
create index attempt_event_id_subscription_id_idx on webhook.attempt (event_id, subscription_id);
-- Failed attempts, newest first (webhook.delivery_number): "outcome <> 'succeeded' and event_id <=
-- $1 order by event_id desc". It does not contain successes.
create index attempt_failed_idx on webhook.attempt (event_id) where outcome <> 'succeeded';
-- The last failure of a subscription (webhook.subscription_health): "subscription_id = $1 and
-- outcome <> 'succeeded' order by started_at desc limit 1".
create index attempt_last_failure_idx on webhook.attempt (subscription_id, started_at) where outcome <> 'succeeded';
-- Rates of the last hour (webhook.subscription_stats). A BRIN index costs the ledger almost
-- nothing.
create index attempt_started_at_idx on webhook.attempt using brin (started_at);

-- 16 slots each, created once and never dropped. A missing partition would fail the application's
-- INSERT. DROP and DETACH would need a lock on the parent that waits for every reader.
do $$ -- once
begin
    for slot in 0..15 loop
        execute format('create table webhook.event_%s partition of webhook.event for values in (%s)', slot, slot);
        execute format('create table webhook.attempt_%s partition of webhook.attempt for values in (%s)', slot, slot);
    end loop;
end
$$;

-- Only of the parent: an update of the extension that changed the partitions would wait for every
-- transaction that has written to them. A row that is inserted directly into a partition opens its
-- slot (open_slot).
alter table only webhook.event
    alter column id set default webhook.next_number(),
    alter column slot set default webhook.present_slot();

-- A publication for all tables contains these tables too. Postgres updates and deletes only rows
-- that it can identify to a subscriber. Otherwise webhook_arm() and webhook_erase() would fail. The
-- cost of an INSERT stays the same.
alter table webhook.event replica identity full;
alter table webhook.attempt replica identity full;
do $$
begin
    for slot in 0..15 loop
        execute format('alter table webhook.event_%s replica identity full', slot);
        execute format('alter table webhook.attempt_%s replica identity full', slot);
    end loop;
end
$$;

-- -- Queue: the unhappy path only -----------------------------------------------------------------

create table webhook.queue (
    subscription_id bigint      not null,
    event_id        bigint      not null,
    event_xid       bigint      not null,
    event_slot      smallint    not null,
    attempts        smallint    not null default 0,
    retry_from      smallint    not null default 0,
    state           text        not null,
    next_at         timestamptz,
    last_status     smallint,
    last_error      text,
    order_key       bigint,
    constraint queue_pkey primary key (subscription_id, event_id),
    constraint state_is_known check (state in ('waiting', 'backlog', 'blocked')),
    constraint next_at_iff_waiting check ((state = 'waiting') = (next_at is not null)),
    constraint blocked_by_its_order_key check (state <> 'blocked' or order_key is not null),
    constraint attempts_are_not_negative check (attempts >= 0 and retry_from between 0 and attempts)
);
comment on table  webhook.queue is
    'Deferred deliveries: failed ones that wait for their next attempt, and those of slow, unavailable or paused receivers. Ids only; the payload stays in webhook.event';
comment on column webhook.queue.event_xid is 'webhook.event.xid: events are found by transaction and id';
comment on column webhook.queue.event_slot is 'webhook.event.slot, to find the event without searching the ring';
comment on column webhook.queue.attempts is 'Attempts made so far';
comment on column webhook.queue.retry_from is 'Attempts made before the current schedule began (a redelivery begins a new one)';
comment on column webhook.queue.state is
    'waiting: due at next_at; backlog: sent in order when the send queue has room; blocked: an earlier event of its order_key is not final yet';
comment on column webhook.queue.order_key is
    'Hash of the event''s key with ordering key, 0 with strict; null: the subscription has no ordering';

-- No two of these indexes fit one statement, so a statement's plan does not depend on statistics.
-- This one is for the daemon's timer: "state = 'waiting' and next_at >= $1 order by next_at,
-- subscription_id, event_id".
create index queue_next_at_idx on webhook.queue (next_at, subscription_id, event_id) where state = 'waiting';
-- The rows of one event (webhook.delivery), and the newest rows (webhook.delivery_number):
-- "event_id + 0 <= $1 order by event_id + 0 desc". It is an expression, because with the column
-- alone, Postgres could read a page of one subscription's backlog through the rows of all others.
create index queue_event_id_idx on webhook.queue ((event_id + 0));
-- The next rows after an event is final: "subscription_id = $1 and order_key >= $2 and order_key <=
-- $2 order by order_key, event_id". The primary key does not have this order.
create index queue_order_key_idx on webhook.queue (subscription_id, order_key, event_id) where order_key is not null;

-- -- Given up: deliveries whose last attempt failed -----------------------------------------------

-- Counting exhausted deliveries among all attempts would read every attempt. The ledger adds a row
-- together with the last attempt. A redelivery removes it.
create table webhook.given_up (
    subscription_id bigint      not null,
    event_id        bigint      not null,
    event_slot      smallint    not null,
    given_up_at     timestamptz not null,
    status          smallint,
    constraint given_up_pkey primary key (subscription_id, event_id)
);
comment on table  webhook.given_up is
    'Deliveries that the daemon gave up, until they are redelivered or their event is removed. Ids only; the attempts show why';
comment on column webhook.given_up.event_slot is 'webhook.event.slot: the row is removed with the event';
comment on column webhook.given_up.given_up_at is 'Start of the last attempt';
comment on column webhook.given_up.status is 'HTTP status of the last attempt, if one was received';
-- Given up since a time (webhook_redeliver_failed): "subscription_id = $1 and given_up_at >= $2".
create index given_up_at_idx on webhook.given_up (subscription_id, given_up_at);

-- -- Locked subscriptions -------------------------------------------------------------------------

-- Users hold locks for as long as they like, and the daemon waits for none of them. It shows here
-- whom it does not wait for. No foreign key, because that would wait for the lock.
create table webhook.locked_subscription (
    subscription_id bigint      not null,
    since           timestamptz not null,
    pid             integer,
    role            name,
    application     text,
    constraint locked_subscription_pkey primary key (subscription_id)
);
comment on table webhook.locked_subscription is
    'Subscriptions that another session has locked for more than a second, as the daemon sees it. Results of their deliveries wait for the end of that transaction';
comment on column webhook.locked_subscription.pid is 'Process of that session; null: unknown, or a prepared transaction';
