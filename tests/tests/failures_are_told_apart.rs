//! Promise: whatever a receiver does wrong ends in an attempt row of the right class, within the deadline, and with
//! memory flat.

use e2e::{PATIENCE, daemon::Daemon, receiver::Received, world::World};
use std::time::Duration;

/// Path, outcome, status.
const CASES: [(&str, &str, Option<i16>); 20] = [
    ("/ok", "succeeded", Some(200)),
    ("/status/201", "succeeded", Some(201)),
    ("/status/202", "succeeded", Some(202)),
    ("/status/204", "succeeded", Some(204)),
    ("/status/299", "succeeded", Some(299)),
    ("/status/300", "http_error", Some(300)),
    ("/status/304", "http_error", Some(304)),
    ("/status/400", "http_error", Some(400)),
    ("/status/401", "http_error", Some(401)),
    ("/status/404", "http_error", Some(404)),
    ("/status/429", "http_error", Some(429)),
    ("/status/503", "http_error", Some(503)),
    ("/gone", "http_error", Some(410)),
    ("/slow/3000", "timeout", None),
    ("/hang", "timeout", None),
    // The status has decided; what drips on after it is not waited for.
    ("/drip", "succeeded", Some(200)),
    ("/reset", "protocol", None),
    ("/close", "protocol", None),
    ("/half-headers", "protocol", None),
    ("/nul", "http_error", Some(500)),
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
        subscriptions.push((case, world.subscribe_with(case.0, "timeout => '1 s', retry => '{1h}'").await));
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
            wrong.push(format!("{path}: took {duration_ms} ms with a timeout of 1 s"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
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
    let id = world.subscribe_with(&format!("/redirect/{elsewhere}"), "retry => '{1h}'").await;
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
