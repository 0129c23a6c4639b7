select webhook.tell('webhook.subscription.failing', s.id, json_build_object(
    'id', s.id, 'name', s.name, 'failing_since', $2::timestamptz, 'consecutive_failures', $3::integer,
    'last_status', $4::smallint, 'last_error', $5::text))
from webhook.subscription s where s.id = $1
