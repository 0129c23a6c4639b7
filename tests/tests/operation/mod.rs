//! Crashes, failovers, copies, updates, and what operators do.

mod a_promoted_standby_goes_on;
mod a_silent_link_is_given_up;
mod a_slow_database_is_waited_for;
mod an_upgrade_equals_a_fresh_install;
mod another_daemon_takes_over;
mod clones_stay_silent;
mod files_are_read_again;
mod graceful_shutdown;
mod operators_get_clear_errors;
mod operators_may_intervene;
mod operators_try_again_at_once;
mod overload_is_survived;
mod pg_upgrade_continues;
mod results_are_written_together;
mod settings_change_nothing;
mod survives_chaos;
mod survives_kill_9;
mod survives_postmaster_crash;
mod the_migrations_work;
mod the_runbook_works;
