select a.subscription_id as subscription, a.attempt, a.started_at, a.outcome, a.status, a.duration_ms, a.dns_ms, a.connect_ms,
       a.tls_ms, a.first_byte_ms, a.next_at, a.error, a.response
from webhook.attempt a
where a.event_id = webhook.event_sequence($1) and ($2::bigint is null or a.subscription_id = $2)
order by a.started_at, a.subscription_id
