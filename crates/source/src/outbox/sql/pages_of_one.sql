select {columns} from webhook.event e
where e.xid = $1::bigint and e.id >= $2::bigint and e.id <= $3::bigint
order by e.id limit $4::bigint
