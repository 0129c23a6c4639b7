//! Documents: those that are generated, and those in the repository.

mod cases_are_named;
mod changes_of_the_schema_are_told;
mod the_documentation_holds;
mod the_events_are_explained;
mod the_manual_names_what_is_there;
