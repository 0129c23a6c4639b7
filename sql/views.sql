-- Views that answer "did they get it?" without the daemon.

-- Owners see their own rows. security_barrier: a function in WHERE never sees rows of other owners.
create view webhook.recorded_delivery with (security_barrier) as
select webhook.public_id(e.id, e.created_at) as event_id,
       d.sequence, d.subscription_id, e.type, e.key, d.state, d.attempts, d.next_attempt_at, d.last_status,
       d.last_error, e.created_at, d.delivered_at
from (
    select a.sequence, a.xid, a.subscription_id,
           case when q.event_id is not null
                    then case when q.attempts > q.retry_from and q.state <> 'blocked' then 'retrying' else 'queued' end
                when a.delivered_at is not null then 'delivered'
                else 'exhausted' end as state,
           a.attempts, q.next_at as next_attempt_at, a.last_status, a.last_error, a.delivered_at,
           case when q.event_id is null then a.last_at else 'infinity' end as last_at
    from (select event_id as sequence, event_xid as xid, subscription_id,
                 count(*) as attempts, max(started_at) as last_at,
                 min(started_at + duration_ms * interval '1 millisecond') filter (where outcome = 'succeeded') as delivered_at,
                 (array_agg(status order by started_at desc, attempt desc))[1] as last_status,
                 (array_agg(error order by started_at desc, attempt desc))[1] as last_error
          from webhook.attempt group by event_id, event_xid, subscription_id) a
    left join webhook.queue q on q.event_id = a.sequence and q.event_xid = a.xid and q.subscription_id = a.subscription_id
    union all
    -- "+ 0": the index on the rows of one event is on this expression.
    select q.event_id + 0, q.event_xid, q.subscription_id, 'queued', 0, q.next_at, q.last_status, q.last_error, null, 'infinity'
    from webhook.queue q
    -- "offset 0" makes it use the index of each partition, with any statistics.
    where not exists (select from webhook.attempt a
                      where a.event_id = q.event_id and a.subscription_id = q.subscription_id offset 0)
) d
left join webhook.event e on e.xid = d.xid and e.id = d.sequence
left join webhook.subscription s on s.id = d.subscription_id
-- A delivery that is still queued is visible however old its attempts are.
where (select webhook.may_see_all())
   or d.last_at >= ((select webhook.visible_log_starts()) ->> d.subscription_id::text)::timestamptz
      and webhook.scope_mismatch(e, s) is null;
comment on view webhook.recorded_delivery is 'The rows of webhook.delivery that have an attempt or a queue row';

create view webhook.delivery with (security_barrier) as
select r.event_id, r.sequence, r.subscription_id, r.type, r.key, r.state, r.attempts, r.next_attempt_at, r.last_status,
       r.last_error, r.created_at, r.delivered_at
from webhook.recorded_delivery r
union all
select webhook.public_id(u.sequence, u.created_at), u.sequence, u.subscription_id, u.type, u.key, 'queued', 0, null, null,
       null, u.created_at, null
from webhook.unresolved u
where (select webhook.may_see_all())
   or u.subscription_id in (select s.id from webhook.subscription s where webhook.may_see(s.owner, s.owner_role));
comment on view webhook.delivery is
    'One row per event and subscription: delivered, retrying, queued or exhausted. By public id: where sequence = webhook.event_sequence(''evt_...'')';

-- Returns the last deliveries of a subscription, however many it has. Sorting the view would read
-- all of them. This function reads ranges of numbers, each twice as long as the one before, by
-- indexes. It runs with the rights of its caller. Of events that the daemon has not reached, it
-- examines the last 50 000 in few ranges, because each range reads the numbers of all of them.
create function @extschema@.webhook_deliveries(subscription_id bigint, rows_max integer default 50, before bigint default null)
    returns setof webhook.delivery
    language plpgsql stable parallel unsafe rows 50 set search_path = pg_catalog, pg_temp
    set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
as $$
declare
    high   bigint := coalesce(before - 1, webhook.last_number());
    floor  constant bigint := high - 50000;
    length bigint := greatest(rows_max, 1);
    wanted integer := rows_max;
    found_rows integer;
begin
    while high > 0 and wanted > 0 loop
        if high > floor then
            return query
                select d.* from webhook.delivery d
                where d.subscription_id = webhook_deliveries.subscription_id and d.sequence between high - length + 1 and high
                order by d.sequence desc limit wanted;
        else
            return query
                select d.* from webhook.recorded_delivery d
                where d.subscription_id = webhook_deliveries.subscription_id and d.sequence between high - length + 1 and high
                order by d.sequence desc limit wanted;
        end if;
        get diagnostics found_rows = row_count;
        wanted := wanted - found_rows;
        high := high - length;
        length := case when high > floor then least(length * 16, high - floor) else length * 2 end;
    end loop;
end
$$;
comment on function @extschema@.webhook_deliveries is
    'Returns the last deliveries of a subscription, newest events first, like webhook.delivery but through indexes. before: only events with a lower sequence. Events that the daemon has not reached are found if they are among the last 50000';

