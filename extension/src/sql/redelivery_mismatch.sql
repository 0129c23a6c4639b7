select case when $5 then webhook.scope_mismatch(e, s)
            when webhook.scope_mismatch(e, s) is not null then 'it is outside its scope' end,
       case when not $5
             and not exists (select from webhook.attempt a where a.event_id = $2 and a.subscription_id = $1)
             and not exists (select from webhook.queue q where q.event_id = $2 and q.subscription_id = $1)
            then webhook.mismatch(e, s) end
from webhook.subscription s, webhook.event e
where s.id = $1 and e.slot = $3 and e.xid = $4 and e.id = $2
