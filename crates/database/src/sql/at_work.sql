select a.state, coalesce(a.wait_event_type || ':' || a.wait_event, 'nothing')
       || coalesce((select ', held by ' || string_agg(
                        case when b.pid = 0 then 'a prepared transaction'
                             else pg_catalog.format('process %s (role %s, application "%s")', b.pid, s.usename, s.application_name) end, ', ')
                    from unnest(pg_catalog.pg_blocking_pids(a.pid)) b (pid)
                    left join pg_catalog.pg_stat_activity s on s.pid = b.pid), '')
from pg_catalog.pg_stat_activity a where a.pid = $1
