//! Documents: those that are generated, and those in the repository.

mod cases_are_named;
mod every_block_runs;
mod exit_codes_are_documented;
mod log_lines_are_documented;
mod schema_changes_are_reported;
mod the_documentation_holds;
mod the_events_are_explained;
mod the_manual_names_what_is_there;
