//! Promise: a subscription may require more of a response than its status, and may keep responses.

use e2e::{PATIENCE, daemon::Daemon, world::World};

/// The receiver answers 200 with the request's body. So the events decide what the responses
/// contain.
#[tokio::test(flavor = "multi_thread")]
async fn a_2xx_without_the_expected_body_is_a_failure() {
    let world = World::new().await;
    let expecting = "retry => '{100ms}', expected_response => '{\"data\": {\"note\": \"good\"}}'";
    let id = world.subscribe_with("/echo", expecting).await;
    world.app.batch_execute("insert into orders select i, 'c', 0, case i when 20 then 'good' else 'bad' end from generate_series(1, 20) i").await.expect("rows");
    let _daemon = Daemon::start(&world.database).await;
    let are_final = "select count(*) = 20 from webhook.delivery where state in ('delivered', 'exhausted')";
    world.database.until(are_final, PATIENCE).await;
    let states = "select string_agg(state || ' ' || n, ', ' order by state)
                  from (select state, count(*) as n from webhook.delivery group by 1) d";
    assert_eq!(world.database.text(states).await.as_deref(), Some("delivered 1, exhausted 19"));
    let attempts = "select string_agg(distinct concat_ws(' ', attempt, outcome, status, error, response is not null), '; ')
                    from webhook.attempt where outcome <> 'succeeded'";
    let error = "HTTP 200; the body does not contain the expected response (expected_response)";
    assert_eq!(
        world.database.text(attempts).await,
        Some(format!("1 http_error 200 {error} t; 2 http_error 200 {error} t"))
    );
    let circuit = format!("select circuit from webhook.subscription_stats where id = {id}");
    assert_eq!(world.database.text(&circuit).await.as_deref(), Some("closed"), "the receiver works");
    let health = format!(
        "select concat_ws(' ', state, rejected, given_up) from webhook.subscription_health where id = {id}"
    );
    assert_eq!(world.database.text(&health).await.as_deref(), Some("rejecting 19 0"));

    // Without the condition, the events are good.
    world.database.run(&format!("select webhook_alter({id}, clear => '{{expected_response}}')")).await;
    world.database.run(&format!("select webhook_replay({id}, '-infinity')")).await;
    world.settled(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_responses_of_successful_attempts_are_kept_on_request() {
    let world = World::new().await;
    world.subscribe_with("/echo", "name => 'kept', keep_response => true").await;
    world.subscribe_with("/echo/2", "name => 'plain'").await;
    world.insert_orders(1, 1).await;
    let _daemon = Daemon::start(&world.database).await;
    world.settled(PATIENCE).await;
    let kept = "select string_agg(s.name || ' ' || coalesce((a.response::json ->> 'type'), 'none'), ', ' order by s.name)
                from webhook.attempt a join webhook.subscription s on s.id = a.subscription_id";
    assert_eq!(world.database.text(kept).await.as_deref(), Some("kept order.created, plain none"));
}
