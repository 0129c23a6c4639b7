-- Extension pg_webhook 0.1.0, as `create extension pg_webhook` ran it. Frozen: what upgrades start from, for the tests.

-- The contract between the two halves: the extension writes webhook.event, the daemon writes webhook.attempt and
-- webhook.queue, and everybody reads. Nothing else passes between them but a NOTIFY that carries no data.

create schema webhook;
comment on schema webhook is 'pg_webhook: events, attempts, subscriptions, and the state of delivery';
revoke all on schema webhook from public;

-- ── Small truths that both halves compute ───────────────────────────────────────────────────────────────────────

-- The ring has 16 slots of 216 000 s (2.5 days): 30 days of retention need 12 of them, so a slot has been empty for
-- days when its turn comes. extension/src/outbox.rs holds the same two numbers; a test compares them.
create function webhook.ring_slot(at timestamptz) returns smallint
    language sql immutable parallel safe strict
    return (floor(extract(epoch from at) / 216000)::bigint % 16)::smallint;
comment on function webhook.ring_slot(timestamptz) is 'The slot of the ring that a moment falls into, 0 to 15';

create function webhook.current_xid() returns bigint
    language sql volatile parallel unsafe
    return pg_current_xact_id()::text::bigint;
comment on function webhook.current_xid() is
    'The full id of the top-level transaction: savepoints share it, so one comparison tells whether an event is committed';

-- A transaction's own id is in no snapshot it takes: as soon as a later transaction has ended, the snapshot calls our
-- own changes visible. What a subscription or the checkpoint must see as "not yet" includes them, so they are added.
create function webhook.snapshot_before_this_transaction() returns pg_snapshot
    language sql volatile parallel unsafe
    return (select case when t.own >= pg_snapshot_xmax(t.seen) then t.seen
                        else format('%s:%s:%s', pg_snapshot_xmin(t.seen), pg_snapshot_xmax(t.seen),
                                    (select string_agg(x.id::text, ',' order by x.id)
                                     from (select pg_snapshot_xip(t.seen) union select t.own) as x (id)))::pg_snapshot
                   end
            from (select pg_current_xact_id() as own, pg_current_snapshot() as seen) as t);
comment on function webhook.snapshot_before_this_transaction() is
    'What is committed now, without what this transaction has done';

-- 14 hex digits of microseconds since 1970, then the sequence number in hex. The time keeps ids unique when a
-- point-in-time restore hands out the same sequence numbers again, and makes them sort by age.
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
    'webhook.event.id of a public id, or null if the text is none: where sequence = webhook.event_sequence(''evt_…'')';

create function webhook.event_created_at(event_id text) returns timestamptz
    language sql immutable parallel safe strict
    return case when event_id ~ '^evt_[0-9a-f]{15,30}$'
                then timestamptz 'epoch' + ('x' || substr(event_id, 5, 14))::bit(56)::bigint * interval '1 microsecond' end;
comment on function webhook.event_created_at(text) is 'webhook.event.created_at of a public id, or null if the text is none';

-- The same rule as crates/event_type: `*` is everything outside the namespace `webhook`, `order.*` a prefix.
create function webhook.pattern_matches(events text[], type text) returns boolean
    language sql immutable parallel safe strict
    return exists (select from unnest(events) as p (pattern)
                   where p.pattern = type
                      or (p.pattern = '*' and not starts_with(type, 'webhook.'))
                      or (right(p.pattern, 2) = '.*' and starts_with(type, left(p.pattern, -1))));
comment on function webhook.pattern_matches(text[], text) is 'Whether an event type belongs to a subscription''s patterns';

-- ── Outbox: an append-only ring ─────────────────────────────────────────────────────────────────────────────────

-- Cache 1: ids are handed out in the order in which rows were locked, so the events of one row sort by id.
create sequence webhook.event_id_seq;

create table webhook.event (
    -- Not an identity: a row inserted straight into a partition would get no value before PG 17.
    id              bigint      not null default nextval('webhook.event_id_seq'),
    -- bigint, not xid8: xid8 has no cast to bigint and no arithmetic.
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
    -- json, not jsonb: the bytes are sent as they were written, number spelling and key order included.
    payload         json        not null,
    previous        json,
    constraint type_is_noun_verb check (length(type) <= 200 and type ~ '^[a-z0-9_]+(\.[a-z0-9_]+){1,2}$')
) partition by list (slot);

comment on table  webhook.event is 'Every event, in the transaction that caused it; append-only';
comment on column webhook.event.id is 'Sequence number; the events of one row have rising numbers';
comment on column webhook.event.xid is 'Full id of the top-level transaction that wrote it';
comment on column webhook.event.created_at is 'When the change was captured, within its transaction';
comment on column webhook.event.subscription_id is 'For this subscription alone (a ping); null: for all that match';
comment on column webhook.event.slot is 'Slot of the ring';
comment on column webhook.event.truncated is 'The payload was over the cap and has been cut to the key columns';
comment on column webhook.event.type is 'noun.verb or namespace.noun.verb';
comment on column webhook.event.table_name is 'Qualified name of the table; null for webhook_emit()';
comment on column webhook.event.key is
    'Which thing it is about: the key column''s text, or a JSON array of them when there are several';
comment on column webhook.event.actor is 'Setting webhook.actor of the session: who did it';
comment on column webhook.event.origin is 'Setting webhook.origin of the session: which system did it';
comment on column webhook.event.traceparent is 'Setting webhook.traceparent of the session (W3C Trace Context)';
comment on column webhook.event.payload is '"data" in the body';
comment on column webhook.event.previous is '"previous" in the body: former values of the columns that an update changed';

-- The one index: each further one costs a watched single-row INSERT a fifth of all that capture costs. It serves the
-- reader, by transaction: "xid >= $1" (a window), "xid = any ($2)" (what ended since), and with stretches of ids the pages
-- of a large window; and every look-up of one event, by (xid, id): queue and attempts keep both.
create index event_xid_id_idx on webhook.event (xid, id);

-- The daemon computes the same; a test compares them.
create function webhook.order_key(ordering text, event webhook.event) returns bigint
    language sql immutable parallel safe
    return case ordering
        when 'strict' then 0
        when 'key' then ('x' || encode(substr(sha256(convert_to(coalesce((event).key, (event).table_name, (event).type), 'UTF8')),
                                              1, 8), 'hex'))::bit(64)::bigint
    end;
comment on function webhook.order_key(text, webhook.event) is
    'Which events of a subscription wait for one another: those of one number. Null: none';

-- ── Attempts: what happened on the wire, append-only ────────────────────────────────────────────────────────────

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

comment on table  webhook.attempt is 'Every attempt to deliver an event to a subscription, the successful ones too; append-only';
comment on column webhook.attempt.event_id is 'webhook.event.id';
comment on column webhook.attempt.event_xid is 'webhook.event.xid: events are found by transaction and id';
comment on column webhook.attempt.started_at is 'When the request was handed to the network, by the daemon''s clock';
comment on column webhook.attempt.duration_ms is 'Until the outcome was known, in milliseconds';
comment on column webhook.attempt.slot is 'Slot of the ring, by started_at';
comment on column webhook.attempt.attempt is '1 for the first';
comment on column webhook.attempt.status is 'HTTP status, if one was received';
comment on column webhook.attempt.outcome is
    'succeeded, http_error (any status but 2xx), timeout, dns, connect, tls, protocol, or refused (by the daemon: its address policy, or a fault of its own, which is not charged to the receiver)';
comment on column webhook.attempt.next_at is 'When the next attempt is due; null: this was the last';
comment on column webhook.attempt.error is 'What went wrong, in words';
comment on column webhook.attempt.dns_ms is 'Resolving the host name, in milliseconds; null: a kept-alive connection, or an address in the URL';
comment on column webhook.attempt.connect_ms is 'TCP connect, in milliseconds; null: a kept-alive connection';
comment on column webhook.attempt.tls_ms is 'TLS handshake, in milliseconds; null: a kept-alive connection, or plain http';
comment on column webhook.attempt.first_byte_ms is 'From the request being written to the head of the answer, in milliseconds';
comment on column webhook.attempt.batch_id is
    'webhook-id of the request when it carried several events, or one made of several changes; one attempt row per event';
