//! Promise: the trace that a writing session names continues through every attempt to the receiver.
//! A collector that is down or hangs costs spans and nothing else.

use e2e::{
    PATIENCE,
    admin::{Admin, token},
    collector::Collector,
    daemon::Daemon,
    world::World,
};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Makes the exporter send spans soon, and under a name.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ("OTEL_SERVICE_NAME", "shop-hooks"),
    ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
];

async fn start(world: &World, arguments: &[&str], environment: &[(&str, &str)]) -> Daemon {
    let arguments = [&["--allow-net", "127.0.0.0/8"], arguments].concat();
    let environment: Vec<(&str, &OsStr)> =
        environment.iter().map(|(name, value)| (*name, OsStr::new(*value))).collect();
    let daemon = Daemon::spawn_in(&world.database.url(), &arguments, &environment);
    daemon.ready(&world.database).await;
    daemon
}

async fn trace(world: &World, traceparent: &str) {
    world.app.batch_execute(&format!("set webhook.traceparent = '{traceparent}'")).await.expect("a setting");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_insert_through_a_failure_and_a_retry() {
    let world = World::new().await;
    let collector = Collector::start().await;
    let id = world.subscribe_with("/flaky/1", "retry => '{200ms}'").await;
    let daemon = start(&world, &["--otlp-endpoint", &collector.url], &ENVIRONMENT).await;
    trace(&world, &format!("00-{TRACE}-{PARENT}-01")).await;
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/flaky/1", 1, PATIENCE).await;
    world.receiver.wait("two attempts", PATIENCE, |record| record.total == 2).await;
    let spans = collector.wait_for(2).await;

    let received = world.receiver.at("/flaky/1");
    assert_eq!(received.len(), 2);
    for (at, (span, request)) in spans.iter().zip(&received).enumerate() {
        assert_eq!((span.trace_id().as_str(), span.parent().as_str()), (TRACE, PARENT));
        let carried = format!("00-{TRACE}-{}-01", span.span_id());
        assert_eq!(request.header("traceparent"), Some(&*carried), "the receiver goes on from this attempt");
        assert_eq!(span.attribute("messaging.message.id"), request.id());
        assert_eq!(span.attribute("webhook.subscription.id"), id.to_string());
        assert_eq!(span.attribute("webhook.attempt"), (at + 1).to_string());
        assert_eq!(span.span.name, "deliver order.created");
        assert_eq!(span.attribute("http.request.method"), "POST");
        assert_eq!(span.resource["service.name"], "shop-hooks");
        assert_eq!(span.resource["deployment.environment.name"], "test");
        assert!(span.span.end_time_unix_nano > span.span.start_time_unix_nano);
    }
    assert_ne!(spans[0].span_id(), spans[1].span_id());
    let statuses: Vec<_> = spans.iter().map(|span| span.attribute("http.response.status_code")).collect();
    assert_eq!(statuses, ["500", "200"]);
    let codes: Vec<_> = spans.iter().map(|span| span.span.status.as_ref().map_or(0, |s| s.code)).collect();
    assert_eq!(codes, [2, 0], "the first is an error");
    assert_eq!((spans[0].attribute("error.type"), spans[1].attribute("error.type")), ("500", ""));

    // A trace that its caller did not sample, and an event without a trace: no span is sent, and
    // the trace context passes through unchanged.
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    trace(&world, &unsampled).await;
    world.insert_orders(2, 1).await;
    trace(&world, "").await;
    world.insert_orders(3, 1).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    assert_eq!(collector.collected().len(), 2, "the rest has been sent by now");
    let carried: BTreeSet<_> = world.receiver.at("/flaky/1")[2..]
        .iter()
        .map(|request| request.header("traceparent").map(str::to_owned))
        .collect();
    assert_eq!(carried, BTreeSet::from([None, Some(unsampled)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_linked_and_the_rest_by_share() {
    let world = World::new().await;
    let collector = Collector::start().await;
    world.subscribe_with("/ok/batch", "batch_size => 3, batch_window => '20 s', events => '{order.*}'").await;
    // The endpoint comes from the standard environment variable; a ratio of the events without a
    // trace is sampled.
    let environment = [&ENVIRONMENT[..], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url)]].concat();
    let daemon = start(&world, &["--otlp-ratio", "1"], &environment).await;
    let one = format!("00-{TRACE}-{PARENT}-01");
    let other = format!("00-{}-{PARENT}-01", TRACE.replace('0', "1"));
    for (at, traceparent) in (1..).zip([&*one, "", &*other]) {
        trace(&world, traceparent).await;
        world.insert_orders(at, 1).await;
    }
    world.receiver.wait_for("/ok/batch", 1, PATIENCE).await;
    let spans = collector.wait_for(1).await;
    let [span] = spans.as_slice() else { panic!("{spans:#?}") };
    let linked: Vec<_> = span.span.links.iter().map(|link| e2e::collector::hex(&link.trace_id)).collect();
    assert_eq!(linked, [&one[3..35], &other[3..35]]);
    assert_eq!((span.parent().as_str(), span.attribute("messaging.batch.message_count")), ("", "3"));
    assert_eq!(span.attribute("webhook.batch.id"), world.receiver.at("/ok/batch")[0].id());

    world.subscribe("/ok/alone").await;
    trace(&world, "").await;
    world.insert_orders(4, 1).await;
    world.receiver.wait_for("/ok/alone", 1, PATIENCE).await;
    let spans = collector.wait_for(2).await;
    let alone =
        spans.iter().find(|span| !span.attribute("messaging.message.id").is_empty()).expect("its span");
    let carried =
        world.receiver.at("/ok/alone")[0].header("traceparent").expect("a trace of its own").to_owned();
    assert_eq!(carried, format!("00-{}-{}-01", alone.trace_id(), alone.span_id()));
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_deliveries_go_on() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let ops = token(&world.database, &["--role", "ops"]);
    world.subscribe("/ok").await;
    // No process listens on this port yet.
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let endpoint = format!("http://127.0.0.1:{port}");
    let admin = Admin::start_in(
        &world.database,
        &["--otlp-endpoint", &endpoint],
        &[("OTEL_BSP_SCHEDULE_DELAY", OsStr::new("100")), ("OTEL_BSP_MAX_QUEUE_SIZE", OsStr::new("50"))],
    )
    .await;
    trace(&world, &format!("00-{TRACE}-{PARENT}-01")).await;
    world.insert_orders(1, 500).await;
    world.receiver.wait_for("/ok", 500, PATIENCE).await;
    world.settled(PATIENCE).await;
    // One request per tenth of a second: the admin server limits the rate of requests.
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let mut count = async |result: &str| -> f64 {
        pace.tick().await;
        let text = admin.get("/metrics", &ops).await.text;
        let line = format!("webhookd_spans_total{{result=\"{result}\"}} ");
        let value = text.lines().find_map(|found| found.strip_prefix(&*line));
        value.unwrap_or_else(|| panic!("{line}: {text}")).parse().expect("a number")
    };
    let process = admin.daemon.process();
    process.wait_for_line(|line| line.contains("traces.collector_fails"), PATIENCE).await;
    let deadline = Instant::now() + PATIENCE;
    while count("failed").await + count("dropped").await < 500.0 {
        assert!(Instant::now() < deadline, "every span is accounted for");
    }
    let warnings = process.log().iter().filter(|line| line.contains("traces.collector_fails")).count();
    assert_eq!(warnings, 1);

    // The collector comes up, and spans arrive again.
    let collector = Collector::start_at(port).await;
    world.insert_orders(501, 1).await;
    collector.wait_for(1).await;
    process.wait_for_line(|line| line.contains("traces.collector_recovers"), PATIENCE).await;
    while count("exported").await < 1.0 {
        assert!(Instant::now() < deadline + PATIENCE, "it is counted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_does_not_hold_up_the_end() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let daemon = start(&world, &["--otlp-endpoint", &endpoint], &ENVIRONMENT).await;
    trace(&world, &format!("00-{TRACE}-{PARENT}-01")).await;
    world.insert_orders(1, 10).await;
    world.receiver.wait_for("/ok", 10, PATIENCE).await;
    world.settled(PATIENCE).await;
    // The collector accepts the connection and never answers.
    let (_stream, _) = listener.accept().await.expect("it is called");
    let began = Instant::now();
    assert!(daemon.sigterm(PATIENCE).await.success());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6), "3 s for spans and some for the rest: {took:?}");
}
