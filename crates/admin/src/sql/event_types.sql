select row_to_json(t)::text
from (select d.type, case when (select webhook.sees_all_types()) then t.relation::text end as relation, d.description
      from webhook.described_event_types() d join webhook.event_type t on t.type = d.type) t
order by t.type