comment on column webhook.attempt.response is 'Start of the response body, at most 4 KiB; kept of failed attempts';

-- One delivery's attempts (webhook.delivery), and after a crash: which pairs of a page of events are done.
create index attempt_event_id_subscription_id_idx on webhook.attempt (event_id, subscription_id);
-- Rates of the last hour (webhook.subscription_stats); a BRIN costs the ledger nothing to speak of.
create index attempt_started_at_idx on webhook.attempt using brin (started_at);

-- 16 slots each, created once and never dropped: a missing partition would fail the application's INSERT, and DROP or
-- DETACH would need a lock on the parent that waits for every reader.
do $$
begin
    for slot in 0..15 loop
        execute format('create table webhook.event_%s partition of webhook.event for values in (%s)', slot, slot);
        execute format('create table webhook.attempt_%s partition of webhook.attempt for values in (%s)', slot, slot);
    end loop;
end
$$;

-- ── Queue: the unhappy path only ────────────────────────────────────────────────────────────────────────────────

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
    'Deliveries that could not be made at once: failed and waiting for their next attempt, or put aside while a receiver is slow, down or paused. Ids only; the payload stays in webhook.event';
comment on column webhook.queue.event_xid is 'webhook.event.xid: events are found by transaction and id';
comment on column webhook.queue.event_slot is 'webhook.event.slot, to find the event without searching the ring';
comment on column webhook.queue.attempts is 'Attempts made so far';
comment on column webhook.queue.retry_from is 'Attempts made before the present schedule began (a redelivery begins a new one)';
comment on column webhook.queue.state is
    'waiting: due at next_at; backlog: to be taken in order as soon as the lane can; blocked: an earlier event of its order_key is not final yet';
comment on column webhook.queue.order_key is
    'With ordering key: a hash of the event''s key; with strict: 0; null: the subscription has no order';

-- The daemon's timer: "next_at > $1 and next_at <= $2 order by next_at".
create index queue_next_at_idx on webhook.queue (next_at) where state = 'waiting';
-- What comes next once an event is final: "subscription_id = $1 and order_key = $2 and state = 'blocked' order by event_id".
create index queue_order_key_idx on webhook.queue (subscription_id, order_key, event_id) where order_key is not null;

-- ── Watches and event types ─────────────────────────────────────────────────────────────────────────────────────

create table webhook.watch (
    relation    regclass    primary key,
    noun        text        not null,
    verbs       jsonb       not null,
    columns     text[],
    exclude     text[],
    on_columns  text[],
    condition   text,
    payload     regproc,
    key_columns text[]      not null,
    created_at  timestamptz not null default now(),
    constraint noun_has_one_or_two_segments check (noun ~ '^[a-z0-9_]+(\.[a-z0-9_]+)?$'),
    constraint columns_or_exclude_not_both check (columns is null or exclude is null)
);
comment on table webhook.watch is 'Watched tables as webhook_watch() was told; the triggers carry the same in their argument';

create table webhook.event_type (
    type        text     primary key,
    relation    regclass,
    description text,
    constraint type_is_noun_verb check (length(type) <= 200 and type ~ '^[a-z0-9_]+(\.[a-z0-9_]+){1,2}$')
);
comment on table webhook.event_type is 'Event types that watches emit';

-- ── Cursor: how far delivery has come ───────────────────────────────────────────────────────────────────────────

create table webhook.cursor (
    singleton         boolean     primary key default true,
    snapshot          pg_snapshot not null,
    epoch             bigint      not null default 0,
    system_identifier bigint      not null,
    database_oid      oid         not null,
    saved_at          timestamptz not null default clock_timestamp(),
    constraint there_is_one_row check (singleton)
);
comment on table  webhook.cursor is
    'Checkpoint of the daemon, and the identity of the cluster it belongs to: a copy of the database has another and stays silent';
comment on column webhook.cursor.snapshot is
    'All events visible in it are resolved: attempted, queued, or matched by nobody';
comment on column webhook.cursor.epoch is 'Raised by each daemon that takes over; a checkpoint of an older one is refused';

-- ── What a dump of the database carries ─────────────────────────────────────────────────────────────────────────

select pg_extension_config_dump('webhook.watch', '');
select pg_extension_config_dump('webhook.event_type', '');
select pg_extension_config_dump('webhook.queue', '');
select pg_extension_config_dump('webhook.cursor', '');

create function webhook.capture() returns trigger
    language c volatile as 'MODULE_PATHNAME', 'webhook_capture';
comment on function webhook.capture() is
    'Trigger function of watched tables: emits an event for each changed row. Its argument is written by webhook_watch()';
revoke all on function webhook.capture() from public;

create function webhook.gate_ring() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_ring_wrapper';
comment on function webhook.gate_ring() is
    'Notes that this transaction has emitted: its commit wakes the daemon if it sleeps. For SQL that inserts into webhook.event itself';
revoke all on function webhook.gate_ring() from public;

create function webhook.gate_take() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_take_wrapper';
comment on function webhook.gate_take() is
    'Daemon: about to sleep. Waits until every commit that did not notify is visible; from then on commits notify on channel pg_webhook. Held by the session; taking it twice is taking it once';
revoke all on function webhook.gate_take() from public;

create function webhook.gate_release() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_release_wrapper';
comment on function webhook.gate_release() is
    'Daemon: awake. Commits no longer notify. Nothing happens if the session does not hold the gate';
revoke all on function webhook.gate_release() from public;

-- Subscriptions and what hangs on them: secrets, what is known of their receivers, backfills; and who sees which.

-- ── Subscriptions ───────────────────────────────────────────────────────────────────────────────────────────────

create table webhook.subscription (
    id               bigint      generated always as identity primary key,
    name             text        unique,
    url              text        not null,
    events           text[]      not null default '{*}',
    enabled          boolean     not null default true,
    paused_reason    text,
    timeout          interval    not null default '15 seconds',
    retry            interval[]  not null default '{5s,5min,30min,2h,5h,10h,14h,20h,24h}',
    max_in_flight    integer     not null default 512,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    created_snapshot pg_snapshot not null default webhook.snapshot_before_this_transaction(),
    filter           jsonpath,
    format           text        not null default 'standard',
    payload_mode     text        not null default 'full',
    headers          jsonb       not null default '{}',
    exclude_origin   text[]      not null default '{}',
    rate_limit       numeric,
    ordering         text        not null default 'none',
    batch_size       integer     not null default 1,
    batch_window     interval    not null default '0',
    compact          boolean     not null default false,
    verification     text        not null default 'none',
    verified_at      timestamptz,
    signature        text[]      not null default '{standard}',
    owner            text        not null default current_user,
    tls              text,
    constraint url_is_http check (url ~ '^https?://'),
    constraint events_are_named check (cardinality(events) between 1 and 1000),
    constraint timeout_is_1ms_to_5min check (timeout between '1 millisecond' and '5 minutes'),
    constraint retry_has_at_most_50_steps check (cardinality(retry) <= 50),
    constraint max_in_flight_is_1_to_4096 check (max_in_flight between 1 and 4096),
    constraint paused_reason_only_when_paused check (paused_reason is null or not enabled),
    constraint format_is_known check (format in
        ('standard', 'cloudevents-structured', 'cloudevents-binary', 'form', 'raw')),
    constraint payload_mode_is_known check (payload_mode in ('full', 'thin', 'changed')),
    constraint headers_is_an_object check (jsonb_typeof(headers) = 'object'),
    constraint rate_limit_is_1_a_day_to_100000_a_second check (rate_limit between 1.0 / 86400 and 100000),
    constraint ordering_is_known check (ordering in ('none', 'key', 'strict')),
    constraint batch_size_is_1_to_1000 check (batch_size between 1 and 1000),
    constraint batch_window_is_0_to_1min check (batch_window between '0' and '1 minute'),
    constraint only_formats_with_an_envelope_batch check
        (batch_size = 1 or format in ('standard', 'cloudevents-structured')),
    constraint strict_order_is_not_compacted check (not (compact and ordering = 'strict')),
    constraint verification_is_known check (verification in ('none', 'ping', 'handshake')),
    constraint signature_is_known check (cardinality(signature) between 1 and 5 and
        signature <@ '{standard,standard-v1a,svix,github,stripe,none}'),
    constraint unsigned_is_said_alone check (signature = '{none}' or 'none' <> all (signature)),
    constraint tls_is_a_name check (tls ~ '^[A-Za-z0-9_-]{1,63}$')
);
comment on table  webhook.subscription is 'Who gets which events, and how';
comment on column webhook.subscription.enabled is 'false: paused; what matches meanwhile is kept in webhook.queue';
comment on column webhook.subscription.timeout is 'For a whole attempt, the response body included';
comment on column webhook.subscription.retry is 'Waits after the 1st, 2nd, … failed attempt; after the last the delivery is exhausted';
comment on column webhook.subscription.max_in_flight is 'Most requests under way at once';
comment on column webhook.subscription.filter is
    'SQL/JSON path on the event ({"type", "key", "table", "actor", "origin", "truncated", "data", "previous"}); what it does not match is not delivered';