-- Attempts and queue rows contain the event's transaction, and so lead to the index. For an event
-- without deliveries, the slots with events of that moment are searched, mostly one or two.
create function webhook.find_event(event_id text) returns setof webhook.event
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
comment on function webhook.find_event(text) is 'The event with a public id (evt_...). No row: the event does not exist or was removed';

create view webhook.subscription_stats with (security_barrier) as
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
where webhook.may_see(s.owner, s.owner_role);
comment on view webhook.subscription_stats is 'One row per subscription: health of its receiver, pending deliveries (queued includes blocked), and attempts of the last hour';

create view webhook.public_key with (security_barrier) as
select k.subscription_id, k.public_key, k.created_at, k.expires_at
from webhook.secret k join webhook.subscription s on s.id = k.subscription_id
where k.public_key is not null and (k.expires_at is null or k.expires_at > now()) and webhook.may_see(s.owner, s.owner_role);
comment on view webhook.public_key is
    'Public keys with which receivers verify signatures of profile standard-v1a (ed25519): whpk_ and base64; during a rotation, also the old key';

-- crates/database/src/locks.rs, extension/src/gate and extension/src/daemon_locks.rs have the same
-- keys.
create view webhook.daemon_lock as
select case l.objid when 1 then 'leader' when 2 then 'gate' else 'writer' end as name, l.pid, l.mode
from pg_locks l
where l.locktype = 'advisory' and l.granted and l.classid = 1885820776
  -- The functions of SQL cannot take locks of this class.
  and l.objid in (1, 2, 3) and l.objsubid = 7
  and l.database = (select d.oid from pg_database d where d.datname = current_database());
comment on view webhook.daemon_lock is
    'The locks of the daemons of this database: leader (it delivers), writer (it writes results), gate (RowExclusiveLock: it sleeps)';

-- The daemon needs no heartbeat: its locks are visible to everyone, and vanish with it.
create view webhook.health as
select d.disarmed_because is null as armed,
       d.is_running as dispatcher_running,
       case when exists (select from webhook.daemon_lock l where l.name = 'gate' and l.mode = 'RowExclusiveLock')
            then 'asleep' else 'awake' end as gate,
       c.saved_at as checkpoint_at,
       p.count as pending,
       q.count as queued,
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
       -- A daemon that sleeps executes a statement in the server. Meanwhile it polls every second
       -- by default; if it polls less often, the statement lacks the comment. Null means that no
       -- daemon is running, or that its sessions are hidden from the reader.
       (select case when bool_or(o.state = 'active' and o.query not like '%gate_sleep($1) -- polls') then interval '0'
                    else greatest(clock_timestamp() - max(o.state_change), interval '0') end
        from webhook.daemon_lock l join pg_stat_activity a on a.pid = l.pid
        join pg_stat_activity o on o.pid = a.pid or (o.datname = a.datname and o.application_name = a.application_name
                                                     and o.application_name like 'webhookd %' and o.usesysid = a.usesysid)
        where l.name = 'leader') as dispatcher_silent_for,
       (select s.ring_bytes_max from webhook.setting s where s.singleton and s.retention) as ring_bytes_max,
       (select coalesce(sum(r.event_bytes + r.attempt_bytes) filter (where r.held in ('undelivered', 'unresolved')), 0)::bigint
        from webhook.ring r) as ring_held_bytes,
       p.is_lower_bound as pending_is_lower_bound,
       q.count = 1000000 as queued_is_lower_bound
from (select (pg_control_system()).system_identifier,
             (select oid from pg_database where datname = current_database()) as database_oid) i
cross join (select count(*) filter (where n.is_pending) as count, min(n.created_at) filter (where n.is_pending) as oldest_at,
                   count(*) = 20000 or coalesce(bool_or(n.is_pending is null), false)
                       or exists (select from webhook.beyond_checkpoint offset 20000) as is_lower_bound
            from webhook.search_pending() n) p
cross join (select count(*) as count from (select from webhook.queue limit 1000000) w) q
left join webhook.cursor c on c.singleton
cross join lateral (
    select r.is_running,
           case when c.system_identifier <> i.system_identifier or c.database_oid <> i.database_oid or c.restored_at is not null
                    then 'this database is a copy from another cluster, so webhookd does not deliver; to deliver from here, run: select webhook_arm()'
                when c.refused_instance is not null and not r.is_running
                    then format('this database is armed for instance %1$s, but a daemon of instance %2$s was rejected; '
                                'to deliver from a copy, run: select webhook_arm(); if it is the same '
                                'database under another name, start webhookd with --instance ''%1$s''',
                                c.instance, c.refused_instance)
                end as disarmed_because
    -- offset 0: the locks are listed once.
    from (select exists (select from webhook.daemon_lock l where l.name = 'leader') as is_running offset 0) r) d;
comment on view webhook.health is
    'One row: armed for this cluster and instance (else disarmed_because), daemon present, gate, age of the checkpoint, pending and queued deliveries, size and age of the ring, how secrets are kept, how long the daemon has been silent. pending and queued are lower bounds if the columns of that name say so: the view examines at most 20000 events and 20000 pairs of an event and a subscription, for half a second, and counts at most 1000000 rows of the queue. gate = asleep: the next commit wakes the daemon. dispatcher_silent_for above 8 s: the daemon is frozen or cut off from the server';
