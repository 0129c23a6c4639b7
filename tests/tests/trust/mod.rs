//! Signatures, secrets, addresses, rights and tenants.

mod deliveries_stay_with_their_owner;
mod foreign_cloudevents_parse;
mod foreign_verifiers_accept;
mod imposters_get_nothing;
mod loopback_is_refused;
mod no_byte_crosses_owners;
mod no_operation_needs_a_superuser;
mod no_secret_is_written_down;
mod owners_get_only_their_events;
mod receivers_in_six_languages_verify;
mod secrets_are_resealed;
mod tenants_see_only_their_own;
mod the_database_proves_itself;