comment on column webhook.subscription.format is 'Shape and content type of the body';
comment on column webhook.subscription.payload_mode is
    'full: data and previous; thin: neither, only which thing changed; changed: of data only what previous names too';
comment on column webhook.subscription.headers is 'Further request headers, name to value';
comment on column webhook.subscription.exclude_origin is 'Events with one of these origins (setting webhook.origin) do not match: no echo';
comment on column webhook.subscription.rate_limit is 'Most requests a second; null: as fast as the receiver takes them';
comment on column webhook.subscription.ordering is
    'none; key: an event of a key only after the former one of that key is final; strict: one after the other';
comment on column webhook.subscription.batch_size is 'Most events in one request; above 1 the body is a JSON array';
comment on column webhook.subscription.batch_window is 'How long an event may wait for others to fill the request';
comment on column webhook.subscription.compact is
    'While undelivered, several changes of one key become one event: first previous, last data';
comment on column webhook.subscription.verification is
    'none; ping: a webhook.ping must be answered with 2xx first; handshake: CloudEvents abuse protection (OPTIONS)';
comment on column webhook.subscription.verified_at is 'When the receiver confirmed; until then it gets nothing, and what matches is kept';
comment on column webhook.subscription.signature is
    'How requests are signed: standard and standard-v1a (Standard Webhooks, HMAC-SHA256 and ed25519), svix, github, stripe; none: not at all';
comment on column webhook.subscription.owner is
    'Whose it is: a role, whose members see and change it; or any other name, of a tenant of the application say, and then the admins alone';
comment on column webhook.subscription.tls is
    'Name of a set of certificates in the daemon''s configuration, [tls.NAME]: authorities and client certificate for this receiver';
comment on column webhook.subscription.created_snapshot is 'What is visible in it was committed before the subscription and does not match';

-- ── Secrets ─────────────────────────────────────────────────────────────────────────────────────────────────────

-- Apart from the subscription, so that reading that table tells no secret.
create table webhook.secret (
    id              bigint      generated always as identity primary key,
    subscription_id bigint      not null references webhook.subscription on delete cascade,
    secret          text        not null,
    created_at      timestamptz not null default now(),
    expires_at      timestamptz,
    public_key      text,
    constraint secret_is_sealed_elsewhere_or_clear check (secret ~
        '^(sealed:v1:[0-9a-f]{16}:[A-Za-z0-9+/]+=*|env:WEBHOOKD_SECRET_[A-Z0-9_]+|file:[^[:cntrl:]]+|whs(ec|k)_[A-Za-z0-9+/]+=*)$'),
    constraint public_key_is_whpk check (public_key ~ '^whpk_[A-Za-z0-9+/]{43}=$'),
    constraint pair_has_a_public_key check (secret !~ '^whsk_' or public_key is not null)
);
comment on table  webhook.secret is 'Signing keys; every one that has not expired signs, the newest first. For the daemon alone';
comment on column webhook.secret.secret is
    'sealed:v1:… for the daemon''s key; env:NAME or file:PATH, which the daemon looks up; or, without a sealing key, the secret in clear: whsec_…, whsk_…';
comment on column webhook.secret.expires_at is 'null: until it is replaced';
comment on column webhook.secret.public_key is 'Of a key pair (ed25519): what receivers verify with; null: a symmetric secret, or one that is kept elsewhere';
-- The secrets of one subscription, and the cascade from it.
create index secret_subscription_id_idx on webhook.secret (subscription_id);

create table webhook.sealing_key (
    singleton  boolean     primary key default true,
    public_key text        not null,
    key_id     text        not null,
    set_at     timestamptz not null default now(),
    set_by     name        not null default session_user,
    constraint there_is_one_row check (singleton),
    constraint public_key_is_webhookds check (public_key ~ '^webhookd_public_[A-Za-z0-9+/]{48}$'),
    constraint key_id_is_hex check (key_id ~ '^[0-9a-f]{16}$')
);
comment on table  webhook.sealing_key is
    'The public half of the daemon''s key: what it seals, the daemon alone can open. No row: secrets are stored in clear';
comment on column webhook.sealing_key.key_id is 'Fingerprint; sealed texts bear it';

-- ── Receivers: what the daemon has learnt of them ───────────────────────────────────────────────────────────────

-- Written when a state changes, never per event. No row: nothing to report.
create table webhook.receiver (
    subscription_id      bigint      primary key references webhook.subscription on delete cascade,
    circuit              text        not null default 'closed',
    consecutive_failures integer     not null default 0,
    failing_since        timestamptz,
    warned_at            timestamptz,
    allowed_rate         numeric,
    updated_at           timestamptz not null default clock_timestamp(),
    constraint circuit_is_known check (circuit in ('closed', 'open')),
    constraint consecutive_failures_are_not_negative check (consecutive_failures >= 0),
    constraint open_only_when_failing check (circuit = 'closed' or failing_since is not null)
);
comment on table  webhook.receiver is 'How each receiver is doing, as the daemon sees it; written when it changes';
comment on column webhook.receiver.circuit is 'open: after 10 failures in a row, one delivery a minute is tried; closed: all are';
comment on column webhook.receiver.failing_since is 'Start of the present run of nothing but failures';
comment on column webhook.receiver.warned_at is 'When webhook.subscription.failing was emitted for this run';
comment on column webhook.receiver.allowed_rate is
    'Requests a second that the receiver has allowed in its handshake (WebHook-Allowed-Rate); null: it sets no limit. What its 429s bring the rate down to is known to the daemon alone';

-- Another URL, or another way of asking, has not confirmed anything yet.
create function webhook.forget_confirmation() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    new.verified_at := null;
    return new;
end
$$;
comment on function webhook.forget_confirmation() is 'A changed URL or verification must be confirmed anew';
revoke all on function webhook.forget_confirmation() from public;

create trigger forget_confirmation before update on webhook.subscription for each row
    when (old.url <> new.url or old.verification <> new.verification)
    execute function webhook.forget_confirmation();

-- Another URL is another receiver; one that was paused or disabled starts with a clean record.
create function webhook.forget_receiver() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if old.url <> new.url then
        delete from webhook.receiver r where r.subscription_id = new.id;
    else
        update webhook.receiver r
            set circuit = 'closed', consecutive_failures = 0, failing_since = null, warned_at = null,
                updated_at = clock_timestamp()
            where r.subscription_id = new.id;
    end if;
    return null;
end
$$;
comment on function webhook.forget_receiver() is 'A changed URL or a resumed subscription: past failures do not count';
revoke all on function webhook.forget_receiver() from public;

create trigger forget_receiver after update on webhook.subscription for each row
    when (old.url <> new.url or (new.enabled and not old.enabled))
    execute function webhook.forget_receiver();

-- ── Backfills: existing rows, step by step ──────────────────────────────────────────────────────────────────────

