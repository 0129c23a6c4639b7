-- pg_webhook 0.1.0 becomes 0.2.0. Written by scripts/upgrade.sh from extension/upgrade/0.1.0--0.2.0.sql; docs/RELEASE.md.

-- As in a fresh installation: nothing is looked up where others may create.
set local search_path = pg_catalog, pg_temp;

-- The update waits for open transactions that have written events, and writers queue behind the wait.
do $$
begin
    if current_setting('lock_timeout') = '0' then
        set local lock_timeout = '5s';
    end if;
end
$$;

-- -- Tables and rows ---------------------------------------------------------------------------------------------

-- A number becomes the name that it stands for, for pg_upgrade refuses regproc.
alter table webhook.watch alter column payload type text using payload::oid::text;
update webhook.watch w
    set payload = (select format('%I.%I', n.nspname, p.proname) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                   where p.oid::text = w.payload)
    where w.payload is not null;

alter table webhook.watch add column numbered_for oid[] not null default '{}';
create index watch_noun_idx on webhook.watch (noun);
create table webhook.detached_partition (
    relation    regclass    primary key,
    root        regclass    not null,
    detached_at timestamptz not null default now()
);
drop function webhook.list_event_types();
-- The code below replaces the function and comments on the event trigger, but does not create it.
create function webhook.follow_owners() returns event_trigger language plpgsql as 'begin end';
create event trigger webhook_follow_owners on ddl_command_end
    when tag in ('ALTER TABLE')
    execute function webhook.follow_owners();
create function webhook.follow_partitions() returns event_trigger language c as 'MODULE_PATHNAME', 'webhook_follow_partitions';
create event trigger webhook_merge_attached_partitions on ddl_command_start
    when tag in ('ALTER TABLE')
    execute function webhook.follow_partitions();
create event trigger webhook_note_detached_partitions on ddl_command_end
    when tag in ('ALTER TABLE')
    execute function webhook.follow_partitions();

alter table webhook.event_type
    add column derived text,
    add column data_schema json,
    add column example json,
    add constraint data_schema_is_an_object check (json_typeof(data_schema) = 'object');
-- The instance is null: the first daemon that delivers after the update decides.
alter table webhook.cursor
    add column restored_at timestamptz,
    add column instance text,
    add column refused_instance text,
    add constraint instance_is_a_line check (instance !~ '^$|[[:cntrl:]]' and refused_instance !~ '^$|[[:cntrl:]]');
alter table webhook.receiver add column held_because text;

-- A name is one owner's.
alter table webhook.subscription
    drop constraint subscription_name_key,
    add constraint name_is_unique_for_its_owner unique (owner, name),
    drop constraint format_is_known,
    add constraint format_is_known check (format in
        ('standard', 'cloudevents-structured', 'cloudevents-binary', 'form', 'raw', 'supabase', 'hasura'));
-- Reads the whole of both tables, and events are captured meanwhile.
create index attempt_failed_idx on webhook.attempt (event_id) where outcome <> 'succeeded';
drop index webhook.queue_next_at_idx;
create index queue_next_at_idx on webhook.queue (next_at, subscription_id, event_id) where state = 'waiting';
create index queue_event_id_idx on webhook.queue ((event_id + 0));

create table webhook.setting (
    singleton        boolean  primary key default true,
    retention        boolean  not null default true,
    retention_period interval not null default '30 days',
    max_age          interval not null default '35 days',
    dump_events      boolean  not null default false,
    ring_bytes_max   bigint   default 10737418240,
    constraint there_is_one_row check (singleton),
    constraint retention_period_is_at_most_35_days check (retention_period between '0' and '35 days'),
    constraint max_age_is_from_the_retention_period_to_37_days check (max_age between retention_period and '37 days'),
    constraint ring_bytes_max_is_at_least_64_mib check (ring_bytes_max >= 67108864)
);
insert into webhook.setting default values;

-- Until now the clock chose the slot: all may hold what the daemon has not read. A session with the library of 0.1 goes on
-- to let the clock choose, so no slot is closed before the last of them has ended.
create table webhook.ring_head (
    singleton      boolean    primary key default true,
    present        smallint   not null,
    open           smallint[] not null,
    changes        bigint     not null default 0,
    sessions_since timestamptz,
    constraint there_is_one_row check (singleton),
    constraint the_present_slot_is_open check (present between 0 and 15 and present = any (open))
);
insert into webhook.ring_head (present, open, sessions_since)
    select webhook.ring_slot(clock_timestamp()), array(select n::smallint from generate_series(0, 15) n), clock_timestamp();
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
insert into webhook.ring_turn (slot, turn, began_at)
    select n, case n when h.present then 1 else 0 end, case n when h.present then clock_timestamp() end
    from generate_series(0, 15) n cross join webhook.ring_head h;

create table webhook.token (
    id           bigint      generated always as identity primary key,
    name         text        not null,
    token_sha256 bytea       not null unique,
    role         name        not null,
    owner        text,
    created_at   timestamptz not null default now(),
    created_by   name        not null default session_user,
    expires_at   timestamptz,
    constraint name_has_1_to_200_characters check (length(name) between 1 and 200 and name !~ '[[:cntrl:]]'),
    constraint owner_has_1_to_200_characters check (length(owner) between 1 and 200 and owner !~ '[[:cntrl:]]'),
    constraint token_sha256_has_32_bytes check (length(token_sha256) = 32)
);

create table webhook.idempotency (
    caller          text        not null,
    key             text        not null,
    request_sha256  bytea       not null,
    subscription_id bigint,
    created_at      timestamptz not null default now(),
    constraint idempotency_pkey primary key (caller, key),
    constraint key_has_1_to_255_characters check (length(key) between 1 and 255)
);
create index idempotency_created_at_idx on webhook.idempotency (created_at);

create domain webhook.event_type_name as text;

create sequence webhook.timeline_seq;

create table webhook.own_part (
    kind   text not null,
    name   text not null,
    state  text not null,
    repair text not null,
    constraint own_part_pkey primary key (kind, name)
);

-- -- What a fresh installation says ------------------------------------------------------------------------------

comment on schema webhook is 'pg_webhook: events, attempts, subscriptions, and the state of delivery';

revoke all on schema webhook from public;

comment on table  webhook.ring_head is 'One row: which slot of the ring is written to, and which may still be';

comment on column webhook.ring_head.present is 'Slot of the events that are captured now';

comment on column webhook.ring_head.open is
    'Slots that transactions may still write to: the present one, and earlier ones that open transactions have written to';

comment on column webhook.ring_head.changes is 'Number of changes of this row';

comment on column webhook.ring_head.sessions_since is
    'Update from 0.1: no slot is closed while a session from before this moment is connected, for it may use the library of 0.1';

comment on table  webhook.ring_turn is 'The last turn of each slot of the ring';

comment on column webhook.ring_turn.turn is 'Turns are numbered from 1 on; 0: none since the installation or the update';

comment on column webhook.ring_turn.began_at is 'When the slot became the present one';

comment on column webhook.ring_turn.ended_at is 'When the last transaction that could write to it had ended; null: one still can';

comment on column webhook.ring_turn.rows is 'Number of events at the end of the turn; null: not counted yet';

comment on column webhook.ring_turn.first_at is 'Smallest created_at of its events; null: not known yet';

comment on column webhook.ring_turn.last_at is 'Largest created_at of its events';

comment on column webhook.ring_turn.held is
    'Why retention kept the slot when it was last due: in use, undelivered or unresolved; null: nothing kept it';

comment on column webhook.ring_turn.removed_upto is
    'Events that have been removed from the slot were captured up to this moment; null: none has been';

create or replace function webhook.present_slot() returns smallint
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'present_slot_wrapper';
comment on function webhook.present_slot() is
    'The slot for an event that is inserted now; stays open until this transaction ends';

create or replace function webhook.slot_is_open(slot smallint) returns boolean
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'slot_is_open_wrapper';
comment on function webhook.slot_is_open(smallint) is
    'Whether the daemon reads the slot. Certain for a transaction that holds a lock on the partition';

create or replace function webhook.ring_changed() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'ring_changed_wrapper';
comment on function webhook.ring_changed() is 'Tells all sessions that webhook.ring_head is another once this transaction commits';

create or replace function webhook.announce_ring() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform webhook.ring_changed();
    return null;
end
$$;
comment on function webhook.announce_ring() is 'Writers of events see a change of webhook.ring_head before their next event';

create or replace trigger announce after insert or update or delete or truncate on webhook.ring_head
    for each statement execute function webhook.announce_ring();
alter table webhook.ring_head enable always trigger announce;

create or replace function webhook.ring_slot(at timestamptz) returns smallint
    language sql stable parallel safe strict security definer set search_path = pg_catalog, pg_temp
    return coalesce((select t.slot from webhook.ring_turn t
                     where t.began_at <= at and (t.ended_at is null or t.ended_at > at)
                     order by t.turn desc limit 1),
                    (select h.present from webhook.ring_head h where h.singleton));
comment on function webhook.ring_slot(timestamptz) is
    'The slot of the ring whose turn it was at a moment, by the server''s clock; the present one if it was none''s';

create or replace function webhook.current_xid() returns bigint
    language sql volatile parallel unsafe
    return pg_current_xact_id()::text::bigint;
comment on function webhook.current_xid() is
    'The full id of the top-level transaction: savepoints share it, so one comparison shows whether an event is committed';

create or replace function webhook.snapshot_before_this_transaction() returns pg_snapshot
    language sql volatile parallel unsafe
    return (select case when t.own >= pg_snapshot_xmax(t.seen) then t.seen
                        else format('%s:%s:%s', pg_snapshot_xmin(t.seen), pg_snapshot_xmax(t.seen),
                                    (select string_agg(x.id::text, ',' order by x.id)
                                     from (select pg_snapshot_xip(t.seen) union select t.own) as x (id)))::pg_snapshot
                   end
            from (select pg_current_xact_id() as own, pg_current_snapshot() as seen) as t);
comment on function webhook.snapshot_before_this_transaction() is
    'What is committed now, without what this transaction has done';

create or replace function webhook.public_id(sequence bigint, created_at timestamptz) returns text
    language sql immutable parallel safe strict
    return 'evt_' || lpad(to_hex((extract(epoch from created_at) * 1000000)::bigint), 14, '0') || to_hex(sequence);
comment on function webhook.public_id(bigint, timestamptz) is
    'The id that receivers see (webhook-id, and "id" in the body), from webhook.event.id and created_at';

create or replace function webhook.event_sequence(event_id text) returns bigint
    language sql immutable parallel safe strict
    return case when event_id ~ '^evt_[0-9a-f]{15,30}$'
                then ('x' || lpad(substr(event_id, 19), 16, '0'))::bit(64)::bigint end;
comment on function webhook.event_sequence(text) is
    'webhook.event.id of a public id, or null if the text is none: where sequence = webhook.event_sequence(''evt_...'')';

create or replace function webhook.event_created_at(event_id text) returns timestamptz
    language sql immutable parallel safe strict
    return case when event_id ~ '^evt_[0-9a-f]{15,30}$'
                then timestamptz 'epoch' + ('x' || substr(event_id, 5, 14))::bit(56)::bigint * interval '1 microsecond' end;
comment on function webhook.event_created_at(text) is 'webhook.event.created_at of a public id, or null if the text is none';

create or replace function webhook.pattern_matches(events text[], type text) returns boolean
    language sql immutable parallel safe
    return events && array[type, case when not starts_with(type, 'webhook.') then '*' end,
                           case when split_part(type, '.', 2) <> '' then split_part(type, '.', 1) || '.*' end,
                           case when split_part(type, '.', 3) <> ''
                                then split_part(type, '.', 1) || '.' || split_part(type, '.', 2) || '.*' end];
comment on function webhook.pattern_matches(text[], text) is 'Whether an event type belongs to a subscription''s patterns';

create or replace function webhook.next_number() returns bigint
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'next_number_wrapper';
comment on function webhook.next_number() is
    'The number for an event that is inserted now; after a recovery, beyond all numbers that can have been delivered';

create or replace function webhook.skip_numbers(beyond bigint default 0) returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'skip_numbers_wrapper';
comment on function webhook.skip_numbers(bigint) is
    'Daemon: skips all numbers up to this one, and so many more that no number that can have been delivered is used again';

create or replace function webhook.note_timeline() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'note_timeline_wrapper';
comment on function webhook.note_timeline() is 'Installation: the numbers so far belong to the present timeline';

select webhook.note_timeline();

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

create or replace function webhook.exact_utf8(text text) returns bytea
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'exact_utf8_wrapper';
comment on function webhook.exact_utf8(text) is
    'A text in UTF-8, different for different texts: what UTF-8 lacks is marked, byte for byte. Never raises';

create or replace function webhook.replace_untranslatable() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'replace_untranslatable_wrapper';
comment on function webhook.replace_untranslatable() is
    'From now on, this session reads U+FFFD for what UTF-8 lacks, and stores <U+0142> for what the database lacks';

create or replace function webhook.convert_encoding(integer, integer, cstring, internal, integer, boolean) returns integer
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
create or replace function webhook.order_key(ordering text, event webhook.event) returns bigint
    language sql immutable parallel safe
    return case ordering
        when 'strict' then 0
        when 'key' then ('x' || encode(substr(sha256(webhook.exact_utf8(coalesce((event).key, (event).table_name, (event).type))),
                                              1, 8), 'hex'))::bit(64)::bigint
    end;
comment on function webhook.order_key(text, webhook.event) is
    'Which events of a subscription wait for one another: those of one number. Null: none';

comment on table  webhook.attempt is 'Every attempt to deliver an event to a subscription, the successful ones too; append-only';

comment on column webhook.attempt.event_id is 'webhook.event.id';

comment on column webhook.attempt.event_xid is 'webhook.event.xid: events are found by transaction and id';

comment on column webhook.attempt.started_at is 'When the request was handed to the network, by the daemon''s clock';

comment on column webhook.attempt.duration_ms is 'Until the outcome was known, in milliseconds';

comment on column webhook.attempt.slot is 'Slot of the ring that was the present one when the row was written';

comment on column webhook.attempt.attempt is '1 for the first';

comment on column webhook.attempt.status is 'HTTP status, if one was received';

comment on column webhook.attempt.outcome is
    'succeeded, http_error (any status but 2xx), timeout, dns, connect, tls, protocol, or refused (by the daemon: its address policy, or a fault of its own, which is not charged to the receiver)';

comment on column webhook.attempt.next_at is 'When the next attempt is due; null: this was the last';

comment on column webhook.attempt.error is 'The error, in words';

comment on column webhook.attempt.dns_ms is 'Resolving the host name, in milliseconds; null: a kept-alive connection, or an address in the URL';

comment on column webhook.attempt.connect_ms is 'TCP connect, in milliseconds; null: a kept-alive connection';

comment on column webhook.attempt.tls_ms is 'TLS handshake, in milliseconds; null: a kept-alive connection, or plain http';

comment on column webhook.attempt.first_byte_ms is 'From the request being written to the head of the answer, in milliseconds';

comment on column webhook.attempt.batch_id is
    'webhook-id of the request when it carried several events, or one made of several changes; one attempt row per event';

comment on column webhook.attempt.response is 'Start of the response body, at most 4 KiB; kept of failed attempts';

alter table only webhook.event
    alter column id set default webhook.next_number(),
    alter column slot set default webhook.present_slot();

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

comment on table webhook.watch is 'Watched tables, as given to webhook_watch(). The argument of the triggers contains the same';

comment on column webhook.watch.payload is 'Qualified name of the function from the row type to json or jsonb';

comment on column webhook.watch.numbered_for is
    'OIDs of the table and its child tables when webhook_watch() was called: the column numbers in their triggers belong to these tables alone';

comment on table webhook.detached_partition is
    'Tables that were partitions of watched tables and are captured no longer; a row goes when its table is watched, attached or dropped, or by webhook_unwatch()';

comment on table webhook.event_type is
    'Event types: those that watches emit, and those that were entered by hand for what the application emits itself';

comment on column webhook.event_type.relation is 'A table whose watch emits it; null: entered by hand';

comment on column webhook.event_type.description is
    'For receivers. Follows the watch and the table''s comment until a user writes another one';

comment on column webhook.event_type.derived is 'The description that follows from the watch';

comment on column webhook.event_type.data_schema is
    'JSON Schema of "data", entered by hand. Null: derived from the system catalog where possible. See webhook_event_schema()';

comment on column webhook.event_type.example is
    'Example of "data", entered by hand; null: derived from the schema. See webhook_event_example()';

comment on table  webhook.cursor is
    'Checkpoint of the daemon, and the cluster and instance it belongs to: a copy of the database has another and stays silent';

comment on column webhook.cursor.instance is
    'What the daemons of this database call it (webhookd run --instance); those of another instance do not deliver. null: the next daemon to deliver decides';

comment on column webhook.cursor.refused_instance is
    'Instance of the daemon that was refused last, if none has delivered since';

comment on column webhook.cursor.restored_at is
    'A dump has brought this row, and webhook_arm() has not been called since; null: it was made here, or has been adopted';

comment on column webhook.cursor.snapshot is
    'All events visible in it are resolved: attempted, queued, or without a match';

comment on column webhook.cursor.epoch is 'Raised by each daemon that takes over; a checkpoint of an older one is refused';

create or replace function webhook.mark_restored_cursor() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    -- A cursor that is created here belongs here, and has no takeover yet.
    new.restored_at := case when new.epoch > 0
        or new.system_identifier <> (select c.system_identifier from pg_control_system() c)
        or new.database_oid <> (select d.oid from pg_database d where d.datname = current_database())
        then clock_timestamp() end;
    return new;
end
$$;
comment on function webhook.mark_restored_cursor() is 'Tells a checkpoint that a dump has brought from one that is made here';

create or replace trigger mark_restored before insert on webhook.cursor for each row execute function webhook.mark_restored_cursor();
alter table webhook.cursor enable always trigger mark_restored;

create or replace function webhook.mark_restored_event() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    new.xid := - new.xid;
    return new;
end
$$;
comment on function webhook.mark_restored_event() is
    'An event that another transaction has caused comes from a dump: its transaction id is none of this cluster, and is stored as a negative number until webhook_arm()';

create or replace trigger mark_restored before insert on webhook.event for each row
    when (new.xid <> webhook.current_xid()) execute function webhook.mark_restored_event();
create or replace function webhook.open_slot() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update webhook.ring_head h set open = h.open || new.slot, changes = h.changes + 1 where new.slot <> all (h.open);
    update webhook.ring_turn t set ended_at = null, rows = null, first_at = null, last_at = null where t.slot = new.slot;
    return new;
end
$$;
comment on function webhook.open_slot() is
    'A row that was inserted by hand into a slot whose turn is over opens the slot again, in the same transaction';

create or replace trigger open_slot before insert on webhook.event for each row
    when (new.xid = webhook.current_xid() and not webhook.slot_is_open(new.slot)) execute function webhook.open_slot();
do $$
declare
    -- Queued, or after the checkpoint. All conditions of a dump are evaluated in its one snapshot.
    undelivered constant text := 'where (select s.dump_events from webhook.setting s) and ((%1$s, %2$s) in (select q.event_id, q.event_xid from webhook.queue q)
        or (%2$s >= (select pg_snapshot_xmin(c.snapshot)::text::bigint from webhook.cursor c)
            and not pg_visible_in_snapshot(%2$s::text::xid8, (select c.snapshot from webhook.cursor c))))';
