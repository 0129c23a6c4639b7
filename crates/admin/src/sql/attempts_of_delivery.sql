select row_to_json(x)::text from (
    select a.attempt, a.started_at, a.duration_ms, a.status, a.outcome, a.next_at, a.error, a.response, a.dns_ms, a.connect_ms,
           a.tls_ms, a.first_byte_ms, a.batch_id
    from webhook.attempt a where a.event_id = $1 and a.subscription_id = $2
    order by a.attempt, a.started_at limit 1000) x