create table webhook.backfill (
    id              bigint      generated always as identity primary key,
    subscription_id bigint      not null references webhook.subscription on delete cascade,
    relation        regclass    not null,
    condition       text,
    -- A name, not a number: a dump is restored where roles have other numbers.
    requested_by    name        not null,
    search_path     text        not null,
    state           text        not null default 'running',
    after_key       text[],
    rows_done       bigint      not null default 0,
    last_event_id   bigint,
    error           text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    constraint state_is_known check (state in ('running', 'done', 'failed', 'cancelled')),
    constraint error_iff_failed check ((state = 'failed') = (error is not null))
);
comment on table  webhook.backfill is 'Existing rows on their way to a subscription as noun.snapshot events, and how far they have come';
comment on column webhook.backfill.condition is 'Only rows that meet it; evaluated with the rights of requested_by';
comment on column webhook.backfill.search_path is 'That of the caller, in which the names in the condition are looked up';
comment on column webhook.backfill.state is 'running, done, failed (see error) or cancelled';
comment on column webhook.backfill.after_key is 'Primary key of the last row that has been looked at, as text';
comment on column webhook.backfill.rows_done is 'Rows sent so far; those that do not meet condition or filter are not counted';
comment on column webhook.backfill.last_event_id is 'webhook.event.id of the last of them: the next step waits until it has been attempted or queued';
-- One at a time, and the daemon's "which are running".
create unique index backfill_running_idx on webhook.backfill (subscription_id, relation) where state = 'running';

-- ── Whose is what ───────────────────────────────────────────────────────────────────────────────────────────────

-- Whoever may read every event may know of every delivery. Views are asked as their reader, so they ask here too.
create function webhook.may_see_all() returns boolean
    language sql stable parallel safe
    return has_table_privilege('webhook.event'::regclass, 'select');
comment on function webhook.may_see_all() is 'Whether the present role sees the subscriptions and deliveries of all owners: readers, the daemon, admins';

create function webhook.may_see(owner text) returns boolean
    language sql stable parallel safe
    return webhook.may_see_all() or coalesce(pg_has_role(to_regrole(quote_ident(owner)), 'usage'), false);
comment on function webhook.may_see(text) is 'Whether the present role sees what this owner has: it is the owner, a member, or sees everything';

-- For reading alone: whatever writes is a function that asks whose it is (extension/src/subscribe/owner.rs).
alter table webhook.subscription enable row level security;
create policy of_owner on webhook.subscription for select using (webhook.may_see(owner));
alter table webhook.attempt enable row level security;
create policy of_owner on webhook.attempt for select
    using ((select webhook.may_see_all()) or subscription_id in (select s.id from webhook.subscription s));
create policy by_daemon on webhook.attempt for insert with check (true);
alter table webhook.backfill enable row level security;
create policy of_owner on webhook.backfill for select
    using ((select webhook.may_see_all()) or subscription_id in (select s.id from webhook.subscription s));

-- ── Changes of subscriptions travel in the outbox, in commit order with the events they apply to ────────────────

create function webhook.tell_subscription_change() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    subscription webhook.subscription;
    verb text;
begin
    if tg_table_name = 'secret' then
        select * into subscription from webhook.subscription s
            where s.id = (case tg_op when 'DELETE' then old.subscription_id else new.subscription_id end);
        if not found then  -- the subscription goes too, and tells it itself
            return null;
        end if;
        verb := 'updated';
    elsif tg_op = 'DELETE' then
        subscription := old;
        verb := 'deleted';
    else
        subscription := new;
        verb := case tg_op when 'INSERT' then 'created' else 'updated' end;
    end if;
    insert into webhook.event (type, table_name, key, payload)
    values ('webhook.subscription.' || verb, 'webhook.subscription', subscription.id::text,
            json_build_object('id', subscription.id, 'name', subscription.name, 'enabled', subscription.enabled,
                              'events', subscription.events, 'filter', subscription.filter,
                              'exclude_origin', subscription.exclude_origin));
    perform webhook.gate_ring();
    return null;
end
$$;
comment on function webhook.tell_subscription_change() is 'Emits webhook.subscription.created, .updated and .deleted';
revoke all on function webhook.tell_subscription_change() from public;

create trigger tell after insert or update or delete on webhook.subscription
    for each row execute function webhook.tell_subscription_change();
create trigger tell after insert or update or delete on webhook.secret
    for each row execute function webhook.tell_subscription_change();

-- ── What a dump of the database carries ─────────────────────────────────────────────────────────────────────────

select pg_extension_config_dump('webhook.subscription', '');
select pg_extension_config_dump('webhook.subscription_id_seq', '');
select pg_extension_config_dump('webhook.secret', '');
select pg_extension_config_dump('webhook.secret_id_seq', '');
select pg_extension_config_dump('webhook.sealing_key', '');
select pg_extension_config_dump('webhook.backfill', '');
select pg_extension_config_dump('webhook.backfill_id_seq', '');

create function webhook.path_matches(
    path jsonpath, type text, key text, table_name text, actor text, origin text, truncated boolean, payload json, previous json
) returns boolean
    language c immutable parallel unsafe cost 1000 as 'MODULE_PATHNAME', 'path_matches_wrapper';
comment on function webhook.path_matches(jsonpath, text, text, text, text, text, boolean, json, json) is
    'Whether a SQL/JSON path holds for an event of these parts; call webhook.filter_matches()';
revoke all on function webhook.path_matches(jsonpath, text, text, text, text, text, boolean, json, json) from public;

-- Who gets what, in one place: the views, webhook_replay() and webhook_dry_run() ask here, and the daemon's router states
-- the same rule.

-- Without a SET or a definer's rights, so that the planner puts these two into the query that calls them.
create function webhook.filter_matches(event webhook.event, filter jsonpath) returns boolean
    language sql immutable parallel unsafe
    return filter is null
        or webhook.path_matches(filter, (event).type, (event).key, (event).table_name, (event).actor, (event).origin,
                                (event).truncated, (event).payload, (event).previous);
comment on function webhook.filter_matches(webhook.event, jsonpath) is
    'Whether a filter lets an event through: a condition if it holds (@@), another path if it finds anything (@?), null always. What cannot be evaluated does not match; never raises for what an event holds';

-- Stable because format() is: called immutable it would not be put into the query.
create function webhook.mismatch(event webhook.event, subscription webhook.subscription) returns text
    language sql stable parallel unsafe
    return case
        when (event).type = 'webhook.delivery.requested' then 'it is a request to the daemon'
        when (event).subscription_id = (subscription).id then null
        when (event).subscription_id is not null then format('it is for subscription %s alone', (event).subscription_id)
        when not webhook.pattern_matches((subscription).events, (event).type) then 'no pattern matches its type'
        when pg_visible_in_snapshot((event).xid::text::xid8, (subscription).created_snapshot)
            then 'it was committed before the subscription was made'
        when (event).origin = any ((subscription).exclude_origin) then 'its origin is excluded'
        when not webhook.filter_matches(event, (subscription).filter) then 'the filter does not match'
    end;
comment on function webhook.mismatch(webhook.event, webhook.subscription) is
    'Why a subscription does not get an event; null: it does';

-- ── Moments and the ring ────────────────────────────────────────────────────────────────────────────────────────

create function webhook.ring_begins(at timestamptz default now()) returns timestamptz
    language sql stable parallel safe strict
    return to_timestamp((floor(extract(epoch from at) / 216000) - 15) * 216000);
comment on function webhook.ring_begins(timestamptz) is
    'The moment before which the ring holds nothing: 15 whole slots before the present one';

-- An open or a long range takes all of them.
create function webhook.ring_slots(since timestamptz, until timestamptz) returns smallint[]
    language sql immutable parallel safe strict
    return case
        when isfinite(since) and isfinite(until) and extract(epoch from until) - extract(epoch from since) < 15 * 216000
        then array(select webhook.ring_slot(to_timestamp(extract(epoch from since) + 216000 * n))
                   from generate_series(0, floor(extract(epoch from until) / 216000) - floor(extract(epoch from since) / 216000)) n)
        else '{0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}'
    end;
comment on function webhook.ring_slots(timestamptz, timestamptz) is 'The slots of the ring that a range of time falls into';

-- Views that answer "did they get it?" without a word to the daemon.

-- Committed, matched, and not yet attempted or queued: what lies between the checkpoint and now.
create view webhook.pending as
select e.id as sequence, e.xid as event_xid, e.slot as event_slot, e.created_at, s.id as subscription_id
from webhook.cursor c
join webhook.event e
    on e.xid >= pg_snapshot_xmin(c.snapshot)::text::bigint
   and not pg_visible_in_snapshot(e.xid::text::xid8, c.snapshot)