begin
    for slot in 0..15 loop
        execute format('alter table webhook.event_%s enable always trigger mark_restored', slot);
        execute format('alter table webhook.event_%s enable always trigger open_slot', slot);
        perform pg_extension_config_dump(format('webhook.event_%s', slot)::regclass, format(undelivered, 'id', 'xid'));
        perform pg_extension_config_dump(format('webhook.attempt_%s', slot)::regclass, format(undelivered, 'event_id', 'event_xid'));
    end loop;
end
$$;
select pg_extension_config_dump('webhook.watch', '');

select pg_extension_config_dump('webhook.event_type', '');

select pg_extension_config_dump('webhook.event_id_seq', '');

select pg_extension_config_dump('webhook.queue', 'where (select s.dump_events from webhook.setting s)');

select pg_extension_config_dump('webhook.cursor', '');

create or replace function webhook.path_matches(
    path jsonpath, type text, key text, table_name text, actor text, origin text, truncated boolean, payload json, previous json
) returns boolean
    language c immutable parallel unsafe cost 1000 as 'MODULE_PATHNAME', 'path_matches_wrapper';
comment on function webhook.path_matches(jsonpath, text, text, text, text, text, boolean, json, json) is
    'Whether a SQL/JSON path holds for an event of these parts; call webhook.filter_matches()';

revoke all on function webhook.path_matches(jsonpath, text, text, text, text, text, boolean, json, json) from public;

create or replace function webhook.capture() returns trigger
    language c volatile as 'MODULE_PATHNAME', 'webhook_capture';
comment on function webhook.capture() is
    'Trigger function of watched tables: emits an event for each changed row. Its argument is written by webhook_watch()';

revoke all on function webhook.capture() from public;

create or replace function webhook.gate_ring() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_ring_wrapper';
comment on function webhook.gate_ring() is
    'Notes that this transaction has emitted: its commit wakes the daemon if it sleeps. For SQL that inserts into webhook.event itself';

revoke all on function webhook.gate_ring() from public;

create or replace function webhook.gate_sleep(timeout_ms integer) returns text
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_sleep_wrapper';
comment on function webhook.gate_sleep(integer) is
    'Daemon: sleeps until a commit with events wakes it (rung), the time is over or the client speaks (over); busy: not now, a commit is under way. Sends an INFO message when it sleeps; timeout_ms 0: no timeout';

revoke all on function webhook.gate_sleep(integer) from public;

create or replace function webhook.gate_take() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_take_wrapper';
comment on function webhook.gate_take() is
    'Daemon of version 0.1: about to sleep. Waits until every commit that did not notify is visible; from then on commits notify on channel pg_webhook. Held by the session; taking it twice is taking it once';

revoke all on function webhook.gate_take() from public;

create or replace function webhook.gate_release() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_release_wrapper';
comment on function webhook.gate_release() is
    'Daemon of version 0.1: awake. Commits no longer notify. Nothing happens if the session does not hold the gate';

revoke all on function webhook.gate_release() from public;

create or replace function webhook.lower_priority() returns boolean
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'lower_priority_wrapper';
comment on function webhook.lower_priority() is
    'Daemon, for sessions of its admin server: until it ends, this session leaves the processor to others that want it (nice 10). False: not yet; ask again after a tenth of a second';

revoke all on function webhook.lower_priority() from public;

comment on table  webhook.subscription is 'Who gets which events, and how';

comment on column webhook.subscription.enabled is 'false: paused; what matches meanwhile is kept in webhook.queue';

comment on column webhook.subscription.timeout is 'For a whole attempt, the response body included';

comment on column webhook.subscription.retry is 'Waits after the 1st, 2nd, ... failed attempt; after the last the delivery is exhausted';

comment on column webhook.subscription.max_in_flight is 'Most requests under way at once';

comment on column webhook.subscription.filter is
    'SQL/JSON path on the event ({"type", "key", "table", "actor", "origin", "truncated", "data", "previous"}); what it does not match is not delivered';

comment on column webhook.subscription.format is 'Shape and content type of the body; supabase and hasura are those of their webhooks, for receivers that exist';

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
    'How requests are signed: standard and standard-v1a (Standard Webhooks, HMAC-SHA256 and ed25519), svix, github, stripe. none: requests are not signed';

comment on column webhook.subscription.owner is
    'Whose it is: a role, whose members see and change it; or any other name, of a tenant of the application say, and then the admins alone';

comment on column webhook.subscription.tls is
    'Name of a set of certificates in the daemon''s configuration, [tls.NAME]: authorities and client certificate for this receiver';

comment on column webhook.subscription.created_snapshot is 'What is visible in it was committed before the subscription and does not match';

comment on table  webhook.secret is 'Signing keys; every one that has not expired signs, the newest first. For the daemon alone';

comment on column webhook.secret.secret is
    'sealed:v1:... for the daemon''s key; env:NAME or file:PATH, which the daemon looks up; or, without a sealing key, the secret in clear: whsec_..., whsk_...';

comment on column webhook.secret.expires_at is 'null: until it is replaced';

comment on column webhook.secret.public_key is 'Of a key pair (ed25519): what receivers verify with; null: a symmetric secret, or one that is kept elsewhere';

comment on table  webhook.sealing_key is
    'The public half of the daemon''s key: what it seals, the daemon alone can open. No row: secrets are stored in clear';

comment on column webhook.sealing_key.key_id is 'Fingerprint; sealed texts bear it';

comment on table  webhook.receiver is 'How each receiver is doing, as the daemon sees it; written when it changes';

comment on column webhook.receiver.circuit is 'open: after 10 failures in a row, one delivery a minute is tried; closed: all are';

comment on column webhook.receiver.failing_since is 'Start of the present run of nothing but failures';

comment on column webhook.receiver.warned_at is 'When webhook.subscription.failing was emitted for this run';

comment on column webhook.receiver.held_because is
    'Why it gets nothing although it is not paused: the receiver has not confirmed, or a secret is not where it should be, say; what matches is kept. Null: nothing holds it';

comment on column webhook.receiver.allowed_rate is
    'Requests a second that the receiver has allowed in its handshake (WebHook-Allowed-Rate); null: it sets no limit. What its 429s bring the rate down to is known to the daemon alone';

create or replace function webhook.forget_confirmation() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    new.verified_at := null;
    return new;
end
$$;
comment on function webhook.forget_confirmation() is 'After a change of URL or verification, the receiver must confirm again';

revoke all on function webhook.forget_confirmation() from public;

create or replace trigger forget_confirmation before update on webhook.subscription for each row
    when (old.url <> new.url or old.verification <> new.verification)
    execute function webhook.forget_confirmation();
alter table webhook.subscription enable always trigger forget_confirmation;

create or replace function webhook.forget_receiver() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if old.url <> new.url then
        delete from webhook.receiver r where r.subscription_id = new.id and r.held_because is null;
    end if;
    update webhook.receiver r
        set circuit = 'closed', consecutive_failures = 0, failing_since = null, warned_at = null,
            allowed_rate = case when old.url = new.url then r.allowed_rate end, updated_at = clock_timestamp()
        where r.subscription_id = new.id;
    return null;
end
$$;
comment on function webhook.forget_receiver() is 'A changed URL or a resumed subscription: past failures do not count';

revoke all on function webhook.forget_receiver() from public;

create or replace trigger forget_receiver after update on webhook.subscription for each row
    when (old.url <> new.url or (new.enabled and not old.enabled))
    execute function webhook.forget_receiver();
alter table webhook.subscription enable always trigger forget_receiver;

comment on table  webhook.backfill is 'Existing rows on their way to a subscription as noun.snapshot events, and how far they have come';

comment on column webhook.backfill.condition is 'Only rows that meet it; evaluated with the rights of requested_by';

comment on column webhook.backfill.search_path is 'The search path of the caller, for names in the condition';

comment on column webhook.backfill.state is 'running, done, failed (see error) or cancelled';

comment on column webhook.backfill.after_key is 'Primary key of the last row that has been looked at, as text';

comment on column webhook.backfill.rows_done is 'Rows sent so far; those that do not meet condition or filter are not counted';

comment on column webhook.backfill.last_event_id is 'webhook.event.id of the last of them: the next step waits until it has been attempted or queued';

create or replace function webhook.forget_subscription() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    delete from webhook.secret s where s.subscription_id = old.id;
    delete from webhook.receiver r where r.subscription_id = old.id;
    delete from webhook.backfill b where b.subscription_id = old.id;
    return null;
end
$$;
comment on function webhook.forget_subscription() is 'Removes what belongs to a deleted subscription';

revoke all on function webhook.forget_subscription() from public;

create or replace trigger forget after delete on webhook.subscription for each row execute function webhook.forget_subscription();
alter table webhook.subscription enable always trigger forget;

create or replace function webhook.tenant() returns text
    language c stable parallel safe
    as 'MODULE_PATHNAME', 'tenant_wrapper';
comment on function webhook.tenant() is
    'The owner that this transaction is confined to (webhook.act_for()); null: the role decides';

create or replace function webhook.may_see_all() returns boolean
    language sql stable parallel safe
    return webhook.tenant() is null and has_table_privilege('webhook.event'::regclass, 'select');
comment on function webhook.may_see_all() is 'Whether the present role sees the subscriptions and deliveries of all owners: readers, the daemon, admins';

create or replace function webhook.may_see(owner text) returns boolean
    language sql stable parallel safe
    return case when webhook.tenant() is not null then owner = webhook.tenant()
                else webhook.may_see_all() or coalesce(pg_has_role(to_regrole(quote_ident(owner)), 'usage'), false) end;
comment on function webhook.may_see(text) is 'Whether the present role sees what this owner has: it is the owner, a member, or sees everything';

alter table webhook.subscription enable row level security;

drop policy if exists of_owner on webhook.subscription;
create policy of_owner on webhook.subscription for select using (webhook.may_see(owner));
alter table webhook.attempt enable row level security;

drop policy if exists of_owner on webhook.attempt;
create policy of_owner on webhook.attempt for select
    using ((select webhook.may_see_all()) or subscription_id in (select s.id from webhook.subscription s));
drop policy if exists by_daemon on webhook.attempt;
create policy by_daemon on webhook.attempt for insert with check (true);
alter table webhook.backfill enable row level security;

drop policy if exists of_owner on webhook.backfill;
create policy of_owner on webhook.backfill for select
    using ((select webhook.may_see_all()) or subscription_id in (select s.id from webhook.subscription s));
create or replace function webhook.tell_subscription_change() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    subscription webhook.subscription;
    verb text;
begin
    -- Not created in this transaction: the row comes from a dump.
    if tg_op = 'INSERT' and new.created_at <> now() then
        return null;
    end if;
    if tg_table_name = 'secret' then
        select * into subscription from webhook.subscription s
            where s.id = (case tg_op when 'DELETE' then old.subscription_id else new.subscription_id end);
        if not found then  -- the subscription is deleted too, and emits its own event
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

create or replace trigger tell after insert or update or delete on webhook.subscription
    for each row execute function webhook.tell_subscription_change();
create or replace trigger tell after insert or update or delete on webhook.secret
    for each row execute function webhook.tell_subscription_change();
alter table webhook.subscription enable always trigger tell;

alter table webhook.secret enable always trigger tell;

select pg_extension_config_dump('webhook.subscription', '');

select pg_extension_config_dump('webhook.subscription_id_seq', '');

select pg_extension_config_dump('webhook.secret', '');

select pg_extension_config_dump('webhook.secret_id_seq', '');

select pg_extension_config_dump('webhook.sealing_key', '');

select pg_extension_config_dump('webhook.backfill', '');

select pg_extension_config_dump('webhook.backfill_id_seq', '');

create or replace function webhook.filter_matches(event webhook.event, filter jsonpath) returns boolean
    language sql immutable parallel unsafe
    return filter is null
        or webhook.path_matches(filter, (event).type, (event).key, (event).table_name, (event).actor, (event).origin,
                                (event).truncated, (event).payload, (event).previous);
comment on function webhook.filter_matches(webhook.event, jsonpath) is
    'Whether a filter lets an event through: a condition if it holds (@@), another path if it finds anything (@?), null always. What cannot be evaluated does not match; never raises for what an event holds';

create or replace function webhook.mismatch(event webhook.event, subscription webhook.subscription) returns text
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

create or replace function webhook.ring_begins(at timestamptz default now()) returns timestamptz
    language sql stable parallel safe strict security definer set search_path = pg_catalog, pg_temp
    return least(at, (select coalesce(max(t.removed_upto), '-infinity') from webhook.ring_turn t));
comment on function webhook.ring_begins(timestamptz) is
    'The moment from which on the ring holds every event: those that have been removed were captured before. -infinity: none has been';

create or replace function webhook.ring_slots(since timestamptz, until timestamptz) returns smallint[]
    language sql stable parallel safe strict security definer set search_path = pg_catalog, pg_temp
    return array(select t.slot from webhook.ring_turn t
                 where t.first_at is null or (t.first_at <= until and t.last_at >= since)
                 order by t.slot);
comment on function webhook.ring_slots(timestamptz, timestamptz) is
    'The slots of the ring that can hold events of a range of time';

create or replace function webhook.attempt_slots(event_slots smallint[]) returns smallint[]
    language sql stable parallel safe strict security definer set search_path = pg_catalog, pg_temp
    return array(select t.slot from webhook.ring_turn t
                 where t.turn >= (select min(e.turn) from webhook.ring_turn e where e.slot = any (event_slots))
                 order by t.slot);
comment on function webhook.attempt_slots(smallint[]) is 'The slots that can hold attempts to deliver events of these slots';

comment on table  webhook.setting is 'One row: what the database decides about its own outbox. Changed with UPDATE';

comment on column webhook.setting.retention is 'Whether old events and attempts are removed';

comment on column webhook.setting.retention_period is
    'How long events and attempts are kept at least; they go by the slot of the ring, a twelfth of this together';

comment on column webhook.setting.max_age is
    'How long undelivered events keep their slot beyond that. Then their deliveries are exhausted (webhook.delivery.exhausted)';

comment on column webhook.setting.dump_events is
    'Whether pg_dump takes undelivered events along, so that webhook_arm() delivers them from the copy';

comment on column webhook.setting.ring_bytes_max is
    'Size of all slots with their indexes above which delivered events are removed before retention_period is over. Undelivered events stay. Null: no limit';

create or replace function webhook.replace_setting() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    delete from webhook.setting;
    return new;
end
$$;
comment on function webhook.replace_setting() is 'A row from a dump replaces the existing one';

create or replace trigger replace before insert on webhook.setting for each row execute function webhook.replace_setting();
alter table webhook.setting enable always trigger replace;

select pg_extension_config_dump('webhook.setting', '');

create or replace function webhook.slot_period() returns interval
    language sql stable parallel safe
    return (select greatest(s.retention_period / 12, interval '1 minute') from webhook.setting s where s.singleton);
comment on function webhook.slot_period() is 'How long the turn of a slot is; view webhook.ring computes the same';

create or replace function webhook.slot_bytes(slot integer) returns bigint
    language sql volatile parallel safe strict
    return pg_total_relation_size(format('webhook.event_%s', slot)::regclass)
         + pg_total_relation_size(format('webhook.attempt_%s', slot)::regclass);
comment on function webhook.slot_bytes(integer) is 'Size of the events and attempts of a slot, with their indexes';

create or replace function webhook.ring_size() returns table (bytes bigint, bytes_max bigint, held_bytes bigint)
    language sql volatile parallel safe rows 1 security definer set search_path = pg_catalog, pg_temp
begin atomic
    select sum(webhook.slot_bytes(t.slot))::bigint, case when s.retention then s.ring_bytes_max end,
           coalesce(sum(webhook.slot_bytes(t.slot)) filter (where t.held in ('undelivered', 'unresolved')), 0)::bigint
    from webhook.ring_turn t cross join (select * from webhook.setting limit 1) s
    group by s.retention, s.ring_bytes_max;
end;
comment on function webhook.ring_size() is
    'Size of all slots with their indexes, its limit, and how much of it is in slots that hold undelivered events';

create or replace function webhook.slot_ended_at(slot integer, at timestamptz) returns timestamptz
    language sql stable parallel safe strict
    return (select least(t.ended_at, t.last_at, at) from webhook.ring_turn t where t.slot = slot_ended_at.slot and t.ended_at is not null);
comment on function webhook.slot_ended_at(integer, timestamptz) is
    'The moment before which all events of a slot were captured, not later than "at"; null: its turn is not over';

create or replace function webhook.correct_turns(at timestamptz) returns void
    language sql volatile parallel unsafe strict set search_path = pg_catalog, pg_temp
begin atomic
    update webhook.ring_turn t set began_at = least(t.began_at, at), ended_at = least(t.ended_at, at)
    where t.began_at > at or t.ended_at > at;
end;
comment on function webhook.correct_turns(timestamptz) is 'Takes back to this moment what the clock has put after it';

create or replace function webhook.turn_ring(at_once boolean default false) returns smallint
    language plpgsql volatile parallel unsafe strict security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    moment constant timestamptz := clock_timestamp();
    head webhook.ring_head;
    following smallint;
begin
    select * into head from webhook.ring_head for update skip locked;
    if not found or pg_relation_size(format('webhook.event_%s', head.present)::regclass) = 0 then
        return null;
    end if;
    perform webhook.correct_turns(moment);
    if not at_once and not exists (
        select from webhook.ring_turn t, webhook.setting s
        where t.slot = head.present
          and (moment >= t.began_at + webhook.slot_period() or webhook.slot_bytes(head.present) >= s.ring_bytes_max / 16)) then
        return null;
    end if;
    -- The next empty slot, preferably one whose attempts are empty too.
    select n.slot into following
    from (select ((head.present + i) % 16)::smallint as slot, i from generate_series(1, 15) i) n
    where n.slot <> all (head.open) and pg_relation_size(format('webhook.event_%s', n.slot)::regclass) = 0
    order by pg_relation_size(format('webhook.attempt_%s', n.slot)::regclass) > 0, n.i limit 1;
    if following is null then
        return null;
    end if;
    update webhook.ring_turn t
        set turn = (select max(o.turn) + 1 from webhook.ring_turn o), began_at = moment, ended_at = null,
            rows = null, first_at = null, last_at = null, held = null
        where t.slot = following;
    update webhook.ring_head h set present = following, open = head.open || following, changes = head.changes + 1;
    return following;
end
$$;
comment on function webhook.turn_ring(boolean) is
    'Begins the turn of the next empty slot if the present one is a slot period old or a sixteenth of ring_bytes_max in size, or at once; returns the slot, or null if the present one goes on';

create or replace function webhook.close_slot(slot integer) returns boolean
    language plpgsql volatile parallel unsafe strict set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    head webhook.ring_head;
begin
    execute format('lock table webhook.event_%s in share mode nowait', slot);
    select * into head from webhook.ring_head for update skip locked;
    if not found or head.present = slot
       or exists (select from pg_stat_activity a where a.datname = current_database() and a.backend_start < head.sessions_since) then
        return false;
    end if;
    update webhook.ring_head h set open = array_remove(head.open, slot::smallint), changes = head.changes + 1, sessions_since = null;
    update webhook.ring_turn t set ended_at = clock_timestamp() where t.slot = slot;
    return true;
