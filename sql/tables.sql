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
    'succeeded, http_error (any status but 2xx), timeout, dns, connect, tls, protocol, or refused (address policy)';
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
    constraint verification_is_known check (verification in ('none', 'ping', 'handshake'))
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
comment on column webhook.subscription.created_snapshot is 'What is visible in it was committed before the subscription and does not match';

-- Apart from the subscription, so that reading that table tells no secret.
create table webhook.secret (
    id              bigint      generated always as identity primary key,
    subscription_id bigint      not null references webhook.subscription on delete cascade,
    secret          text        not null,
    created_at      timestamptz not null default now(),
    expires_at      timestamptz,
    constraint secret_is_whsec check (secret ~ '^whsec_[A-Za-z0-9+/]+=*$')
);
comment on table  webhook.secret is 'Signing secrets; every one that has not expired signs, the newest first';
comment on column webhook.secret.expires_at is 'null: until it is replaced';
-- The secrets of one subscription, and the cascade from it.
create index secret_subscription_id_idx on webhook.secret (subscription_id);

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
    'Requests a second that the receiver allows: WebHook-Allowed-Rate, or what its 429s have brought it down to';

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
select pg_extension_config_dump('webhook.backfill', '');
select pg_extension_config_dump('webhook.backfill_id_seq', '');
select pg_extension_config_dump('webhook.watch', '');
select pg_extension_config_dump('webhook.event_type', '');
select pg_extension_config_dump('webhook.queue', '');
select pg_extension_config_dump('webhook.cursor', '');