join webhook.subscription s on webhook.mismatch(e, s) is null
-- singleton: by primary key, so that the planner knows there is one row
where c.singleton
  and not exists (select from webhook.attempt a where a.event_id = e.id and a.subscription_id = s.id)
  and not exists (select from webhook.queue q where q.event_id = e.id and q.subscription_id = s.id);
comment on view webhook.pending is 'Events past the checkpoint that match a subscription and have neither attempt nor queue row';

-- Owners see their own. security_barrier: nobody's function in WHERE is asked about rows of others.
create view webhook.delivery with (security_barrier) as
select webhook.public_id(e.id, e.created_at) as event_id,
       d.sequence, d.subscription_id, e.type, e.key, d.state, d.attempts, d.next_attempt_at, d.last_status,
       d.last_error, e.created_at, d.delivered_at
from (
    select a.sequence, a.xid, a.subscription_id,
           case when q.event_id is not null
                    then case when q.attempts > q.retry_from and q.state <> 'blocked' then 'retrying' else 'queued' end
                when a.delivered_at is not null then 'delivered'
                else 'exhausted' end as state,
           a.attempts, q.next_at as next_attempt_at, a.last_status, a.last_error, a.delivered_at
    from (select event_id as sequence, event_xid as xid, subscription_id,
                 count(*) as attempts,
                 min(started_at + duration_ms * interval '1 millisecond') filter (where outcome = 'succeeded') as delivered_at,
                 (array_agg(status order by started_at desc, attempt desc))[1] as last_status,
                 (array_agg(error order by started_at desc, attempt desc))[1] as last_error
          from webhook.attempt group by event_id, event_xid, subscription_id) a
    left join webhook.queue q on q.event_id = a.sequence and q.event_xid = a.xid and q.subscription_id = a.subscription_id
    union all
    select q.event_id, q.event_xid, q.subscription_id, 'queued', 0, q.next_at, q.last_status, q.last_error, null
    from webhook.queue q
    where not exists (select from webhook.attempt a
                      where a.event_id = q.event_id and a.subscription_id = q.subscription_id)
    union all
    select p.sequence, p.event_xid, p.subscription_id, 'queued', 0, null, null, null, null
    from webhook.pending p
) d
left join webhook.event e on e.xid = d.xid and e.id = d.sequence
where (select webhook.may_see_all())
   or d.subscription_id in (select s.id from webhook.subscription s where webhook.may_see(s.owner));
comment on view webhook.delivery is
    'One row per event and subscription: delivered, retrying, queued or exhausted. By public id: where sequence = webhook.event_sequence(''evt_…'')';

-- Attempts and queue rows know the event's transaction, and with it the index. Of an event that nobody was to get they
-- know nothing: the slot that it was written in is searched through. A row inserted by hand has taken its slot and its
-- time from two looks at the clock.
create function webhook.find_event(event_id text) returns setof webhook.event
    language plpgsql stable parallel safe strict rows 1 set search_path = pg_catalog, pg_temp
as $$
declare
    sequence constant bigint := webhook.event_sequence(event_id);
    at constant timestamptz := webhook.event_created_at(event_id);
    slots constant smallint[] := array[webhook.ring_slot(at - interval '1 second'), webhook.ring_slot(at + interval '1 second')];
begin
    return query
        select e.* from webhook.event e
        where e.slot = any (slots) and e.id = sequence and e.created_at = at
          and e.xid in (select a.event_xid from webhook.attempt a where a.event_id = sequence
                        union all
                        select q.event_xid from webhook.subscription s
                        join webhook.queue q on q.subscription_id = s.id and q.event_id = sequence);
    if not found then
        return query select e.* from webhook.event e where e.slot = any (slots) and e.id = sequence and e.created_at = at;
    end if;
end
$$;
comment on function webhook.find_event(text) is 'The event of a public id (evt_…); no row: there is none, or none any more';

create view webhook.subscription_stats with (security_barrier) as
select s.id, s.name, s.owner, s.enabled, s.paused_reason, s.verification, s.verified_at,
       coalesce(r.circuit, 'closed') as circuit, coalesce(r.consecutive_failures, 0) as consecutive_failures,
       r.failing_since, r.allowed_rate,
       coalesce(q.retrying, 0) as retrying, coalesce(q.queued, 0) as queued, coalesce(q.blocked, 0) as blocked,
       q.next_attempt_at,
       coalesce(a.delivered, 0) as delivered_1h, coalesce(a.failed, 0) as failed_attempts_1h,
       a.duration_ms_p50 as duration_ms_p50_1h, a.duration_ms_p99 as duration_ms_p99_1h,
       a.last_success_at, a.last_failure_at
from webhook.subscription s
left join webhook.receiver r on r.subscription_id = s.id
left join (select subscription_id,
                  count(*) filter (where attempts > retry_from and state <> 'blocked') as retrying,
                  count(*) filter (where attempts <= retry_from or state = 'blocked') as queued,
                  count(*) filter (where state = 'blocked') as blocked,
                  min(next_at) as next_attempt_at
           from webhook.queue group by subscription_id) q on q.subscription_id = s.id
left join (select subscription_id,
                  count(*) filter (where outcome = 'succeeded') as delivered,
                  count(*) filter (where outcome <> 'succeeded') as failed,
                  percentile_disc(0.5) within group (order by duration_ms) as duration_ms_p50,
                  percentile_disc(0.99) within group (order by duration_ms) as duration_ms_p99,
                  max(started_at) filter (where outcome = 'succeeded') as last_success_at,
                  max(started_at) filter (where outcome <> 'succeeded') as last_failure_at
           from webhook.attempt where started_at > now() - interval '1 hour'
           group by subscription_id) a on a.subscription_id = s.id
where webhook.may_see(s.owner);
comment on view webhook.subscription_stats is 'One row per subscription: how its receiver is doing, what waits (queued includes blocked), and the last hour''s attempts';

create view webhook.public_key with (security_barrier) as
select k.subscription_id, k.public_key, k.created_at, k.expires_at
from webhook.secret k join webhook.subscription s on s.id = k.subscription_id
where k.public_key is not null and (k.expires_at is null or k.expires_at > now()) and webhook.may_see(s.owner);
comment on view webhook.public_key is
    'What receivers verify signatures of profile standard-v1a with (ed25519): whpk_ and base64; during a rotation the old one too';

-- The daemon needs no heartbeat: its locks are visible to everyone and vanish with it.
create view webhook.health as
select c.snapshot is null or (c.system_identifier = i.system_identifier and c.database_oid = i.database_oid) as armed,
       exists (select from pg_locks l where l.locktype = 'advisory' and l.database = i.database_oid and l.granted
               and l.classid = 1885820776 and l.objid = 1 and l.objsubid = 2) as dispatcher_running,
       case when exists (select from pg_locks l where l.locktype = 'advisory' and l.database = i.database_oid
                         and l.granted and l.mode = 'RowExclusiveLock'
                         and l.classid = 1885820776 and l.objid = 2 and l.objsubid = 7)
            then 'asleep' else 'awake' end as gate,
       c.saved_at as checkpoint_at,
       (select count(*) from webhook.pending) as pending,
       (select count(*) from webhook.queue) as queued,
       (select count(*) from webhook.receiver r where r.circuit = 'open') as circuits_open,
       coalesce(clock_timestamp() - (select min(created_at) from webhook.pending), interval '0') as lag,
       least((select min(p.created_at) from webhook.pending p),
             (select min(e.created_at) from webhook.queue q
              join webhook.event e on e.slot = q.event_slot and e.xid = q.event_xid and e.id = q.event_id)) as oldest_undelivered_at,
       (select k.key_id from webhook.sealing_key k) as sealing_key,
       (select case when count(*) > 0 then format('%s in clear, readable in every dump and backup; see webhook_seal()', count(*))
                    when exists (select from webhook.sealing_key) then 'sealed'
                    else 'none is in the database' end
        from webhook.secret s where s.secret ~ '^whs') as secrets
from (select (pg_control_system()).system_identifier,
             (select oid from pg_database where datname = current_database()) as database_oid) i
left join webhook.cursor c on c.singleton;
comment on view webhook.health is
    'One row: armed for this cluster, daemon present, gate, age of the checkpoint, what waits, how secrets are kept. gate = asleep: the next commit rings with NOTIFY';

