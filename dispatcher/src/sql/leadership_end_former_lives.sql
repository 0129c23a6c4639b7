select count(*) filter (where pg_terminate_backend(a.pid, 2000)) from pg_stat_activity a
where a.datname = current_database() and a.application_name like $1
  and a.application_name <> current_setting('application_name')
  and a.usesysid = (select o.usesysid from pg_stat_activity o where o.pid = pg_backend_pid())
