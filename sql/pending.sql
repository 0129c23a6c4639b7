-- Events that the daemon has not reached, and their deliveries. There can be millions of events and
-- thousands of subscriptions, so no view may compare each with each.

-- Events that the checkpoint has not seen, in two parts: transactions that began after it, and
-- those that were running then. Both use the index. So nothing is read of what others have written
-- since the oldest of these began, perhaps an hour ago. Without a checkpoint, the view is empty.
-- "between" tells the planner that there are few. For a bound on one side only, it assumes a third
-- of all events, and for a list, as many as ten bulk loads.
create view webhook.beyond_checkpoint as
select e.id, e.xid, e.slot, e.created_at, e as event, e.type, e.subscription_id
from webhook.event e
where e.xid between (select pg_snapshot_xmax(c.snapshot)::text::bigint from webhook.cursor c where c.singleton) and 9223372036854775807
union all
select e.id, e.xid, e.slot, e.created_at, e as event, e.type, e.subscription_id
from webhook.event e
where e.xid between (select pg_snapshot_xmin(c.snapshot)::text::bigint from webhook.cursor c where c.singleton) and 9223372036854775807
  and e.xid = any (array(select x.xid::text::bigint
                         from webhook.cursor c cross join lateral pg_snapshot_xip(c.snapshot) x (xid) where c.singleton));
comment on view webhook.beyond_checkpoint is 'Committed events after the checkpoint, whether they match a subscription or not';

-- Committed and matched, but neither attempted nor queued. Not bounded: for queries that name an
-- event, a range of numbers or a subscription. It has no CTE, so that these conditions reach the
-- indexes. The subscriptions of an event come from the indexes on their patterns and owners, and
-- not from a comparison with each. Only an announcement is compared with all of scope own.
-- "once" makes Postgres check that an event is an announcement before it reads any of them.
create view webhook.unresolved as
select b.id as sequence, b.xid as event_xid, b.slot as event_slot, b.created_at, m.id as subscription_id, b.type, (b.event).key as key
from webhook.beyond_checkpoint b
cross join lateral (
    select s.id from webhook.subscription s
    where b.subscription_id is null and s.scope = 'all' and webhook.pattern_matches(s.events, b.type)
      and webhook.mismatch(b.event, s) is null
    union all
    select s.id from webhook.subscription s
    where b.subscription_id is null and s.scope = 'own' and s.owner = (b.event).owner and (b.event).owner <> '*'
      and webhook.mismatch(b.event, s) is null
    union all
    select s.id from (select) once cross join webhook.subscription s
    where b.subscription_id is null and s.scope = 'own' and (b.event).owner = '*' and webhook.mismatch(b.event, s) is null
    union all
    select s.id from webhook.subscription s
    where s.id = b.subscription_id and webhook.mismatch(b.event, s) is null) m
-- "offset 0" makes it use the index for each event. The planner does not know how many events there
-- are.
where not exists (select from webhook.attempt a where a.event_id = b.id and a.subscription_id = m.id offset 0)
  and not exists (select from webhook.queue q where q.event_id = b.id and q.subscription_id = m.id offset 0);
comment on view webhook.unresolved is
    'Events after the checkpoint that match a subscription and have neither an attempt nor a queue row. Select by sequence: it can have billions of rows';

-- The search behind webhook.pending and webhook.health. It has three bounds: 20 000 events, the
-- slots in the order of their turns; 20 000 pairs of these events with subscriptions whose
-- patterns and owners match; and half a second, because filters and large payloads can make a pair
-- slow. LIMIT ends each loop, so nothing behind it is evaluated. A function, so that the settings
-- of a session do not change the plan, and Postgres does not compile it.
create function webhook.search_pending()
    returns table (sequence bigint, event_xid bigint, event_slot smallint, created_at timestamptz, subscription_id bigint, is_pending boolean)
    language sql stable parallel unsafe rows 20000 security definer set search_path = pg_catalog, pg_temp
    set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off
begin atomic
    select c.id, c.xid, c.slot, c.created_at, (c.subscription).id,
           case when clock_timestamp() < (select clock_timestamp() + interval '500 milliseconds') then
               webhook.mismatch(c.event, c.subscription) is null
               and not exists (select from webhook.attempt a where a.event_id = c.id and a.subscription_id = (c.subscription).id offset 0)
               and not exists (select from webhook.queue q where q.event_id = c.id and q.subscription_id = (c.subscription).id offset 0)
           end
    from (
        select b.*, m.subscription
        from (select o.*
              from (select t.slot from webhook.ring_turn t order by t.turn) t
              cross join lateral (select o.* from webhook.beyond_checkpoint o where o.slot = t.slot limit 20000) o
              limit 20000) b
        cross join lateral (
            select s as subscription from webhook.subscription s
            where b.subscription_id is null and s.scope = 'all' and webhook.pattern_matches(s.events, b.type)
            union all
            -- After half a second, it no longer looks for the patterns that match.
            select s from webhook.subscription s
            where b.subscription_id is null and s.scope = 'own' and s.owner = (b.event).owner and (b.event).owner <> '*'
              and case when clock_timestamp() < (select clock_timestamp() + interval '500 milliseconds')
                       then webhook.pattern_matches(s.events, b.type) else true end
            union all
            select s from (select) once cross join webhook.subscription s
            where b.subscription_id is null and s.scope = 'own' and (b.event).owner = '*'
              and case when clock_timestamp() < (select clock_timestamp() + interval '500 milliseconds')
                       then webhook.pattern_matches(s.events, b.type) else true end
            union all
            select s from webhook.subscription s where s.id = b.subscription_id) m
        limit 20000) c;
end;
comment on function webhook.search_pending() is
    'The first pairs of an event after the checkpoint and a subscription whose pattern matches: at most 20000 pairs of 20000 events. is_pending null: not evaluated within half a second';

create view webhook.pending as
with searched as materialized (
    select s.* from webhook.search_pending() s
)
select s.sequence, s.event_xid, s.event_slot, s.created_at, s.subscription_id from searched s where s.is_pending
union all
select null, null, null, null, null
where (select count(*) = 20000 or bool_or(s.is_pending is null) from searched s)
   or exists (select from webhook.beyond_checkpoint b offset 20000);
comment on view webhook.pending is
    'The oldest events after the checkpoint that match a subscription and have neither an attempt nor a queue row. Bounded: at most 20000 pairs of 20000 events are examined, for half a second. If there may be more rows, the last row is null';

