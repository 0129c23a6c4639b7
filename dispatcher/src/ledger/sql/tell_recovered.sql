select webhook.tell('webhook.subscription.recovered', s.id, json_build_object(
    'id', s.id, 'name', s.name, 'failing_since', $2::timestamptz))
from webhook.subscription s where s.id = $1
