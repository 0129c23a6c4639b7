select {columns} from (
    select e as event, e.* from webhook.event e where e.xid >= pg_snapshot_xmax($1::text::pg_snapshot)::text::bigint
    union all
    select e as event, e.* from webhook.event e
    where e.xid = any (array(select x.xid::text::bigint from pg_snapshot_xip($1::text::pg_snapshot) x (xid)))) e
where pg_visible_in_snapshot(e.xid::text::xid8, $2::text::pg_snapshot)
  and e.id > $4 and e.subscription_id is null and e.type <> 'webhook.delivery.requested'
  and webhook.pattern_matches($3, e.type)
order by e.id limit $5
