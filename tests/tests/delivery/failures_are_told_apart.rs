//! Promise: every mistake of a receiver ends in an attempt row of the right class, within the
//! deadline and with flat memory.

use e2e::{PATIENCE, daemon::Daemon, receiver::Received, world::World};
use std::time::Duration;

/// Path, outcome, status.
const CASES: [(&str, &str, Option<i16>); 46] = [
    ("/ok", "succeeded", Some(200)),
    ("/status/201", "succeeded", Some(201)),
    ("/status/202", "succeeded", Some(202)),
    ("/status/204", "succeeded", Some(204)),
    ("/status/299", "succeeded", Some(299)),
    ("/status/300", "http_error", Some(300)),
    ("/status/304", "http_error", Some(304)),
    ("/status/400", "http_error", Some(400)),
    ("/status/401", "http_error", Some(401)),
    ("/status/403", "http_error", Some(403)),
    ("/status/404", "http_error", Some(404)),
    ("/status/405", "http_error", Some(405)),
    ("/status/413", "http_error", Some(413)),
    ("/status/422", "http_error", Some(422)),
    ("/status/429", "http_error", Some(429)),
    ("/status/500", "http_error", Some(500)),
    ("/status/502", "http_error", Some(502)),
    ("/status/503", "http_error", Some(503)),
    ("/status/504", "http_error", Some(504)),
    ("/retry-after/503?v=soon", "http_error", Some(503)),
    ("/redirect/301?to=/ok/elsewhere", "http_error", Some(301)),
    ("/redirect/303?to=/ok/elsewhere", "http_error", Some(303)),
    ("/redirect/307?to=http://127.0.0.1:1/", "http_error", Some(307)),
    ("/redirect/308?to=http://169.254.169.254/latest/", "http_error", Some(308)),
    ("/gone", "http_error", Some(410)),
    ("/slow/3000", "timeout", None),
    ("/hang", "timeout", None),
    // The status decides; the daemon does not wait for the rest of the slow body.
    ("/drip", "succeeded", Some(200)),
    ("/reset", "protocol", None),
    ("/close", "protocol", None),
    ("/half-headers", "protocol", None),
    ("/nul", "http_error", Some(500)),
    ("/cut", "succeeded", Some(200)),
    ("/close-after", "succeeded", Some(200)),
    ("/echo", "succeeded", Some(200)),
    ("/interim/1", "succeeded", Some(200)),
    ("/interim/5", "succeeded", Some(200)),
    ("/gzip-bomb", "http_error", Some(500)),
    ("/endless", "http_error", Some(500)),
    ("/huge/5000000/503", "http_error", Some(503)),
    ("/not-http/status", "protocol", None),
    ("/not-http/ssh", "protocol", None),
    // The receiver has said 200. Only its headers are wrong.
    ("/not-http/header", "succeeded", Some(200)),
    ("/not-http/length", "succeeded", Some(200)),
    ("/many-headers/1000", "succeeded", Some(200)),
    ("/long-header/1048576", "succeeded", Some(200)),
];

/// The notes of attempts that succeeded.
const NOTES: &[(&str, &str)] = &[
    ("/cut", "the connection was closed before the answer ended"),
    ("/not-http/length", "the header `content-length` of the answer is not valid"),
    ("/many-headers/1000", "the answer has more than 100 headers"),
    ("/long-header/1048576", "the headers of the answer are not valid or too large"),
];

