select webhook.public_id(c.id, c.created_at), c.id, c.type, convert_to(c.key, getdatabaseencoding()), c.created_at,
       c.reason is null, convert_to(c.reason, getdatabaseencoding())
from (select e.id, e.type, e.key, e.created_at, webhook.mismatch(e, s) as reason
      from webhook.subscription s, webhook.event e
      where s.id = $1
        and e.slot = any (webhook.ring_slots($2, now())) and e.created_at >= $2
        and e.type <> 'webhook.delivery.requested' and (e.subscription_id is null or e.subscription_id = s.id)
        and ($3 or webhook.scope_mismatch(e, s) is null)
      order by e.id) c
