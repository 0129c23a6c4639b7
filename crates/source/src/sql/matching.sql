select p.event_id, p.subscription_id
from unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::integer[], $6::bigint[])
     as p (slot, event_id, subscription_id, filter, xid)
cross join lateral (select e as event from webhook.event e
                    where e.slot = p.slot and e.xid = p.xid and e.id = p.event_id offset 0) e
where webhook.filter_matches(e.event, ($5::text[])[p.filter]::jsonpath)
