-- Retention: a slot of the ring is emptied when its time is over. A child is locked, looked at once more and truncated
-- alone, and only if the lock is to be had at once: no session ever queues behind us, and nothing of the parent is touched.

create table webhook.setting (
    singleton        boolean  primary key default true,
    retention        boolean  not null default true,
    retention_period interval not null default '30 days',
    max_age          interval not null default '35 days',
    dump_events      boolean  not null default false,
    constraint there_is_one_row check (singleton),
    -- A slot comes round again 37.5 days after its turn has ended; until then it must have been emptied.
    constraint retention_period_is_at_most_35_days check (retention_period between '0' and '35 days'),
    constraint max_age_is_from_the_retention_period_to_37_days check (max_age between retention_period and '37 days')
);
comment on table  webhook.setting is 'One row: what the database decides about its own outbox. Changed with UPDATE';
comment on column webhook.setting.retention is 'Whether old events and attempts are removed at all';
comment on column webhook.setting.retention_period is
    'How long events and attempts are kept at least; they go by the slot of the ring, 2.5 days together';
comment on column webhook.setting.max_age is
    'How long what is not delivered keeps its slot beyond that; then it is exhausted (webhook.delivery.exhausted)';
comment on column webhook.setting.dump_events is
    'Whether pg_dump takes undelivered events along, so that webhook_arm() delivers them from the copy';

-- The row is there from the beginning, and a dump brings another.
create function webhook.replace_setting() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    delete from webhook.setting;
    return new;
end
$$;
comment on function webhook.replace_setting() is 'A row of a dump takes the place of the one that is there';
create trigger replace before insert on webhook.setting for each row execute function webhook.replace_setting();
alter table webhook.setting enable always trigger replace;
insert into webhook.setting default values;
select pg_extension_config_dump('webhook.setting', '');

create function webhook.slot_ended_at(slot integer, at timestamptz) returns timestamptz
    language sql immutable parallel safe strict
    return (select to_timestamp((t.turn - ((t.turn - slot) % 16 + 16) % 16 + 1) * 216000)
            from (select floor(extract(epoch from at) / 216000)::bigint as turn) t);
comment on function webhook.slot_ended_at(integer, timestamptz) is
    'When the slot''s last turn that had begun by then ended, or will end: everything in it is older';

-- Events beyond the checkpoint have neither attempt nor queue row for sure, and after a crash attempts tell which of them
-- are done. Attempts bear the time of the daemon's clock: a day is far more than the two are apart.
create function webhook.slot_is_held(kind text, slot integer, at timestamptz) returns text
    language plpgsql stable parallel unsafe strict set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
#variable_conflict use_variable
declare
    ended constant timestamptz := webhook.slot_ended_at(slot, at);
    kept_since constant timestamptz := at - (select s.retention_period from webhook.setting s);
    resolved constant pg_snapshot := (select c.snapshot from webhook.cursor c);
    is_young boolean;
