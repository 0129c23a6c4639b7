select row_to_json(x)::text
from (select {columns}, e.payload as data, e.previous
      from webhook.event_place($1) p
      join webhook.owned_event e on e.xid = p.xid and e.sequence = p.id) x
