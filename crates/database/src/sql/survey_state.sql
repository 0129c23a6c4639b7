select (pg_control_system()).system_identifier, pg_is_in_recovery(),
       case when pg_is_in_recovery()
            then lpad(upper(to_hex(greatest(
                     (pg_control_checkpoint()).timeline_id, (pg_control_recovery()).min_recovery_end_timeline,
                     (select w.received_tli from pg_stat_get_wal_receiver() w)))), 8, '0')
            else left(pg_walfile_name(pg_current_wal_lsn()), 8) end
