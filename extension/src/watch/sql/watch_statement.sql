select webhook.watch_statement(jsonb_populate_record(p.*, jsonb_build_object('condition', $2::text)))
from webhook.watch w
cross join lateral webhook.present_columns(w, webhook.watch_definition(w.relation)) p
where w.relation = $1
