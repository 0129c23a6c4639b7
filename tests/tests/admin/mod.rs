//! The admin server, its page, and the command line.

mod applications_embed_the_portal;
mod customers_pages_withstand_attacks;
mod customers_see_their_own_page;
mod health_tells_the_truth;
mod owners_read_their_own_events;
mod portal_links_open_once;
mod receivers_are_ranked;
mod rest_holds_its_contract;
mod the_admin_server_stays_free;
mod the_command_line_shows_and_changes;
mod the_page_shows_and_changes;
mod the_page_works_in_a_browser;
mod tokens_are_made_over_rest;
