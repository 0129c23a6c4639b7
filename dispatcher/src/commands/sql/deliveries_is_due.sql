select exists (select from webhook.delivery d
               where d.sequence = webhook.event_sequence($1) and d.event_id = $1
                 and ($2::bigint is null or d.subscription_id = $2))
