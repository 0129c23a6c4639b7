insert into webhook.receiver as r
    (subscription_id, circuit, consecutive_failures, failing_since, warned_at, updated_at, probe_interval)
select s.id, case when $2 then 'open' else 'closed' end, $3, $4, $5, clock_timestamp(),
       $6::bigint * interval '1 microsecond'
from webhook.subscription s where s.id = $1
on conflict (subscription_id) do update set
    circuit = excluded.circuit, consecutive_failures = excluded.consecutive_failures,
    failing_since = excluded.failing_since, warned_at = excluded.warned_at, updated_at = excluded.updated_at,
    probe_interval = excluded.probe_interval
