select json_build_object('xid', e.xid, 'fits', e.fits, 'event', (select row_to_json(x) from (select {columns}) x))::text
from (select e.id, e.xid, e.created_at, e.type, e.table_name, e.key, e.actor, e.origin, e.truncated, l.fits,
             count(*) filter (where l.fits) over (order by e.xid desc, e.id desc) as found,
             row_number() over (order by e.xid, e.id) as rest
      from (select e.* from webhook.event e
            where (e.xid, e.id) < ($1, $2)
              and e.slot = any (webhook.ring_slots(coalesce($5::text::timestamptz - interval '1 hour', '-infinity'),
                                                   coalesce($6::text::timestamptz + interval '1 hour', 'infinity')))
            order by e.xid desc, e.id desc limit {look}) e
      cross join lateral (
          select e.type <> 'webhook.delivery.requested'
                 and ($3::text is null or webhook.pattern_matches(array[$3], e.type))
                 and ($4::text is null or coalesce(e.key = $4, false))
                 and ($5::text is null or e.created_at >= $5::text::timestamptz)
                 and ($6::text is null or e.created_at < $6::text::timestamptz) as fits) l) e
where (e.fits and e.found <= $7) or e.rest = 1
order by e.xid desc, e.id desc
