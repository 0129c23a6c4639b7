select row_to_json(t)::text
from (select t.type, t.relation::text, t.description from webhook.event_type t
      where t.type in (select o.type from webhook.offered_types() as o (type))) t
order by t.type
