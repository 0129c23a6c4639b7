select case when s.place <= $1 then s.id else 0 end, bool_and(s.enabled), bool_or(s.circuit_open), sum(s.backlog)::bigint
from (select s.id, s.enabled, coalesce(r.circuit = 'open', false) as circuit_open, coalesce(q.count, 0) as backlog,
             row_number() over (order by s.id) as place
      from webhook.subscription s
      left join webhook.receiver r on r.subscription_id = s.id
      left join (select subscription_id, count(*) as count from webhook.queue group by subscription_id) q
          on q.subscription_id = s.id) s
group by 1
