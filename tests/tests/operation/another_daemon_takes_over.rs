//! Promise: any number of daemons may run. One of them delivers, and when it stops another takes
//! over within seconds.

use e2e::{PATIENCE, daemon::Daemon, link::Link, scale, world::World};
use std::time::{Duration, Instant};

/// The limit from the end of the leader to the next one's first delivery.
const TAKEOVER: Duration = Duration::from_secs(3);
/// The same limit if the leader does not end, but is stopped or unreachable.
const FROZEN_TAKEOVER: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_leader_is_killed_or_stopped() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let first = Daemon::start(&world.database).await;
    let second = Daemon::spawn(&world.database);
    let third = Daemon::spawn(&world.database);
    // All three are connected: the leader and two standbys.
    let sessions = "select count(distinct client_port) >= 3 from pg_stat_activity where datname = 'app' and application_name like 'webhookd%'";
    world.database.until(sessions, PATIENCE).await;
    world.insert_orders(1, 300).await;
    world.receiver.wait_for("/ok", 300, PATIENCE).await;
    world.settled(PATIENCE).await;
    world.receiver.look(|record| assert_eq!(record.duplicates("/ok"), 0, "one of them delivers"));

    first.kill9().await;
    let killed = Instant::now();
    world.insert_orders(301, 100).await;
    world.receiver.wait_for("/ok", 400, TAKEOVER).await;
    println!("took over {:?} after the kill", killed.elapsed());

    for daemon in [second, third] {
        world.settled(PATIENCE).await;
        assert!(daemon.sigterm(PATIENCE).await.success());
        let last = Daemon::spawn(&world.database);
        let count = world.receiver.look(|record| record.distinct("/ok")) as i64;
        world.insert_orders(count + 1, 50).await;
        world.receiver.wait_for("/ok", count as usize + 50, TAKEOVER).await;
        assert!(last.sigterm(PATIENCE).await.success());
    }
    world.receiver.look(|record| {
        println!("{} events, {} duplicates", record.distinct("/ok"), record.duplicates("/ok"));
        assert_eq!(record.distinct("/ok"), 500);
    });
}

/// Waits until the daemon's log contains a word.
async fn said(daemon: &Daemon, word: &str, deadline: Duration) {
    daemon.process().wait_for_line(|line| line.contains(word), deadline).await;
}

