-- The SQL API. The bodies are in extension/src, in the file named above each group. The
-- declarations define who may call a function, with which arguments, and with whose rights it runs.
-- The functions are in the schema that the extension is created in (@extschema@), and their helpers
-- are in schema webhook. At the end, sql/grants.sql revokes all rights from PUBLIC.

-- -- Events: emit.rs, delivery.rs -----------------------------------------------------------------

-- Runs no SQL, so it needs neither SECURITY DEFINER nor a search path, which would cost more than
-- the call itself.
create function @extschema@.webhook_emit(event_type text, payload json, key text default null, owner text default null) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_wrapper';
comment on function @extschema@.webhook_emit(text, json, text, text) is
    'Puts an application event into the outbox, in this transaction. owner: whose event it is; *: an announcement to every owner. Returns its id (evt_...)';

-- If a call has untyped literals or parameters and several functions match, Postgres prefers those
-- with the preferred type of a category. For strings, this is text and never a domain. So such
-- calls go to the function above, as they did before there were others, and infer json for the
-- payload.
create domain webhook.event_type_name as text;
comment on domain webhook.event_type_name is
    'Type of the event type argument where text would make calls of webhook_emit() with untyped arguments ambiguous';

create function @extschema@.webhook_emit(event_type text, payload json, key anynonarray, owner text default null) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_typed_wrapper';
comment on function @extschema@.webhook_emit(text, json, anynonarray, text) is
    'webhook_emit() with a key of any type, written like the key of a watched table';

create function @extschema@.webhook_emit(
    event_type webhook.event_type_name,
    payload jsonb,
    key text default null,
    owner text default null
) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_typed_wrapper';
comment on function @extschema@.webhook_emit(webhook.event_type_name, jsonb, text, text) is
    'webhook_emit() with a jsonb payload';

create function @extschema@.webhook_emit(
    event_type webhook.event_type_name,
    payload jsonb,
    key anynonarray,
    owner text default null
) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_emit_typed_wrapper';
comment on function @extschema@.webhook_emit(webhook.event_type_name, jsonb, anynonarray, text) is
    'webhook_emit() with a jsonb payload and a key of any type';

create function @extschema@.webhook_ping(id bigint) returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_ping_wrapper';
comment on function @extschema@.webhook_ping is 'Sends webhook.ping to one subscription. Returns the event''s id (evt_...)';

create function @extschema@.webhook_try_now(id bigint, ignore_retry_after boolean default false) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_try_now_wrapper';
comment on function @extschema@.webhook_try_now is
    'Attempts the waiting deliveries of a subscription now: one if its receiver is failing, and all others once that one succeeds. ignore_retry_after: also if the receiver asked for a pause';

create function @extschema@.webhook_redeliver(event_id text, subscription_id bigint) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_redeliver_wrapper';
comment on function @extschema@.webhook_redeliver is
    'Delivers an event to a subscription again, now and with the same id, with a fresh retry schedule';

create function @extschema@.webhook_redeliver_failed(
    subscription_id bigint,
    since timestamptz default '-infinity',
    until timestamptz default 'infinity',
    dry_run boolean default false
) returns bigint
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_redeliver_failed_wrapper';
comment on function @extschema@.webhook_redeliver_failed is
    'Delivers again the deliveries that the daemon gave up in a time range, in order and with the same ids. Returns their number; dry_run only counts';

create function @extschema@.webhook_replay(
    subscription_id bigint,
    since timestamptz,
    until timestamptz default now(),
    events text[] default null
) returns bigint
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_replay_wrapper';
comment on function @extschema@.webhook_replay is
    'Delivers the events of a time range again, in order and with the same ids, including events older than the subscription. Returns their number';

create function @extschema@.webhook_dry_run(subscription_id bigint, since timestamptz)
    returns table (event_id text, sequence bigint, type text, key text, created_at timestamptz, matches boolean, reason text)
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_dry_run_wrapper';
comment on function @extschema@.webhook_dry_run is
    'Lists which events since then match the current options of a subscription, and why others do not. Delivers nothing';

-- -- Backfills: backfill/ -------------------------------------------------------------------------