-- The SQL API. Bodies lie in extension/src, in the file named above each group; what is declared here is who may call
-- what with which arguments, and on whose behalf it runs. The functions live in the schema that the extension is
-- created in, their supports in schema webhook. sql/grants.sql takes every right from PUBLIC at the end.

-- ── Watching tables: watch/ ─────────────────────────────────────────────────────────────────────────────────────

-- Not security definer: these two must know who calls, and read a condition with its author's rights. They step up to
-- the extension's owner by themselves, once it is clear that the caller owns the table (rights.rs).
create function webhook_watch(
    rel regclass,
    noun text default null,
    verbs jsonb default '{"insert":"created","update":"updated","delete":"deleted","truncate":"truncated"}',
    columns text[] default null,
    exclude text[] default null,
    on_columns text[] default null,
    condition text default null,
    payload regproc default null,
    key_columns text[] default null
) returns webhook.watch
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_watch_wrapper';
comment on function webhook_watch is
    'Watch a table: its changes become events noun.verb. Calling again redefines. For the table''s owner';

create function webhook_unwatch(rel regclass) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_unwatch_wrapper';
comment on function webhook_unwatch is 'Watch a table no longer: its triggers go, its past events stay';

-- Event types follow from the watches; those without a table were entered by hand and stay.
create function webhook.list_event_types() returns void
    language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    delete from webhook.event_type t
    where t.relation is not null
      and not exists (select from webhook.watch w, jsonb_each_text(w.verbs) as v
                      where w.noun || '.' || v.value = t.type);
    insert into webhook.event_type as t (type, relation)
    select w.noun || '.' || v.value, min(w.relation::oid)::regclass
    from webhook.watch w, jsonb_each_text(w.verbs) as v
    group by 1
    on conflict (type) do update set relation = excluded.relation
        where t.relation is distinct from excluded.relation;
end;
comment on function webhook.list_event_types() is 'Brings webhook.event_type in line with webhook.watch';

-- A dropped table takes its triggers along, but not its row in webhook.watch.
create function webhook.forget_dropped_tables() returns event_trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    gone oid[];
begin
    select array_agg(d.objid) into gone
    from pg_event_trigger_dropped_objects() d
    where d.classid = 'pg_class'::regclass and d.objsubid = 0 and d.object_type = 'table' and not d.is_temporary;
    if gone is null then
        return;
    end if;
    delete from webhook.watch w where w.relation = any (gone);
    if found then
        perform webhook.list_event_types();
    end if;
exception
    -- Whatever is wrong with our tables must not keep anybody from dropping theirs.
    when others then
        raise warning 'pg_webhook could not forget a dropped table: %', sqlerrm;
end
$$;
comment on function webhook.forget_dropped_tables() is 'Removes the watches of tables that have been dropped';

create event trigger webhook_forget_dropped_tables on sql_drop
    when tag in ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP EXTENSION', 'DROP TYPE')
    execute function webhook.forget_dropped_tables();
comment on event trigger webhook_forget_dropped_tables is 'Removes the watches of tables that have been dropped';

-- ── Events: emit.rs, delivery.rs ────────────────────────────────────────────────────────────────────────────────

-- Runs no SQL, so it needs neither a definer nor a search path, which would cost more than the call itself.
create function webhook_emit(event_type text, payload json, key text default null) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_wrapper';
comment on function webhook_emit is
    'Put an application event into the outbox, in this transaction; returns its id (evt_…)';

create function webhook_ping(id bigint) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_ping_wrapper';
comment on function webhook_ping is 'Send webhook.ping to one subscription; returns the event''s id (evt_…)';

create function webhook_redeliver(event_id text, subscription_id bigint) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_redeliver_wrapper';
comment on function webhook_redeliver is
    'Deliver an event to a subscription once more, now and under the same id, with a fresh retry schedule';

create function webhook_replay(
    subscription_id bigint,
    since timestamptz,
    until timestamptz default now(),
    events text[] default null
) returns bigint
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_replay_wrapper';
comment on function webhook_replay is
    'Deliver the events of a range of time once more, in order and under the same ids, those too that are older than the subscription; returns how many';

create function webhook_dry_run(subscription_id bigint, since timestamptz)
    returns table (event_id text, sequence bigint, type text, key text, created_at timestamptz, matches boolean, reason text)
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_dry_run_wrapper';
comment on function webhook_dry_run is
    'Which events since then a subscription would have got as it is now, and why not the others. Delivers nothing';

-- ── Backfills: backfill/ ────────────────────────────────────────────────────────────────────────────────────────

-- Not security definer: it must know who calls, and reads the condition with the caller's rights.
create function webhook_backfill(subscription_id bigint, rel regclass, condition text default null) returns bigint
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_backfill_wrapper';
comment on function webhook_backfill is
    'Send the rows that a watched table has to one subscription, as events noun.snapshot, between the changes to it; returns the id in webhook.backfill';

-- Ends a backfill that is running; false: it is not.
create function webhook.end_backfill(id bigint, state text, error text default null) returns boolean
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    ended webhook.backfill;
begin
    update webhook.backfill b set state = state, error = error, updated_at = clock_timestamp()
        where b.id = id and b.state = 'running'
        returning * into ended;
    if not found then
        return false;
    end if;
    insert into webhook.event (type, key, payload)
    values ('webhook.backfill.' || state, id::text,
            json_build_object('id', id, 'subscription_id', ended.subscription_id, 'table', ended.relation::text,
                              'rows', ended.rows_done, 'error', error));
    perform webhook.gate_ring();
    return true;
end
$$;
comment on function webhook.end_backfill(bigint, text, text) is
    'Ends a backfill as done, failed or cancelled, and tells (webhook.backfill.done …); false: it is not running';

create function webhook_backfill_cancel(id bigint) returns boolean
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_backfill_cancel_wrapper';
comment on function webhook_backfill_cancel is
    'Stop a backfill; what it has sent stays sent. False: it has ended already';

create function webhook.backfill_step(id bigint, rows_max integer) returns boolean
    language c volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'backfill_step_wrapper';
comment on function webhook.backfill_step(bigint, integer) is
    'Daemon: send the next rows of a backfill, at most so many, in a transaction of its own; true: it has ended';

-- ── Subscriptions: subscribe/ ───────────────────────────────────────────────────────────────────────────────────

create function webhook_subscribe(
    url text,
    events text[] default '{*}',
    name text default null,
    secret text default null,
    timeout interval default '15 seconds',
    retry interval[] default '{5s,5min,30min,2h,5h,10h,14h,20h,24h}',
    max_in_flight integer default 512,
    enabled boolean default true,
    filter jsonpath default null,
    format text default 'standard',
    payload_mode text default 'full',
    headers jsonb default '{}',
    rate_limit numeric default null,
    ordering text default 'none',
    batch_size integer default 1,
    batch_window interval default '0',
    compact boolean default false,
    exclude_origin text[] default '{}',
    verification text default 'none',
    signature text[] default '{standard}',
    owner text default null,
    tls text default null
) returns table (id bigint, secret text)
    language c volatile parallel unsafe rows 1
    as 'MODULE_PATHNAME', 'webhook_subscribe_wrapper';
comment on function webhook_subscribe is
    'Deliver events that match the patterns to a URL, from this transaction on. The secret is shown here only; of a key pair (standard-v1a) its public half';

create function webhook_alter(
    id bigint,
    url text default null,
    events text[] default null,
    name text default null,
    secret text default null,
    timeout interval default null,
    retry interval[] default null,
    max_in_flight integer default null,
    enabled boolean default null,
    filter jsonpath default null,
    format text default null,
    payload_mode text default null,
    headers jsonb default null,
    rate_limit numeric default null,
    ordering text default null,
    batch_size integer default null,
    batch_window interval default null,
    compact boolean default null,
    exclude_origin text[] default null,
    verification text default null,
    signature text[] default null,
    owner text default null,
    tls text default null,
    clear text[] default null
) returns webhook.subscription
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_alter_wrapper';
comment on function webhook_alter is
    'Change a subscription; null leaves as is, clear ends name, filter, rate_limit or tls. A secret given here replaces all others at once';

