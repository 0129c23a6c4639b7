select case when s.place <= $1 then s.id else 0 end, bool_and(s.enabled), bool_or(s.circuit_open), sum(s.backlog)::bigint
from (select s.id, s.enabled, coalesce(r.circuit = 'open', false) as circuit_open, q.count as backlog,
             row_number() over (order by s.id) as place
      from webhook.subscription s
      left join webhook.receiver r on r.subscription_id = s.id
      cross join lateral (select count(*) as count
                          from (select from webhook.queue q where q.subscription_id = s.id limit 100000) w) q) s
group by 1