-- Not security definer: it must know its caller, and parses the condition with the caller's rights.
create function @extschema@.webhook_backfill(subscription_id bigint, rel regclass, condition text default null) returns bigint
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_backfill_wrapper';
comment on function @extschema@.webhook_backfill is
    'Sends the existing rows of a watched table to one subscription, as events noun.snapshot, between the table''s changes. Returns the id in webhook.backfill';

-- Ends a running backfill. Returns false if it is not running.
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
    insert into webhook.event (type, key, payload, owner)
    values ('webhook.backfill.' || state, id::text,
            json_build_object('id', id, 'subscription_id', ended.subscription_id, 'table', ended.relation::text,
                              'rows', ended.rows_done, 'error', error),
            (select s.owner from webhook.subscription s where s.id = ended.subscription_id));
    perform webhook.gate_ring();
    return true;
end
$$;
comment on function webhook.end_backfill(bigint, text, text) is
    'Ends a backfill as done, failed or cancelled, and emits webhook.backfill.done and the like; false: it is not running';

create function @extschema@.webhook_backfill_cancel(id bigint) returns boolean
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_backfill_cancel_wrapper';
comment on function @extschema@.webhook_backfill_cancel is
    'Stops a backfill. Events that were sent stay sent. Returns false if it has already ended';

-- The daemon's session allows index scans only. Here, the planner decides, because the table is not
-- ours.
create function webhook.backfill_step(id bigint, rows_max integer) returns boolean
    language c volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
    set enable_seqscan = on set enable_bitmapscan = on set enable_sort = on set enable_incremental_sort = on
    set enable_hashjoin = on set enable_mergejoin = on set enable_material = on
    as 'MODULE_PATHNAME', 'backfill_step_wrapper';
comment on function webhook.backfill_step(bigint, integer) is
    'Daemon: sends the next rows of a backfill, at most this many, in a separate transaction; true: the backfill has ended';

-- -- Subscriptions: subscribe/ --------------------------------------------------------------------

create function @extschema@.webhook_subscribe(
    url text,
    events text[] default '{*}',
    name text default null,
    secret text default null,
    timeout interval default '15 seconds',
    retry interval[] default '{5s,5min,30min,2h,5h,10h,14h,20h,24h}',
    max_in_flight integer default null,
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
    tls text default null,
    expected_response jsonb default null,
    keep_response boolean default false,
    scope text default null,
    locked text[] default null
) returns table (id bigint, secret text)
    language c volatile parallel unsafe rows 1
    as 'MODULE_PATHNAME', 'webhook_subscribe_wrapper';
comment on function @extschema@.webhook_subscribe is
    'Delivers events that match the patterns to a URL, starting with this transaction. Returns the secret, which is shown only here, or the public half of a key pair (standard-v1a)';

create function @extschema@.webhook_alter(
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
    expected_response jsonb default null,
    keep_response boolean default null,
    scope text default null,
    locked text[] default null,
    clear text[] default null
) returns webhook.subscription
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_alter_wrapper';
comment on function @extschema@.webhook_alter is
    'Changes a subscription. Null keeps an option; clear removes name, filter, rate_limit, tls or expected_response. A new secret replaces all others at once';

create function @extschema@.webhook_unsubscribe(id bigint) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_unsubscribe_wrapper';
comment on function @extschema@.webhook_unsubscribe is
    'Deletes a subscription, with its secrets and queued deliveries. Past attempts stay';

create function @extschema@.webhook_pause(id bigint, reason text default null) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_pause_wrapper';
comment on function @extschema@.webhook_pause is 'Pauses a subscription. Matching events are kept until it resumes';

create function @extschema@.webhook_resume(id bigint, skip_backlog boolean default false) returns void
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_resume_wrapper';
comment on function @extschema@.webhook_resume is
    'Resumes a subscription, and delivers the kept events first. skip_backlog discards queued deliveries instead';

create function @extschema@.webhook_rotate_secret(id bigint, overlap interval default '24 hours') returns text
    language c volatile parallel unsafe
    as 'MODULE_PATHNAME', 'webhook_rotate_secret_wrapper';
comment on function @extschema@.webhook_rotate_secret is
    'Creates a new signing secret and returns it (for a key pair: the public half). The old secrets also sign until the overlap ends';