exception
    when lock_not_available then
        return false;
end
$$;
comment on function webhook.close_slot(integer) is
    'Ends the turn of a slot if no open transaction has written to it. The daemon no longer reads it';

create or replace function webhook.count_slot(slot integer) returns void
    language plpgsql volatile parallel unsafe strict set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    turn constant webhook.ring_turn := (select t from webhook.ring_turn t where t.slot = slot);
    rows bigint;
    first_at timestamptz;
    last_at timestamptz;
begin
    if turn.ended_at is null or turn.rows is not null then
        return;
    end if;
    execute format('select count(*), min(e.created_at), max(e.created_at) from webhook.event_%s e', slot) into rows, first_at, last_at;
    -- Not if it has been opened again meanwhile.
    update webhook.ring_turn t set rows = rows, first_at = first_at, last_at = last_at
        where t.slot = slot and t.ended_at = turn.ended_at;
end
$$;
comment on function webhook.count_slot(integer) is 'Notes what a slot holds whose turn is over: how many events, of which time';

create or replace function webhook.slot_is_held(kind text, slot integer, at timestamptz, early boolean default false) returns text
    language plpgsql stable parallel unsafe strict set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    ended constant timestamptz := webhook.slot_ended_at(slot, at);
    kept_since constant timestamptz := at - (select s.retention_period from webhook.setting s where s.singleton);
    resolved constant pg_snapshot := (select c.snapshot from webhook.cursor c where c.singleton);
    is_young boolean;
    last_event bigint;
begin
    if ended is null or (not early and ended > kept_since) then
        return 'young';
    end if;
    if kind = 'attempt' then
        -- By the daemon's clock. A clock that is a day ahead is wrong.
        execute format('select exists (select from webhook.attempt_%s a where a.started_at > $1 and a.started_at < $2)', slot)
            into is_young using kept_since, at + interval '1 day';
        if is_young and not early then
            return 'young';
        end if;
        execute format('select max(a.event_id) from webhook.attempt_%s a', slot) into last_event;
        if exists (select from webhook.beyond_checkpoint b where b.id <= last_event) then
            return 'unresolved';
        end if;
    elsif exists (select from webhook.beyond_checkpoint b where b.slot = slot) then
        return 'unresolved';
    elsif exists (select from webhook.queue q where q.event_slot = slot) then
        return 'undelivered';
    end if;
    -- Without a checkpoint, no event is resolved.
    if resolved is null and exists (select from webhook.event e where e.xid >= 0 and (e.slot = slot or kind = 'attempt')) then
        return 'unresolved';
    end if;
    return null;
end
$$;
comment on function webhook.slot_is_held(text, integer, timestamptz, boolean) is
    'Why the events or attempts of a slot must stay: young (unless early), unresolved (the daemon has not come to them), undelivered (they wait in webhook.queue). Null: nothing needs them';

create or replace function webhook.empty_slot(kind text, slot integer, at timestamptz, early boolean default false) returns text
    language plpgsql volatile parallel unsafe strict set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    child constant text := format('webhook.%I', kind || '_' || slot);
    held text;
begin
    if pg_relation_size(child) = 0 then
        return 'empty';
    end if;
    held := webhook.slot_is_held(kind, slot, at, early);
    if held is not null then
        return held;
    end if;
    -- A session that has just used it may have changed that. Readers continue during the second
    -- check, because the daemon reads all slots.
    execute format('lock table %s in share mode nowait', child);
    held := webhook.slot_is_held(kind, slot, at, early);
    if held is not null then
        return held;
    end if;
    execute format('lock table %s in access exclusive mode nowait', child);
    execute format('truncate table %s', child);
    if kind = 'event' then
        update webhook.ring_turn t set removed_upto = greatest(t.removed_upto, webhook.slot_ended_at(slot, at)), rows = 0
            where t.slot = slot;
    end if;
    return 'retired';
exception
    when lock_not_available then
        return 'in use';
end
$$;
comment on function webhook.empty_slot(text, integer, timestamptz, boolean) is
    'Truncates the events or the attempts of a slot: retired, empty, in use (a reader, a dump or an open insert has it), or why they must stay';

create or replace function webhook.exhaust_slot(slot integer, max_age interval, rows_max integer) returns bigint
    language plpgsql volatile parallel unsafe strict set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
as $$
#variable_conflict use_variable
declare
    told constant boolean := exists (select from webhook.subscription s
                                     where webhook.pattern_matches(s.events, 'webhook.delivery.exhausted'));
    reason constant text := format('not delivered within %s; the event is kept no longer', max_age);
    moment constant timestamptz := clock_timestamp();
    count bigint;
begin
    with gone as (
        -- By their position, which does not change while they are locked.
        delete from webhook.queue q
        where q.ctid = any (array(
            -- The ledger may hold some of them. If both waited for each other, this would be a
            -- deadlock.
            select d.ctid from webhook.queue d where d.event_slot = slot
            order by d.subscription_id, d.event_id limit rows_max for update skip locked))
        returning q.*
    ), given_up as (
        insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, outcome, error)
        select g.event_id, g.event_xid, g.subscription_id, moment, 0, webhook.present_slot(),
               least(g.attempts::integer + 1, 32767)::smallint, 'refused', reason
        from gone g
        returning event_id, event_xid, subscription_id, attempt
    )
    select count(case when told and e.id is not null then webhook.tell('webhook.delivery.exhausted', g.subscription_id, json_build_object(
               'subscription_id', g.subscription_id, 'event_id', webhook.public_id(e.id, e.created_at), 'event_type', e.type,
               'sequence', g.event_id, 'attempts', g.attempt, 'last_status', null, 'last_error', reason))::text else '' end)
    into count
    from given_up g left join webhook.event e on e.slot = slot and e.xid = g.event_xid and e.id = g.event_id;
    return count;
end
$$;
comment on function webhook.exhaust_slot(integer, interval, integer) is
    'Gives up deliveries of a slot that wait in webhook.queue, with an attempt that says why, and tells; returns how many';

create or replace function webhook.told_of_slot(parts text[]) returns text
    language sql immutable parallel safe strict
    return (select s from unnest(array['in use', 'undelivered', 'unresolved', 'retired', 'young', 'empty']) with ordinality as o (s, at)
            where s = any (parts) order by o.at limit 1);
comment on function webhook.told_of_slot(text[]) is 'One word for what has become of the events and the attempts of a slot';

create or replace function webhook.retire_slot_at(slot integer, at timestamptz) returns text
    language plpgsql volatile parallel unsafe strict set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    setting webhook.setting;
    head webhook.ring_head;
    states text[];
    told text;
begin
    select * into setting from webhook.setting;
    select * into head from webhook.ring_head;
    if slot not between 0 and 15 then
        raise exception using errcode = 'invalid_parameter_value', message = format('slot: %s is no slot of the ring', slot),
            hint = 'They are numbered from 0 to 15.';
    elsif head.present = slot then
        return 'young';
    elsif slot = any (head.open) then
        -- It is counted and retired another time, without the lock that this step holds.
        return case when webhook.close_slot(slot) then 'young' else 'in use' end;
    end if;
    perform webhook.correct_turns(at);
    -- Its contents come from a dump.
    update webhook.ring_turn t set ended_at = at
        where t.slot = slot and t.ended_at is null and pg_relation_size(format('webhook.event_%s', slot)::regclass) > 0;
    perform webhook.count_slot(slot);
    if not setting.retention then
        return 'off';
    end if;
    states := array[webhook.empty_slot('event', slot, at), webhook.empty_slot('attempt', slot, at)];
    if states[1] = 'undelivered' and webhook.slot_ended_at(slot, at) <= at - setting.max_age then
        return case when webhook.exhaust_slot(slot, setting.max_age, 1000) > 0 then 'exhausting' else 'in use' end;
    end if;
    told := webhook.told_of_slot(states);
    update webhook.ring_turn t set held = case when told in ('in use', 'undelivered', 'unresolved') then told end
        where t.slot = slot and t.held is distinct from case when told in ('in use', 'undelivered', 'unresolved') then told end;
    return told;
end
$$;
comment on function webhook.retire_slot_at(integer, timestamptz) is
    'As webhook.retire_slot(), as if it were this moment. For the extension''s owner';

create or replace function webhook.retire_slot(slot integer) returns text
    language sql volatile parallel unsafe strict security definer set search_path = pg_catalog, pg_temp
begin atomic
    select webhook.retire_slot_at(slot, clock_timestamp());
end;
comment on function webhook.retire_slot(integer) is
    'Daemon: empty a slot of the ring if its time is over: retired, empty, young, in use (try again soon), undelivered or unresolved (something in it still has to go out), exhausting (max_age is over: call again until it is gone), off';

create or replace function webhook.relieve_ring()
    returns table (bytes bigint, bytes_max bigint, held_bytes bigint, retired smallint[], in_use boolean, slot_seconds double precision)
    language plpgsql volatile parallel unsafe rows 1 security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    moment constant timestamptz := clock_timestamp();
    size record;
    candidate smallint;
    states text[];
    told text;
begin
    select * into size from webhook.ring_size();
    retired := '{}';
    in_use := false;
    for candidate in
        select t.slot from webhook.ring_turn t cross join webhook.ring_head h
        where size.bytes > size.bytes_max and t.ended_at is not null and t.slot <> all (h.open)
        order by t.turn
    loop
        exit when size.bytes <= size.bytes_max;
        states := array[webhook.empty_slot('event', candidate, moment, true), webhook.empty_slot('attempt', candidate, moment, true)];
        told := webhook.told_of_slot(states);
        in_use := in_use or told = 'in use';
        if 'retired' = any (states) then
            retired := retired || candidate;
        end if;
        update webhook.ring_turn t set held = nullif(told, 'retired')
            where t.slot = candidate and told in ('in use', 'undelivered', 'unresolved', 'retired');
        select * into size from webhook.ring_size();
    end loop;
    return query select size.bytes, size.bytes_max, size.held_bytes, retired, in_use,
        extract(epoch from webhook.slot_period())::double precision;
end
$$;
comment on function webhook.relieve_ring() is
    'Daemon: while the ring is larger than ring_bytes_max, empty its oldest slots of which everything is delivered. Returns its size, the limit, how much is in slots that hold undelivered events, the slots, whether one was in use, and how long a turn is';

create or replace view webhook.ring as
select t.slot::integer as slot, t.began_at,
       case when t.slot = h.present then t.began_at + p.period else t.ended_at end as ended_at,
       (select e.created_at from webhook.event e where e.slot = t.slot order by e.xid, e.id limit 1) as oldest_event_at,
       pg_total_relation_size(format('webhook.event_%s', t.slot)::regclass) as event_bytes,
       pg_total_relation_size(format('webhook.attempt_%s', t.slot)::regclass) as attempt_bytes,
       case when s.retention then
           case when t.slot = h.present then t.began_at + p.period
                when not t.slot = any (h.open) then least(t.ended_at, t.last_at) end + s.retention_period end as retires_at,
       case when t.slot = h.present then 'present' when t.slot = any (h.open) then 'open'
            when pg_relation_size(format('webhook.event_%s', t.slot)::regclass) = 0 then 'empty' else 'closed' end as state,
       t.held
from webhook.ring_turn t
-- The limits tell the planner that these have one row.
cross join (select * from webhook.ring_head limit 1) h cross join (select * from webhook.setting limit 1) s
cross join lateral (select greatest(s.retention_period / 12, interval '1 minute') as period) p;
comment on view webhook.ring is
    'The slots of the outbox: start and end of their turn, contents, when they are emptied, whether they are written to, and what keeps them';

create or replace view webhook.beyond_checkpoint as
select e.id, e.xid, e.slot, e.created_at, e as event
from webhook.event e
where e.xid between (select pg_snapshot_xmax(c.snapshot)::text::bigint from webhook.cursor c where c.singleton) and 9223372036854775807
union all
select e.id, e.xid, e.slot, e.created_at, e as event
from webhook.event e
where e.xid between (select pg_snapshot_xmin(c.snapshot)::text::bigint from webhook.cursor c where c.singleton) and 9223372036854775807
  and e.xid = any (array(select x.xid::text::bigint
                         from webhook.cursor c cross join lateral pg_snapshot_xip(c.snapshot) x (xid) where c.singleton));
comment on view webhook.beyond_checkpoint is 'Committed events that the checkpoint has not come to, whether they match a subscription or not';

create or replace view webhook.pending as
with fresh as materialized (
    select b.event from webhook.beyond_checkpoint b
), candidate as materialized (
    select t.type, s.id
    from (select distinct (f.event).type as type from fresh f where (f.event).subscription_id is null) t
    join webhook.subscription s on webhook.pattern_matches(s.events, t.type)
), matched as (
    select f.event, c.id from fresh f join candidate c on c.type = (f.event).type where (f.event).subscription_id is null
    union all
    select f.event, (f.event).subscription_id from fresh f where (f.event).subscription_id is not null
)
select (l.event).id as sequence, (l.event).xid as event_xid, (l.event).slot as event_slot, (l.event).created_at, s.id as subscription_id
from matched l
join webhook.subscription s on s.id = l.id and webhook.mismatch(l.event, s) is null
-- "offset 0" makes it use the index for each event. The planner does not know how many events there
-- are.
where not exists (select from webhook.attempt a where a.event_id = (l.event).id and a.subscription_id = s.id offset 0)
  and not exists (select from webhook.queue q where q.event_id = (l.event).id and q.subscription_id = s.id offset 0);
comment on view webhook.pending is 'Events past the checkpoint that match a subscription and have neither attempt nor queue row';

create or replace view webhook.delivery with (security_barrier) as
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
    -- "+ 0": the index on the rows of one event is on this expression.
    select q.event_id + 0, q.event_xid, q.subscription_id, 'queued', 0, q.next_at, q.last_status, q.last_error, null
    from webhook.queue q
    -- "offset 0" makes it use the index of each partition, with any statistics.
    where not exists (select from webhook.attempt a
                      where a.event_id = q.event_id and a.subscription_id = q.subscription_id offset 0)
    union all
    select p.sequence, p.event_xid, p.subscription_id, 'queued', 0, null, null, null, null
    from webhook.pending p
) d
left join webhook.event e on e.xid = d.xid and e.id = d.sequence
where (select webhook.may_see_all())
   or d.subscription_id in (select s.id from webhook.subscription s where webhook.may_see(s.owner));
comment on view webhook.delivery is
    'One row per event and subscription: delivered, retrying, queued or exhausted. By public id: where sequence = webhook.event_sequence(''evt_...'')';

create or replace function @extschema@.webhook_deliveries(subscription_id bigint, rows_max integer default 50, before bigint default null)
    returns setof webhook.delivery
    language plpgsql stable parallel unsafe rows 50 set search_path = pg_catalog, pg_temp
    set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
as $$
declare
    high   bigint := coalesce(before - 1, webhook.last_number());
    length bigint := greatest(rows_max, 1);
    wanted integer := rows_max;
    found_rows integer;
begin
    while high > 0 and wanted > 0 loop
        return query
            select d.* from webhook.delivery d
            where d.subscription_id = webhook_deliveries.subscription_id and d.sequence between high - length + 1 and high
            order by d.sequence desc limit wanted;
        get diagnostics found_rows = row_count;
        wanted := wanted - found_rows;
        high := high - length;
        length := length * 2;
    end loop;
end
$$;
comment on function @extschema@.webhook_deliveries is
    'The last deliveries of a subscription, the newest event first: webhook.delivery, read by indexes. before: only of events with a lower sequence';

create or replace function webhook.find_event(event_id text) returns setof webhook.event
    language plpgsql stable parallel safe strict rows 1 set search_path = pg_catalog, pg_temp
as $$
declare
    sequence constant bigint := webhook.event_sequence(event_id);
    at constant timestamptz := webhook.event_created_at(event_id);
    slots constant smallint[] := webhook.ring_slots(at, at);
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
comment on function webhook.find_event(text) is 'The event with a public id (evt_...). No row: there is none, or it no longer exists';

create or replace view webhook.subscription_stats with (security_barrier) as
select s.id, s.name, s.owner, s.enabled, s.paused_reason, s.verification, s.verified_at,
       coalesce(r.circuit, 'closed') as circuit, coalesce(r.consecutive_failures, 0) as consecutive_failures,
       r.failing_since, r.allowed_rate,
       coalesce(q.retrying, 0) as retrying, coalesce(q.queued, 0) as queued, coalesce(q.blocked, 0) as blocked,
       q.next_attempt_at,
       coalesce(a.delivered, 0) as delivered_1h, coalesce(a.failed, 0) as failed_attempts_1h,
       a.duration_ms_p50 as duration_ms_p50_1h, a.duration_ms_p99 as duration_ms_p99_1h,
       a.last_success_at, a.last_failure_at, r.held_because
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
comment on view webhook.subscription_stats is 'One row per subscription: health of its receiver, pending deliveries (queued includes blocked), and attempts of the last hour';

create or replace view webhook.public_key with (security_barrier) as
select k.subscription_id, k.public_key, k.created_at, k.expires_at
from webhook.secret k join webhook.subscription s on s.id = k.subscription_id
where k.public_key is not null and (k.expires_at is null or k.expires_at > now()) and webhook.may_see(s.owner);
comment on view webhook.public_key is
    'What receivers verify signatures of profile standard-v1a with (ed25519): whpk_ and base64; during a rotation the old one too';

create or replace view webhook.health as
select d.disarmed_because is null as armed,
       d.is_running as dispatcher_running,
       case when exists (select from pg_locks l where l.locktype = 'advisory' and l.database = i.database_oid
                         and l.granted and l.mode = 'RowExclusiveLock'
                         and l.classid = 1885820776 and l.objid = 2 and l.objsubid = 7)
            then 'asleep' else 'awake' end as gate,
       c.saved_at as checkpoint_at,
       p.count as pending,
       (select count(*) from webhook.queue) as queued,
       (select count(*) from webhook.receiver r where r.circuit = 'open') as circuits_open,
       coalesce(clock_timestamp() - p.oldest_at, interval '0') as lag,
       -- The lowest number is the oldest event, unless the clock was set back.
       least(p.oldest_at,
             (select e.created_at
              from (select * from webhook.queue q order by q.event_id + 0 limit 1) q
              join webhook.event e on e.slot = q.event_slot and e.xid = q.event_xid and e.id = q.event_id)) as oldest_undelivered_at,
       (select k.key_id from webhook.sealing_key k) as sealing_key,
       (select case when count(*) > 0 then format('%s in clear, readable in every dump and backup; see webhook_seal()', count(*))
                    when exists (select from webhook.sealing_key) then 'sealed'
                    else 'none is in the database' end
        from webhook.secret s where s.secret ~ '^whs') as secrets,
       (select sum(r.event_bytes + r.attempt_bytes)::bigint from webhook.ring r) as ring_bytes,
       (select min(r.oldest_event_at) from webhook.ring r) as ring_oldest_at,
       c.instance,
       d.disarmed_because,
       -- A daemon that sleeps executes a statement in the server, and the next statement follows
       -- when the sleep ends: every second by default. Null means that none is running, or that its
       -- sessions are hidden from the reader.
       (select case when bool_or(o.state = 'active') then interval '0'
                    else greatest(clock_timestamp() - max(o.state_change), interval '0') end
        from pg_locks l join pg_stat_activity a on a.pid = l.pid
        join pg_stat_activity o on o.pid = a.pid or (o.datname = a.datname and o.application_name = a.application_name
                                                     and o.application_name like 'webhookd %')
        where l.locktype = 'advisory' and l.database = i.database_oid and l.granted
          and l.classid = 1885820776 and l.objid = 1 and l.objsubid = 2) as dispatcher_silent_for,
       (select s.ring_bytes_max from webhook.setting s where s.singleton and s.retention) as ring_bytes_max,
       (select coalesce(sum(r.event_bytes + r.attempt_bytes) filter (where r.held in ('undelivered', 'unresolved')), 0)::bigint
        from webhook.ring r) as ring_held_bytes
