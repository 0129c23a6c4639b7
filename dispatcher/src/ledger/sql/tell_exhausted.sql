select webhook.tell('webhook.delivery.exhausted', x.subscription_id, json_build_object(
    'subscription_id', x.subscription_id, 'event_id', x.event_id, 'event_type', x.event_type,
    'sequence', x.sequence, 'attempts', x.attempts, 'last_status', x.status, 'last_error', x.error))
from unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::smallint[], $7::smallint[],
            $8::text[])
    as x (subscription_id, sequence, started_at, event_id, event_type, attempts, status, error)
where not $9 or not exists (
    select from webhook.attempt o
    where o.event_id = x.sequence and o.subscription_id = x.subscription_id and o.started_at = x.started_at offset 0)