create function @extschema@.webhook_seal(public_key text) returns bigint
    language c volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'webhook_seal_wrapper';
comment on function @extschema@.webhook_seal is
    'Stores signing secrets sealed for the daemon''s key from now on (webhookd keygen prints its public half with a proof), and seals the existing ones. Returns the number of those';

-- -- Signatures: signing.rs -----------------------------------------------------------------------

create function @extschema@.webhook_sign(secret text, id text, ts bigint, body text) returns text
    language c immutable parallel safe strict
    as 'MODULE_PATHNAME', 'webhook_sign_wrapper';
comment on function @extschema@.webhook_sign is
    'Returns the header webhook-signature (Standard Webhooks v1) of a message: "v1," and base64; ts in seconds since 1970';

create function @extschema@.webhook_verify(
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
    'Returns whether a webhook-signature header matches the message, and the timestamp is within 5 minutes of now; false if a part is missing';

-- -- Ownership ------------------------------------------------------------------------------------

-- The functions above call these on behalf of their caller. A role that may arm is an admin.
create function webhook.is_admin(role oid) returns boolean
    language sql stable parallel safe
    return webhook.tenant() is null and has_function_privilege(role, '@extschema@.webhook_arm()'::regprocedure, 'execute');
comment on function webhook.is_admin(oid) is 'Whether a role is an admin, and the transaction is not limited to an owner';

create function webhook.may_manage(role oid, owner text, owner_role oid) returns boolean
    language sql stable parallel safe
    return case when webhook.tenant() is not null then webhook.is_tenant(owner, owner_role)
                else webhook.is_admin(role) or coalesce(pg_has_role(role, owner_role, 'usage'), false) end;
comment on function webhook.may_manage(oid, text, oid) is 'Whether a role can change the subscriptions of this owner, because it is the owner, a member, or an admin';

-- -- Erasure --------------------------------------------------------------------------------------

create table webhook.erasure (
    event_id        bigint      not null,
    event_xid       bigint      not null,
    payload_sha256  bytea       not null,
    previous_sha256 bytea,
    erased_at       timestamptz not null default now(),
    erased_by       name        not null default session_user,
    constraint erasure_pkey primary key (event_id, event_xid)
);
comment on table  webhook.erasure is 'Events whose payload webhook_erase() has blanked, with hashes of the former payload';
comment on column webhook.erasure.payload_sha256 is 'SHA-256 of the former webhook.event.payload, in UTF-8';
comment on column webhook.erasure.previous_sha256 is 'SHA-256 of the former webhook.event.previous, in UTF-8; null: there was none';
select pg_extension_config_dump('webhook.erasure', '');

create function webhook.blank_events(condition text, argument text, name text default null) returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
as $$
declare
    count bigint;
begin
    with subject as (
        select e.slot, e.xid, e.id, e.payload, e.previous from webhook.event e
        where case condition when 'owner' then e.owner = argument
                             else e.key = argument and e.table_name is not distinct from blank_events.name end
          and e.type not like 'webhook.%'
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
comment on function webhook.blank_events(text, text, text) is
    'Blanks the payloads of the events of an owner (condition owner), or with a key and the name of a table (condition key), and the responses of receivers. Attempts and hashes stay. Returns the number of events';

create function @extschema@.webhook_erase(rel regclass, key text) returns bigint
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    name text;
begin
    if webhook_erase.key is null then
        raise exception using errcode = 'null_value_not_allowed', message = 'key must not be null',
            hint = 'Pass the value of webhook.event.key: the text of the key column, or a JSON array for several key columns.';
    end if;
    -- Events may name a table that no longer exists. regclass has no name for it.
    select format('%I.%I', n.nspname, c.relname) into name
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = webhook_erase.rel;
    if webhook_erase.rel is not null and name is null then
        raise exception using errcode = 'undefined_table',
            message = format('relation with OID %s does not exist', webhook_erase.rel::oid),
            hint = 'The relation may have been dropped concurrently.';
    end if;
    return webhook.blank_events('key', webhook_erase.key, name);
end
$$;
comment on function @extschema@.webhook_erase is
    'Blanks the payloads of all events about a subject, and the responses of receivers. Attempts and hashes stay. rel null: events of webhook_emit(). Returns the number of events';
