select e.id, e.key::bigint, c.events, c.exclude_origin, c.filter, c.owner, c.scope, f.events, f.exclude_origin, f.filter,
       coalesce(f.owner, c.owner), coalesce(f.scope, c.scope)
from webhook.event e
cross join lateral (
    select case when json_typeof(e.payload -> 'previous') = 'object' then e.payload -> 'previous' else e.payload end as rule) p
cross join lateral (
    select array(select json_array_elements_text(e.payload -> 'events')) as events,
           array(select json_array_elements_text(case json_typeof(e.payload -> 'exclude_origin')
                                                 when 'array' then e.payload -> 'exclude_origin' end)) as exclude_origin,
           e.payload ->> 'filter' as filter, e.payload ->> 'owner' as owner, e.payload ->> 'scope' as scope) c
cross join lateral (
    select array(select json_array_elements_text(case json_typeof(p.rule -> 'events')
                                                 when 'array' then p.rule -> 'events' end)) as events,
           array(select json_array_elements_text(case json_typeof(p.rule -> 'exclude_origin')
                                                 when 'array' then p.rule -> 'exclude_origin' end)) as exclude_origin,
           p.rule ->> 'filter' as filter, p.rule ->> 'owner' as owner, p.rule ->> 'scope' as scope) f
where e.id >= $1::bigint and e.id <= $2::bigint
  and e.type in ('webhook.subscription.created', 'webhook.subscription.updated', 'webhook.subscription.deleted')
  and e.key ~ '^[0-9]{1,18}$' and json_typeof(e.payload -> 'events') = 'array'
  and ((e.xid >= $3::bigint and e.xid < $4::bigint and e.xid <> all ($5::bigint[])) or e.xid = any ($6::bigint[]))
order by e.id
