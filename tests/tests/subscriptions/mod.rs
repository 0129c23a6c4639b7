//! Changes of subscriptions, replays and backfills.

mod a_backfill_misses_and_doubles_nothing;
mod a_backfill_stays_out_of_the_way;
mod pause_keeps_backlog;
mod subscriptions_change_in_commit_order;
mod the_past_can_be_sent_again;
