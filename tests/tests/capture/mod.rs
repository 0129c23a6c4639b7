//! Changes of tables, and the events that they become.

mod a_changed_key_is_two_things;
mod capture_kinds;
mod every_encoding_is_delivered;
mod four_ways_lead_to_the_same;
mod hostile_strings_do_no_harm;
mod long_transactions_delay_no_others;
mod million_row_update;
mod poolers_do_not_mix_actors;
mod prepared_transactions_are_delivered;
mod replicated_changes_are_no_events;
mod rolled_back_is_never_sent;
