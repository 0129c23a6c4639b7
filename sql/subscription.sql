-- Subscriptions with their secrets, the state of their receivers, and backfills; and who may see
-- which.

-- -- Subscriptions --------------------------------------------------------------------------------

create table webhook.subscription (
    id               bigint      generated always as identity primary key,
    name             text,
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
    owner_role       oid,
    expected_response jsonb,
    keep_response    boolean     not null default false,
    paused_at        timestamptz,
    disabled_at      timestamptz,
    failures_reset_at timestamptz,
    scope            text        not null default 'own',
    locked           text[]      not null default '{}',
    scope_since      timestamptz,
    constraint url_is_http check (url ~ '^https?://'),
    constraint events_are_named check (cardinality(events) between 1 and 1000),
    constraint timeout_is_1ms_to_5min check (timeout between '1 millisecond' and '5 minutes'),
    constraint retry_has_at_most_50_steps check (cardinality(retry) <= 50),
    constraint max_in_flight_is_1_to_4096 check (max_in_flight between 1 and 4096),
    constraint paused_reason_only_when_paused check (paused_reason is null or not enabled),
    constraint paused_at_only_when_paused check (not enabled or num_nonnulls(paused_at, disabled_at) = 0),
    constraint format_is_known check (format in
        ('standard', 'cloudevents-structured', 'cloudevents-binary', 'form', 'raw', 'supabase', 'hasura')),
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
    constraint expected_response_is_an_object check (jsonb_typeof(expected_response) = 'object'),
    constraint tls_is_a_name check (tls ~ '^[A-Za-z0-9_-]{1,63}$'),
    constraint scope_is_known check (scope in ('own', 'all')),
    constraint locked_names_options check (locked <@ '{url,events,filter}')
);
-- Names are unique for each owner: whether another owner uses a name is not visible.
create unique index subscription_owner_role_name_idx on webhook.subscription (owner_role, name) where owner_role <> 0;
create unique index subscription_owner_name_idx on webhook.subscription (owner, name) where owner_role is null;
-- The subscriptions that an event can match (webhook.unresolved): with scope all those whose
-- patterns match ("events && $1"), with scope own those of its owner ("owner = $1", "owner = $1 and
-- id = $2"). Without the list of pending entries, which each search would read.
create index subscription_events_idx on webhook.subscription using gin (events) with (fastupdate = off) where scope = 'all';
create index subscription_scope_idx on webhook.subscription (owner, id) where scope = 'own';
comment on table  webhook.subscription is 'Subscriptions: the receiver, the patterns of its events, and the options of delivery';
comment on column webhook.subscription.enabled is 'false: paused; matching events are kept in webhook.queue';
comment on column webhook.subscription.timeout is 'Time limit of one attempt, including the response body';
comment on column webhook.subscription.retry is 'Time to wait after the 1st, 2nd, ... failed attempt; after the last attempt, the delivery is exhausted';
comment on column webhook.subscription.max_in_flight is 'Maximum number of concurrent requests';
comment on column webhook.subscription.filter is
    'SQL/JSON path on the event ({"type", "key", "table", "actor", "origin", "truncated", "data", "previous"}); only matching events are delivered';
comment on column webhook.subscription.format is 'Format and content type of the body; supabase and hasura are for existing receivers of their webhooks';
comment on column webhook.subscription.payload_mode is
    'full: data and previous; thin: only the identity of the changed row; changed: only the members of data that previous has too';
comment on column webhook.subscription.headers is 'Additional request headers, by name';
comment on column webhook.subscription.exclude_origin is 'Events with one of these origins (setting webhook.origin) do not match; prevents echoes';
comment on column webhook.subscription.rate_limit is 'Maximum number of requests per second; null: no limit';
comment on column webhook.subscription.ordering is
    'none; key: an event is sent after the previous event of its key is final; strict: events are sent one after another';
comment on column webhook.subscription.batch_size is 'Maximum number of events per request; above 1, the body is a JSON array';
comment on column webhook.subscription.batch_window is 'How long an event may wait for others to fill the request';
comment on column webhook.subscription.compact is
    'Merges several undelivered changes of one key into one event, with the first previous and the last data';
comment on column webhook.subscription.verification is
    'none; ping: the receiver must first answer a webhook.ping with 2xx; handshake: CloudEvents abuse protection (OPTIONS)';
comment on column webhook.subscription.verified_at is 'When the receiver confirmed; until then, nothing is sent and matching events are kept';
comment on column webhook.subscription.signature is
    'How requests are signed: standard and standard-v1a (Standard Webhooks, HMAC-SHA256 and ed25519), svix, github, stripe. none: requests are not signed';
comment on column webhook.subscription.owner is
    'Owner: a role, whose members can see and change the subscription; or another name, such as a tenant of the application, whose subscriptions only admins can see and change';
comment on column webhook.subscription.owner_role is
    'Role that owner named when it was set; null: owner is not a role; 0: the role was dropped, and only admins can see and change the subscription';
comment on column webhook.subscription.tls is
    'Name of a section [tls.NAME] in the daemon''s configuration: certificate authorities and client certificate for this receiver';
comment on column webhook.subscription.paused_at is 'When it was paused or disabled; null: it is enabled, or was paused before version 0.3.0';
comment on column webhook.subscription.disabled_at is 'When the daemon disabled it, because its receiver failed for too long or is gone; null: it is enabled, or a user paused it';
comment on column webhook.subscription.failures_reset_at is 'When the past failures of its receiver were last forgotten: at a resume, or a change of the URL';
comment on column webhook.subscription.expected_response is
    'A delivery succeeds only if the body of the 2xx response is JSON that contains this object (operator @>); null: any 2xx response';
comment on column webhook.subscription.keep_response is 'true: the start of the response of successful attempts is stored too';
comment on column webhook.subscription.scope is
    'own: only events of the subscription''s owner, and announcements (owner *); all: events of all owners and of none, which only a role that can read every event can choose';
comment on column webhook.subscription.locked is
    'Options that only an admin can change: url, events, filter';
comment on column webhook.subscription.scope_since is
    'When the owner or the scope last changed: the owner does not see deliveries and attempts from before; null: they have never changed';
comment on column webhook.subscription.created_snapshot is 'Events that are visible in it were committed before the subscription and do not match';

-- -- Secrets --------------------------------------------------------------------------------------

-- In a table of its own, so that a reader of subscriptions sees no secret.
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
comment on table  webhook.secret is 'Signing keys; every unexpired key signs, the newest first. Only the daemon reads them';
comment on column webhook.secret.secret is
    'sealed:v1:... for the daemon''s key; env:NAME or file:PATH, which the daemon reads; or, without a sealing key, the secret in clear text: whsec_..., whsk_...';
comment on column webhook.secret.expires_at is 'null: the key is valid until it is replaced';
comment on column webhook.secret.public_key is 'Public half of a key pair (ed25519), for receivers; null: a symmetric secret, or a secret that is kept elsewhere';
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
    'The public half of the daemon''s key; only the daemon can open what it seals. No row: secrets are stored in clear text';
comment on column webhook.sealing_key.key_id is 'Fingerprint of the key, which sealed secrets contain';

-- -- Receivers: what the daemon has learnt of them ------------------------------------------------

-- Written when a state changes, and never per event. No row means that there is nothing to report.
create table webhook.receiver (
    subscription_id      bigint      primary key references webhook.subscription on delete cascade,
    circuit              text        not null default 'closed',
    consecutive_failures integer     not null default 0,
    failing_since        timestamptz,
    warned_at            timestamptz,
    allowed_rate         numeric,
    updated_at           timestamptz not null default clock_timestamp(),
    held_because         text,
    probe_interval       interval,
    constraint circuit_is_known check (circuit in ('closed', 'open')),
    constraint consecutive_failures_are_not_negative check (consecutive_failures >= 0),
    constraint open_only_when_failing check (circuit = 'closed' or failing_since is not null)
);
comment on table  webhook.receiver is 'State of each receiver, as the daemon sees it; written when it changes';
comment on column webhook.receiver.circuit is 'open: after 10 failures in a row, the daemon tries one delivery a minute; closed: it tries all deliveries';
comment on column webhook.receiver.failing_since is 'Start of the current series of failures';
comment on column webhook.receiver.warned_at is 'When webhook.subscription.failing was emitted for this series';
comment on column webhook.receiver.held_because is
    'Why nothing is sent although the subscription is not paused: for example, the receiver has not confirmed, or a secret is missing; matching events are kept; null: not held';
comment on column webhook.receiver.probe_interval is 'Time between two attempts while the circuit is open';
comment on column webhook.receiver.allowed_rate is
    'Requests per second that the receiver allowed in its handshake (WebHook-Allowed-Rate); null: no limit. It does not include a lower rate after answers with 429';

-- After a change of the URL, or of the verification, the receiver must confirm again.
create function webhook.forget_confirmation() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    new.verified_at := null;
    return new;
end
$$;
comment on function webhook.forget_confirmation() is 'After a change of URL or verification, the receiver must confirm again';
revoke all on function webhook.forget_confirmation() from public;

create trigger forget_confirmation before update on webhook.subscription for each row
    when (old.url <> new.url or old.verification <> new.verification)
    execute function webhook.forget_confirmation();
-- Our own triggers fire in every session. With session_replication_role = replica, other triggers
-- and foreign keys do not.
alter table webhook.subscription enable always trigger forget_confirmation;

-- The daemon reads the table and not each change. A pause and a resume in one transaction leave no
-- difference but failures_reset_at, and neither does a URL that changes and changes back.
create function webhook.note_pause() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if new.enabled then
        new.paused_at := null;
        new.disabled_at := null;
    elsif new.paused_at is null and (tg_op = 'INSERT' or old.enabled) then
        new.paused_at := clock_timestamp();
    end if;
    if tg_op = 'UPDATE' and (old.url <> new.url or (new.enabled and not old.enabled)) then
        new.failures_reset_at := clock_timestamp();
    end if;
    return new;
end
$$;
comment on function webhook.note_pause() is 'Records when a subscription was paused, and when the failures of its receiver were forgotten';
revoke all on function webhook.note_pause() from public;

create trigger note_pause before insert or update on webhook.subscription for each row
    execute function webhook.note_pause();
alter table webhook.subscription enable always trigger note_pause;

-- Another URL is another receiver. A subscription that was paused or disabled starts without
-- failures.
create function webhook.forget_receiver() returns trigger
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
comment on function webhook.forget_receiver() is 'Forgets past failures after a change of URL or a resume';
revoke all on function webhook.forget_receiver() from public;

create trigger forget_receiver after update on webhook.subscription for each row
    when (old.url <> new.url or (new.enabled and not old.enabled))
    execute function webhook.forget_receiver();
alter table webhook.subscription enable always trigger forget_receiver;

-- -- Backfills: existing rows, step by step -------------------------------------------------------

create table webhook.backfill (
    id              bigint      generated always as identity primary key,
    subscription_id bigint      not null references webhook.subscription on delete cascade,
    relation        regclass    not null,
    condition       text,
    -- The name is for dumps, which may be restored where roles have other numbers.
    requested_by    name        not null,
    search_path     text        not null,
    state           text        not null default 'running',
    after_key       text[],
    rows_done       bigint      not null default 0,
    last_event_id   bigint,
    error           text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    requester       oid,
    constraint state_is_known check (state in ('running', 'done', 'failed', 'cancelled')),
    constraint error_iff_failed check ((state = 'failed') = (error is not null))
);
comment on table  webhook.backfill is 'Backfills: existing rows that are sent to a subscription as noun.snapshot events, with their progress';
comment on column webhook.backfill.condition is 'Only rows that meet it are sent; evaluated with the privileges of requester';
comment on column webhook.backfill.requester is 'The role that requested_by names';
comment on column webhook.backfill.search_path is 'The search path of the caller, for names in the condition';
comment on column webhook.backfill.state is 'running, done, failed (see error) or cancelled';
comment on column webhook.backfill.after_key is 'Primary key of the last processed row, as text';
comment on column webhook.backfill.rows_done is 'Number of rows sent so far, without rows that do not meet the condition or the filter';
comment on column webhook.backfill.last_event_id is 'webhook.event.id of the last sent row; the next step waits until it was attempted or queued';
-- One at a time, and for the daemon's query of running backfills.
create unique index backfill_running_idx on webhook.backfill (subscription_id, relation) where state = 'running';

-- Does what the foreign keys do, for sessions in which they do not fire.
create function webhook.forget_subscription() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    delete from webhook.secret s where s.subscription_id = old.id;
    delete from webhook.receiver r where r.subscription_id = old.id;
    delete from webhook.backfill b where b.subscription_id = old.id;
    delete from webhook.given_up g where g.subscription_id = old.id;
    return null;
end
$$;
comment on function webhook.forget_subscription() is 'Removes the dependent rows of a deleted subscription';
revoke all on function webhook.forget_subscription() from public;

create trigger forget after delete on webhook.subscription for each row execute function webhook.forget_subscription();
alter table webhook.subscription enable always trigger forget;

-- -- Ownership ------------------------------------------------------------------------------------

create trigger find_owner_role before insert or update of owner on webhook.subscription
    for each row execute function webhook.find_owner_role();
alter table webhook.subscription enable always trigger find_owner_role;

-- For reading only. Functions that write check the owner themselves (extension/src/owner.rs).
alter table webhook.subscription enable row level security;
create policy of_owner on webhook.subscription for select using (webhook.may_see(owner, owner_role));
alter table webhook.attempt enable row level security;
create policy by_daemon on webhook.attempt for insert with check (true);
alter table webhook.backfill enable row level security;

-- -- Changes of subscriptions travel in the outbox, in commit order with the events they apply to -

create function webhook.tell_subscription_change() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    subscription webhook.subscription;
    verb text;
    previous json;
    is_transferred boolean := false;
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
        -- For events that were captured before the change (Revisions in crates/source).
        if tg_op = 'UPDATE' and (old.events, old.filter::text, old.exclude_origin, old.owner, old.scope)
                is distinct from (new.events, new.filter::text, new.exclude_origin, new.owner, new.scope) then
            previous := json_build_object('events', old.events, 'filter', old.filter,
                                          'exclude_origin', old.exclude_origin, 'owner', old.owner, 'scope', old.scope);
            is_transferred := old.owner <> new.owner;
        end if;
    end if;
    -- The former options belong to the former owner, and the new owner must not see them.
    insert into webhook.event (type, table_name, key, owner, payload)
    values ('webhook.subscription.' || verb, 'webhook.subscription', subscription.id::text,
            case when not is_transferred then subscription.owner end,
            json_build_object('id', subscription.id, 'name', subscription.name, 'enabled', subscription.enabled,
                              'events', subscription.events, 'filter', subscription.filter,
                              'exclude_origin', subscription.exclude_origin, 'owner', subscription.owner,
                              'scope', subscription.scope, 'previous', previous));
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
alter table webhook.subscription enable always trigger tell;
alter table webhook.secret enable always trigger tell;

-- -- What a dump of the database carries ----------------------------------------------------------

select pg_extension_config_dump('webhook.subscription', '');
select pg_extension_config_dump('webhook.subscription_id_seq', '');
select pg_extension_config_dump('webhook.secret', '');
select pg_extension_config_dump('webhook.secret_id_seq', '');
select pg_extension_config_dump('webhook.sealing_key', '');
select pg_extension_config_dump('webhook.backfill', '');
select pg_extension_config_dump('webhook.backfill_id_seq', '');
