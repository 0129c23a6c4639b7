//! Requests, retries, order, and receivers that are slow or broken.

mod a_dead_receiver_opens_its_circuit;
mod a_rate_limit_is_never_exceeded;
mod a_trace_reaches_the_receiver;
mod batches_are_one_request;
mod changes_of_a_key_become_one;
mod echoes_are_excluded;
mod failed_deliveries_are_retried;
mod failing_receivers_are_disabled;
mod failures_are_told_apart;
mod filters_agree_with_postgres;
mod filters_choose_events;
mod filters_delay_no_other;
mod formats_are_as_promised;
mod giving_up_is_reported_once;
mod one_dead_receiver_delays_no_other;
mod order_per_key_holds;
mod requests_at_once_are_bounded;
mod responses_may_decide;
mod the_receiver_is_obeyed;
mod the_stated_scenario;
mod timings_are_those_of_the_wire;
mod unconfirmed_receivers_get_nothing;
