select webhook.public_id(e.id, e.created_at) as id, e.created_at, e.type, e.table_name as table, e.key, e.actor, e.id as sequence
from webhook.event e
where e.slot = any (webhook.ring_slots(coalesce($2::text::timestamptz, now() - $3::text::interval),
                                       coalesce($4::text::timestamptz, now())))
  and e.created_at >= coalesce($2::text::timestamptz, now() - $3::text::interval)
  and ($4::text is null or e.created_at < $4::text::timestamptz)
  and webhook.pattern_matches($1, e.type) and ($5::text is null or e.key = $5)
order by e.xid desc, e.id desc limit $6
