insert into webhook.queue as q
    (subscription_id, event_id, event_xid, event_slot, attempts, retry_from, next_at, last_status, last_error, state,
     order_key)
select p.subscription_id, p.event_id, p.event_xid, p.event_slot, p.attempts, p.retry_from, p.next_at, p.last_status,
       p.last_error, p.state, p.order_key
from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::smallint[], $6::smallint[],
            $7::timestamptz[], $8::smallint[], $9::text[], $10::text[], $11::bigint[], $12::boolean[])
    as p (subscription_id, event_id, event_xid, event_slot, attempts, retry_from, next_at, last_status, last_error,
          state, order_key, is_new)
where $14 = (p.is_new or $13 and pg_visible_in_snapshot(p.event_xid::text::xid8,
                 (select c.snapshot from webhook.cursor c where c.singleton)) is not true)
on conflict (subscription_id, event_id) do update set
    attempts = greatest(q.attempts, excluded.attempts),
    retry_from = greatest(q.retry_from, excluded.retry_from),
    state = excluded.state, next_at = excluded.next_at, order_key = excluded.order_key,
    last_status = case when excluded.attempts > q.attempts then excluded.last_status else q.last_status end,
    last_error = case when excluded.attempts > q.attempts then excluded.last_error else q.last_error end
