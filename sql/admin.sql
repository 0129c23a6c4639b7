-- What the admin server (webhookd run --admin) needs in addition to the SQL API: its tokens, the
-- keys of requests that must run only once, and two views for subscribers. Everything else that it
-- does is a call of the SQL API with the caller's role.

-- -- Tokens ---------------------------------------------------------------------------------------

create table webhook.token (
    id           bigint      generated always as identity primary key,
    name         text        not null,
    token_sha256 bytea       not null unique,
    role         name        not null,
    owner        text,
    created_at   timestamptz not null default now(),
    created_by   name        not null default session_user,
    expires_at   timestamptz,
    role_oid     oid         not null,
    owner_role   oid,
    constraint name_has_1_to_200_characters check (length(name) between 1 and 200 and name !~ '[[:cntrl:]]'),
    constraint owner_has_1_to_200_characters check (length(owner) between 1 and 200 and owner !~ '[[:cntrl:]]'),
    constraint token_sha256_has_32_bytes check (length(token_sha256) = 32)
);
comment on table  webhook.token is
    'Bearer tokens of the admin server, as hashes, with the role that their requests act as; created by webhookd token create';
comment on column webhook.token.token_sha256 is 'SHA-256 of the token, which has 256 random bits and so needs no salt';
comment on column webhook.token.role is 'Role of the token''s requests (SET LOCAL ROLE); the daemon must be a member of it';
comment on column webhook.token.owner is
    'Owner whose subscriptions the token can see and change, a role or another name; null: all that the role can see and change';
comment on column webhook.token.expires_at is 'null: the token does not expire';
comment on column webhook.token.role_oid is 'The role; 0: the role was dropped, and the token does not work';
comment on column webhook.token.owner_role is
    'The role that owner names; null: owner is not a role; 0: the role was dropped, and the token does not work';

create function webhook.find_token_role() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    -- As for webhook.find_owner_role().
    if tg_op = 'UPDATE' or new.role_oid is distinct from 0 then
        new.role_oid := coalesce(webhook.role_named(new.role::text), 0);
    end if;
    return new;
end
$$;
comment on function webhook.find_token_role() is 'Sets the role of a token';
revoke all on function webhook.find_token_role() from public;

create trigger find_owner_role before insert or update of owner on webhook.token
    for each row execute function webhook.find_owner_role();
create trigger find_token_role before insert or update of role on webhook.token
    for each row execute function webhook.find_token_role();
alter table webhook.token enable always trigger find_owner_role;
alter table webhook.token enable always trigger find_token_role;

-- Names follow the roles for those who read them, and for dumps. Rights depend on the OIDs.
create function webhook.follow_roles() returns void
    language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set lock_timeout = '1s'
as $$
begin
    update webhook.subscription s set owner = r.rolname
        from pg_roles r where r.oid = s.owner_role and r.rolname::text <> s.owner;
    update webhook.subscription s set owner_role = 0
        where s.owner_role <> 0 and not exists (select from pg_roles r where r.oid = s.owner_role);
    update webhook.token t set role = r.rolname
        from pg_roles r where r.oid = t.role_oid and r.rolname <> t.role;
    update webhook.token t set owner = r.rolname
        from pg_roles r where r.oid = t.owner_role and r.rolname::text <> t.owner;
    -- The row of another owner may still have the name, such as the row of a dropped role.
    update webhook.owner_limit l set owner = r.rolname
        from pg_roles r
        where r.oid = l.owner_role and r.rolname::text <> l.owner
          and not exists (select from webhook.owner_limit o where o.owner = r.rolname::text);
    update webhook.owner_limit l set owner_role = 0
        where l.owner_role <> 0 and not exists (select from pg_roles r where r.oid = l.owner_role);
    update webhook.token t set role_oid = 0
        where t.role_oid <> 0 and not exists (select from pg_roles r where r.oid = t.role_oid);
    update webhook.token t set owner_role = 0
        where t.owner_role <> 0 and not exists (select from pg_roles r where r.oid = t.owner_role);
    update webhook.portal_link l set role = r.rolname
        from pg_roles r where r.oid = l.role_oid and r.rolname <> l.role;
    update webhook.portal_link l set owner = r.rolname
        from pg_roles r where r.oid = l.owner_role and r.rolname::text <> l.owner;
    update webhook.portal_link l set role_oid = 0
        where l.role_oid <> 0 and not exists (select from pg_roles r where r.oid = l.role_oid);
    update webhook.portal_link l set owner_role = 0
        where l.owner_role <> 0 and not exists (select from pg_roles r where r.oid = l.owner_role);
    update webhook.backfill b set requested_by = r.rolname
        from pg_roles r where b.state = 'running' and r.oid = b.requester and r.rolname <> b.requested_by;
end
$$;
comment on function webhook.follow_roles() is
    'Daemon: writes the present names of roles into subscriptions, tokens, links and backfills, and 0 for roles that were dropped';

