select (pg_control_system()).system_identifier,
       (select oid from pg_database where datname = current_database()),
       left(pg_walfile_name(pg_current_wal_lsn()), 8),
       (select snapshot::text from webhook.cursor),
       (select system_identifier from webhook.cursor),
       (select database_oid from webhook.cursor),
       (select count(*) from webhook.subscription)