begin
    if ended > kept_since then
        return 'young';
    end if;
    -- The slot is by the clock; the clock may have been wrong. What was written last is what counts.
    if kind = 'event' then
        execute format('select coalesce(max(e.created_at) > $1, false)
                        from (select created_at from webhook.event_%s order by xid desc, id desc limit 1000) e', slot)
            into is_young using kept_since;
    else
        execute format('select exists (select from webhook.attempt_%s where started_at > $1)', slot)
            into is_young using kept_since;
    end if;
    if is_young then
        return 'young';
    end if;
    -- Without a checkpoint nothing is resolved.
    if exists (select from webhook.beyond_checkpoint b
               where (b.slot = slot or kind = 'attempt') and b.created_at < ended + interval '1 day')
       or (resolved is null
           and exists (select from webhook.event e
                       where e.xid >= 0 and (e.slot = slot or kind = 'attempt') and e.created_at < ended + interval '1 day')) then
        return 'unresolved';
    end if;
    if kind = 'event' and exists (select from webhook.queue q where q.event_slot = slot) then
        return 'undelivered';
    end if;
    return null;
end
$$;
comment on function webhook.slot_is_held(text, integer, timestamptz) is
    'Why the events or attempts of a slot must stay: young, unresolved (the daemon has not come to them), undelivered (they wait in webhook.queue). Null: nothing needs them';

-- A part of a slot that nobody needs goes if nobody is at it.
create function webhook.empty_slot(kind text, slot integer, at timestamptz) returns text
    language plpgsql volatile parallel unsafe strict set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    child constant text := format('webhook.%I', kind || '_' || slot);
    held text := webhook.slot_is_held(kind, slot, at);
begin
    if pg_relation_size(child) = 0 then
        return 'empty';
    elsif held is not null then
        return held;
    end if;
    -- Whoever was at it until now may have changed that. Readers go on while it is asked once more: the daemon reads all slots.
    execute format('lock table %s in share mode nowait', child);
    held := webhook.slot_is_held(kind, slot, at);
    if held is not null then
        return held;
    end if;
    execute format('lock table %s in access exclusive mode nowait', child);
    execute format('truncate table %s', child);
    return 'retired';
exception
    when lock_not_available then
        return 'in use';
end
$$;
comment on function webhook.empty_slot(text, integer, timestamptz) is
    'Truncates the events or the attempts of a slot: retired, empty, in use (a reader, a dump or an open insert has it), or why they must stay';

create function webhook.exhaust_slot(slot integer, max_age interval, rows_max integer) returns bigint
    language plpgsql volatile parallel unsafe strict set search_path = pg_catalog, pg_temp
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
        delete from webhook.queue q
        where (q.subscription_id, q.event_id) in (
            select d.subscription_id, d.event_id from webhook.queue d where d.event_slot = slot limit rows_max)
        returning q.*
    ), given_up as (
        insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, outcome, error)
        select g.event_id, g.event_xid, g.subscription_id, moment, 0, webhook.ring_slot(moment),
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

-- The moment is an argument so that tests need not wait for weeks. Not for the daemon: who chooses the moment can remove
-- what is young.
create function webhook.retire_slot_at(slot integer, at timestamptz) returns text
    language plpgsql volatile parallel unsafe strict set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    setting webhook.setting;
    states text[];
begin
    select * into setting from webhook.setting;
    if slot not between 0 and 15 then
        raise exception using errcode = 'invalid_parameter_value', message = format('slot: %s is no slot of the ring', slot),
            hint = 'They are numbered from 0 to 15.';
    elsif not setting.retention then
        return 'off';
    end if;
    states := array[webhook.empty_slot('event', slot, at), webhook.empty_slot('attempt', slot, at)];
    if states[1] = 'undelivered' and webhook.slot_ended_at(slot, at) <= at - setting.max_age then
        perform webhook.exhaust_slot(slot, setting.max_age, 1000);
        return 'exhausting';
    end if;
    -- What is worth telling first.
    return (select s from unnest(array['in use', 'undelivered', 'unresolved', 'retired', 'young', 'empty']) with ordinality as o (s, at)
            where s = any (states) order by o.at limit 1);
end
$$;
comment on function webhook.retire_slot_at(integer, timestamptz) is
    'As webhook.retire_slot(), as if it were this moment. For the extension''s owner';

create function webhook.retire_slot(slot integer) returns text
    language sql volatile parallel unsafe strict security definer set search_path = pg_catalog, pg_temp
begin atomic
    select webhook.retire_slot_at(slot, clock_timestamp());
end;
comment on function webhook.retire_slot(integer) is
    'Daemon: empty a slot of the ring if its time is over: retired, empty, young, in use (try again soon), undelivered or unresolved (something in it still has to go out), exhausting (max_age is over: call again until it is gone), off';

create view webhook.ring as
select n as slot, webhook.slot_ended_at(n, now()) - interval '216000 seconds' as began_at,
       webhook.slot_ended_at(n, now()) as ended_at,
       (select e.created_at from webhook.event e where e.slot = n order by e.xid, e.id limit 1) as oldest_event_at,
       pg_total_relation_size(format('webhook.event_%s', n)::regclass) as event_bytes,
       pg_total_relation_size(format('webhook.attempt_%s', n)::regclass) as attempt_bytes,
       case when s.retention then webhook.slot_ended_at(n, now()) + s.retention_period end as retires_at
from generate_series(0, 15) n cross join webhook.setting s;
comment on view webhook.ring is
    'The slots of the outbox: when their turn began and ended, what lies in them, and from when on they are emptied';
