-- The health of each receiver in one row: the one definition that the page, REST and
-- `webhookd status` show.

-- The daemon does not count such answers against the receiver (Verdict::Rejected in
-- crates/delivery). A test compares the lists. A failed attempt with 2xx had not the expected
-- response.
create function webhook.is_rejection(status smallint) returns boolean
    language sql immutable parallel safe
    return coalesce(status in (400, 409, 413, 414, 415, 422, 431) or status between 200 and 299, false);
comment on function webhook.is_rejection(smallint) is
    'Whether the HTTP status of a failed attempt rejects the content of one event, and so shows that the receiver works';

-- A healthy subscription costs its row and two look-ups in indexes. The rest is evaluated only if
-- deliveries wait or were given up, and counts at most 100 000 rows. Each part is a lateral
-- subquery, so no plan needs a hash or a sort of all rows.
create view webhook.subscription_health with (security_barrier) as
with known as (
    select s.id, s.name, s.owner, s.url, r.failing_since, s.paused_reason, r.held_because, l.since as locked_since,
           format('another session has locked the subscription: process %s, role %s, application "%s"', l.pid, l.role, l.application) as locked_by,
           case when l.since is not null then 'blocked'
                when s.disabled_at is not null then 'disabled'
                when not s.enabled then 'paused'
                when s.verification <> 'none' and s.verified_at is null then 'unconfirmed'
                when r.held_because is not null then 'blocked'
                when r.failing_since is not null then 'failing'
                when f.outcome = 'refused' and w.retrying > 0 then 'blocked'
                when g.given_up > g.rejected then 'gave_up'
                when g.rejected > 0 or w.rejected > 0 then 'rejecting'
                when w.retrying > 0 then 'retrying'
                when o.created_at < now() - interval '30 seconds' then 'slow'
                else 'healthy' end as state,
           coalesce(s.disabled_at, s.paused_at) as paused_at,
           f.started_at as last_failure_at, f.outcome as last_outcome, f.status as last_status, f.error as last_error,
           case when not s.enabled then null
                when r.circuit = 'open' then f.started_at + f.duration_ms * interval '1 millisecond' + r.probe_interval
                else w.next_at end as next_attempt_at,
           o.created_at as oldest_waiting_at,
           w.waiting, w.retrying, g.given_up - g.rejected as given_up, g.first_at as given_up_since, g.last_at as given_up_at,
           g.rejected + w.rejected as rejected, g.given_up as redeliverable
    from webhook.subscription s
    left join webhook.receiver r on r.subscription_id = s.id
    left join webhook.locked_subscription l on l.subscription_id = s.id
    cross join lateral (
        select count(*) as waiting, count(*) filter (where q.attempts > q.retry_from and q.state <> 'blocked') as retrying,
               count(*) filter (where q.attempts > q.retry_from and webhook.is_rejection(q.last_status)) as rejected, min(q.next_at) as next_at
        from (select q.attempts, q.retry_from, q.state, q.last_status, q.next_at from webhook.queue q
              where q.subscription_id = s.id limit 100000) q offset 0) w
    -- Conditions without a column of the table are evaluated before the table is read.
    left join lateral (
        select e.created_at
        from (select q.event_slot, q.event_xid, q.event_id from webhook.queue q
              where w.waiting > 0 and q.subscription_id = s.id order by q.event_id limit 1) q
        join webhook.event e on e.slot = q.event_slot and e.xid = q.event_xid and e.id = q.event_id) o on true
    cross join lateral (
        select count(*) as given_up, count(*) filter (where webhook.is_rejection(g.status)) as rejected,
               min(g.given_up_at) as first_at, max(g.given_up_at) as last_at
        from (select g.status, g.given_up_at from webhook.given_up g
              where g.subscription_id = s.id order by g.given_up_at desc limit 100000) g offset 0) g
    left join lateral (
        select a.*
        -- "offset 0": without such a row, none of the partitions is touched.
        from (select s.id where w.waiting > 0 or g.given_up > 0 or r.failing_since is not null offset 0) ill
        cross join lateral (
            select a.started_at, a.duration_ms, a.outcome, a.status, a.error from webhook.attempt a
            where a.subscription_id = ill.id and a.outcome <> 'succeeded'
            order by a.started_at desc limit 1) a) f on true
    where webhook.may_see(s.owner, s.owner_role)
)
select k.id, k.name, k.owner, k.url, k.state,
       array_position(array['failing', 'disabled', 'gave_up', 'rejecting', 'blocked', 'unconfirmed', 'paused', 'slow', 'retrying', 'healthy'],
                      k.state) as severity,
       case k.state when 'failing' then k.failing_since
                    when 'blocked' then k.locked_since
                    when 'gave_up' then k.given_up_since
                    when 'slow' then k.oldest_waiting_at
                    else k.paused_at end as since,
       coalesce(case when k.locked_since is not null then k.locked_by end, k.paused_reason, k.held_because) as reason,
       k.last_failure_at, k.last_outcome, k.last_status, k.last_error, k.next_attempt_at, k.oldest_waiting_at,
       k.waiting, k.retrying, k.given_up, k.given_up_since, k.given_up_at, k.rejected, k.redeliverable
from known k;
comment on view webhook.subscription_health is
    'One row per subscription: the state of its receiver (failing, disabled, gave_up, rejecting, blocked, unconfirmed, paused, slow, retrying, healthy; severity 1 is the most urgent), last failure, next attempt, and the deliveries that wait, were given up, or were rejected because of their content. Counts end at 100000';
