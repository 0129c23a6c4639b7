select $1::bigint, e.id, e.slot, e.xid, made.attempts, made.attempts, 'asked'::text, null::bigint,
       null::timestamptz, false, {columns}
from (select coalesce(max(a.attempt) filter (where a.subscription_id = $1), 0::smallint) as attempts,
             array_agg(distinct a.event_xid) as xids
      from webhook.attempt a where a.event_id = $2) made
cross join lateral (
    select e as event, e.* from webhook.event e where e.xid = any (made.xids) and e.id = $2 offset 0) e
