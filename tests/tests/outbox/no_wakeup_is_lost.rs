//! Promise: a commit wakes the sleeping daemon at any moment, without help from the safety poll. A
//! frozen daemon does not slow commits down, and is reported.

use e2e::{
    PATIENCE,
    daemon::{ASLEEP, Daemon, binary},
    receiver::Received,
    scale,
    world::World,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The limit for an event to arrive after its commit. On a busy machine one event in ten may be
/// later. `PGW_HEAVY=1` is for an idle machine and allows one in ten thousand.
const PROMPT: Duration = Duration::from_millis(20);
/// A wake-up that takes longer than this is lost: with the safety poll off nothing else would bring
/// it.
const LOST: Duration = Duration::from_secs(2);

/// Waits precisely: tokio's timer counts whole milliseconds.
fn wait_precisely(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_micros(100)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn the_daemon_asleep_and_one_commit_at_a_random_moment() {
    let rounds: u32 = scale("PGW_ROUNDS", 2_000, 10_000);
    let world = World::new().await;
    world.subscribe("/ok").await;
    let daemon =
        Daemon::spawn_with(&world.database.url(), &["--allow-net", "127.0.0.0/8", "--safety-poll-ms", "0"]);
    daemon.ready(&world.database).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let client = world.database.client().await;
        let insert = client.prepare("insert into orders values ($1, 'c', 1, null)").await.expect("it parses");
        sessions.push((std::sync::Arc::new(client), insert));
    }
    let gate = world.database.client().await;
    let asleep = gate.prepare(ASLEEP).await.expect("it parses");

    let mut random = StdRng::seed_from_u64(20);
    let mut sent = HashMap::new();
    let (mut order, mut found_asleep) = (0_i64, 0);
    for round in 0..rounds {
        // Three of four rounds begin when the daemon sleeps. The others begin at once, while it is
        // awake or about to sleep.
        let wait_for_sleep = round % 4 != 3;
        let patience = Instant::now() + LOST;
        while wait_for_sleep && !gate.query_one(&asleep, &[]).await.expect("health").get::<_, bool>(0) {
            assert!(Instant::now() < patience, "the daemon does not go to sleep");
            // Polling without a pause would take a core from the processes whose speed is measured.
            tokio::task::block_in_place(|| wait_precisely(Duration::from_micros(300)));
        }
        found_asleep += u32::from(wait_for_sleep);
        let commits: Vec<_> = sessions[..random.random_range(1..=4)]
            .iter()
            .map(|(client, insert)| {
                order += 1;
                let (id, client, insert) = (order, client.clone(), insert.clone());
                let offset = Duration::from_micros(random.random_range(0..2_000));
                tokio::spawn(async move {
                    tokio::task::block_in_place(|| wait_precisely(offset));
                    client.execute(&insert, &[&id]).await.expect("an order can be inserted");
                    (id, Instant::now())
                })
            })
            .collect();
        for commit in commits {
            let (id, committed) = commit.await.expect("a commit");
            sent.insert(id, committed);
        }
        world.receiver.wait_for("/ok", sent.len(), LOST).await;
    }

    let id = |request: &Received| request.json()["data"]["id"].as_i64().expect("an id");
    let arrivals = world.receiver.at("/ok");
    let mut delays: Vec<_> =
        arrivals.iter().map(|r| r.arrived.saturating_duration_since(sent[&id(r)])).collect();
    delays.sort();
    let prompt = delays.partition_point(|&delay| delay <= PROMPT);
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    println!(
        "{rounds} rounds ({found_asleep} found asleep), {} events: p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}; {} within {PROMPT:?}",
        delays.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        prompt
    );
    assert_eq!(arrivals.len(), sent.len(), "each once");
    let (late, one_in) = (delays.len() - prompt, scale("PGW_LATE_ONE_IN", 10, 10_000));
    assert!(late * one_in <= delays.len(), "{late} of {} came later than {PROMPT:?}", delays.len());
    drop(daemon);
}

/// A snapshot that is held for the time of a sleep would keep vacuum from removing rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_daemon_holds_back_no_vacuum() {
    let world = World::new().await;
    let daemon =
        Daemon::spawn_with(&world.database.url(), &["--allow-net", "127.0.0.0/8", "--safety-poll-ms", "0"]);
    daemon.ready(&world.database).await;
    Daemon::asleep(&world.database).await;
    let holds_nothing = "select bool_and(backend_xmin is null) from pg_stat_activity
                         where state = 'active' and query like 'call webhook.gate_sleep%'";
    world.database.until(holds_nothing, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// Postgres sets the latch of a session when the time of an earlier timeout comes, even if that
/// timeout was cancelled. The sleep goes on, and the daemon is asked to poll.
#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_of_postgres_ends_no_sleep() {
    let world = World::new().await;
    let (client, mut connection) =
        tokio_postgres::connect(&world.database.url(), tokio_postgres::NoTls).await.expect("it connects");
    let (sender, mut notices) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let tokio_postgres::AsyncMessage::Notice(notice) = message {
                let _ = sender.send(notice.message().to_owned());
            }
        }
    });
    for statement in ["set statement_timeout = '500ms'", "select 1", "set statement_timeout = 0"] {
        client.batch_execute(statement).await.expect("it runs");
    }
    let mut sleep = std::pin::pin!(client.batch_execute("call webhook.gate_sleep(0)"));
    for turn in ["shut", "after the alarm"] {
        tokio::select! {
            notice = notices.recv() => assert_eq!(notice.as_deref(), Some("pg_webhook: asleep"), "{turn}"),
            ended = &mut sleep => panic!("{turn}: the sleep has ended: {ended:?}"),
        }
    }
    world.insert_orders(1, 1).await;
    tokio::time::timeout(PATIENCE, sleep).await.expect("the commit wakes it").expect("no error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_daemon_costs_one_wake_up() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    Daemon::asleep(&world.database).await;
    let silent = "select dispatcher_silent_for < interval '8 s' from webhook.health";
    assert_eq!(world.database.text(silent).await.as_deref(), Some("t"));
    daemon.process().signal(libc::SIGSTOP);
    world.insert_orders(1, 1).await;
    // The daemon's backend opens the gate without it, so no later commit finds the gate shut.
    world.database.until(&format!("select not ({ASLEEP})"), PATIENCE).await;
    for order in 2..=50 {
        world.insert_orders(order, 1).await;
        assert_eq!(world.database.text(&format!("select ({ASLEEP})")).await.as_deref(), Some("f"));
    }
    world.database.until("select dispatcher_silent_for > interval '8 s' from webhook.health", PATIENCE).await;
    let status = std::process::Command::new(binary())
        .args(["status", "--database-url", &world.database.url()])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("the daemon is frozen") && said.contains("silent for 00:00:"), "{said}");
    daemon.process().signal(libc::SIGCONT);
    world.receiver.wait_for("/ok", 50, PATIENCE).await;
    Daemon::asleep(&world.database).await;
}
