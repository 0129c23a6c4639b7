select count(*)
from webhook.given_up g
join webhook.subscription s on s.id = g.subscription_id
where g.subscription_id = $1 and g.given_up_at >= $2 and g.given_up_at < $3
  and exists (select from webhook.attempt a join webhook.event e on e.slot = g.event_slot and e.xid = a.event_xid and e.id = a.event_id
              where a.event_id = g.event_id and a.subscription_id = g.subscription_id and webhook.scope_mismatch(e, s) is null)