from (select (pg_control_system()).system_identifier,
             (select oid from pg_database where datname = current_database()) as database_oid) i
cross join (select count(*) as count, min(n.created_at) as oldest_at from (select m.created_at from webhook.pending m limit 100000) n) p
left join webhook.cursor c on c.singleton
cross join lateral (
    select r.is_running,
           case when c.system_identifier <> i.system_identifier or c.database_oid <> i.database_oid or c.restored_at is not null
                    then 'this database is a copy of another cluster''s and stays silent; to deliver from here: select webhook_arm()'
                when c.refused_instance is not null and not r.is_running
                    then format('this database is armed for instance %1$s, and a daemon of instance %2$s was refused; '
                                'if it is a copy that is to deliver, run: select webhook_arm(); if it is the same '
                                'database under another name, start webhookd with --instance ''%1$s''',
                                c.instance, c.refused_instance)
                end as disarmed_because
    -- offset 0: the locks are listed once.
    from (select exists (select from pg_locks l where l.locktype = 'advisory' and l.database = i.database_oid and l.granted
                         and l.classid = 1885820776 and l.objid = 1 and l.objsubid = 2) as is_running offset 0) r) d;
comment on view webhook.health is
    'One row: armed for this cluster and instance (else disarmed_because), daemon present, gate, age of the checkpoint, pending and queued deliveries, size and age of the ring, how secrets are kept, how long the daemon has been silent. pending is counted up to 100000. gate = asleep: the next commit wakes the daemon. dispatcher_silent_for above 8 s: the daemon is frozen or cut off from the server';

create or replace function webhook.adopt_restored(restored webhook.cursor) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
begin
    -- After the checkpoint of the dump, matched, and neither attempted nor queued: as the daemon
    -- would read it after a crash.
    insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state, order_key)
    select s.id, o.id, o.xid, o.slot, 'backlog', webhook.order_key(s.ordering, o)
    from (select (e.id, - e.xid, e.created_at, e.subscription_id, e.slot, e.truncated, e.type, e.table_name, e.key, e.actor,
                  e.origin, e.traceparent, e.payload, e.previous)::webhook.event as event
          from webhook.event e where e.xid < 0) r
    cross join lateral (select (r.event).*) o
    join webhook.subscription s on s.created_at < restored.restored_at and webhook.mismatch(r.event, s) is null
    where not pg_visible_in_snapshot(o.xid::text::xid8, restored.snapshot)
      and not exists (select from webhook.attempt a
                      where a.event_id = o.id and a.event_xid = o.xid and a.subscription_id = s.id)
    on conflict do nothing;

    update webhook.queue q set event_xid = 2
        from webhook.event e where e.xid < 0 and e.slot = q.event_slot and e.id = q.event_id and - e.xid = q.event_xid;
    update webhook.attempt a set event_xid = 2
        from webhook.event e where e.xid < 0 and e.id = a.event_id and - e.xid = a.event_xid;
    update webhook.erasure x set event_xid = 2
        from webhook.event e where e.xid < 0 and e.id = x.event_id and - e.xid = x.event_xid;
    update webhook.event e set xid = 2 where e.xid < 0;
    update webhook.subscription s set created_snapshot = '3:3:' where s.created_at < restored.restored_at;
end
$$;
comment on function webhook.adopt_restored(webhook.cursor) is
    'Prepares the contents of a dump for delivery here: undelivered events go into the queue, and transaction ids become past ones';

create or replace function @extschema@.webhook_arm() returns void
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
declare
    here constant bigint := (select system_identifier from pg_control_system());
    this_database constant oid := (select oid from pg_database where datname = current_database());
    armed webhook.cursor;
begin
    select * into armed from webhook.cursor where singleton for update;
    if not found then
        return;
    end if;
    -- The data does not show whether this is a physical copy or the original, or a database whose
    -- daemon has moved. The next daemon that delivers decides. If a daemon already delivers, the
    -- instance stays. Without an instance, copies made from now on would deliver.
    if armed.system_identifier = here and armed.database_oid = this_database and armed.restored_at is null then
        if exists (select from pg_locks l where l.locktype = 'advisory' and l.database = this_database and l.granted
                   and l.classid = 1885820776 and l.objid = 1 and l.objsubid = 2) then
            raise notice using message = 'nothing to arm: a daemon delivers from this database',
                hint = 'To let a daemon of another instance deliver, stop that one first.';
        elsif armed.instance is not null then
            update webhook.cursor set instance = null, refused_instance = null;
            -- This may be production itself, restored from a snapshot of its disk.
            perform webhook.skip_numbers();
        end if;
        return;
    end if;
    -- Receivers may know higher numbers than the copy.
    perform webhook.skip_numbers();
    if armed.restored_at is not null then
        perform webhook.adopt_restored(armed);
        armed.snapshot := '3:3:';
    end if;
    update webhook.cursor
        set system_identifier = here, database_oid = this_database, restored_at = null, snapshot = armed.snapshot,
            instance = null, refused_instance = null, epoch = epoch + 1, saved_at = clock_timestamp();
end
$$;
comment on function @extschema@.webhook_arm is
    'After a restore or a copy: adopts this cluster and database, so that the next daemon of any instance delivers from here. Does nothing while a daemon delivers';

create or replace function @extschema@.webhook_watch(
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
comment on function @extschema@.webhook_watch is
    'Watch a table: its changes become events noun.verb. Calling again redefines. For the table''s owner';

create or replace function @extschema@.webhook_unwatch(rel regclass) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_unwatch_wrapper';
comment on function @extschema@.webhook_unwatch is 'Watch a table no longer: its triggers go, its past events stay';

create or replace function @extschema@.webhook_migrate(rel regclass, statement text) returns webhook.watch
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_migrate_wrapper';
comment on function @extschema@.webhook_migrate is
    'Run ALTER TABLE statements that the condition of a watch stands in the way of, with the caller''s rights, and watch the table as before. For the table''s owner';

create or replace function webhook.noun_of(event_type text) returns text
    language sql immutable parallel safe strict
    return regexp_replace(event_type, '\.[^.]*$', '');
comment on function webhook.noun_of(text) is 'The noun of an event type, with its namespace: everything before the last dot';

create or replace function webhook.sources(event_type text) returns table (relation regclass, operations text[], payload text)
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select w.relation, array_agg(v.key order by array_position('{insert,update,delete,truncate,snapshot}', v.key)), w.payload
    from webhook.watch w,
         lateral (select e.key, e.value from jsonb_each_text(w.verbs) e union all select 'snapshot', 'snapshot') v
    -- The noun finds the watches by its index.
    where w.noun = webhook.noun_of(sources.event_type) and w.noun || '.' || v.value = sources.event_type
    group by w.relation
    order by w.relation::oid;
end;
comment on function webhook.sources(text) is
    'The watched tables that emit an event type, and on what: insert, update, delete, truncate, snapshot (a row of a backfill)';

create or replace function webhook.derived_description(event_type text) returns text
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select string_agg(concat_ws(' ', o.sentences, obj_description(s.relation, 'pg_class')), E'\n' order by s.relation::oid)
    from webhook.sources(event_type) s
    cross join lateral (
        select string_agg(format(case o.operation when 'insert' then 'A row was inserted into %s.'
                                                  when 'update' then 'A row of %s was updated.'
                                                  when 'delete' then 'A row of %s was deleted.'
                                                  when 'truncate' then '%s was emptied.'
                                                  else 'A row that %s held already.' end, s.relation), ' ' order by o.at)
        from unnest(s.operations) with ordinality as o (operation, at)) as o (sentences);
end;
comment on function webhook.derived_description(text) is
    'What an event type says, from its watch and the table''s comment; null: no watch emits it';

create or replace function webhook.list_event_types(types text[] default null) returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    listed text;
    source regclass;
    description text;
begin
    if types is null then
        select array_agg(t.type) into types from (
            select e.type from webhook.event_type e
            union select w.noun || '.' || v.value from webhook.watch w cross join jsonb_each_text(w.verbs) v) t;
    end if;
    -- Sorted, so that two transactions with the same types lock them in the same order.
    for listed in select distinct t from unnest(types) t where t is not null order by 1 loop
        -- Deletes the type of an ended watch. It locks the row first and then checks, so that it
        -- sees a watch that commits meanwhile. A watch of the same type only keeps the row from
        -- being deleted.
        if exists (select from webhook.sources(listed) s where s.operations <> '{snapshot}') then
            perform from webhook.event_type t where t.type = listed for key share;
        else
            perform from webhook.event_type t where t.type = listed and t.relation is not null for update;
        end if;
        select min(s.relation::oid)::regclass into source from webhook.sources(listed) s where s.operations <> '{snapshot}';
        if source is null then
            update webhook.event_type t set relation = null
            where t.type = listed and t.relation is not null
              and (t.description is distinct from t.derived or t.data_schema is not null or t.example is not null);
            delete from webhook.event_type t where t.type = listed and t.relation is not null;
        else
            description := webhook.derived_description(listed);
            update webhook.event_type t
            set relation = source, derived = description,
                description = case when t.description is not distinct from t.derived then description else t.description end
            where t.type = listed and (t.relation, t.derived) is distinct from (source, description);
            insert into webhook.event_type (type, relation, description, derived)
            values (listed, source, description, description)
            on conflict (type) do nothing;
        end if;
    end loop;
end
$$;
comment on function webhook.list_event_types(text[]) is
    'Brings these event types in line with webhook.watch; null: all of them';

create or replace function webhook.forget_dropped_tables() returns event_trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    gone oid[];
    types text[];
begin
    select array_agg(d.objid) into gone
    from pg_event_trigger_dropped_objects() d
    where d.classid = 'pg_class'::regclass and d.objsubid = 0 and d.object_type = 'table' and not d.is_temporary;
    if gone is null then
        return;
    end if;
    delete from webhook.detached_partition d where d.relation = any (gone);
    with forgotten as (
        delete from webhook.watch w where w.relation = any (gone) returning w.noun, w.verbs)
    select array_agg(f.noun || '.' || v.value) into types from forgotten f cross join jsonb_each_text(f.verbs) v;
    if types is not null then
        perform webhook.list_event_types(types);
        perform webhook.dismiss_partition_owners();
    end if;
exception
    -- An error in our tables must not prevent a user from dropping theirs.
    when others then
        raise warning 'pg_webhook could not forget a dropped table: %', sqlerrm;
end
$$;
comment on function webhook.forget_dropped_tables() is 'Removes the watches of tables that have been dropped';

alter event trigger webhook_forget_dropped_tables enable always;

comment on event trigger webhook_forget_dropped_tables is 'Removes the watches of tables that have been dropped';

create or replace function webhook.admit_partition_owners(relations oid[] default null) returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    owner regrole;
    is_locked boolean := false;
begin
    for owner in
        select distinct c.relowner::regrole
        from pg_class c
        where c.relkind = 'p' and (relations is null or c.oid = any (relations))
          and exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgfoid = 'webhook.capture()'::regprocedure)
          and not has_function_privilege(c.relowner, 'webhook.capture()'::regprocedure, 'execute')
        order by 1
    loop
        -- Postgres fails a GRANT that runs at the same time as another one for the same function.
        -- This is rare: once for each owner who is not a publisher.
        if not is_locked then
            perform from webhook.setting for update;
            is_locked := true;
        end if;
        execute format('grant execute on function webhook.capture() to %s', owner);
    end loop;
end
$$;
comment on function webhook.admit_partition_owners(oid[]) is
    'Lets the owners of watched partitioned tables make partitions; null: all of them';

create or replace function webhook.dismiss_partition_owners() returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    owner regrole;
    is_locked boolean := false;
begin
    for owner in
        select a.grantee::regrole
        from pg_proc p cross join aclexplode(p.proacl) a
        where p.oid = 'webhook.capture()'::regprocedure and a.grantee not in (0, p.proowner)
          and not has_function_privilege(a.grantee, '@extschema@.webhook_unwatch(regclass)'::regprocedure, 'execute')
          and not exists (
              select from pg_class c join pg_trigger t on t.tgrelid = c.oid
              where c.relkind = 'p' and c.relowner = a.grantee and t.tgfoid = p.oid)
        order by 1
    loop
        if not is_locked then
            perform from webhook.setting for update;
            is_locked := true;
        end if;
        execute format('revoke execute on function webhook.capture() from %s', owner);
    end loop;
end
$$;
comment on function webhook.dismiss_partition_owners() is
    'Takes the right to make partitions back from those who own no watched partitioned table any longer';

create or replace function webhook.follow_owners() returns event_trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform webhook.admit_partition_owners(array(
        select d.objid from pg_event_trigger_ddl_commands() d where d.classid = 'pg_class'::regclass));
exception
    when others then
        raise warning 'pg_webhook could not let a new owner make partitions: %', sqlerrm;
end
$$;
comment on function webhook.follow_owners() is 'Lets the new owner of a watched partitioned table make partitions of it';

alter event trigger webhook_follow_owners enable always;

comment on event trigger webhook_follow_owners is 'Lets the new owner of a watched partitioned table make partitions of it';

create or replace function webhook.follow_partitions() returns event_trigger
    language c
    as 'MODULE_PATHNAME', 'webhook_follow_partitions';
comment on function webhook.follow_partitions() is
    'Ends the watch of a table that becomes a partition of a watched one; notes a partition that leaves a watched table';

alter event trigger webhook_merge_attached_partitions enable always;

comment on event trigger webhook_merge_attached_partitions is 'Ends the watch of a table that becomes a partition of a watched one';

alter event trigger webhook_note_detached_partitions enable always;

comment on event trigger webhook_note_detached_partitions is 'Notes a partition that leaves a watched table, which is captured no longer';

create or replace function @extschema@.webhook_emit(event_type text, payload json, key text default null) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_wrapper';
comment on function @extschema@.webhook_emit(text, json, text) is
    'Put an application event into the outbox, in this transaction; returns its id (evt_...)';

comment on domain webhook.event_type_name is
    'An event type where text would make calls of webhook_emit() with untyped arguments ambiguous';

create or replace function @extschema@.webhook_emit(event_type text, payload json, key anynonarray) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_typed_wrapper';
comment on function @extschema@.webhook_emit(text, json, anynonarray) is
    'webhook_emit() with a key of any type; it is written as the key of a watched table is';

create or replace function @extschema@.webhook_emit(event_type webhook.event_type_name, payload jsonb, key text default null) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_typed_wrapper';
comment on function @extschema@.webhook_emit(webhook.event_type_name, jsonb, text) is
    'webhook_emit() of a jsonb payload';

create or replace function @extschema@.webhook_emit(event_type webhook.event_type_name, payload jsonb, key anynonarray) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_typed_wrapper';
comment on function @extschema@.webhook_emit(webhook.event_type_name, jsonb, anynonarray) is
    'webhook_emit() of a jsonb payload with a key of any type';

create or replace function @extschema@.webhook_ping(id bigint) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_ping_wrapper';
comment on function @extschema@.webhook_ping is 'Send webhook.ping to one subscription; returns the event''s id (evt_...)';

create or replace function @extschema@.webhook_redeliver(event_id text, subscription_id bigint) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_redeliver_wrapper';
comment on function @extschema@.webhook_redeliver is
    'Delivers an event to a subscription again, now and with the same id, with a fresh retry schedule';

create or replace function @extschema@.webhook_replay(
    subscription_id bigint,
    since timestamptz,
    until timestamptz default now(),
    events text[] default null
) returns bigint
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_replay_wrapper';
comment on function @extschema@.webhook_replay is
    'Delivers the events of a time range again, in order and with the same ids, including events older than the subscription. Returns their number';

create or replace function @extschema@.webhook_dry_run(subscription_id bigint, since timestamptz)
    returns table (event_id text, sequence bigint, type text, key text, created_at timestamptz, matches boolean, reason text)
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_dry_run_wrapper';
comment on function @extschema@.webhook_dry_run is
    'Which events since then a subscription would have got as it is now, and why not the others. Delivers nothing';

create or replace function @extschema@.webhook_backfill(subscription_id bigint, rel regclass, condition text default null) returns bigint
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_backfill_wrapper';
comment on function @extschema@.webhook_backfill is
    'Send the rows that a watched table has to one subscription, as events noun.snapshot, between the changes to it; returns the id in webhook.backfill';

create or replace function webhook.end_backfill(id bigint, state text, error text default null) returns boolean
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
    'Ends a backfill as done, failed or cancelled, and tells (webhook.backfill.done ...); false: it is not running';

create or replace function @extschema@.webhook_backfill_cancel(id bigint) returns boolean
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_backfill_cancel_wrapper';
comment on function @extschema@.webhook_backfill_cancel is
    'Stops a backfill. Events that were sent stay sent. Returns false if it has already ended';

create or replace function webhook.backfill_step(id bigint, rows_max integer) returns boolean
    language c volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
    set enable_seqscan = on set enable_bitmapscan = on set enable_sort = on set enable_incremental_sort = on
    set enable_hashjoin = on set enable_mergejoin = on set enable_material = on
    as 'MODULE_PATHNAME', 'backfill_step_wrapper';
comment on function webhook.backfill_step(bigint, integer) is
    'Daemon: send the next rows of a backfill, at most so many, in a transaction of its own; true: it has ended';

