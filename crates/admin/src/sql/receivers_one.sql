select row_to_json(x)::text from (
    select h.*,
           json_build_object('since', extract(epoch from now() - h.since),
                             'last_failure', extract(epoch from now() - h.last_failure_at),
                             'next_attempt', extract(epoch from now() - h.next_attempt_at),
                             'oldest_waiting', extract(epoch from now() - h.oldest_waiting_at)) as ages
    from webhook.subscription_health h where h.id = $1) x
