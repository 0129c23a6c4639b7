select {columns} from webhook.event e
where e.xid >= $1::bigint and e.xid <= $2::bigint and e.xid <> all ($3::bigint[])
  and e.id >= $4::bigint and e.id <= $5::bigint
order by e.id limit $6::bigint