create function webhook_unsubscribe(id bigint) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_unsubscribe_wrapper';
comment on function webhook_unsubscribe is
    'End a subscription, with its secrets and what is queued for it; past attempts stay';

create function webhook_pause(id bigint, reason text default null) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_pause_wrapper';
comment on function webhook_pause is 'Stop delivering to a subscription; what matches meanwhile is kept';

create function webhook_resume(id bigint, skip_backlog boolean default false) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_resume_wrapper';
comment on function webhook_resume is
    'Deliver to a subscription again, what was kept first; skip_backlog drops what is queued instead';

create function webhook_rotate_secret(id bigint, overlap interval default '24 hours') returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_rotate_secret_wrapper';
comment on function webhook_rotate_secret is
    'Make a new signing secret and return it (of a key pair: the public half); the old ones sign beside it until the overlap is over';

create function webhook_seal(public_key text) returns bigint
    language c volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'webhook_seal_wrapper';
comment on function webhook_seal is
    'Keep signing secrets sealed for the daemon''s key from now on (webhookd keygen prints its public half); those in clear are sealed at once. Returns how many that were';

-- ── Signatures: signing.rs ──────────────────────────────────────────────────────────────────────────────────────

create function webhook_sign(secret text, id text, ts bigint, body text) returns text
    language c immutable parallel safe strict
    as 'MODULE_PATHNAME', 'webhook_sign_wrapper';
comment on function webhook_sign is
    'The header webhook-signature (Standard Webhooks v1) of a message: "v1," and base64; ts in seconds since 1970';

create function webhook_verify(
    secret text,
    id text,
    ts bigint,
    body text,
    header text,
    now timestamptz default clock_timestamp()
) returns boolean
    language c immutable parallel safe
    as 'MODULE_PATHNAME', 'webhook_verify_wrapper';
comment on function webhook_verify is
    'Whether a webhook-signature header fits the message and its timestamp lies within 5 minutes of now; a missing part: false';

-- ── A copy of the database ──────────────────────────────────────────────────────────────────────────────────────

-- A dump carries subscriptions, watches, queue and cursor, but no events, and transaction ids mean nothing in another
-- cluster. What lies in the ring was then written after the restore, so all of it is looked at; attempts tell what is
-- done. Within one cluster (create database … template) the ids go on, and with them the checkpoint.
create function webhook_arm() returns void
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
declare
    here constant bigint := (select system_identifier from pg_control_system());
    this_database constant oid := (select oid from pg_database where datname = current_database());
    armed webhook.cursor;
begin
    select * into armed from webhook.cursor where singleton for update;
    if not found or (armed.system_identifier = here and armed.database_oid = this_database) then
        return;
    end if;
    if armed.system_identifier <> here then
        update webhook.subscription set created_snapshot = '3:3:';
        armed.snapshot := '3:3:';
    end if;
    update webhook.cursor
        set system_identifier = here, database_oid = this_database, snapshot = armed.snapshot, epoch = epoch + 1,
            saved_at = clock_timestamp();
end
$$;
comment on function webhook_arm is
    'After a restore or a copy: adopt this cluster and database, so that the daemon delivers from here. Nothing happens if that is so already';

-- ── Whose is what ───────────────────────────────────────────────────────────────────────────────────────────────

-- Asked by the functions above on behalf of their caller; who may arm is an admin.
create function webhook.may_manage(role oid, owner text) returns boolean
    language sql stable parallel safe
    return has_function_privilege(role, '@extschema@.webhook_arm()'::regprocedure, 'execute')
        or coalesce(pg_has_role(role, to_regrole(quote_ident(owner)), 'usage'), false);
comment on function webhook.may_manage(oid, text) is 'Whether a role may change what this owner has: it is the owner, a member, or an admin';

-- ── Erasure ─────────────────────────────────────────────────────────────────────────────────────────────────────

create table webhook.erasure (
    event_id        bigint      not null,
    event_xid       bigint      not null,
    payload_sha256  bytea       not null,
    previous_sha256 bytea,
    erased_at       timestamptz not null default now(),
    erased_by       name        not null default session_user,
    constraint erasure_pkey primary key (event_id, event_xid)
);
comment on table  webhook.erasure is 'Events whose payload webhook_erase() has blanked, and what proves what it was';
comment on column webhook.erasure.payload_sha256 is 'SHA-256 of webhook.event.payload as it was, in UTF-8';
comment on column webhook.erasure.previous_sha256 is 'The same of webhook.event.previous, if there was one';
select pg_extension_config_dump('webhook.erasure', '');

create function webhook_erase(rel regclass, key text) returns bigint
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    name text;
    count bigint;
begin
    if webhook_erase.key is null then
        raise exception using errcode = 'null_value_not_allowed', message = 'key must not be null',
            hint = 'Pass what webhook.event.key holds: the key column''s text, or a JSON array of them when there are several.';
    end if;
    -- A table that is not there any more is named in its events all the same; regclass then has no name for it.
    select format('%I.%I', n.nspname, c.relname) into name
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = webhook_erase.rel;
    if webhook_erase.rel is not null and name is null then
        raise exception using errcode = 'undefined_table',
            message = format('there is no relation with number %s', webhook_erase.rel::oid),
            hint = 'It may have been dropped just now.';
    end if;
    with subject as (
        select e.slot, e.xid, e.id, e.payload, e.previous from webhook.event e
        where e.key = webhook_erase.key and e.table_name is not distinct from name and e.type not like 'webhook.%'
          and not exists (select from webhook.erasure x where x.event_id = e.id and x.event_xid = e.xid)
    ), proof as (
        insert into webhook.erasure (event_id, event_xid, payload_sha256, previous_sha256)
        select s.id, s.xid, sha256(convert_to(s.payload::text, 'UTF8')), sha256(convert_to(s.previous::text, 'UTF8'))
        from subject s
    ), blanked as (
        update webhook.event e set payload = '{}', previous = case when e.previous is not null then json '{}' end
        from subject s where e.slot = s.slot and e.xid = s.xid and e.id = s.id
    ), echoed as (
        update webhook.attempt a set response = null
        from subject s where a.event_id = s.id and a.event_xid = s.xid and a.response is not null
    )
    select count(*) into count from subject;
    return count;
end
$$;
comment on function webhook_erase is
    'Blank the payloads of everything that was told about a subject, and what receivers answered; attempts and hashes stay. rel null: events of webhook_emit(). Returns how many events';

-- What the daemon tells the tables, where more than one row has to become true together. Executed by the daemon's role.

create function webhook.disable_subscription(id bigint, reason text) returns boolean
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    disabled webhook.subscription;
begin
    update webhook.subscription s set enabled = false, paused_reason = reason, updated_at = now()
        where s.id = id and s.enabled
        returning * into disabled;
    if not found then
        return false;
    end if;
    insert into webhook.event (type, table_name, key, payload)
    values ('webhook.subscription.disabled', 'webhook.subscription', id::text,
            json_build_object('id', id, 'name', disabled.name, 'reason', reason));
    perform webhook.gate_ring();
    return true;
end
$$;
comment on function webhook.disable_subscription(bigint, text) is
    'Daemon: pause a subscription whose receiver is beyond hope, and tell (webhook.subscription.disabled); false: it is paused already, or gone';

create function webhook.confirm_subscription(id bigint, url text, allowed_rate numeric default null) returns boolean
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    update webhook.subscription s set verified_at = clock_timestamp(), updated_at = now()
        where s.id = id and s.url = url and s.verification <> 'none';
    if not found then
        return false;
    end if;
    if allowed_rate is null then
        update webhook.receiver r set allowed_rate = null, updated_at = clock_timestamp() where r.subscription_id = id;
    else
        insert into webhook.receiver as r (subscription_id, allowed_rate) values (id, allowed_rate)
        on conflict on constraint receiver_pkey do update
            set allowed_rate = excluded.allowed_rate, updated_at = clock_timestamp();
    end if;
    return true;
end
$$;
comment on function webhook.confirm_subscription(bigint, text, numeric) is
    'Daemon: the receiver at this URL has confirmed, and allows so many requests a second (null: sets no limit); false: the subscription has another URL by now, or asks for no confirmation';

