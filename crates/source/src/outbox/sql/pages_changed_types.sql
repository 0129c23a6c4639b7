select distinct e.key from webhook.event e
where e.id >= $1::bigint and e.id <= $2::bigint and e.type = 'webhook.event_type.updated' and e.key is not null
  and ((e.xid >= $3::bigint and e.xid < $4::bigint and e.xid <> all ($5::bigint[])) or e.xid = any ($6::bigint[]))
