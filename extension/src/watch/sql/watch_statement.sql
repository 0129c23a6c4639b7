select webhook.watch_statement((p.relation, p.noun, p.verbs, p.columns, p.exclude, p.on_columns, $2, p.payload,
                                p.key_columns, p.created_at, p.numbered_for)::webhook.watch)
from webhook.watch w
cross join lateral webhook.present_columns(w, webhook.watch_definition(w.relation)) p
where w.relation = $1
