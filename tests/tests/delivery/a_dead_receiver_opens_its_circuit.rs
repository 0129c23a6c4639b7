//! Promise: after ten failures in a row a receiver gets nothing but one probe at a time. After one
//! success it gets everything that waited. Faults on our side do not count against it.

use e2e::{PATIENCE, daemon::Daemon, receiver::Behaviour, verdict::most_within, world::World};
use std::time::{Duration, Instant};

/// The interval between two probes: the flag's value in milliseconds, and the same as a duration.
const PROBE: (&str, Duration) = ("1000", Duration::from_secs(1));

fn circuit(id: i64) -> String {
    format!("select coalesce((select circuit from webhook.receiver where subscription_id = {id}), 'closed')")
}

async fn start(world: &World) -> Daemon {
    Daemon::start_with(&world.database, &["--probe-interval-ms", PROBE.0]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn opens_probes_and_closes() {
    let world = World::new().await;
    let retry = vec!["100ms"; 50].join(",");
    let dead =
        world.subscribe_with("/status/500", &format!("max_in_flight => 1, retry => '{{{retry}}}'")).await;
    world.subscribe("/ok/other").await;
    let mut daemon = start(&world).await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 300) i")
        .await
        .expect("rows");
    world.database.until(&format!("select ({}) = 'open'", circuit(dead)), PATIENCE).await;
    let opened = Instant::now();
    let before = world.receiver.at("/status/500").len();
    assert!((10..=12).contains(&before), "it opened after {before} requests, one at a time");
    let seen = format!("select circuit from webhook.subscription_stats where id = {dead}");
    assert_eq!(world.database.text(&seen).await.as_deref(), Some("open"), "operators see it");

    // Probes come one at a time. A restart in between does not give the receiver a fresh start.
    let probes =
        |count| world.receiver.wait("probes", PATIENCE, move |r| r.at("/status/500").count() >= count);
    probes(before + 2).await;
    daemon.kill9().await;
    daemon = start(&world).await;
    probes(before + 4).await;
    let arrivals: Vec<_> =
        world.receiver.at("/status/500").iter().map(|r| r.arrived).filter(|at| *at > opened).collect();
    // The restarted daemon may probe at once. This allows one request more than the interval does,
    // once.
    let most = most_within(&arrivals, PROBE.1.mul_f64(0.7));
    assert!(most <= 2, "{most} requests within one interval of a receiver that is down: {arrivals:?}");
    world.receiver.wait_for("/ok/other", 300, PATIENCE).await;

    world.receiver.behave("/status/500", Behaviour::Ok);
    world.receiver.wait_for("/status/500", 300, PATIENCE).await;
    world.database.until(&format!("select ({}) = 'closed'", circuit(dead)), PATIENCE).await;
    world.settled(PATIENCE).await;
    assert_eq!(world.database.text(&seen).await.as_deref(), Some("closed"));
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_port_while_hundreds_wait() {
    let world = World::new().await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        format!("http://{}/", listener.local_addr().expect("it is bound"))
    };
    let dead = world.subscribe_url(&closed, "").await;
    world.subscribe("/ok/other").await;
    let daemon = start(&world).await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 2000) i")
        .await
        .expect("rows");
    world.receiver.wait_for("/ok/other", 2000, PATIENCE).await;
    world.database.until(&format!("select ({}) = 'open'", circuit(dead)), PATIENCE).await;
    let all = format!("select count(*) = 2000 from webhook.queue where subscription_id = {dead}");
    world.database.until(&all, PATIENCE).await;
    world.database.until("select pending = 0 from webhook.health", PATIENCE).await;
    let attempts = format!(
        "select count(*) from webhook.attempt where subscription_id = {dead} and outcome = 'connect'"
    );
    let attempts = world.database.number(&attempts).await;
    // The attempts that were in flight when the circuit opened (32 at the start), and some probes.
    assert!((10..100).contains(&attempts), "{attempts} attempts at a port without a listener");
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn sporadic_failures_do_not_open_it() {
    let world = World::new().await;
    // Two of three requests fail, but never ten in a row.
    let id = world.subscribe_with("/flaky/2", "retry => '{50ms,50ms}'").await;
    let _daemon = start(&world).await;
    for order in 1..=20 {
        world.insert_orders(order, 1).await;
        let answered = move |count| count == order as usize;
        world
            .receiver
            .wait("an answer of 200", PATIENCE, move |record| {
                answered(record.at("/flaky/2").filter(|request| request.status() == Some(200)).count())
            })
            .await;
    }
    world.settled(PATIENCE).await;
    let failed = format!(
        "select count(*) from webhook.attempt where subscription_id = {id} and outcome = 'http_error'"
    );
    assert_eq!(world.database.number(&failed).await, 40);
    assert_eq!(world.database.text(&circuit(id)).await.as_deref(), Some("closed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_faults_are_not_charged() {
    let world = World::new().await;
    // A private address that no flag allows.
    let refused = world.subscribe_url("https://10.1.2.3/", "retry => '{100ms,100ms}'").await;
    world.subscribe("/ok/other").await;
    let _daemon = Daemon::start_with(&world.database, &["--probe-interval-ms", "3600000"]).await;
    world.insert_orders(1, 30).await;
    world.receiver.wait_for("/ok/other", 30, PATIENCE).await;
    let exhausted = format!(
        "select count(*) = 30 from webhook.delivery where subscription_id = {refused} and state = 'exhausted' and attempts = 3"
    );
    // With the circuit open, 90 attempts would take 90 probes.
    world.database.until(&exhausted, PATIENCE).await;
    let classes = format!(
        "select string_agg(distinct outcome, ',') from webhook.attempt where subscription_id = {refused}"
    );
    assert_eq!(world.database.text(&classes).await.as_deref(), Some("refused"));
    assert_eq!(world.database.text(&circuit(refused)).await.as_deref(), Some("closed"));
    let failing = format!(
        "select count(*) from webhook.receiver where subscription_id = {refused} and failing_since is not null"
    );
    assert_eq!(world.database.number(&failing).await, 0);
}
