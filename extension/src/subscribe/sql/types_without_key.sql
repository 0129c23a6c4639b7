select string_agg(distinct w.noun || '.' || v.value, ', ')
from webhook.subscription s
join webhook.watch w on s.ordering = 'key' and w.key_columns = '{}'
cross join lateral jsonb_each_text(w.verbs) v
where s.id = $1 and webhook.pattern_matches(s.events, w.noun || '.' || v.value)
