-- No other session sees an event of this transaction yet.
select webhook.mismatch(b.event, s) is null
from webhook.beyond_checkpoint b, webhook.subscription s
where b.xid = $3 and b.id = $2 and s.id = $1 and b.xid <> webhook.current_xid()
  and not exists (select from webhook.attempt a where a.event_id = $2 and a.subscription_id = $1)
  and not exists (select from webhook.queue q where q.event_id = $2 and q.subscription_id = $1)
