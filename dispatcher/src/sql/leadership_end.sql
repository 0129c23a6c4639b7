select pg_terminate_backend(a.pid, 2000) from pg_stat_activity a
where a.pid = $1
   or (a.datname = current_database() and a.application_name = $2 and a.application_name like 'webhookd %'
       and a.usesysid = (select l.usesysid from pg_stat_activity l where l.pid = $1))
order by a.pid = $1
