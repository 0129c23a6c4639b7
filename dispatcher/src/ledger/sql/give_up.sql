insert into webhook.given_up as g (subscription_id, event_id, given_up_at, status, event_slot)
select distinct on (x.subscription_id, x.event_id) x.subscription_id, x.event_id, x.started_at, x.status, x.slot
from unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::smallint[], $5::smallint[])
    as x (subscription_id, event_id, started_at, status, slot)
order by x.subscription_id, x.event_id, x.started_at desc
on conflict (subscription_id, event_id) do update set given_up_at = excluded.given_up_at, status = excluded.status