create or replace function @extschema@.webhook_subscribe(
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
comment on function @extschema@.webhook_subscribe is
    'Deliver events that match the patterns to a URL, from this transaction on. The secret is shown here only; of a key pair (standard-v1a) its public half';

create or replace function @extschema@.webhook_alter(
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
comment on function @extschema@.webhook_alter is
    'Change a subscription; null leaves as is, clear ends name, filter, rate_limit or tls. A secret given here replaces all others at once';

create or replace function @extschema@.webhook_unsubscribe(id bigint) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_unsubscribe_wrapper';
comment on function @extschema@.webhook_unsubscribe is
    'End a subscription, with its secrets and what is queued for it; past attempts stay';

create or replace function @extschema@.webhook_pause(id bigint, reason text default null) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_pause_wrapper';
comment on function @extschema@.webhook_pause is 'Stop delivering to a subscription; what matches meanwhile is kept';

create or replace function @extschema@.webhook_resume(id bigint, skip_backlog boolean default false) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_resume_wrapper';
comment on function @extschema@.webhook_resume is
    'Deliver to a subscription again, what was kept first; skip_backlog drops what is queued instead';

create or replace function @extschema@.webhook_rotate_secret(id bigint, overlap interval default '24 hours') returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_rotate_secret_wrapper';
comment on function @extschema@.webhook_rotate_secret is
    'Make a new signing secret and return it (of a key pair: the public half); the old ones sign beside it until the overlap is over';

create or replace function @extschema@.webhook_seal(public_key text) returns bigint
    language c volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'webhook_seal_wrapper';
comment on function @extschema@.webhook_seal is
    'Keep signing secrets sealed for the daemon''s key from now on (webhookd keygen prints its public half); those in clear are sealed at once. Returns how many that were';

create or replace function @extschema@.webhook_sign(secret text, id text, ts bigint, body text) returns text
    language c immutable parallel safe strict
    as 'MODULE_PATHNAME', 'webhook_sign_wrapper';
comment on function @extschema@.webhook_sign is
    'The header webhook-signature (Standard Webhooks v1) of a message: "v1," and base64; ts in seconds since 1970';

create or replace function @extschema@.webhook_verify(
    secret text,
    id text,
    ts bigint,
    body text,
    header text,
    now timestamptz default clock_timestamp()
) returns boolean
    language c immutable parallel safe
    as 'MODULE_PATHNAME', 'webhook_verify_wrapper';
comment on function @extschema@.webhook_verify is
    'Whether a webhook-signature header fits the message and its timestamp lies within 5 minutes of now; a missing part: false';

create or replace function webhook.may_manage(role oid, owner text) returns boolean
    language sql stable parallel safe
    return case when webhook.tenant() is not null then owner = webhook.tenant()
                else has_function_privilege(role, '@extschema@.webhook_arm()'::regprocedure, 'execute')
                     or coalesce(pg_has_role(role, to_regrole(quote_ident(owner)), 'usage'), false) end;
comment on function webhook.may_manage(oid, text) is 'Whether a role may change what this owner has: it is the owner, a member, or an admin';

comment on table  webhook.erasure is 'Events whose payload webhook_erase() has blanked, and what proves what it was';

comment on column webhook.erasure.payload_sha256 is 'SHA-256 of webhook.event.payload as it was, in UTF-8';

comment on column webhook.erasure.previous_sha256 is 'The same of webhook.event.previous, if there was one';

select pg_extension_config_dump('webhook.erasure', '');

create or replace function @extschema@.webhook_erase(rel regclass, key text) returns bigint
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
    -- Events may name a table that no longer exists. regclass has no name for it.
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
        select s.id, s.xid, sha256(webhook.exact_utf8(s.payload::text)), sha256(webhook.exact_utf8(s.previous::text))
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
comment on function @extschema@.webhook_erase is
    'Blanks the payloads of all events about a subject, and the answers of receivers. Attempts and hashes stay. rel null: events of webhook_emit(). Returns the number of events';

comment on table  webhook.own_part is 'Indexes, constraints, triggers and policies of our own tables, as the installation made them';

comment on column webhook.own_part.state is 'What it is like; another one is reported by webhook_check()';

comment on column webhook.own_part.repair is 'The statement that makes it what it was';

create or replace function webhook.installed_part() returns table (kind text, name text, state text, repair text)
    language sql stable set search_path = pg_catalog, pg_temp
    set quote_all_identifiers = off set standard_conforming_strings = on set intervalstyle = 'postgres' set datestyle = 'ISO, MDY'
    set timezone = 'UTC'
begin atomic
    with ours as (
        select c.oid, c.relname, c.relrowsecurity, c.relispartition, format('%I.%I', n.nspname, c.relname) as qualified
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'webhook' and c.relkind in ('r', 'p')
    )
    -- Those of partitions come and go with the parent's, unless they are damaged by themselves.
    select 'index', i.indexrelid::regclass::text,
           case when i.indisvalid and i.indisready then pg_get_indexdef(i.indexrelid) else 'invalid' end,
           case when i.indisvalid and i.indisready then replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
                else format('reindex index %s', i.indexrelid::regclass) end
    from pg_index i join ours o on o.oid = i.indrelid
    where not exists (select from pg_constraint c where c.conindid = i.indexrelid and c.contype in ('p', 'u', 'x'))
      and (not o.relispartition or not i.indisvalid)
    union all
    select 'constraint', format('%I on %s', c.conname, o.qualified), pg_get_constraintdef(c.oid),
           format('alter table %s add constraint %I %s', o.qualified, c.conname, pg_get_constraintdef(c.oid))
    from pg_constraint c join ours o on o.oid = c.conrelid
    where c.contype in ('p', 'u', 'c', 'f') and c.conparentid = 0 and not o.relispartition
    union all
    -- Those of partitions too: some are enabled there alone.
    select 'trigger', format('%I on %s', t.tgname, o.qualified), concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid)),
           concat_ws('; ', case when t.tgparentid = 0 then pg_get_triggerdef(t.oid) end,
                     case when t.tgenabled = 'A' then format('alter table %s enable always trigger %I', o.qualified, t.tgname) end)
    from pg_trigger t join ours o on o.oid = t.tgrelid
    where not t.tgisinternal or t.tgparentid <> 0
    union all
    select 'event trigger', e.evtname::text, concat_ws(' ', e.evtenabled, e.evtevent, e.evttags::text, e.evtfoid::regprocedure),
           format('alter event trigger %I enable always', e.evtname)
    from pg_event_trigger e join pg_proc p on p.oid = e.evtfoid
    where p.pronamespace = 'webhook'::regnamespace
    union all
    select 'policy', format('%I on %s', p.polname, o.qualified),
           concat_ws(' ', p.polcmd, p.polpermissive, p.polroles::text, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)),
           format('create policy %I on %s for %s', p.polname, o.qualified,
                  case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end)
           || case when p.polqual is null then '' else format(' using (%s)', pg_get_expr(p.polqual, p.polrelid)) end
           || case when p.polwithcheck is null then '' else format(' with check (%s)', pg_get_expr(p.polwithcheck, p.polrelid)) end
    from pg_policy p join ours o on o.oid = p.polrelid
    union all
    select 'row-level security', o.qualified, 'enabled', format('alter table %s enable row level security', o.qualified)
    from ours o where o.relrowsecurity;
end;
comment on function webhook.installed_part() is 'Indexes, constraints, triggers and policies of our own tables, as they are now';

create or replace function webhook.note_own_parts() returns void
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    delete from webhook.own_part;
    insert into webhook.own_part select * from webhook.installed_part();
end
$$;
comment on function webhook.note_own_parts() is 'Installation: our own tables are as they should be';

create or replace function webhook.own_problem() returns table (problem text, detail text, repair text)
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select case when i.name is null then 'part of pg_webhook is missing' else 'part of pg_webhook was changed' end,
           format('%s %s', o.kind, o.name),
           case when i.name is null then o.repair
                when o.kind = 'index' then case when i.state = 'invalid' then i.repair else format('drop index %s; %s', o.name, o.repair) end
                when o.kind = 'constraint' then format('alter table %s drop constraint %s; %s', split_part(o.name, ' on ', 2),
                                                       split_part(o.name, ' on ', 1), o.repair)
                when o.kind = 'trigger' and left(i.state, 1) <> left(o.state, 1) and substr(i.state, 2) = substr(o.state, 2)
                    then format('alter table %s enable%s trigger %s', split_part(o.name, ' on ', 2),
                                case left(o.state, 1) when 'A' then ' always' else '' end, split_part(o.name, ' on ', 1))
                when o.kind = 'trigger' then format('drop trigger %s; %s', o.name, o.repair)
                when o.kind = 'policy' then format('drop policy %s; %s', o.name, o.repair)
                else o.repair end
    from webhook.own_part o
    left join webhook.installed_part() i on i.kind = o.kind and i.name = o.name
    where i.state is distinct from o.state
    union all
    select 'part of pg_webhook was changed', format('%s %s', i.kind, i.name), i.repair
    from webhook.installed_part() i
    where i.kind = 'index' and i.state = 'invalid' and not exists (select from webhook.own_part o where o.kind = 'index' and o.name = i.name);
end;
comment on function webhook.own_problem() is 'What of our own tables is not as the installation made it, and the statement that repairs it';

create or replace function webhook.watch_statement(watch webhook.watch) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    return format('select @extschema@.webhook_watch(%L, noun => %L, verbs => %L',
                  (select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   where c.oid = (watch).relation), (watch).noun, (watch).verbs)
        || case when (watch).columns is null then '' else format(', columns => %L', (watch).columns) end
        || case when (watch).exclude is null then '' else format(', exclude => %L', (watch).exclude) end
        || case when (watch).on_columns is null then '' else format(', on_columns => %L', (watch).on_columns) end
        || case when (watch).condition is null then '' else format(', condition => %L', (watch).condition) end
        || case when (watch).payload is null then '' else format(', payload => %L', (watch).payload) end
        || format(', key_columns => %L)', (watch).key_columns);
comment on function webhook.watch_statement(webhook.watch) is 'The call of webhook_watch() that makes a table''s triggers what this row says';

create or replace function webhook.is_numbered_for(relation oid) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    with recursive above (oid) as (
        select is_numbered_for.relation
        union
        select i.inhparent from pg_inherits i join above a on i.inhrelid = a.oid
    )
    select exists (select from above a join webhook.watch w on w.relation = a.oid and is_numbered_for.relation = any (w.numbered_for));
end;
comment on function webhook.is_numbered_for(oid) is
    'Whether webhook_watch() has written the column numbers in this table''s triggers for this table, not for one that it is a restored copy of';

