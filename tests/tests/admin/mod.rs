//! The admin server, its page, and the command line.

mod health_tells_the_truth;
mod receivers_are_ranked;
mod rest_holds_its_contract;
mod the_admin_server_stays_free;
mod the_command_line_shows_and_changes;
mod the_page_shows_and_changes;
mod the_page_works_in_a_browser;
