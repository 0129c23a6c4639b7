select q.next_at, q.subscription_id, q.event_id, q.event_slot, q.event_xid, q.attempts, q.retry_from, q.state, q.order_key
from webhook.queue q
where q.state = 'waiting' and q.next_at >= $1 and (q.next_at, q.subscription_id, q.event_id) >= ($1, $2, $3)
order by q.next_at, q.subscription_id, q.event_id limit $4::bigint
