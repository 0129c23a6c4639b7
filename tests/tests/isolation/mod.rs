//! One party must not stop, slow or take over the others.

mod backfills_take_turns;
mod every_lock_of_a_role;
mod locks_of_users_stop_nobody;
mod names_that_never_resolve;
mod no_role_stops_a_takeover;
mod notifications_are_coalesced;
mod owners_share_fairly;
mod the_admin_server_answers_probes;
mod views_end;
