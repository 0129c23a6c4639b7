//! Every end-to-end test, in one program: linked once, and many of them at a time, for they wait
//! most of the time.

mod a_backfill_misses_and_doubles_nothing;
mod a_backfill_stays_out_of_the_way;
mod a_changed_key_is_two_things;
mod a_dead_receiver_opens_its_circuit;
mod a_promoted_standby_goes_on;
mod a_rate_limit_is_never_exceeded;
mod a_recovery_uses_no_number_twice;
mod a_silent_link_is_given_up;
mod a_slow_database_is_waited_for;
mod a_trace_reaches_the_receiver;
mod an_upgrade_equals_a_fresh_install;
mod another_daemon_takes_over;
mod batches_are_one_request;
mod capture_kinds;
mod cases_are_named;
mod changes_of_a_key_become_one;
mod changes_of_the_schema_are_told;
mod clocks_lose_no_event;
mod clones_stay_silent;
mod echoes_are_excluded;
mod every_encoding_is_delivered;
mod failed_deliveries_are_retried;
mod failing_receivers_are_disabled;
mod failures_are_told_apart;
mod filters_choose_events;
mod foreign_cloudevents_parse;
mod foreign_verifiers_accept;
mod formats_are_as_promised;
mod four_ways_lead_to_the_same;
mod giving_up_is_told_once;
mod graceful_shutdown;
mod health_tells_the_truth;
mod hostile_strings_do_no_harm;
mod imposters_get_nothing;
mod long_transactions_delay_nobody;
mod loopback_is_refused;
mod million_row_update;
mod no_secret_is_written_down;
mod no_wakeup_is_lost;
mod nobody_needs_a_superuser;
mod old_events_are_retired;
mod one_dead_receiver_delays_nobody;
mod operators_get_clear_errors;
mod operators_may_intervene;
mod order_per_key_holds;
mod overload_is_survived;
mod pause_keeps_backlog;
mod pg_upgrade_continues;
mod plans_do_not_depend_on_statistics;
mod prepared_transactions_are_delivered;
mod receivers_in_six_languages_verify;
mod replicated_changes_are_no_events;
mod requests_at_once_are_bounded;
mod rest_holds_its_contract;
mod retention_is_flat;
mod rolled_back_is_never_sent;
mod secrets_are_sealed_anew;
mod settings_change_nothing;
mod snapshot_matches_postgres;
mod subscriptions_change_in_commit_order;
mod support_tells_the_truth;
mod survives_chaos;
mod survives_kill_9;
mod survives_postmaster_crash;
mod tenants_see_only_their_own;
mod the_admin_server_stays_free;
mod the_command_line_shows_and_steers;
mod the_database_proves_itself;
mod the_documentation_holds;
mod the_events_are_explained;
mod the_manual_names_what_is_there;
mod the_migrations_work;
mod the_page_shows_and_steers;
mod the_page_works_in_a_browser;
mod the_past_can_be_sent_again;
mod the_receiver_is_obeyed;
mod the_runbook_works;
mod the_stated_scenario;
mod timings_are_those_of_the_wire;
mod transaction_ids_wrap;
mod unconfirmed_receivers_get_nothing;
mod undone_commits_are_not_delivered;
mod windows_hold_exactly_what_is_new;
mod works_by_the_clock_without_a_gate;

/// A file that is named above is compiled; one that is not would be passed over in silence.
#[test]
fn every_file_is_named() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for entry in std::fs::read_dir(folder).expect("the folder of tests") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(
            name == "all" || include_str!("all.rs").contains(&format!("mod {name};")),
            "{name} is not named"
        );
    }
}