async fn outcome(world: &World, subscription: i64) -> (String, Option<i16>, f32) {
    let written =
        format!("select exists (select from webhook.attempt where subscription_id = {subscription})");
    world.database.until(&written, PATIENCE).await;
    let query =
        "select outcome, status, duration_ms from webhook.attempt where subscription_id = $1 and attempt = 1";
    let row = world.app.query_one(query, &[&subscription]).await.expect("one first attempt");
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_by_its_class() {
    let world = World::new().await;
    let mut subscriptions = Vec::new();
    for case in CASES {
        // The receivers that should time out get one second. The others get enough time for a busy
        // machine.
        let timeout_s = if case.1 == "timeout" { 1 } else { 10 };
        let options = format!("timeout => '{timeout_s} s', retry => '{{1h}}'");
        subscriptions.push((case, world.subscribe_with(case.0, &options).await));
    }
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    let mut wrong = Vec::new();
    for ((path, class, status), id) in subscriptions {
        let (got_class, got_status, duration_ms) = outcome(&world, id).await;
        if got_class != class || got_status != status {
            wrong.push(format!("{path}: {got_class} {got_status:?}, not {class} {status:?}"));
        }
        if duration_ms > 3_000.0 || (class == "timeout" && duration_ms < 900.0) {
            wrong.push(format!("{path}: took {duration_ms} ms"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (path, note) in NOTES {
        let query = format!(
            "select count(*) from webhook.attempt a join webhook.subscription s on s.id = a.subscription_id
             where s.url like '%{path}' and a.error ilike '%{note}%'"
        );
        assert_eq!(world.database.number(&query).await, 1, "{path}: {note}");
    }
    world.receiver.look(|record| {
        assert_eq!(record.total, CASES.len() as u64, "each got one request");
        assert_eq!(record.distinct("/ok/elsewhere"), 0, "no redirect is followed");
    });
    // The stored response is text that Postgres accepts, and short.
    let stored = "select count(*) from webhook.attempt where octet_length(response) > 4096";
    assert_eq!(world.database.number(stored).await, 0);
    let nul = "select response from webhook.attempt a join webhook.subscription s on s.id = a.subscription_id where s.url like '%/nul'";
    assert_eq!(world.database.text(nul).await.as_deref(), Some("a\u{fffd}b\u{fffd}\u{fffd}"));
}

/// A receiver promises keep-alive and then closes. The daemon finds out at the next delivery and
/// counts no failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_closed_between_two_deliveries_is_replaced() {
    let world = World::new().await;
    world.subscribe_with("/close-after", "max_in_flight => 1, retry => '{1h}'").await;
    let _daemon = Daemon::start(&world.database).await;
    for order in 1..=30 {
        world.insert_orders(order, 1).await;
        world.receiver.wait_for("/close-after", order as usize, PATIENCE).await;
    }
    world.settled(PATIENCE).await;
    assert_eq!(world.database.number("select count(*) from webhook.attempt").await, 30, "one attempt each");
    world.receiver.look(|record| assert_eq!(record.total, 30, "and one request each"));
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_never_answer_and_those_that_are_not_there() {
    let world = World::new().await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        format!("http://{}/", listener.local_addr().expect("it is bound"))
    };
    let plaintext = world.receiver.url("/ok").replace("http:", "https:");
    let cases = [(closed.as_str(), "connect"), ("https://host.invalid/", "dns"), (plaintext.as_str(), "tls")];
    let mut subscriptions = Vec::new();
    for (url, class) in cases {
        let id = world.subscribe_url(url, "timeout => '10 s', retry => '{1h}'").await;
        subscriptions.push((url, class, id));
    }
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    for (url, class, id) in subscriptions {
        let (got, status, _) = outcome(&world, id).await;
        assert_eq!((got.as_str(), status), (class, None), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let world = World::new().await;
    let elsewhere = world.receiver.url("/ok/elsewhere");
    let id = world.subscribe_with(&format!("/redirect?to={elsewhere}"), "retry => '{1h}'").await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    let (class, status, _) = outcome(&world, id).await;
    assert_eq!((class.as_str(), status), ("http_error", Some(302)));
    let visits: Vec<Received> = world.receiver.at("/ok/elsewhere");
    assert!(visits.is_empty(), "the other server is never visited");
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_answers_do_not_fill_the_memory() {
    let world = World::new().await;
    let id = world.subscribe_with("/huge/200000000", "timeout => '10 s', retry => '{1h}'").await;
    let daemon = Daemon::start(&world.database).await;
    let before = daemon.peak_mib();
    world.insert_orders(1, 8).await;
    let all = format!("select count(*) = 8 from webhook.attempt where subscription_id = {id}");
    world.database.until(&all, PATIENCE).await;
    let odd = format!(
        "select count(*) from webhook.attempt where subscription_id = {id} and (status <> 200 or octet_length(response) > 4096)"
    );
    assert_eq!(world.database.number(&odd).await, 0, "the status is kept, the body is cut");
    let grown = daemon.peak_mib() - before;
    assert!(grown < 20.0, "8 answers of 200 MB took {grown:.1} MiB");
    assert!(daemon.sigterm(Duration::from_secs(30)).await.success());
}
