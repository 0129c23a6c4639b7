-- Retention: the ring turns to an empty slot, closes the previous one, and empties old ones. A
-- partition is locked, checked again, and truncated by itself, and only if the lock is available at
-- once. So no session queues behind us, and the parent is not touched.

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
comment on table  webhook.setting is 'One row with the settings of the outbox; change it with UPDATE';
comment on column webhook.setting.retention is 'Whether old events and attempts are removed';
comment on column webhook.setting.retention_period is
    'Minimum time that events and attempts are kept; they are removed by slots of the ring, each a twelfth of this time';
comment on column webhook.setting.max_age is
    'How long undelivered events keep their slot after that; then their deliveries are exhausted (webhook.delivery.exhausted)';
comment on column webhook.setting.dump_events is
    'Whether pg_dump includes undelivered events, so that webhook_arm() delivers them from the copy';
comment on column webhook.setting.ring_bytes_max is
    'Size of all slots with their indexes above which delivered events are removed before the end of retention_period; undelivered events stay; null: no limit';

-- The row exists from the start, and a dump contains another one.
create function webhook.replace_setting() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    delete from webhook.setting;
    return new;
end
$$;
comment on function webhook.replace_setting() is 'A row from a dump replaces the existing one';
create trigger replace before insert on webhook.setting for each row execute function webhook.replace_setting();
alter table webhook.setting enable always trigger replace;
insert into webhook.setting default values;
select pg_extension_config_dump('webhook.setting', '');

-- A twelfth of the retention. So old events are removed soon, and four of the sixteen slots are
-- left for events that must stay longer. At least a minute, the longest time between two rounds of
-- the daemon unless the ring fills quickly.
create function webhook.slot_period() returns interval
    language sql stable parallel safe
    return (select greatest(s.retention_period / 12, interval '1 minute') from webhook.setting s where s.singleton);
comment on function webhook.slot_period() is 'Length of a slot''s turn; the view webhook.ring computes the same';

create function webhook.slot_bytes(slot integer) returns bigint
    language sql volatile parallel safe strict
    return pg_total_relation_size(format('webhook.event_%s', slot)::regclass)
         + pg_total_relation_size(format('webhook.attempt_%s', slot)::regclass);
comment on function webhook.slot_bytes(integer) is 'Size of the events and attempts of a slot, with their indexes';

create function webhook.ring_size() returns table (bytes bigint, bytes_max bigint, held_bytes bigint)
    language sql volatile parallel safe rows 1 security definer set search_path = pg_catalog, pg_temp
begin atomic
    select sum(webhook.slot_bytes(t.slot))::bigint, case when s.retention then s.ring_bytes_max end,
           coalesce(sum(webhook.slot_bytes(t.slot)) filter (where t.held in ('undelivered', 'unresolved')), 0)::bigint
    from webhook.ring_turn t cross join (select * from webhook.setting limit 1) s
    group by s.retention, s.ring_bytes_max;
end;
comment on function webhook.ring_size() is
    'Size of all slots with their indexes, the limit, and the size of the slots with undelivered events';

create function webhook.slot_ended_at(slot integer, at timestamptz) returns timestamptz
    language sql stable parallel safe strict
    return (select least(t.ended_at, t.last_at, at) from webhook.ring_turn t where t.slot = slot_ended_at.slot and t.ended_at is not null);
comment on function webhook.slot_ended_at(integer, timestamptz) is
    'The time before which all events of a slot were captured, not later than "at"; null: its turn is not over';

-- If a clock was ahead for a while, a time may be in the future. Such a slot gets the present time.
create function webhook.correct_turns(at timestamptz) returns void
    language sql volatile parallel unsafe strict set search_path = pg_catalog, pg_temp
begin atomic
    update webhook.ring_turn t set began_at = least(t.began_at, at), ended_at = least(t.ended_at, at)
    where t.began_at > at or t.ended_at > at;
end;
comment on function webhook.correct_turns(timestamptz) is 'Sets times that are later than this time back to it';

-- The row lock lets one session at a time turn and close. A session that does not get it at once
-- does nothing.
create function webhook.turn_ring(at_once boolean default false) returns smallint
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
    update webhook.ring_head h set present = following, open = head.open || following, changes = head.changes + 1, sessions_since = null;
    return following;
