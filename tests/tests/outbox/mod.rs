//! The way of events from the table to the daemon: gate, cursor, ring, numbers.

mod a_recovery_uses_no_number_twice;
mod clocks_lose_no_event;
mod no_wakeup_is_lost;
mod old_events_are_retired;
mod plans_do_not_depend_on_statistics;
mod retention_is_flat;
mod snapshot_matches_postgres;
mod transaction_ids_wrap;
mod undone_commits_are_not_delivered;
mod windows_hold_exactly_what_is_new;
mod works_by_the_clock_without_a_gate;
