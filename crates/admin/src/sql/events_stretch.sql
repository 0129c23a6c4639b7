-- The daemon reads where the next step of a search ends. No row of it is shown.
select x.xid, x.id
from (select e.xid, e.id from webhook.event e
      where (e.xid, e.id) < ($1, $2)
        and e.slot = any (webhook.ring_slots(coalesce($3::text::timestamptz - interval '1 hour', '-infinity'),
                                             coalesce($4::text::timestamptz + interval '1 hour', 'infinity')))
      order by e.xid desc, e.id desc limit {look}) x
order by x.xid, x.id limit 1
