select coalesce(webhook.number_at($1::text::timestamptz - interval '1 hour'), 1),
       least(webhook.last_number(), webhook.number_at($2::text::timestamptz + interval '1 hour') + 1000),
       webhook.event_sequence($3)
