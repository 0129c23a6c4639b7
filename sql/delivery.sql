-- What the daemon tells the tables, where more than one row has to become true together. Executed
-- by the daemon's role.

create function webhook.disable_subscription(id bigint, reason text) returns boolean
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    disabled webhook.subscription;
begin
    update webhook.subscription s
        set enabled = false, paused_reason = reason, updated_at = now(), disabled_at = clock_timestamp()
        where s.id = id and s.enabled
        returning * into disabled;
    if not found then
        return false;
    end if;
    insert into webhook.event (type, table_name, key, owner, payload)
    values ('webhook.subscription.disabled', 'webhook.subscription', id::text, disabled.owner,
            json_build_object('id', id, 'name', disabled.name, 'reason', reason));
    perform webhook.gate_ring();
    return true;
end
$$;
comment on function webhook.disable_subscription(bigint, text) is
    'Daemon: pauses a subscription whose receiver failed permanently, and emits webhook.subscription.disabled; false: it is already paused or deleted';

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
    'Daemon: records that the receiver at this URL confirmed, and the requests per second that it allows (null: no limit); false: the URL has changed, or the subscription requires no confirmation';

-- One by one, each by the primary key. A DELETE that joins the list may be planned as a scan of the
-- queue, if the queue was small when ANALYZE last saw it; the target of a DELETE cannot be in a
-- lateral subquery.
create function webhook.remove_queued(subscription_ids bigint[], event_ids bigint[]) returns void
    language plpgsql volatile parallel unsafe
as $$
begin
    for i in 1 .. cardinality(subscription_ids) loop
        delete from webhook.queue q where q.subscription_id = subscription_ids[i] and q.event_id = event_ids[i];
    end loop;
end
$$;
comment on function webhook.remove_queued(bigint[], bigint[]) is 'Daemon: removes the queue rows of these deliveries';

create function webhook.remove_given_up(subscription_ids bigint[], event_ids bigint[]) returns void
    language plpgsql volatile parallel unsafe
as $$
begin
    for i in 1 .. cardinality(subscription_ids) loop
        delete from webhook.given_up g where g.subscription_id = subscription_ids[i] and g.event_id = event_ids[i];
    end loop;
end
$$;
comment on function webhook.remove_given_up(bigint[], bigint[]) is
    'Daemon: removes deliveries that succeeded after all from webhook.given_up';

-- Every function for users that changes a subscription or its rows in the queue locks the
-- subscription first (extension/src/owner.rs), until the transaction of the user ends. The daemon
-- does the same, and never waits: one user could stop the deliveries of all.
create function webhook.lock_subscriptions(ids bigint[]) returns void
    language plpgsql volatile parallel unsafe strict security definer set search_path = pg_catalog, pg_temp
as $$
declare
    locked constant bigint[] := array(select s.id from webhook.subscription s where s.id = any (ids) for share skip locked);
    others bigint[];
begin
    if cardinality(locked) < (select count(*) from webhook.subscription s where s.id = any (ids)) then
        others := array(select s.id from webhook.subscription s where s.id = any (ids) except select unnest(locked));
        raise exception using errcode = 'lock_not_available', message = 'subscriptions are locked by other sessions',
            detail = array_to_string(others, ' ');
    end if;
end
$$;
comment on function webhook.lock_subscriptions(bigint[]) is
    'Daemon: locks subscriptions until the transaction ends, so that it can change their rows in the queue. Never waits: error 55P03, with the ids of those that another session has locked';

create function webhook.subscription_lockers(ids bigint[])
    returns table (subscription_id bigint, pid integer, role name, application text)
    language plpgsql volatile parallel unsafe strict rows 10 security definer set search_path = pg_catalog, pg_temp
as $$
declare
    free constant bigint[] := array(select s.id from webhook.subscription s where s.id = any (ids) for share skip locked);
    -- A savepoint that was released, or a shared lock, does not name its transaction. Often only
    -- one other session has locked rows of the table.
    single constant integer := (select case when count(distinct l.pid) = 1 then min(l.pid) end from pg_locks l
                              where l.relation = 'webhook.subscription'::regclass and l.granted and l.pid <> pg_backend_pid()
                                and l.mode in ('RowShareLock', 'RowExclusiveLock')
                                and l.database = (select d.oid from pg_database d where d.datname = current_database()));
begin
    return query
        select distinct on (s.id) s.id, a.pid, pg_get_userbyid(a.usesysid), a.application_name
        from webhook.subscription s
        left join pg_locks l on l.locktype = 'transactionid' and l.granted and l.mode = 'ExclusiveLock' and l.transactionid = s.xmax
        left join pg_stat_activity a on a.pid = coalesce(l.pid, single)
        where s.id in (select unnest(ids) except select unnest(free));
end
$$;
comment on function webhook.subscription_lockers(bigint[]) is
    'Daemon: the subscriptions that another session has locked, and which session that is';

create function webhook.tell(event_type text, subscription_id bigint, payload json) returns void
    language plpgsql volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if num_nulls(event_type, subscription_id, payload) > 0 then
        raise exception using errcode = 'null_value_not_allowed', message = 'arguments of webhook.tell() must not be null',
            hint = 'Pass the event type, the subscription''s id and a JSON object.';
    elsif event_type <> all (array['webhook.subscription.failing', 'webhook.subscription.recovered', 'webhook.delivery.exhausted']) then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('event_type: "%s" is not an event type of the daemon', event_type),
            hint = 'Use webhook.subscription.failing, webhook.subscription.recovered or webhook.delivery.exhausted.';
    end if;
    insert into webhook.event (type, table_name, key, owner, payload)
    values (event_type, 'webhook.subscription', subscription_id::text,
            (select s.owner from webhook.subscription s where s.id = subscription_id), payload);
    perform webhook.gate_ring();
end
$$;
comment on function webhook.tell(text, bigint, json) is
    'Daemon: emits an operational event about a subscription, for all subscriptions whose patterns name it';