create or replace function webhook.numbers_hold(relation oid, definition jsonb) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select not exists (
               select from jsonb_array_elements_text(definition #> '{table,columns}') with ordinality as l (name, number)
               join pg_attribute a on a.attrelid = numbers_hold.relation and a.attnum > 0 and not a.attisdropped
                   and (l.name is null and a.attnum = l.number or a.attname = l.name and a.attnum < l.number))
           and (select c.relnatts from pg_class c where c.oid = numbers_hold.relation) >= jsonb_array_length(definition #> '{table,columns}')
    where case when definition #> '{table,oid}' is not null then (definition #>> '{table,oid}')::oid = numbers_hold.relation
               else definition #> '{table,columns}' is not null and webhook.is_numbered_for(numbers_hold.relation) end;
end;
comment on function webhook.numbers_hold(oid, jsonb) is
    'Whether a definition''s numbers belong to the table''s columns. False: doubtful. Null: they were written for another table';

create or replace function webhook.column_now(relation oid, name text, number smallint, numbers_hold boolean) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    return (select coalesce(min(a.attname) filter (where a.attnum = column_now.number and column_now.numbers_hold),
                            min(a.attname) filter (where a.attname = column_now.name))::text
            from pg_attribute a where a.attrelid = column_now.relation and a.attnum > 0 and not a.attisdropped
                and (a.attname = column_now.name or a.attnum = column_now.number));
comment on function webhook.column_now(oid, text, smallint, boolean) is
    'What a column is called that a watch knows by this name and number; null: it is gone, or it cannot be told which it is';

create or replace function webhook.lost_columns(relation oid, definition jsonb) returns text[]
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select array_agg(c.col ->> 'name' order by c.place)
    from jsonb_array_elements(definition -> 'exclude') with ordinality as c (col, place)
    where webhook.numbers_hold(lost_columns.relation, definition) is not true
      and webhook.column_now(lost_columns.relation, c.col ->> 'name', null, false) is null;
end;
comment on function webhook.lost_columns(oid, jsonb) is
    'Excluded columns that may have any name by now; as long as there are some, capture tells nothing but the key';

create or replace function webhook.present_columns(watch webhook.watch, definition jsonb) returns webhook.watch
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    present jsonb;
begin
    select jsonb_object_agg(list.key, (
               select coalesce(jsonb_agg(coalesce(n.name, c.col ->> 'name') order by c.place), '[]')
               from jsonb_array_elements(list.value) with ordinality as c (col, place)
               cross join webhook.column_now(watch.relation, c.col ->> 'name', (c.col ->> 'number')::smallint,
                                             webhook.numbers_hold(watch.relation, definition)) as n (name)
               -- An excluded column that cannot be found stays. webhook_watch() rejects it until
               -- the user enters its present name.
               where n.name is not null or (list.key = 'exclude' and c.col ->> 'name' = any (webhook.lost_columns(watch.relation, definition)))))
    into present
    from jsonb_each(definition) as list where jsonb_typeof(list.value) = 'array';
    watch.columns := case when watch.columns is not null then array(select jsonb_array_elements_text(present -> 'columns')) end;
    watch.exclude := case when watch.exclude is not null then array(select jsonb_array_elements_text(present -> 'exclude')) end;
    watch.on_columns := case when watch.on_columns is not null then array(select jsonb_array_elements_text(present -> 'on_columns')) end;
    watch.key_columns := array(select jsonb_array_elements_text(coalesce(present -> 'key', '[]')));
    return watch;
end
$$;
comment on function webhook.present_columns(webhook.watch, jsonb) is 'A watch with its columns under their present names, without those that are gone';

create or replace function webhook.trigger_definition(arguments bytea) returns jsonb
    language plpgsql stable strict set search_path = pg_catalog, pg_temp
as $$
declare
    definition jsonb;
begin
    definition := convert_from(substr(arguments, 1, octet_length(arguments) - 1), getdatabaseencoding())::jsonb;
    if jsonb_typeof(definition -> 'noun') is distinct from 'string' or jsonb_typeof(definition -> 'verbs') is distinct from 'object'
       or exists (select from jsonb_each(definition) l
                  cross join jsonb_array_elements(
                      case when jsonb_typeof(l.value) = 'array' or l.key in ('columns', 'exclude', 'on_columns', 'key') then l.value else '[]' end) col
                  where col ->> 'name' is null or (col ->> 'number')::smallint is null) then
        return null;
    end if;
    return definition;
exception
    when data_exception or program_limit_exceeded then
        return null;
end
$$;
comment on function webhook.trigger_definition(bytea) is
    'The definition in the argument of a trigger (pg_trigger.tgargs); null: webhook_watch() has not written it';

create or replace view webhook.capture_trigger as
select t.oid, t.tgrelid as relation, t.tgname as name, t.tgenabled as enabled,
       webhook.trigger_definition(t.tgargs) as definition
from pg_trigger t
where t.tgfoid = 'webhook.capture()'::regprocedure and t.tgparentid = 0 and not t.tgisinternal;
comment on view webhook.capture_trigger is 'The triggers of watched tables with their definitions, without those that partitions have from their root';

create or replace function webhook.is_wanted(relation oid, trigger name) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    with recursive above (oid, is_root) as (
        select is_wanted.relation, true
        union
        select i.inhparent, false from above a
        join pg_class c on c.oid = a.oid and not c.relispartition
        join pg_inherits i on i.inhrelid = a.oid
    )
    select exists (
        select from above a
        join webhook.watch w on w.relation = a.oid
        join pg_class c on c.oid = is_wanted.relation
        cross join lateral jsonb_strip_nulls(w.verbs) as v (verbs)
        where is_wanted.trigger ~ '^webhook_(insert|update|delete|truncate)$'
          and (v.verbs ? substr(is_wanted.trigger::text, 9) and (a.is_root or is_wanted.trigger <> 'webhook_truncate')
               or c.relkind = 'p' and is_wanted.trigger in ('webhook_insert', 'webhook_delete')
                  and v.verbs ?| '{insert,update,delete}'));
end;
comment on function webhook.is_wanted(oid, name) is 'Whether a watch needs a trigger of this name on a table';

create or replace view webhook.leftover_trigger as
select t.oid, t.relation, t.name from webhook.capture_trigger t
where t.enabled = 'D' and not webhook.is_wanted(t.relation, t.name);
comment on view webhook.leftover_trigger is 'Disabled triggers of watches that have ended or have fewer verbs now; they do nothing';

create or replace function webhook.trigger_condition(relation oid) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select substring(pg_get_triggerdef(t.oid) from 'FOR EACH ROW WHEN \((.*?)\) EXECUTE FUNCTION webhook\.capture\(')
    from pg_trigger t
    where t.tgrelid = trigger_condition.relation and t.tgfoid = 'webhook.capture()'::regprocedure and t.tgqual is not null
    order by t.tgname <> 'webhook_update', t.tgname
    limit 1;
end;
comment on function webhook.trigger_condition(oid) is 'The condition in the triggers of a watched table, as Postgres prints it; null: none';

create or replace function webhook.watch_of_triggers(relation oid, definition jsonb) returns webhook.watch
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select webhook.present_columns(
        (watch_of_triggers.relation::regclass, definition ->> 'noun', definition -> 'verbs',
         case when definition ? 'columns' then '{}'::text[] end, case when definition ? 'exclude' then '{}'::text[] end,
         case when definition ? 'on_columns' then '{}'::text[] end, webhook.trigger_condition(watch_of_triggers.relation),
         definition ->> 'payload', '{}', now(), '{}')::webhook.watch, definition);
end;
comment on function webhook.watch_of_triggers(oid, jsonb) is 'The row of webhook.watch that the triggers of a table were made for';

create or replace function webhook.key_of(relation oid, is_primary boolean) returns text[]
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select array_agg(a.attname::text order by k.place)
    from (select x.* from pg_index x
          where x.indrelid = key_of.relation and x.indisunique and x.indisvalid and x.indexprs is null and x.indpred is null
            and (x.indisprimary or not key_of.is_primary)
          order by not x.indisprimary, x.indnkeyatts, x.indexrelid) i
    cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where k.place <= i.indnkeyatts
    group by i.indexrelid, i.indisprimary, i.indnkeyatts
    having bool_and(a.attnotnull)
    order by not i.indisprimary, i.indnkeyatts, i.indexrelid
    limit 1;
end;
comment on function webhook.key_of(oid, boolean) is
    'The columns of the primary key, or else of a unique index without nulls; is_primary: of the primary key alone';

create or replace function webhook.advice(watch webhook.watch) returns table (problem text, detail text, repair text)
    language sql stable set search_path = pg_catalog, pg_temp set jit = off
begin atomic
    select 'key came later', format('the events of %s have no key, and the table has a primary key now', (watch).relation),
           webhook.watch_statement(((watch).relation, (watch).noun, (watch).verbs, (watch).columns, (watch).exclude, (watch).on_columns,
                                    (watch).condition, (watch).payload, k.columns, (watch).created_at, (watch).numbered_for)::webhook.watch)
    from webhook.key_of((watch).relation, true) as k (columns)
    where (watch).key_columns = '{}' and k.columns is not null
    union all
    select 'events have no key', format('a subscription orders by key, and all events of %s wait for one another', (watch).relation),
           case when k.columns is not null
                then webhook.watch_statement(((watch).relation, (watch).noun, (watch).verbs, (watch).columns, (watch).exclude, (watch).on_columns,
                                              (watch).condition, (watch).payload, k.columns, (watch).created_at, (watch).numbered_for)::webhook.watch)
                else format('select @extschema@.webhook_alter(s.id, ordering => ''none'') from webhook.subscription s where s.ordering = ''key'''
                            ' and exists (select from unnest(%L::text[]) t where webhook.pattern_matches(s.events, t))', t.types) end
    from webhook.key_of((watch).relation, false) as k (columns)
    cross join lateral (select array_agg((watch).noun || '.' || v.value order by v.value) from jsonb_each_text((watch).verbs) v) as t (types)
    where (watch).key_columns = '{}' and webhook.key_of((watch).relation, true) is null
      and exists (select from webhook.subscription s cross join unnest(t.types) as u (type)
                  where s.ordering = 'key' and webhook.pattern_matches(s.events, u.type))
    union all
    select 'payload function follows search_path',
           format('%s finds tables and functions by the search_path of each session that writes to %s', (watch).payload, (watch).relation),
           format('alter function %s set search_path = %s, pg_temp', p.oid::regprocedure,
                  (select string_agg(format('%I', x.nspname), ', ' order by x.nspname) from pg_namespace x
                   where x.oid in (p.pronamespace, c.relnamespace)))
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    join pg_proc p on p.oid = to_regprocedure(format('%s(%I.%I)', (watch).payload, n.nspname, c.relname))
    join pg_language l on l.oid = p.prolang
    where c.oid = (watch).relation and (watch).payload is not null and p.prosqlbody is null and l.lanname not in ('c', 'internal')
      and not exists (select from unnest(p.proconfig) o where o like 'search_path=%');
end;
comment on function webhook.advice(webhook.watch) is
    'What is wrong with a watch although its triggers do what they were told, and the statement that repairs it';

create or replace function @extschema@.webhook_check() returns table (relation regclass, problem text, detail text, repair text)
    -- Compiling the query takes longer than running it.
    language sql stable security definer set search_path = pg_catalog, pg_temp set jit = off
begin atomic
    -- Read once, because each definition is parsed in a subtransaction.
    with recursive present as materialized (
        select t.oid, t.relation, t.name, t.enabled, t.definition from webhook.capture_trigger t
    ), family (root, relation, is_root) as (
        select w.relation::oid, w.relation::oid, true from webhook.watch w
        union
        select f.root, i.inhrelid, false from family f
        join pg_inherits i on i.inhparent = f.relation
        join pg_class c on c.oid = i.inhrelid and not c.relispartition
    ), wanted as (
        select w.relation as root, f.relation, v.key as event, 'webhook_' || v.key as name, w
        from webhook.watch w
        join family f on f.root = w.relation
        join pg_class c on c.oid = f.relation
        -- For a partitioned table, an insert and a delete can be the two halves of an update
        -- (extension/src/watch/triggers.rs).
        cross join lateral (
            select v.key from jsonb_each_text(w.verbs) v where v.value is not null and (f.is_root or v.key <> 'truncate')
            union
            select h.key from unnest('{insert,delete}'::text[]) h (key)
            where c.relkind = 'p' and jsonb_strip_nulls(w.verbs) ?| '{insert,update,delete}'
            union
            -- Fires before each statement for which one of the others fires.
            select 'statement' from jsonb_each_text(w.verbs) v where v.value is not null and (f.is_root or v.key <> 'truncate')) v
    ), named as (
        select r.relation, format('%I.%I', n.nspname, c.relname) as qualified
        from (select t.relation from present t union select f.relation from family f) r
        join pg_class c on c.oid = r.relation join pg_namespace n on n.oid = c.relnamespace
    ), representative as (
        -- One of the triggers stands for all, because they are created together.
        select distinct on (w.relation) w.relation, w as watch, t.definition
        from webhook.watch w join present t on t.relation = w.relation and t.definition is not null
        order by w.relation, t.enabled = 'D', t.name
    ), stale as (
        select w.relation, w.watch, w.definition, c.changes, webhook.lost_columns(w.relation, w.definition) as lost,
               w.definition ->> 'noun' <> (w.watch).noun or w.definition -> 'verbs' <> jsonb_strip_nulls((w.watch).verbs) as is_other
        from representative w
        cross join lateral (
            select string_agg(distinct case when n.name is null then format('column %s is gone', col ->> 'name')
                                            else format('column %s is called %s now', col ->> 'name', n.name) end, '; ') as changes
            from jsonb_each(w.definition) l
            cross join lateral jsonb_array_elements(case when jsonb_typeof(l.value) = 'array' then l.value else '[]' end) col
            cross join webhook.column_now(w.relation, col ->> 'name', (col ->> 'number')::smallint,
                                          webhook.numbers_hold(w.relation, w.definition)) as n (name)
            where n.name is distinct from (col ->> 'name')) c
    ), orphaned as (
        -- Triggers from webhook_watch() on a table without a row in webhook.watch. Those of a child
        -- table belong to the watch of its parent.
        select t.oid, t.relation, t.name, t.definition,
               exists (select from pg_inherits i join present p on p.relation = i.inhparent
                       where i.inhrelid = t.relation and p.enabled <> 'D' and p.definition ->> 'noun' = t.definition ->> 'noun') as is_child
        from present t join pg_class c on c.oid = t.relation
        where t.definition is not null and t.enabled <> 'D'
          and (t.name ~ '^webhook_(insert|update|delete|truncate)$'
               and jsonb_strip_nulls(t.definition -> 'verbs') ? substr(t.name::text, 9)
               or c.relkind = 'p' and t.name in ('webhook_insert', 'webhook_delete')
               or t.name = 'webhook_statement' and t.relation in (
                   select o.relation from present o
                   where o.name <> 'webhook_statement' and o.definition is not null and o.enabled <> 'D'))
          -- EXCEPT, because the planner would compare each trigger with each watch.
          and t.relation in (select p.relation from present p except select f.relation from family f)
    ), replaced as (
        select w.relation, format('%I.%I', n.nspname, c.relname) as former,
               (c.oid::regclass, w.noun, w.verbs, w.columns, w.exclude, w.on_columns, w.condition, w.payload, w.key_columns,
                w.created_at, w.numbered_for)::webhook.watch as watch
        from webhook.watch w
        join (select distinct t.relation, t.definition #>> '{table,name,0}' as schema, t.definition #>> '{table,name,1}' as name
              from present t) d on d.relation = w.relation
        join pg_namespace n on n.nspname = d.schema
        join pg_class c on c.relnamespace = n.oid and c.relname = d.name and c.relkind in ('r', 'p')
        where c.oid <> w.relation
          and not exists (select from family f where f.relation = c.oid)
          and not exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgfoid = 'webhook.capture()'::regprocedure)
    )
    select w.relation, 'table is gone', format('there is no relation with number %s', w.relation::oid),
           format('select @extschema@.webhook_unwatch(%s)', w.relation::oid)
    from webhook.watch w where not exists (select from pg_class c where c.oid = w.relation)
    union all
    select w.relation::regclass, 'trigger is missing', format('%s, for %s', w.name, w.event), webhook.watch_statement(w.w)
    from wanted w
    where not exists (select from present t where t.relation = w.relation and t.name = w.name)
    union all
    select t.relation::regclass, case t.enabled when 'D' then 'trigger is disabled' else 'trigger fires in replication only' end, t.name::text,
           format('alter table %s enable trigger %I', n.qualified, t.name)
    from present t join named n on n.relation = t.relation
    where t.enabled = 'R' or t.enabled = 'D' and webhook.is_wanted(t.relation, t.name)
    union all
    select t.relation::regclass, 'trigger belongs to no watch', t.name::text,
           format('drop trigger %I on %s', t.name, n.qualified)
    from (select p.relation, p.name::text from present p except select w.relation, w.name from wanted w) t
    join named n on n.relation = t.relation
    where not exists (select from orphaned o where o.relation = t.relation and o.name = t.name)
    union all
    (select distinct on (o.relation) o.relation::regclass, 'watch is missing',
            format('its triggers emit %s events, and webhook.watch has no row for it (as after pg_dump --schema-only); webhook_unwatch() removes them',
                   o.definition ->> 'noun'),
            webhook.watch_statement(webhook.watch_of_triggers(o.relation, o.definition))
     from orphaned o where not o.is_child order by o.relation, o.name)
    union all
    select r.relation, 'table was replaced',
           format('%s is the watched table, which was called %s; another table has that name now and is not watched', n.qualified, r.former),
           webhook.watch_statement(r.watch) || format('; select @extschema@.webhook_unwatch(%L)', n.qualified)
    from replaced r join named n on n.relation = r.relation
    union all
    select d.relation, 'partition was detached', format('%s is captured no longer: it has left %s', n.qualified, r.qualified),
           webhook.watch_statement((d.relation, w.noun, w.verbs, w.columns, w.exclude, w.on_columns, w.condition,
                                    null, w.key_columns, w.created_at, '{}')::webhook.watch)
    from webhook.detached_partition d
    join webhook.watch w on w.relation = d.root
    join named r on r.relation = d.root
    join pg_class c on c.oid = d.relation and not c.relispartition
    cross join lateral (select format('%I.%I', x.nspname, c.relname) from pg_namespace x where x.oid = c.relnamespace) as n (qualified)
    where not exists (select from family f where f.relation = d.relation)
    union all
    select w.relation, a.problem, a.detail, a.repair from webhook.watch w cross join lateral webhook.advice(w) a
    union all
    select c.oid::regclass, 'owner cannot make partitions', pg_get_userbyid(c.relowner)::text,
           format('grant execute on function webhook.capture() to %s', c.relowner::regrole)
    from pg_class c
    where c.relkind = 'p' and exists (select from present t where t.relation = c.oid)
      and not has_function_privilege(c.relowner, 'webhook.capture()'::regprocedure, 'execute')
    union all
    select s.relation, case when s.lost is null then 'trigger is stale' else 'excluded column is not found' end,
           case when s.lost is null then concat_ws('; ', s.changes, case when s.is_other then 'it was made for another noun or other verbs' end)
                else format('%s; events contain only the key meanwhile. Put its present name into the statement, or leave it out if the column is gone',
                            array_to_string(s.lost, ', ')) end,
           webhook.watch_statement(case when s.changes is null then s.watch else webhook.present_columns(s.watch, s.definition) end)
    from stale s where s.changes is not null or s.is_other
    union all
    select t.relation::regclass, 'trigger is stale', format('%s carries nothing that webhook_watch() has written', t.name),
           webhook.watch_statement(w.w)
    from present t join wanted w on w.relation = t.relation and w.name = t.name
    where t.definition is null
    union all
    select w.relation, 'payload function is gone', w.payload, webhook.watch_statement(
        (w.relation, w.noun, w.verbs, w.columns, w.exclude, w.on_columns, w.condition, null, w.key_columns, w.created_at,
         w.numbered_for)::webhook.watch)
    from webhook.watch w join named n on n.relation = w.relation
    where w.payload is not null and to_regprocedure(format('%s(%s)', w.payload, n.qualified)) is null
    union all
    select null, p.problem, p.detail, p.repair from webhook.own_problem() p
    union all
    -- Delivered events have been removed. The limit does not remove the rest.
    select 'webhook.event'::regclass,
           case when r.bytes > r.bytes_max then 'ring is over its limit' else 'ring is nearly full' end,
           format('%s of at most %s (ring_bytes_max), %s of it in slots with undelivered events',
                  pg_size_pretty(r.bytes), pg_size_pretty(r.bytes_max), pg_size_pretty(r.held_bytes)),
           'select * from webhook.subscription_stats order by queued + retrying desc'
    from webhook.ring_size() r
    -- Between two rounds of the daemon, there may be one more slot.
    where r.bytes > r.bytes_max + r.bytes_max / 8 or r.held_bytes > r.bytes_max / 10 * 8
    order by 1, 2, 3;
end;
comment on function @extschema@.webhook_check is
    'What keeps watched tables from being captured as was asked for: triggers missing, disabled, stale, and the statement that repairs each. No row: all is well';

create or replace function webhook.disable_subscription(id bigint, reason text) returns boolean
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

create or replace function webhook.confirm_subscription(id bigint, url text, allowed_rate numeric default null) returns boolean
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

create or replace function webhook.remove_queued(subscription_ids bigint[], event_ids bigint[]) returns void
    language plpgsql volatile parallel unsafe
as $$
begin
    for i in 1 .. cardinality(subscription_ids) loop
        delete from webhook.queue q where q.subscription_id = subscription_ids[i] and q.event_id = event_ids[i];
    end loop;
end
$$;
comment on function webhook.remove_queued(bigint[], bigint[]) is 'Daemon: removes the queue rows of these deliveries';

create or replace function webhook.tell(event_type text, subscription_id bigint, payload json) returns void
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

comment on table  webhook.token is
    'Bearer tokens of the admin server: in whose name its callers act. Only hashes; made by webhookd token create';

comment on column webhook.token.token_sha256 is 'SHA-256 of the token, which has 256 random bits and so needs no salt';

comment on column webhook.token.role is 'The role that each request is made in (SET LOCAL ROLE): the daemon must be a member of it';

comment on column webhook.token.owner is
    'The one owner whose subscriptions the token sees and changes, a role or not; null: those that the role sees and changes';

comment on column webhook.token.expires_at is 'null: until it is revoked';

comment on table  webhook.idempotency is
    'Idempotency-Key of POST /v1/subscriptions, for a day: the same request again is answered with what it made the first time';

comment on column webhook.idempotency.caller is 'Role and owner of the token';

comment on column webhook.idempotency.request_sha256 is 'Of the request''s body: another body under the same key is refused';

create or replace function webhook.act_for(owner text) returns void
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('webhook.tenant', coalesce(act_for.owner, ''), true);
end
$$;
comment on function webhook.act_for(text) is
    'For the daemon: until the end of the transaction, limits what can be seen and changed to this owner. Null: the rights of the role decide';

create or replace view webhook.delivered_event with (security_barrier) as
select d.subscription_id, webhook.public_id(e.id, e.created_at) as event_id, e.id as sequence, e.xid, e.created_at, e.truncated, e.type,
       e.table_name, e.key, e.actor, e.origin, e.traceparent, e.payload, e.previous
from (select a.subscription_id, a.event_id, a.event_xid from webhook.attempt a
      union
      select q.subscription_id, q.event_id, q.event_xid from webhook.queue q
      union
      select p.subscription_id, p.sequence, p.event_xid from webhook.pending p) d
join webhook.event e on e.xid = d.event_xid and e.id = d.event_id
join webhook.subscription s on s.id = d.subscription_id
where webhook.may_see(s.owner);
comment on view webhook.delivered_event is
    'Events as their subscribers get them: one row per event and subscription that there is a delivery of';

create or replace view webhook.matching_event with (security_barrier) as
select s.id as subscription_id, webhook.public_id(e.id, e.created_at) as event_id, e.id as sequence, e.xid, e.created_at, e.truncated, e.type,
       e.table_name, e.key, e.actor, e.origin, e.traceparent, e.payload, e.previous
from webhook.subscription s join webhook.event e on webhook.mismatch(e, s) is null
where webhook.may_see(s.owner);
comment on view webhook.matching_event is
    'Events that match a subscription as it is now, delivered or not. A receiver reads it to find missed events';

create or replace function webhook.event_stretch(after_xid bigint, after_id bigint, rows_max integer)
    returns table (xid bigint, id bigint, rows bigint)
    language sql stable security definer rows 1 set search_path = pg_catalog, pg_temp
begin atomic
    select x.xid, x.id, x.count
    from (select s.xid, s.id, count(*) over () as count
          from (select e.xid, e.id from webhook.event e
                where (e.xid, e.id) > (event_stretch.after_xid, event_stretch.after_id)
                  and e.xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                order by e.xid, e.id limit least(event_stretch.rows_max, 10000)) s) x
    order by x.xid desc, x.id desc limit 1;
end;
comment on function webhook.event_stretch(bigint, bigint, integer) is
    'Where the next so many events end, in the order of transactions, and how many there are. Up to the oldest transaction that is open, so that none is passed over that commits later';

create or replace function webhook.event_place(event_id text) returns table (xid bigint, id bigint)
    language sql stable security definer rows 1 set search_path = pg_catalog, pg_temp
begin atomic
    select e.xid, e.id from webhook.find_event(event_place.event_id) e;
end;
comment on function webhook.event_place(text) is 'Where an event stands in the order of transactions';

create or replace function webhook.last_number() returns bigint
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select case when s.is_called then s.last_value else 0 end from webhook.event_id_seq s;
end;
comment on function webhook.last_number() is 'The number that has been handed out to an event last';

create or replace function webhook.delivery_number(below bigint, state text, subscription_id bigint) returns bigint
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    last      constant bigint := least(delivery_number.below, coalesce(pg_sequence_last_value('webhook.event_id_seq'), 0));
    attempted bigint;
    queued    bigint;
    pending   bigint;
    beyond    bigint;
begin
    if delivery_number.state = 'exhausted' then
        select max(a.event_id) into attempted from webhook.attempt a where a.event_id <= last and a.outcome <> 'succeeded';
    elsif coalesce(delivery_number.state, 'delivered') = 'delivered' then
        select max(a.event_id) into attempted from webhook.attempt a where a.event_id <= last;
    end if;
    if coalesce(delivery_number.state, 'queued') in ('queued', 'retrying') then
        if delivery_number.subscription_id is null then
            select max(q.event_id + 0) into queued from webhook.queue q where q.event_id + 0 <= last;
        else
            select max(q.event_id) into queued from webhook.queue q
            where q.subscription_id = delivery_number.subscription_id and q.event_id <= last;
        end if;
    end if;
    if coalesce(delivery_number.state, 'queued') = 'queued' then
        select count(*), max(p.id) filter (where p.id <= last) into beyond, pending
        from (select b.id from webhook.beyond_checkpoint b limit 1000) p;
        if beyond = 1000 then
            return last;
        end if;
    end if;
    return greatest(attempted, queued, pending);
end
$$;
comment on function webhook.delivery_number(bigint, text, bigint) is
    'No delivery in this state (null: any), of this subscription (null: any), bears a number between this one and the given one; null: nor any lower one';

create or replace function webhook.number_at(at timestamptz) returns bigint
    language plpgsql stable strict security definer set search_path = pg_catalog, pg_temp
as $$
declare
    low  bigint := 0;
    high bigint := webhook.last_number();
    mid  bigint;
    near record;
begin
    while high - low > 1000 loop
        mid := (low + high) / 2;
        -- A delivery that was only queued, for a paused subscription for example, counts like an
        -- attempted one.
        select x.event_id, x.event_xid into near
        from ((select a.event_id, a.event_xid from webhook.attempt a where a.event_id <= mid order by a.event_id desc limit 1)
              union all
              (select q.event_id, q.event_xid from webhook.queue q where q.event_id + 0 <= mid order by q.event_id + 0 desc limit 1)) x
        order by x.event_id desc limit 1;
        if not found or near.event_id <= low then
            low := mid;
            continue;
        end if;
        -- An event that no longer exists is old.
        perform from webhook.event e where e.xid = near.event_xid and e.id = near.event_id and e.created_at > number_at.at;
        if found then
            high := near.event_id;
        else
            low := mid;
        end if;
    end loop;
    -- Events that the daemon has not read yet are not skipped either.
    return least(low, (select min(b.id) - 1 from webhook.beyond_checkpoint b where b.created_at > number_at.at));
end
$$;
comment on function webhook.number_at(timestamptz) is
    'About where the events of a moment are: those up to this number were captured before it, and those 1000 further after it, as far as the clock ran forwards';

select pg_extension_config_dump('webhook.token', '');

select pg_extension_config_dump('webhook.token_id_seq', '');

create or replace function webhook.json_members(names text[], members json[]) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select ('{' || coalesce(string_agg(to_json(m.name)::text || ':' || m.member::text, ',' order by m.at), '') || '}')::json
    from unnest(names, members) with ordinality as m (name, member, at)
    where m.member is not null;
end;
comment on function webhook.json_members(text[], json[]) is 'An object of the members that are not null, in this order';

create or replace function webhook.json_elements(elements json[]) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    select ('[' || coalesce(string_agg(e.element::text, ',' order by e.at), '') || ']')::json
    from unnest(elements) with ordinality as e (element, at)
    where e.element is not null;
end;
comment on function webhook.json_elements(json[]) is 'An array of the elements that are not null, in this order';

create or replace function webhook.check_keywords(expressions text[], subjects text[], kind text, length integer) returns jsonb
    language c immutable parallel safe strict
    as 'MODULE_PATHNAME', 'check_keywords_wrapper';
comment on function webhook.check_keywords(text[], text[], text, integer) is
    'Keywords of JSON Schema that follow from CHECK expressions of one column, as pg_get_expr() prints them with pg_catalog alone in the search path';

create or replace function webhook.schema_of(type text, nullable boolean, names text[] default '{}', members json[] default '{}') returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return webhook.json_members(array['type'] || names,
               array[case when nullable then json_build_array(type, 'null') else to_json(type) end] || members);
comment on function webhook.schema_of(text, boolean, text[], json[]) is 'A schema of one JSON type with these keywords';

create or replace function webhook.schema_any_of(variadic schemas json[]) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return case when num_nonnulls(variadic schemas) > 1 then webhook.json_members('{anyOf}', array[webhook.json_elements(schemas)])
                else (select s from unnest(schemas) s where s is not null) end;
comment on function webhook.schema_any_of(json[]) is 'A schema that accepts what one of these does; nulls are left out, and of nothing else there is none';

create or replace function webhook.text_schema(type oid, nullable boolean) returns json
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    pattern text;
    example text;
    format text;
    void constant json := case when nullable then json '{"type":"null"}' end;
begin
    case type
        when 'timestamptz'::regtype then
            return webhook.schema_any_of(json '{"type":"string","format":"date-time","examples":["2026-11-22T03:38:00.123456+00:00"]}',
                json '{"type":"string","pattern":"^-?infinity$|^[0-9]{5,6}-| BC$"}', void);
        when 'date'::regtype then
            return webhook.schema_any_of(json '{"type":"string","format":"date","examples":["2026-11-22"]}',
                json '{"type":"string","pattern":"^-?infinity$|^[0-9]{5,7}-| BC$"}', void);
        when 'timestamp'::regtype then
            pattern := '^-?infinity$|^[0-9]{4,6}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?( BC)?$';
            example := '2026-11-22T03:38:00.123456';
        when 'time'::regtype then
            pattern := '^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?$';
            example := '03:38:00';
        when 'timetz'::regtype then
            pattern := '^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?[+-][0-9]{2}(:[0-9]{2}){0,2}$';
            example := '03:38:00+00';
        when 'uuid'::regtype then
            format := 'uuid';
            example := '0190d5a4-7d2f-7cc3-98c4-dc0c0c07398f';
        when 'bit'::regtype, 'varbit'::regtype then
            pattern := '^[01]*$';
            example := '101';
        when 'bytea'::regtype then
            pattern := '^\\x[0-9a-f]*$';
            example := '\xdeadbeef';
        when 'interval'::regtype then
            pattern := '^P(-?[0-9]+Y)?(-?[0-9]+M)?(-?[0-9]+D)?(T(-?[0-9]+H)?(-?[0-9]+M)?(-?[0-9]+(\.[0-9]{1,6})?S)?)?$|^-?infinity$';
            example := 'P1DT2H3M4S';
        when 'inet'::regtype, 'cidr'::regtype then
            example := '192.0.2.1';
        when 'macaddr'::regtype then
            example := '08:00:2b:01:02:03';
        when 'money'::regtype then
            example := '$1.00';
        else
            null;
    end case;
    return webhook.schema_of('string', nullable, '{format,pattern,examples}',
        array[to_json(format), to_json(pattern), case when example is not null then json_build_array(example) end]);
end
$$;
comment on function webhook.text_schema(oid, boolean) is 'Schema of a type whose values are written as text';

create or replace function webhook.number_schema(type oid, typmod integer, nullable boolean, words jsonb) returns json
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    whole_digits constant integer := case when type = 'numeric'::regtype and typmod <> -1
        then (((typmod - 4) >> 16) & 65535) - ((((typmod - 4) & 2047) # 1024) - 1024) end;
    precise constant boolean := whole_digits >= 0 and (((typmod - 4) >> 16) & 65535) between whole_digits and 15;
    -- numeric(p,s) contains no infinity.
    spellings constant text[] := array(
        select s from unnest(array['NaN', 'Infinity', '-Infinity']) s
        where (whole_digits is null or s = 'NaN')
          and not (words ? 'upper' and s <> '-Infinity') and not (words ? 'lower' and s = '-Infinity'));
    lowest json := words -> 'exclusiveMinimum';
    highest json := words -> 'exclusiveMaximum';
    numbers json;
begin
    if precise and not words ? 'lower' then
        lowest := to_json(-power(10::numeric, whole_digits)::bigint);
    end if;
    if precise and not words ? 'upper' then
        highest := to_json(power(10::numeric, whole_digits)::bigint);
    end if;
    numbers := webhook.schema_of('number', nullable and spellings = '{}', '{minimum,exclusiveMinimum,maximum,exclusiveMaximum}',
        array[words -> 'minimum', lowest, words -> 'maximum', highest]::json[]);
    if spellings = '{}' then
        return numbers;
    end if;
    return webhook.schema_any_of(numbers, json_build_object('enum', spellings), case when nullable then json '{"type":"null"}' end);
end
$$;
comment on function webhook.number_schema(oid, integer, boolean, jsonb) is
    'Schema of numeric, real or double precision, within the bounds that its constraints set';

create or replace function webhook.type_schema(type oid, typmod integer, nullable boolean, expressions text[], subjects text[]) returns json
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    t pg_type;
    words jsonb;
    allowed json;
    lengths constant boolean := getdatabaseencoding() = 'UTF8'
        or pg_encoding_max_length((select encoding from pg_database where datname = current_database())) = 1;
begin
    loop
        select p.* into t from pg_type p where p.oid = type;
        exit when t.typtype <> 'd';
        if not exists (select from pg_collation l where l.oid = t.typcollation and not l.collisdeterministic) then
            select expressions || array_agg(pg_get_expr(c.conbin, 0)), subjects || array_agg('VALUE'::text)
                into expressions, subjects
                from pg_constraint c where c.contypid = type and c.contype = 'c' and c.convalidated;
        end if;
        type := t.typbasetype;
        typmod := case when typmod = -1 then t.typtypmod else typmod end;
    end loop;

    if t.typelem <> 0 and t.typlen = -1 then
        -- The number of dimensions is not part of the type.
        return webhook.schema_of('array', nullable, '{items}', array[webhook.schema_any_of(
            webhook.type_schema(t.typelem, typmod, true, '{}', '{}'),
            json '{"type":"array","description":"One more dimension"}')]);
    elsif t.typtype = 'c' then
        return webhook.row_schema(t.typrelid, null, false, nullable);
    elsif type >= 16384 and exists (select from pg_cast c where c.castsource = type and c.casttarget = 'json'::regtype and c.castmethod = 'f') then
        return '{}';
    end if;

    words := webhook.check_keywords(c.expressions, c.subjects, c.kind, typmod - 4)
        -- Rust reads UTF-8. In other encodings, constraints with characters outside ASCII are not
        -- used.
        from (select coalesce(array_agg(c.expression), '{}'), coalesce(array_agg(c.subject), '{}'),
                     case when type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then 'integer'
                          when type = 'numeric'::regtype then
                              case when typmod <> -1 and ((typmod - 4) >> 16) & 65535 <= 15 and (((typmod - 4) & 2047) # 1024) >= 1024
                                   then 'exact numeric' else 'numeric' end
                          when type = 'float8'::regtype then 'double'
                          when type = 'float4'::regtype then 'real'
                          when type in ('text'::regtype, 'varchar'::regtype) then 'text'
                          when type = 'bpchar'::regtype and typmod > 4 then 'padded'
                          when t.typtype = 'e' then 'enum'
                          else '' end
              from unnest(expressions, subjects) as c (expression, subject)
              where getdatabaseencoding() = 'UTF8' or (c.expression || c.subject) collate "C" !~ '[^ -~]') as c (expressions, subjects, kind);
    nullable := nullable and not words ? 'notNull';
    if jsonb_array_length(words -> 'enum') > 0 then
        allowed := case when nullable then (words -> 'enum') || '[null]' else words -> 'enum' end;
    elsif t.typtype = 'e' then
        allowed := webhook.json_elements(array(select to_json(e.enumlabel::text) from pg_enum e where e.enumtypid = type order by e.enumsortorder)
                                         || case when nullable then json 'null' end);
    end if;

    case
        when type in ('json'::regtype, 'jsonb'::regtype) then
            return '{}';
        when type = 'bool'::regtype then
            return webhook.schema_of('boolean', nullable);
        when type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then
            return webhook.schema_of('integer', nullable, '{minimum,maximum,enum}', array[
                to_json(greatest(-power(2::numeric, 8 * t.typlen - 1)::numeric(20), (words ->> 'minimum')::numeric)),
                to_json(least(power(2::numeric, 8 * t.typlen - 1)::numeric(20) - 1, (words ->> 'maximum')::numeric)), allowed]);
        when type in ('numeric'::regtype, 'float4'::regtype, 'float8'::regtype) then
            return case when allowed is not null then webhook.schema_of('number', nullable, '{enum}', array[allowed])
                        else webhook.number_schema(type, typmod, nullable, words) end;
        when type in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype) or t.typtype = 'e' then
            return webhook.schema_of('string', nullable, '{minLength,maxLength,enum}', array[
                -- In SQL_ASCII, a character is a byte, and the receiver may see fewer characters.
                to_json(case when lengths and getdatabaseencoding() <> 'SQL_ASCII'
                             then coalesce((words ->> 'minLength')::bigint, case when type = 'bpchar'::regtype and typmod > 4 then typmod - 4 end) end),
                to_json(case when lengths then least((words ->> 'maxLength')::bigint,
                        case when type <> 'text'::regtype and typmod > 4 then typmod - 4 end) end), allowed]);
        else
            return webhook.text_schema(type, nullable);
    end case;
end
$$;
comment on function webhook.type_schema(oid, integer, boolean, text[], text[]) is
    'Schema of the values of a type, as capture writes them';

create or replace function webhook.row_schema(rel oid, numbers smallint[], is_table boolean, nullable boolean, description text default null) returns json
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
    select webhook.schema_of('object', row_schema.nullable, '{description,properties,required}', array[
        to_json(row_schema.description),
        webhook.json_members(coalesce(array_agg(c.name order by c.number), '{}'), coalesce(array_agg(
            case when c.comment is null then c.schema
                 when c.schema::text = '{}' then json_build_object('description', c.comment)
                 else ('{"description":' || to_json(c.comment)::text || ',' || substr(c.schema::text, 2))::json end
            order by c.number), '{}')),
        coalesce(json_agg(c.name order by c.number), '[]')])
    from (
        select a.attnum as number, a.attname::text as name, col_description(a.attrelid, a.attnum) as comment,
               webhook.type_schema(a.atttypid, a.atttypmod,
                   not (is_table and a.attnotnull and webhook.is_never_null(a.attrelid, a.attname)),
                   coalesce(k.expressions, '{}'), array_fill(a.attname::text, array[coalesce(cardinality(k.expressions), 0)])) as schema
        from pg_attribute a
        left join lateral (
            select array_agg(pg_get_expr(c.conbin, c.conrelid) order by c.oid) as expressions
            from pg_constraint c
            where is_table and c.conrelid = a.attrelid and c.conkey = array[a.attnum] and c.contype = 'c'
              and c.convalidated and not c.connoinherit
              and not exists (select from pg_collation l where l.oid = a.attcollation and not l.collisdeterministic)) k on true
        where a.attrelid = rel and a.attnum > 0 and not a.attisdropped and (numbers is null or a.attnum = any (numbers))
    ) c
$$;
comment on function webhook.row_schema(oid, smallint[], boolean, boolean, text) is
    'Schema of an object of these columns of a relation (null: of all)';

create or replace function webhook.is_never_null(rel oid, name name) returns boolean
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
begin atomic
    with recursive family (oid) as (
        select is_never_null.rel
        union select i.inhrelid from pg_inherits i join family f on i.inhparent = f.oid)
    select not exists (select from family f join pg_attribute a on a.attrelid = f.oid and a.attname = is_never_null.name
                       where not a.attnotnull
                          or exists (select from pg_constraint c where c.conrelid = f.oid and c.contype = 'n'
                                     and c.conkey = array[a.attnum] and not c.convalidated));
end;
comment on function webhook.is_never_null(oid, name) is 'Whether a column is NOT NULL in a table and in all that inherit from it';

create or replace function webhook.watch_definition(rel oid) returns jsonb
    language sql stable set search_path = pg_catalog, pg_temp
    return (select d.definition
            from pg_trigger t cross join webhook.trigger_definition(t.tgargs) as d (definition)
            where t.tgrelid = rel and t.tgfoid = 'webhook.capture()'::regprocedure and d.definition is not null
            -- A retired trigger contains a former definition.
            order by t.tgenabled = 'D', t.tgname limit 1);
comment on function webhook.watch_definition(oid) is 'The definition that the triggers of a watched table carry';

create or replace function webhook.meant_columns(rel oid, definition jsonb, list text, others boolean) returns smallint[]
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(array_agg(m.number), '{}')
    from webhook.numbers_hold(rel, definition) as hold
    cross join jsonb_array_elements(definition -> list) as c
    left join pg_attribute old on old.attrelid = meant_columns.rel and old.attnum = (c ->> 'number')::smallint and not old.attisdropped
    left join pg_attribute new on new.attrelid = meant_columns.rel and new.attname = c ->> 'name' and new.attnum > 0 and not new.attisdropped
    cross join lateral (select case when hold then coalesce(old.attnum, new.attnum) else new.attnum end
                        union select case when meant_columns.others then new.attnum end
                        union select case when meant_columns.others and hold is not null then old.attnum end) as m (number)
    where m.number is not null;
end;
comment on function webhook.meant_columns(oid, jsonb, text, boolean) is
    'The present numbers of the columns in a list of a watch; others: those too that it could mean';

create or replace function webhook.captured_columns(rel oid, definition jsonb) returns smallint[]
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(array_agg(a.attnum order by a.attnum), '{}')
    from pg_attribute a
    where a.attrelid = captured_columns.rel and a.attnum > 0 and not a.attisdropped
      and (not captured_columns.definition ? 'columns'
           or a.attnum = any (webhook.meant_columns(rel, definition, 'columns', false)))
      and (not captured_columns.definition ? 'exclude'
           or a.attnum <> all (webhook.meant_columns(rel, definition, 'exclude', true)))
      and (webhook.lost_columns(rel, definition) is null
           or a.attnum = any (webhook.meant_columns(rel, definition, 'key', false)));
end;
comment on function webhook.captured_columns(oid, jsonb) is 'The numbers of the columns that a watch puts into "data"';

create or replace function webhook.data_schema(event_type text) returns json
    language sql stable set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (select t.data_schema from webhook.event_type t where t.type = event_type),
        (select webhook.schema_any_of(variadic array_agg(v.schema order by s.relation::oid, v.at))
         from webhook.sources(event_type) s
         cross join lateral webhook.watch_definition(s.relation) as d (definition)
         cross join lateral (values
             (1, case when s.payload is not null and s.operations <> '{truncate}' then json '{}' end),
             (2, case when s.payload is null and s.operations <> '{truncate}' then
                     webhook.row_schema(s.relation, webhook.captured_columns(s.relation, d.definition), true, false) end),
             (3, case when s.payload is null and s.operations <> '{truncate}' then
                     webhook.json_members('{title,type,description,properties,additionalProperties}', array[
                         json '"Key only"', '"object"', '"If the row was too large (truncated) or has been erased: at most its key columns"',
                         webhook.row_schema(s.relation, webhook.meant_columns(s.relation, d.definition, 'key', false), true, false) -> 'properties',
                         'false']) end),
             (4, case when 'truncate' = any (s.operations) then json '{"type":"object","maxProperties":0}' end)) as v (at, schema)),
        '{}')
$$;
comment on function webhook.data_schema(text) is
    'JSON Schema of "data": as entered by hand, else from the watched tables; {} says nothing';

create or replace function webhook.previous_schema(event_type text) returns json
    language sql stable set search_path = pg_catalog, pg_temp
as $$
    select webhook.schema_any_of(variadic array_agg(
               case when s.payload is not null then json '{"type":"object"}'
                    else webhook.json_members('{type,description,properties}', array[
                             json '"object"', '"The former values of the columns that changed"',
                             webhook.row_schema(s.relation, webhook.captured_columns(s.relation, webhook.watch_definition(s.relation)),
                                                true, false) -> 'properties']) end
               order by s.relation::oid))
    from webhook.sources(event_type) s
    where 'update' = any (s.operations)
    having count(*) > 0
$$;
comment on function webhook.previous_schema(text) is 'JSON Schema of "previous"; null: events of this type have none';

create or replace function webhook.body_schema(event_type text) returns json
    language sql stable set search_path = pg_catalog, pg_temp
as $$
    select webhook.schema_of('object', false, '{properties,required}', array[
        webhook.json_members('{id,type,timestamp,sequence,table,actor,truncated,compacted,data,previous}', array[
            json '{"type":"string","description":"The event: the same for every attempt to deliver it, and equal to the header webhook-id","pattern":"^evt_[0-9a-f]{15,30}$"}',
            json_build_object('type', 'string', 'const', event_type),
            '{"type":"string","description":"When the change was made, in UTC","format":"date-time"}',
            '{"type":"integer","description":"Rises from event to event; the events of one row rise","minimum":0}',
            case when exists (select from webhook.sources(event_type)) then json '{"type":"string","description":"The table"}' end,
            '{"type":"string","description":"Who made the change, if the application said so"}',
            '{"type":"boolean","description":"The row was too large: data holds its key columns only","const":true}',
            '{"type":"integer","description":"How many changes this one event stands for","minimum":2}',
            webhook.data_schema(event_type), webhook.previous_schema(event_type)]),
        '["id","type","timestamp","sequence","data"]'])
$$;
comment on function webhook.body_schema(text) is 'JSON Schema of a whole body in format standard';

create or replace function webhook.number_example(schema json) returns numeric
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
    step constant numeric := case when schema #>> '{type,0}' = 'integer' or schema ->> 'type' = 'integer' then 1 else 0 end;
    over constant numeric := (schema ->> 'exclusiveMinimum')::numeric;
    under constant numeric := (schema ->> 'exclusiveMaximum')::numeric;
    lowest numeric := (schema ->> 'minimum')::numeric;
    highest numeric := (schema ->> 'maximum')::numeric;
begin
    if step = 1 then
        lowest := greatest(ceil(lowest), floor(over) + 1);
        highest := least(floor(highest), ceil(under) - 1);
        return greatest(lowest, least(1, highest));
    end if;
    if 1 >= coalesce(lowest, 1) and 1 > coalesce(over, 0) and 1 <= coalesce(highest, 1) and 1 < coalesce(under, 2) then
        return 1;
    elsif lowest is not null or highest is not null then
        return coalesce(lowest, highest);
    elsif over is not null and under is not null then
        return trim_scale((over + under) / 2);
    end if;
    return coalesce(over + 1, under - 1);
end
$$;
comment on function webhook.number_example(json) is 'A number that a schema accepts, 1 if possible';

create or replace function webhook.schema_example(schema json) returns json
    language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
    type constant text := case json_typeof(schema -> 'type') when 'array' then schema #>> '{type,0}' else schema ->> 'type' end;
begin
    if json_typeof(schema) <> 'object' then
        return '{}';
    elsif schema -> 'examples' is not null then
        return schema #> '{examples,0}';
    elsif schema -> 'const' is not null then
        return schema -> 'const';
    elsif schema -> 'enum' is not null then
        return schema #> '{enum,0}';
    elsif schema -> 'anyOf' is not null then
        return webhook.schema_example(schema #> '{anyOf,0}');
    end if;
    case type
        when 'object' then
            return (select webhook.json_members(coalesce(array_agg(p.key order by p.at), '{}'),
                                                coalesce(array_agg(webhook.schema_example(p.value) order by p.at), '{}'))
                    from json_each(schema -> 'properties') with ordinality as p (key, value, at));
        when 'array' then
            return webhook.json_elements(array[webhook.schema_example(schema -> 'items')]);
        when 'boolean' then
            return 'true';
        when 'integer', 'number' then
            return to_json(webhook.number_example(schema));
        when 'string' then
            return to_json(left(rpad('text', greatest(4, least(coalesce((schema ->> 'minLength')::integer, 0), 10000)), ' text'),
                                coalesce((schema ->> 'maxLength')::integer, 10000)));
        when 'null' then
            return 'null';
        else
            return '{}';
    end case;
end
$$;
comment on function webhook.schema_example(json) is 'A value that a schema of ours accepts';

create or replace function webhook.data_example(event_type text) returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return coalesce((select t.example from webhook.event_type t where t.type = event_type),
                    webhook.schema_example(webhook.data_schema(event_type)));
comment on function webhook.data_example(text) is 'An example of "data": as entered by hand, else from the schema';

create or replace function webhook.former_example(schema json) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return case when json_typeof(schema -> 'enum') = 'array' then schema #> '{enum,-1}'
                when (schema -> 'type')::jsonb @> '"null"' or (schema -> 'anyOf')::jsonb @> '[{"type":"null"}]' then 'null'
                when schema ->> 'type' = 'boolean' then 'false'
                else webhook.schema_example(schema) end;
comment on function webhook.former_example(json) is 'A value that a schema accepts, another than schema_example() if it is easy to say';

create or replace function webhook.previous_example(schema json, data json) returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return (select webhook.json_members(array[p.key], array[webhook.former_example(p.value)])
            from json_each(coalesce(schema #> '{anyOf,0,properties}', schema -> 'properties')) with ordinality as p (key, value, at)
            where webhook.former_example(p.value)::text is distinct from (data -> p.key)::text
            order by p.at desc limit 1);
comment on function webhook.previous_example(json, json) is 'An example of "previous" beside this example of "data"; null: there is none, or none can be made up';

create or replace function webhook.body_example(event_type text, body_schema json) returns json
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    with known as materialized (
        select coalesce((select t.example from webhook.event_type t where t.type = body_example.event_type),
                        webhook.schema_example(body_schema #> '{properties,data}')) as data)
    select webhook.json_members('{id,type,timestamp,sequence,table,data,previous}', array[
        json '"evt_0660d5342ff8402a"', to_json(event_type), '"2026-11-22T03:38:00.123456Z"', '42',
        to_json((select s.relation::text from webhook.sources(event_type) s limit 1)), k.data,
        webhook.previous_example(body_schema #> '{properties,previous}', k.data)])
    from known k;
end;
comment on function webhook.body_example(text, json) is 'An example of a whole body in format standard; body_schema: its schema';

create or replace function webhook.described_event_types() returns table (type text, description text)
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select t.type, case when t.description is not distinct from t.derived then webhook.derived_description(t.type) else t.description end
    from webhook.event_type t;
end;
comment on function webhook.described_event_types() is 'All event types, described as of now';

create or replace function webhook.exemplified_event_types(events text[]) returns table (type text, description text, schema json, example json)
    language sql stable set search_path = pg_catalog, pg_temp
begin atomic
    with described as materialized (
        select t.type, t.description, webhook.body_schema(t.type) as schema
        from webhook.described_event_types() t
        where webhook.pattern_matches(coalesce(events, '{*}'), t.type))
    select d.type, d.description, d.schema, webhook.body_example(d.type, d.schema) from described d;
end;
comment on function webhook.exemplified_event_types(text[]) is 'The event types that patterns match, with schema and example of a body in format standard';

create or replace function webhook.check_event_type(event_type text) returns text
    language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if event_type is null then
        raise exception using errcode = 'null_value_not_allowed', message = 'event_type must not be null',
            hint = 'Name one of webhook.event_type.';
    elsif not exists (select from webhook.event_type t where t.type = event_type)
          and not exists (select from webhook.sources(event_type)) then
        raise exception using errcode = 'undefined_object', message = format('there is no event type "%s"', event_type),
            hint = 'webhook.event_type lists them. Add a row there for a type that the application emits itself.';
    end if;
    return event_type;
end
$$;
comment on function webhook.check_event_type(text) is 'Raises if nothing is known of an event type';

create or replace function @extschema@.webhook_event_schema(event_type text) returns json
    language sql stable security definer set search_path = pg_catalog, pg_temp
    return (select ('{"$schema":"https://json-schema.org/draft/2020-12/schema","title":' || to_json(event_type)::text
                    || case when s.schema = '{}' then '}' else ',' || substr(s.schema, 2) end)::json
            from (select webhook.data_schema(webhook.check_event_type(event_type))::text) as s (schema));
comment on function @extschema@.webhook_event_schema is
    'JSON Schema of "data" of an event type, from the present system catalog';

create or replace function @extschema@.webhook_event_example(event_type text) returns json
    language sql stable security definer set search_path = pg_catalog, pg_temp
    return webhook.data_example(webhook.check_event_type(event_type));
comment on function @extschema@.webhook_event_example is 'An example of "data" of an event type';

create or replace function webhook.documentation_info(content json) returns json
    language sql stable set search_path = pg_catalog, pg_temp
    return json_build_object(
        'title', format('Events of %s', current_database()),
        'version', left(encode(sha256(webhook.exact_utf8(content::text)), 'hex'), 12),
        'description', 'Sent as signed POST requests (Standard Webhooks), at least once: deduplicate by webhook-id. '
            || 'Members may be added; ignore those that you do not know.');
comment on function webhook.documentation_info(json) is 'The member "info" of a document with this content';

create or replace function webhook.header_schemas() returns json
    language sql immutable parallel safe set search_path = pg_catalog, pg_temp
    return json '{"webhook-id":{"type":"string","description":"The event: the same for every attempt to deliver it","examples":["evt_0660d5342ff8402a"]},'
        '"webhook-timestamp":{"type":"string","pattern":"^[0-9]+$","description":"When this attempt was made, in seconds since 1970","examples":["1795318680"]},'
        '"webhook-signature":{"type":"string","description":"v1, and the base64 of HMAC-SHA256 over webhook-id.webhook-timestamp.body; several, separated by a space, while a secret is being replaced","examples":["v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="]}}';
comment on function webhook.header_schemas() is 'JSON Schemas of the headers that every webhook carries';

create or replace function @extschema@.webhook_openapi(events text[] default '{*}') returns json
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    webhooks json;
    schemas json;
    parameters json;
    components json;
begin
    select webhook.json_members(
               coalesce(array_agg(t.type order by t.type), '{}'),
               coalesce(array_agg(json_build_object('post', webhook.json_members(
                   '{operationId,summary,description,tags,parameters,requestBody,responses}', array[
                   to_json(t.type), to_json(t.type), to_json(t.description),
                   json_build_array(regexp_replace(t.type, '\.[^.]*$', '')),
                   '[{"$ref":"#/components/parameters/webhook-id"},{"$ref":"#/components/parameters/webhook-timestamp"},{"$ref":"#/components/parameters/webhook-signature"}]',
                   json_build_object('required', true, 'content', json_build_object('application/json', json_build_object(
                       'schema', json_build_object('$ref', '#/components/schemas/' || t.type),
                       'example', t.example))),
                   '{"2XX":{"$ref":"#/components/responses/accepted"},"410":{"$ref":"#/components/responses/gone"},'
                   '"429":{"$ref":"#/components/responses/slower"},"default":{"$ref":"#/components/responses/failed"}}']))
                   order by t.type), '{}')),
           webhook.json_members(coalesce(array_agg(t.type order by t.type), '{}'),
                                coalesce(array_agg(t.schema order by t.type), '{}'))
        into webhooks, schemas
        from webhook.exemplified_event_types(events) t;
    select webhook.json_members(array_agg(h.key order by h.at), array_agg(json_build_object(
               'name', h.key, 'in', 'header', 'required', true, 'schema', h.value) order by h.at))
        into parameters
        from json_each(webhook.header_schemas()) with ordinality as h (key, value, at);
    components := webhook.json_members('{schemas,parameters,responses}', array[schemas, parameters,
        '{"accepted":{"description":"Delivered. The body of the answer does not matter"},'
        '"gone":{"description":"The receiver is gone. The subscription is disabled at once"},'
        '"slower":{"description":"Tried again on the schedule, and sent to more slowly from then on",'
        '"headers":{"Retry-After":{"description":"Not before: seconds, or a date; at most 24 hours","schema":{"type":"string"}}}},'
        '"failed":{"description":"Failed, and tried again on the schedule: with 5xx and 4xx as with a redirect, which is not followed"}}']);
    return webhook.json_members('{openapi,info,webhooks,components}', array[
        json '"3.1.0"', webhook.documentation_info(webhook.json_elements(array[webhooks, components])), webhooks, components]);
end
$$;
comment on function @extschema@.webhook_openapi is
    'The events as an OpenAPI 3.1 document (member webhooks), from the present system catalog';

create or replace function @extschema@.webhook_asyncapi(events text[] default '{*}') returns json
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    messages json;
    channel_messages json;
    channels json;
    operations json;
begin
    select webhook.json_members(
               coalesce(array_agg(t.type order by t.type), '{}'),
               coalesce(array_agg(webhook.json_members('{name,title,description,contentType,headers,payload,examples}', array[
                   to_json(t.type), to_json(t.type), to_json(t.description), '"application/json"',
                   webhook.schema_of('object', false, '{properties,required}', array[
                       webhook.header_schemas(), '["webhook-id","webhook-timestamp","webhook-signature"]']),
                   t.schema,
                   case when json_typeof(t.example) = 'object' then json_build_array(json_build_object('payload', t.example)) end]) order by t.type), '{}')),
           webhook.json_members(coalesce(array_agg(t.type order by t.type), '{}'),
               coalesce(array_agg(json_build_object('$ref', '#/components/messages/' || t.type) order by t.type), '{}'))
        into messages, channel_messages
        from webhook.exemplified_event_types(events) t;
    channels := json_build_object('webhooks', webhook.json_members('{address,description,messages}', array[
        json 'null', '"The URL of a subscription"', channel_messages]));
    operations := '{"sendEvent":{"action":"send","channel":{"$ref":"#/channels/webhooks"},'
                  '"summary":"An event is sent to each subscription that it matches","bindings":{"http":{"method":"POST"}}}}';
    return webhook.json_members('{asyncapi,info,defaultContentType,channels,operations,components}', array[
        json '"3.0.0"', webhook.documentation_info(webhook.json_elements(array[messages, channels])), '"application/json"',
        channels, operations, json_build_object('messages', messages)]);
end
$$;
comment on function @extschema@.webhook_asyncapi is 'The events as an AsyncAPI 3 document, from the present system catalog';

create or replace function @extschema@.webhook_grant(role regrole, what text) returns void
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
            -- The triggers of webhook_watch() are made with the rights of its caller, who therefore
            -- needs their function.
            ('publisher', 'grant usage on schema @extschema@, webhook to %s'),
            ('publisher', 'grant execute on function webhook.capture(), @extschema@.webhook_emit(text, json, text),
                 @extschema@.webhook_emit(text, json, anynonarray), @extschema@.webhook_emit(webhook.event_type_name, jsonb, text),
                 @extschema@.webhook_emit(webhook.event_type_name, jsonb, anynonarray),
                 @extschema@.webhook_watch(regclass, text, jsonb, text[], text[], text[], text, regproc, text[]),
                 @extschema@.webhook_unwatch(regclass), @extschema@.webhook_migrate(regclass, text) to %s'),

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

            ('subscriber reader', 'grant select on webhook.delivered_event, webhook.matching_event to %s'),
            ('subscriber reader', 'grant execute on function webhook.event_stretch(bigint, bigint, integer), webhook.event_place(text),
                 webhook.last_number(), webhook.number_at(timestamptz) to %s'),

            ('subscriber reader', 'grant execute on function @extschema@.webhook_deliveries(bigint, integer, bigint) to %s'),

            ('publisher subscriber reader', 'grant execute on function @extschema@.webhook_event_schema(text),
                 @extschema@.webhook_event_example(text), @extschema@.webhook_openapi(text[]), @extschema@.webhook_asyncapi(text[]),
                 webhook.described_event_types() to %s'),

            ('reader', 'grant usage on schema @extschema@, webhook to %s'),
            ('reader', 'grant select on webhook.event, webhook.attempt, webhook.queue, webhook.subscription,
                 webhook.watch, webhook.detached_partition, webhook.event_type, webhook.receiver, webhook.backfill, webhook.cursor, webhook.beyond_checkpoint,
                 webhook.pending, webhook.delivery, webhook.subscription_stats, webhook.public_key, webhook.health, webhook.ring, webhook.setting to %s'),

            ('publisher reader', 'grant execute on function @extschema@.webhook_check() to %s'),
            ('reader', 'grant execute on function webhook.find_event(text), webhook.event_created_at(text) to %s'),

            -- Functions in a view are executed with the rights of the one who reads it.
            ('publisher subscriber reader dispatcher', 'grant execute on function webhook.exact_utf8(text), webhook.replace_untranslatable() to %s'),
            ('subscriber reader dispatcher', 'grant execute on function webhook.public_id(bigint, timestamptz),
                 webhook.event_sequence(text), webhook.pattern_matches(text[], text),
                 webhook.order_key(text, webhook.event), webhook.ring_begins(timestamptz),
                 webhook.ring_slots(timestamptz, timestamptz), webhook.ring_slot(timestamptz),
                 webhook.tenant(), webhook.may_see_all(), webhook.may_see(text), webhook.mismatch(webhook.event, webhook.subscription),
                 webhook.filter_matches(webhook.event, jsonpath),
                 webhook.path_matches(jsonpath, text, text, text, text, text, boolean, json, json) to %s'),

            ('dispatcher', 'grant usage on schema webhook to %s'),
            ('dispatcher', 'grant select on webhook.event, webhook.subscription, webhook.secret, webhook.sealing_key, webhook.backfill,
                 webhook.beyond_checkpoint, webhook.pending, webhook.delivery, webhook.subscription_stats, webhook.health to %s'),
            ('dispatcher', 'grant select on webhook.ring_head to %s'),
            ('dispatcher', 'grant select, insert on webhook.attempt to %s'),
            ('dispatcher', 'grant select, insert, update, delete on webhook.queue, webhook.receiver to %s'),
            ('dispatcher', 'grant select, insert, update on webhook.cursor to %s'),
            ('dispatcher', 'grant execute on function webhook.disable_subscription(bigint, text),
                 webhook.confirm_subscription(bigint, text, numeric), webhook.tell(text, bigint, json), webhook.turn_ring(boolean), webhook.retire_slot(integer),
                 webhook.skip_numbers(bigint), webhook.remove_queued(bigint[], bigint[]),
                 webhook.relieve_ring(), webhook.ring_size(),
                 webhook.backfill_step(bigint, integer), webhook.end_backfill(bigint, text, text) to %s'),
            -- For its admin server.
            ('dispatcher', 'grant select on webhook.token to %s'),
            ('dispatcher', 'grant select, insert, update, delete on webhook.idempotency to %s'),
            ('dispatcher', 'grant execute on function webhook.act_for(text), webhook.last_number(),
                 webhook.delivery_number(bigint, text, bigint), webhook.number_at(timestamptz), webhook.lower_priority() to %s'),
            ('dispatcher', 'grant execute on function webhook.gate_ring(),
                 webhook.gate_sleep(integer), webhook.gate_take(), webhook.gate_release() to %s'),

            ('admin', 'grant execute on function @extschema@.webhook_arm(), @extschema@.webhook_seal(text),
                 @extschema@.webhook_erase(regclass, text), webhook.turn_ring(boolean) to %s'),
            ('admin', 'grant select on webhook.sealing_key, webhook.erasure to %s'),
            ('admin', 'grant select, insert, delete on webhook.token to %s'),
            -- For webhookd rekey, together with what a dispatcher has.
            ('admin', 'grant update on webhook.secret to %s'),
            ('admin', 'grant update on webhook.setting to %s'),
            ('admin', 'grant update (description, data_schema, example) on webhook.event_type to %s'),
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
comment on function @extschema@.webhook_grant is
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

select webhook.note_own_parts();


-- -- Rights and rows that follow from it -------------------------------------------------------------------------

-- Who had a part of the work gets what has been added to it. A part is known by a right that no other part has.
do $$
declare
    had record;
begin
    for had in
        select distinct a.grantee, r.what
        from (values ('publisher', '@extschema@.webhook_unwatch(regclass)'::regprocedure),
                     ('subscriber', (select p.oid from pg_proc p where p.proname = 'webhook_subscribe' and p.pronamespace = '@extschema@'::regnamespace)),
                     ('reader', 'webhook.find_event(text)'::regprocedure),
                     ('dispatcher', 'webhook.tell(text, bigint, json)'::regprocedure),
                     ('admin', '@extschema@.webhook_arm()'::regprocedure)) as r (what, function)
        join pg_proc p on p.oid = r.function
        cross join lateral aclexplode(p.proacl) a
        where a.grantee <> 0 and a.grantee <> p.proowner
    loop
        perform @extschema@.webhook_grant(had.grantee::regrole, had.what);
    end loop;
end
$$;
select webhook.admit_partition_owners();
-- What is granted while the script of an extension runs is taken for the extension's own, and pg_dump leaves it out. But to
-- whom something is granted has been somebody's decision: only the owner's rights and PUBLIC's are ours.
delete from pg_catalog.pg_init_privs i using pg_depend d
    where d.refclassid = 'pg_extension'::regclass and d.refobjid = (select oid from pg_extension where extname = 'pg_webhook') and d.deptype = 'e'
      and d.classid = i.classoid and d.objid = i.objoid
      and not exists (select from aclexplode(i.initprivs) a where a.grantee in (0, a.grantor));
update pg_catalog.pg_init_privs i
    set initprivs = array(select p.acl from unnest(i.initprivs) as p (acl)
                          where exists (select from aclexplode(array[p.acl]) a where a.grantee in (0, a.grantor)))
    from pg_depend d
    where d.refclassid = 'pg_extension'::regclass and d.refobjid = (select oid from pg_extension where extname = 'pg_webhook') and d.deptype = 'e'
      and d.classid = i.classoid and d.objid = i.objoid
      and exists (select from aclexplode(i.initprivs) a where a.grantee not in (0, a.grantor));
select webhook.list_event_types();