create function webhook.tell(event_type text, subscription_id bigint, payload json) returns void
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if num_nulls(event_type, subscription_id, payload) > 0 then
        raise exception using errcode = 'null_value_not_allowed', message = 'no argument of webhook.tell() may be null',
            hint = 'Pass the event type, the subscription''s id and a JSON object.';
    elsif event_type <> all (array['webhook.subscription.failing', 'webhook.subscription.recovered', 'webhook.delivery.exhausted']) then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('event_type: "%s" is nothing that the daemon has to tell', event_type),
            hint = 'It tells webhook.subscription.failing, webhook.subscription.recovered and webhook.delivery.exhausted.';
    end if;
    insert into webhook.event (type, table_name, key, payload)
    values (event_type, 'webhook.subscription', subscription_id::text, payload);
    perform webhook.gate_ring();
end
$$;
comment on function webhook.tell(text, bigint, json) is
    'Daemon: emit an operational event about a subscription, for all who name it in their patterns';

-- Rights: nothing to PUBLIC, and one call that gives a role what a part of the work needs.

-- Runs with the rights of its caller, who must be the extension's owner: GRANT by anybody else would only warn.
create function webhook_grant(role regrole, what text) returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    parts constant text[] := array['publisher', 'subscriber', 'reader', 'dispatcher', 'admin'];
    included text[];
    statement text;
    slot integer;
begin
    if role is null or what is null then
        raise exception using errcode = 'null_value_not_allowed',
            message = format('%s must not be null', case when role is null then 'role' else 'what' end),
            hint = 'Name a role and one of publisher, subscriber, reader, dispatcher, admin.';
    elsif not exists (select from pg_roles r where r.oid = role) then
        raise exception using errcode = 'undefined_object', message = format('role %s does not exist', role),
            hint = 'Create the role first. Nothing can be granted to PUBLIC.';
    elsif what <> all (parts) then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('what: "%s" is no part of the work', what),
            hint = 'Choose one of publisher, subscriber, reader, dispatcher, admin.';
    elsif not pg_has_role((select x.extowner from pg_extension x where x.extname = 'pg_webhook'), 'usage') then
        raise exception using errcode = 'insufficient_privilege',
            message = 'must be owner of extension pg_webhook',
            hint = 'The superuser who created the extension may grant, and members of his role.';
    end if;
    included := case what when 'admin' then array['publisher', 'subscriber', 'reader', 'admin'] else array[what] end;

    for statement in
        select r.statement from (values
            -- The triggers of webhook_watch() are made with the rights of its caller, who therefore needs their function.
            ('publisher', 'grant usage on schema @extschema@, webhook to %s'),
            ('publisher', 'grant execute on function webhook.capture(), @extschema@.webhook_emit(text, json, text),
                 @extschema@.webhook_watch(regclass, text, jsonb, text[], text[], text[], text, regproc, text[]),
                 @extschema@.webhook_unwatch(regclass) to %s'),

            ('subscriber', 'grant usage on schema @extschema@, webhook to %s'),
            ('subscriber', 'grant execute on function
                 @extschema@.webhook_subscribe(text, text[], text, text, interval, interval[], integer, boolean,
                     jsonpath, text, text, jsonb, numeric, text, integer, interval, boolean, text[], text, text[], text, text),
                 @extschema@.webhook_alter(bigint, text, text[], text, text, interval, interval[], integer, boolean,
                     jsonpath, text, text, jsonb, numeric, text, integer, interval, boolean, text[], text, text[], text, text, text[]),
                 @extschema@.webhook_unsubscribe(bigint), @extschema@.webhook_pause(bigint, text),
                 @extschema@.webhook_resume(bigint, boolean), @extschema@.webhook_rotate_secret(bigint, interval),
                 @extschema@.webhook_ping(bigint), @extschema@.webhook_redeliver(text, bigint),
                 @extschema@.webhook_replay(bigint, timestamptz, timestamptz, text[]),
                 @extschema@.webhook_dry_run(bigint, timestamptz),
                 @extschema@.webhook_backfill(bigint, regclass, text), @extschema@.webhook_backfill_cancel(bigint),
                 @extschema@.webhook_sign(text, text, bigint, text),
                 @extschema@.webhook_verify(text, text, bigint, text, text, timestamptz) to %s'),
            -- Rows of their own: row-level security, and the views' own conditions.
            ('subscriber', 'grant select on webhook.subscription, webhook.attempt, webhook.backfill, webhook.event_type,
                 webhook.delivery, webhook.subscription_stats, webhook.public_key to %s'),

            ('reader', 'grant usage on schema webhook to %s'),
            ('reader', 'grant select on webhook.event, webhook.attempt, webhook.queue, webhook.subscription,
                 webhook.watch, webhook.event_type, webhook.receiver, webhook.backfill, webhook.cursor, webhook.pending, webhook.delivery,
                 webhook.subscription_stats, webhook.public_key, webhook.health to %s'),

            ('reader', 'grant execute on function webhook.find_event(text), webhook.event_created_at(text) to %s'),

            -- Functions in a view are executed with the rights of the one who reads it.
            ('subscriber reader dispatcher', 'grant execute on function webhook.public_id(bigint, timestamptz),
                 webhook.event_sequence(text), webhook.pattern_matches(text[], text),
                 webhook.order_key(text, webhook.event), webhook.ring_begins(timestamptz),
                 webhook.ring_slots(timestamptz, timestamptz), webhook.ring_slot(timestamptz),
                 webhook.may_see_all(), webhook.may_see(text), webhook.mismatch(webhook.event, webhook.subscription),
                 webhook.filter_matches(webhook.event, jsonpath),
                 webhook.path_matches(jsonpath, text, text, text, text, text, boolean, json, json) to %s'),

            ('dispatcher', 'grant usage on schema webhook to %s'),
            ('dispatcher', 'grant select on webhook.event, webhook.subscription, webhook.secret, webhook.sealing_key, webhook.backfill, webhook.pending,
                 webhook.delivery, webhook.subscription_stats, webhook.health to %s'),
            ('dispatcher', 'grant select, insert on webhook.attempt to %s'),
            ('dispatcher', 'grant select, insert, update, delete on webhook.queue, webhook.receiver to %s'),
            ('dispatcher', 'grant select, insert, update on webhook.cursor to %s'),
            ('dispatcher', 'grant execute on function webhook.disable_subscription(bigint, text),
                 webhook.confirm_subscription(bigint, text, numeric), webhook.tell(text, bigint, json),
                 webhook.backfill_step(bigint, integer), webhook.end_backfill(bigint, text, text) to %s'),
            ('dispatcher', 'grant execute on function webhook.gate_ring(),
                 webhook.gate_take(), webhook.gate_release() to %s'),

            ('admin', 'grant execute on function @extschema@.webhook_arm(), @extschema@.webhook_seal(text),
                 @extschema@.webhook_erase(regclass, text) to %s'),
            ('admin', 'grant select on webhook.sealing_key, webhook.erasure to %s'),
            -- For webhookd rekey, together with what a dispatcher has.
            ('admin', 'grant update on webhook.secret to %s'),
            ('admin', 'grant update (description) on webhook.event_type to %s'),
            ('admin', 'grant insert, delete on webhook.event_type to %s')
        ) as r (parts, statement)
        where string_to_array(r.parts, ' ') && included
    loop
        execute format(statement, role);
    end loop;
    if what = 'dispatcher' then
        for slot in 0..15 loop
            execute format('grant select on webhook.event_%s to %s', slot, role);
            execute format('grant select, insert on webhook.attempt_%s to %s', slot, role);
        end loop;
    end if;
end
$$;
comment on function webhook_grant is
    'Give a role what it needs as publisher, subscriber, reader, dispatcher or admin (the first three together)';

do $$
declare
    member regprocedure;
begin
    for member in
        select p.oid::regprocedure from pg_depend d
        join pg_extension x on x.oid = d.refobjid and x.extname = 'pg_webhook'
        join pg_proc p on p.oid = d.objid
        where d.refclassid = 'pg_extension'::regclass and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
    loop
        execute format('revoke all on function %s from public', member);
    end loop;
end
$$;
revoke all on all tables in schema webhook from public;
revoke all on all sequences in schema webhook from public;
