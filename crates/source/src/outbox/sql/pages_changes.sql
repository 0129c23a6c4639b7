select e.id, e.key::bigint, array(select json_array_elements_text(e.payload -> 'events')),
       array(select json_array_elements_text(case json_typeof(e.payload -> 'exclude_origin') when 'array'
                                             then e.payload -> 'exclude_origin' end)),
       e.payload ->> 'filter'
from webhook.event e
where e.id >= $1::bigint and e.id <= $2::bigint
  and e.type in ('webhook.subscription.created', 'webhook.subscription.updated', 'webhook.subscription.deleted')
  and e.key ~ '^[0-9]{1,18}$' and json_typeof(e.payload -> 'events') = 'array'
  and ((e.xid >= $3::bigint and e.xid < $4::bigint and e.xid <> all ($5::bigint[])) or e.xid = any ($6::bigint[]))
order by e.id