-- -- Requests that must not be done twice ---------------------------------------------------------

create table webhook.idempotency (
    caller          text        not null,
    key             text        not null,
    request_sha256  bytea       not null,
    subscription_id bigint,
    created_at      timestamptz not null default now(),
    constraint idempotency_pkey primary key (caller, key),
    constraint key_has_1_to_255_characters check (length(key) between 1 and 255)
);
comment on table  webhook.idempotency is
    'Idempotency-Key values of POST /v1/subscriptions, kept for a day; a repeated request gets the result of the first one';
comment on column webhook.idempotency.caller is 'Role and owner of the token';
comment on column webhook.idempotency.request_sha256 is 'SHA-256 of the request''s body; another body with the same key is rejected';
-- Old keys are deleted when new ones are added: "created_at < now() - interval '1 day'".
create index idempotency_created_at_idx on webhook.idempotency (created_at);

-- -- In whose name --------------------------------------------------------------------------------

-- Runs as the extension's owner, because webhook.tenant is a superuser's setting. So only the
-- daemon and superusers can act for a tenant. It lasts until the end of the transaction.
create function webhook.act_for(owner text, owner_role oid) returns void
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('webhook.tenant', coalesce(act_for.owner, ''), true),
            set_config('webhook.tenant_role', coalesce(act_for.owner_role::text, ''), true);
end
$$;
comment on function webhook.act_for(text, oid) is
    'Daemon: limits visible and changeable rows to this owner (and its role, if it is one) until the end of the transaction; null: only the privileges of the role apply';

-- -- What subscribers may read of events ----------------------------------------------------------

-- security_barrier: a function in WHERE never sees events of other owners. Used for one event of
-- one subscription.
create view webhook.delivered_event with (security_barrier) as
select d.subscription_id, webhook.public_id(e.id, e.created_at) as event_id, e.id as sequence, e.xid, e.created_at, e.truncated, e.type,
       e.table_name, e.key, e.actor, e.origin, e.traceparent, e.payload, e.previous
from (select a.subscription_id, a.event_id, a.event_xid from webhook.attempt a
      union
      select q.subscription_id, q.event_id, q.event_xid from webhook.queue q
      union
      select u.subscription_id, u.sequence, u.event_xid from webhook.unresolved u) d
join webhook.event e on e.xid = d.event_xid and e.id = d.event_id
join webhook.subscription s on s.id = d.subscription_id
where webhook.may_see(s.owner, s.owner_role) and ((select webhook.may_see_all()) or webhook.scope_mismatch(e, s) is null);
comment on view webhook.delivered_event is
    'Events as their subscribers receive them: one row per event and subscription that have a delivery';

create view webhook.matching_event with (security_barrier) as
select s.id as subscription_id, webhook.public_id(e.id, e.created_at) as event_id, e.id as sequence, e.xid, e.created_at, e.truncated, e.type,
       e.table_name, e.key, e.actor, e.origin, e.traceparent, e.payload, e.previous
from webhook.subscription s join webhook.event e on webhook.mismatch(e, s) is null
where webhook.may_see(s.owner, s.owner_role);
comment on view webhook.matching_event is
    'Events that match the current options of a subscription, delivered or not; a receiver reads it to find missed events';

-- What a caller may learn about events of other owners is in these four columns: that they exist,
-- their numbers, and their times.
create function webhook.event_stretch(after_xid bigint, after_id bigint, rows_max integer)
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
    'End and size of the next page of events, in the order of transactions. The page ends before the oldest open transaction, so later commits are not skipped';

create function webhook.event_place(event_id text) returns table (xid bigint, id bigint)
    language sql stable security definer rows 1 set search_path = pg_catalog, pg_temp
begin atomic
    select e.xid, e.id from webhook.find_event(event_place.event_id) e;
end;
comment on function webhook.event_place(text) is 'Position of an event in the order of transactions';

create function webhook.last_number() returns bigint
    language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select case when s.is_called then s.last_value else 0 end from webhook.event_id_seq s;
end;
comment on function webhook.last_number() is 'Last number that was assigned to an event';

-- Returns where a search through the deliveries continues. For the daemon only, because it knows
-- the deliveries of all owners. PL/pgSQL keeps its plans. Each branch descends one index. The
-- exception are events after the checkpoint, which have no order by number: it reads a thousand of
-- them, and if there are more, it skips nothing.
create function webhook.delivery_number(below bigint, state text, subscription_id bigint) returns bigint
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
    'Next lower event number that can have a delivery in this state (null: any) of this subscription (null: any); null: there is no lower one';

create function webhook.number_at(at timestamptz) returns bigint
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
    'Approximate number at a time: events up to this number were captured before it, and events from 1000 higher after it, provided the clock ran forwards';

select pg_extension_config_dump('webhook.token', '');
select pg_extension_config_dump('webhook.token_id_seq', '');
