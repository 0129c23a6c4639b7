select webhook.public_id(e.id, e.created_at) as id, e.created_at, e.type, e.table_name as table, e.key, e.actor, e.origin,
       e.traceparent, e.id as sequence, e.truncated, e.payload as data, e.previous
from webhook.find_event($1) e
