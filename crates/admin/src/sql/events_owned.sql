select json_build_object('xid', e.xid, 'fits', true, 'event', (select row_to_json(x) from (select {columns}) x))::text
from webhook.owned_event e
where (e.xid, e.sequence) < ($1, $2) and (e.xid, e.sequence) >= ($8::bigint, $9::bigint)
  and ($3::text is null or webhook.pattern_matches(array[$3], e.type))
  and ($4::text is null or coalesce(e.key = $4, false))
  and ($5::text is null or e.created_at >= $5::text::timestamptz)
  and ($6::text is null or e.created_at < $6::text::timestamptz)
order by e.xid desc, e.sequence desc limit $7
