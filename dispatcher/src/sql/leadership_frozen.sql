select a.pid, a.application_name, (extract(epoch from clock_timestamp() - heard.at) * 1000)::bigint
from pg_locks l join pg_stat_activity a on a.pid = l.pid
cross join lateral (
    select max(o.state_change) as at from pg_stat_activity o
    where o.pid = a.pid or (o.datname = a.datname and o.application_name = a.application_name
                            and o.application_name like 'webhookd %' and o.usesysid = a.usesysid)) heard
where (a.state = 'idle' or a.query like '%gate_sleep($1) -- polls')
  and heard.at < clock_timestamp() - interval '8 s' and 