end
$$;
comment on function webhook.turn_ring(boolean) is
    'Begins the turn of the next empty slot if the current slot is a slot period old or has a sixteenth of ring_bytes_max, or at once. Returns the slot, or null if the current slot continues';

-- A transaction that has written to the slot holds a lock on the partition until it ends, also if
-- it is prepared. With the lock in share mode, there is no such transaction. A later one sees after
-- our commit that the slot is closed.
create function webhook.close_slot(slot integer) returns boolean
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
    'Ends the turn of a slot if no open transaction has written to it; the daemon then stops reading it';

create function webhook.count_slot(slot integer) returns void
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
comment on function webhook.count_slot(integer) is 'Records the number and the times of the events in a slot whose turn is over';

-- Events after the checkpoint may have neither an attempt nor a queue row. After a crash, attempts
-- show which of them are done. An attempt may be in any slot: it counts to the slot of its event.
create function webhook.slot_is_held(kind text, slot integer, at timestamptz, early boolean default false) returns text
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
    'Why the events or attempts of a slot must stay: young (unless early), unresolved (the daemon has not processed them), undelivered (in webhook.queue); null: they can be removed';

-- Empties a part of a slot that is not needed, if no session uses it.
create function webhook.empty_slot(kind text, slot integer, at timestamptz, early boolean default false) returns text
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
        -- A row that a user has locked stays until the slot is emptied again. The slot is locked
        -- now, and must not wait.
        delete from webhook.given_up g
            where g.ctid = any (array(select o.ctid from webhook.given_up o where o.event_slot = slot for update skip locked));
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
    'Truncates the events or the attempts of a slot. Returns retired, empty, in use (by a reader, a dump or an open insert), or why they must stay';

create function webhook.exhaust_slot(slot integer, max_age interval, rows_max integer) returns bigint
    language plpgsql volatile parallel unsafe strict set search_path = pg_catalog, pg_temp
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
as $$
#variable_conflict use_variable
declare
    told constant boolean := exists (select from webhook.subscription s
                                     where webhook.pattern_matches(s.events, 'webhook.delivery.exhausted'));
    reason constant text := format('not delivered within %s; the event is removed', max_age);
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
    'Gives up queued deliveries of a slot, records an attempt with the reason, and emits webhook.delivery.exhausted. Returns their number';

-- Returns the most important result.
create function webhook.told_of_slot(parts text[]) returns text
    language sql immutable parallel safe strict
    return (select s from unnest(array['in use', 'undelivered', 'unresolved', 'retired', 'young', 'empty']) with ordinality as o (s, at)
            where s = any (parts) order by o.at limit 1);
comment on function webhook.told_of_slot(text[]) is 'One word for the results of the events and the attempts of a slot';

-- The time is an argument, so that tests need not wait for weeks. The daemon may not call this
-- function: a role that chooses the time can remove recent events.
create function webhook.retire_slot_at(slot integer, at timestamptz) returns text
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
        raise exception using errcode = 'invalid_parameter_value', message = format('slot: %s is not a slot of the ring', slot),
            hint = 'Slots are numbered from 0 to 15.';
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
    'Like webhook.retire_slot(), for a given time. For the extension''s owner';

create function webhook.retire_slot(slot integer) returns text
    language sql volatile parallel unsafe strict security definer set search_path = pg_catalog, pg_temp
begin atomic
    select webhook.retire_slot_at(slot, clock_timestamp());
end;
comment on function webhook.retire_slot(integer) is
    'Daemon: empties a slot of the ring whose time is over. Returns retired, empty, young, in use (retry soon), undelivered or unresolved (events must still be delivered), exhausting (max_age is over: call again until the slot is empty), or off';

-- The limit alone removes no undelivered event. A full disk stops the application, but it is
-- visible and can be enlarged. A removed event is lost. So there is a limit for delivered events,
-- and a warning beyond it.
create function webhook.relieve_ring()
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
    'Daemon: while the ring is larger than ring_bytes_max, empties its oldest fully delivered slots. Returns the size, the limit, the size of slots with undelivered events, the emptied slots, whether a slot was in use, and the length of a turn';

create view webhook.ring as
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
cross join (select present, open from webhook.ring_head limit 1) h cross join (select * from webhook.setting limit 1) s
cross join lateral (select greatest(s.retention_period / 12, interval '1 minute') as period) p;
comment on view webhook.ring is
    'The slots of the outbox: start and end of their turn, contents, when they are due to be emptied, whether transactions write to them, and why they are kept';
