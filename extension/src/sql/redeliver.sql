insert into webhook.queue as q
    (subscription_id, event_id, event_xid, event_slot, attempts, retry_from, state, next_at, last_status,
     last_error, order_key)
select $1, $2, $4, $3, coalesce(max(a.attempt), 0), coalesce(max(a.attempt), 0), 'waiting', clock_timestamp(),
       (array_agg(a.status order by a.attempt desc))[1], (array_agg(a.error order by a.attempt desc))[1],
       (select webhook.order_key(s.ordering, e) from webhook.subscription s, webhook.event e
        where s.id = $1 and e.slot = $3 and e.xid = $4 and e.id = $2)
from webhook.attempt a where a.event_id = $2 and a.subscription_id = $1
on conflict (subscription_id, event_id) do update set
    attempts = greatest(q.attempts, excluded.attempts), retry_from = greatest(q.attempts, excluded.attempts),
    state = excluded.state, next_at = excluded.next_at, order_key = excluded.order_key
returning q.xmax = 0
