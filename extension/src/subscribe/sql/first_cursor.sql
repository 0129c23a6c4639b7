insert into webhook.cursor (snapshot, system_identifier, database_oid)
select webhook.snapshot_before_this_transaction(), (pg_control_system()).system_identifier, d.oid
from pg_database d where d.datname = current_database()
on conflict do nothing