/// Inserts one event after another until `work` ends.
async fn under_traffic<T>(world: &World, first: i64, work: impl Future<Output = T>) -> (T, i64) {
    let mut next = first;
    let mut work = std::pin::pin!(work);
    loop {
        // The insert always runs to its end. A cancelled one could be committed without being
        // counted.
        world.insert_orders(next, 1).await;
        next += 1;
        tokio::select! {
            biased;
            done = &mut work => return (done, next - first),
            () = tokio::task::yield_now() => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_leader_is_frozen_and_comes_back() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    world.subscribe_with("/ok/keyed", "ordering => 'key'").await;
    let zombie = Daemon::start(&world.database).await;
    let second = Daemon::spawn(&world.database);
    said(&second, "daemon.stands_by", PATIENCE).await;
    let (_, before) = under_traffic(&world, 1, tokio::time::sleep(Duration::from_secs(1))).await;
    world.receiver.wait_for("/ok", before as usize, PATIENCE).await;

    zombie.process().signal(libc::SIGSTOP);
    let frozen = Instant::now();
    let took_over = said(&second, "daemon.active", FROZEN_TAKEOVER);
    let (_, meanwhile) = under_traffic(&world, before + 1, took_over).await;
    let orders = before + meanwhile;
    world.receiver.wait_for("/ok", orders as usize, FROZEN_TAKEOVER.saturating_sub(frozen.elapsed())).await;
    println!("took over {:?} after the freeze", frozen.elapsed());
    let asleep = Duration::from_secs(scale("PGW_FROZEN_SECONDS", 0, 30)).saturating_sub(frozen.elapsed());
    let (_, more) = under_traffic(&world, orders + 1, tokio::time::sleep(asleep)).await;
    let orders = orders + more;

    zombie.process().signal(libc::SIGCONT);
    said(&zombie, "daemon.stands_by", PATIENCE).await;
    let (_, after) = under_traffic(&world, orders + 1, tokio::time::sleep(Duration::from_secs(1))).await;
    let orders = (orders + after) as usize;
    world.receiver.wait_for("/ok", orders, PATIENCE).await;
    world.receiver.wait_for("/ok/keyed", orders, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert_eq!(
        world.database.number("select epoch from webhook.cursor").await,
        2,
        "it did not take over back"
    );
    // The former zombie works as well as any other daemon.
    second.kill9().await;
    world.insert_orders(orders as i64 + 1, 10).await;
    world.receiver.wait_for("/ok", orders + 10, TAKEOVER).await;
    world.settled(PATIENCE).await;
    assert!(zombie.sigterm(PATIENCE).await.success());
    let events = world.event_ids("order.%").await;
    world.receiver.look(|record| {
        assert_eq!(record.ids("/ok"), events, "nothing lost, nothing invented");
        assert_eq!(record.ids("/ok/keyed"), events);
        println!("{} events, {} duplicates", events.len(), record.duplicates("/ok"));
    });
}

/// The statement in which the leader sleeps takes minutes, and does not hide that the leader is
/// frozen.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_leader_is_frozen_in_its_sleep() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let first = Daemon::start(&world.database).await;
    let second = Daemon::spawn(&world.database);
    said(&second, "daemon.stands_by", PATIENCE).await;
    Daemon::asleep(&world.database).await;
    first.process().signal(libc::SIGSTOP);
    let frozen = Instant::now();
    said(&second, "daemon.active", FROZEN_TAKEOVER).await;
    println!("took over {:?} after the freeze", frozen.elapsed());
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;
    first.process().signal(libc::SIGCONT);
    said(&first, "daemon.stands_by", PATIENCE).await;
    assert!(second.sigterm(PATIENCE).await.success());
}

/// A leader that polls less often than every two seconds is silent in its sleep, and alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn not_when_the_leader_polls_rarely() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let allow = ["--allow-net", "127.0.0.0/8", "--safety-poll-ms"];
    for (polls, epoch) in [("0", 1), ("60000", 2)] {
        let first = Daemon::spawn_with(&world.database.url(), &[allow[0], allow[1], allow[2], polls]);
        first.ready(&world.database).await;
        let second = Daemon::spawn(&world.database);
        said(&second, "daemon.stands_by", PATIENCE).await;
        Daemon::asleep(&world.database).await;
        let silent = "select dispatcher_silent_for < interval '1 s' from webhook.health";
        // Longer than a takeover from a frozen daemon needs.
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(world.database.text(silent).await.as_deref(), Some("t"));
        assert_eq!(world.database.number("select epoch from webhook.cursor").await, epoch);
        assert!(second.sigterm(PATIENCE).await.success());
        assert!(first.sigterm(PATIENCE).await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_leader_is_cut_off() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let link = Link::to(world.cluster.port()).await;
    let url = format!("postgresql://postgres@127.0.0.1:{}/app", link.port());
    // Each daemon reaches the server at a different port, so both get the same instance name.
    let arguments = ["--allow-net", "127.0.0.0/8", "--instance", "shop"];
    let first = Daemon::spawn_with(&url, &arguments);
    said(&first, "daemon.active", PATIENCE).await;
    let second = Daemon::spawn_with(&world.database.url(), &arguments);
    said(&second, "daemon.stands_by", PATIENCE).await;
    world.insert_orders(1, 50).await;
    world.receiver.wait_for("/ok", 50, PATIENCE).await;
    // The leader's connections stay open, and no data passes through them.
    link.hold();
    let cut_off = Instant::now();
    world.insert_orders(51, 50).await;
    world.receiver.wait_for("/ok", 100, FROZEN_TAKEOVER).await;
    println!("took over {:?} after the cut", cut_off.elapsed());
    link.release();
    said(&first, "daemon.stands_by", PATIENCE).await;
    world.insert_orders(101, 10).await;
    world.receiver.wait_for("/ok", 110, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert_eq!(world.database.number("select epoch from webhook.cursor").await, 2);
    assert!(second.sigterm(PATIENCE).await.success());
    assert!(first.sigterm(PATIENCE).await.success());
    world.receiver.look(|record| assert_eq!(record.distinct("/ok"), 110));
}

/// Returns a query for the backend that holds one of the daemon's locks: 1 is the delivering
/// session, 3 the writing one.
fn holder(lock: u32) -> String {
    format!(
        "select l.pid from pg_locks l join pg_database d on d.oid = l.database where d.datname = 'app'
         and l.locktype = 'advisory' and l.granted and l.classid = 1885820776 and l.objid = {lock} and l.objsubid = 7"
    )
}

/// The leader's lock is free, but the leader still has a session that could write stale results.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_leader_is_frozen_and_its_ledger_session_remains() {
    let world = World::new().await;
    world.subscribe("/hold").await;
    world.subscribe_with("/status/500", "retry => '{1h}'").await;
    let zombie = Daemon::start(&world.database).await;
    let second = Daemon::spawn(&world.database);
    said(&second, "daemon.stands_by", PATIENCE).await;
    world.insert_orders(1, 20).await;
    world.receiver.wait_for("/hold", 10, PATIENCE).await;
    let writer = world.database.number(&holder(3)).await;
    zombie.process().signal(libc::SIGSTOP);
    // The answers that it waits for arrive while it is stopped. It would write them first.
    world.receiver.release();
    let frozen = Instant::now();
    world.database.run(&format!("select pg_terminate_backend(pid) from ({}) l", holder(1))).await;
    said(&second, "daemon.active", FROZEN_TAKEOVER).await;
    let is_left = format!("select count(*) from pg_stat_activity where pid = {writer}");
    assert_eq!(world.database.number(&is_left).await, 0, "a session of the former one may still write");
    println!("took over {:?} after the freeze", frozen.elapsed());
    assert!(second.process().log().iter().any(|line| line.contains("daemon.ends_former_writer")));

    zombie.process().signal(libc::SIGCONT);
    said(&zombie, "daemon.stands_by", PATIENCE).await;
    world.receiver.wait_for("/hold", 20, PATIENCE).await;
    let all =
        "select count(*) = 20 from webhook.delivery d join webhook.subscription s on s.id = d.subscription_id
               where s.url like '%/hold' and d.state = 'delivered'";
    world.database.until(all, PATIENCE).await;
    // It takes over again, with results that another daemon has recorded meanwhile. None of them
    // costs a delivery.
    world.receiver.behave("/status/500", e2e::receiver::Behaviour::Ok);
    second.kill9().await;
    said(&zombie, "daemon.active", PATIENCE).await;
    world.database.until("select epoch = 3 from webhook.cursor", PATIENCE).await;
    world.insert_orders(21, 1).await;
    world.receiver.wait_for("/hold", 21, PATIENCE).await;
    // Some are delivered; the others wait for their retry or behind the circuit.
    let kept = "select count(*) filter (where state <> 'exhausted') from webhook.delivery d
                join webhook.subscription s on s.id = d.subscription_id where s.url like '%/500'";
    world.database.until(&format!("select ({kept}) = 21"), PATIENCE).await;
    assert!(zombie.sigterm(PATIENCE).await.success());
}

/// A standby that may not see or terminate the leader's sessions reports this, waits, and writes
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn not_without_the_right_to_end_the_frozen_leader() {
    let world = World::new().await;
    world
        .database
        .run(
            "create role one login; create role other login;
              select webhook_grant('one', 'dispatcher'), webhook_grant('other', 'dispatcher')",
        )
        .await;
    world.subscribe("/ok").await;
    let allow = ["--allow-net", "127.0.0.0/8"];
    let frozen = Daemon::spawn_with(&world.database.url_as("one"), &allow);
    said(&frozen, "daemon.active", PATIENCE).await;
    let other = Daemon::spawn_with(&world.database.url_as("other"), &allow);
    said(&other, "daemon.stands_by", PATIENCE).await;
    frozen.process().signal(libc::SIGSTOP);
    world.insert_orders(1, 20).await;
    said(&other, "daemon.cannot_watch_another", PATIENCE).await;
    // The standby gets longer than a takeover needs where it is possible.
    tokio::time::sleep(FROZEN_TAKEOVER).await;
    assert_eq!(world.database.number("select epoch from webhook.cursor").await, 1);
    frozen.process().signal(libc::SIGCONT);
    world.receiver.wait_for("/ok", 20, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert_eq!(world.database.number("select epoch from webhook.cursor").await, 1);
    world.receiver.look(|record| assert_eq!(record.duplicates("/ok"), 0));
    frozen.kill9().await;
    world.insert_orders(21, 1).await;
    world.receiver.wait_for("/ok", 21, TAKEOVER).await;
    world.settled(PATIENCE).await;
    assert!(other.sigterm(PATIENCE).await.success());
}
