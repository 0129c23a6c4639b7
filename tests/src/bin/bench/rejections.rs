//! Measures what a receiver gets that rejects single events: because of their content, or because a
//! batch with them is too large.

use crate::report::{Goal, Report};
use e2e::{PATIENCE, daemon::Daemon, world::World};
use std::time::{Duration, Instant};

const EVENTS: i64 = 1_000;
/// Number of rejected events in front of a good one.
const REJECTED: i64 = 10_000;
/// Maximum time of each measurement. A delay of this length means that the event did not arrive.
const LIMIT: Duration = Duration::from_secs(90);

/// 1 000 events of 16 KB each.
const LARGE: &str = "insert into orders select i, repeat('x', 16000) from generate_series(1, 1000) i";
/// 1 000 events, one of which is bad.
const ONE_BAD: &str =
    "insert into orders select i, case i when 400 then 'poison' else 'x' end from generate_series(1, 1000) i";

/// Returns how many of the events were delivered when all deliveries were final.
async fn delivered(path: &str, arguments: &str, insert: &str) -> f64 {
    let world = World::new().await;
    let arguments = format!("retry => '{{50ms,50ms,50ms}}', {arguments}");
    world.subscribe_with(path, &arguments).await;
    world.app.batch_execute(insert).await.expect("rows");
    let _daemon = Daemon::start(&world.database).await;
    let are_final =
        "select not exists (select from webhook.delivery where state not in ('delivered', 'exhausted'))";
    world.database.becomes(are_final, LIMIT).await;
    let count = "select count(*) from webhook.delivery where state = 'delivered'";
    world.database.number(count).await as f64
}

/// Returns the time from the commit of a good event to its arrival, in milliseconds.
async fn delay_behind_rejected() -> f64 {
    let world = World::new().await;
    world.subscribe_with("/rejects/poison", "").await;
    let _daemon = Daemon::start(&world.database).await;
    let insert = format!("insert into orders select i, 'poison' from generate_series(1, {REJECTED}) i");
    world.app.batch_execute(&insert).await.expect("rows");
    world.database.until("select count(*) >= 10 from webhook.attempt", PATIENCE).await;
    let committed = Instant::now();
    world.app.batch_execute("insert into orders values (0, 'good')").await.expect("a row");
    let arrived = "select exists (select from webhook.attempt where outcome = 'succeeded')";
    world.database.becomes(arrived, LIMIT).await;
    committed.elapsed().as_secs_f64() * 1000.0
}

pub async fn run(report: &mut Report) {
    let goal = Goal::AtLeast((EVENTS - 1) as f64);
    let note = "16 KB each, batches of 200".to_owned();
    let taken = delivered("/limit/1048576", "batch_size => 200", LARGE).await;
    report.add("events taken of 1 000 by a receiver with a limit of 1 MiB", taken, "", goal, note);
    let taken = delivered("/rejects/poison", "batch_size => 500", ONE_BAD).await;
    let note = "batches of 500".to_owned();
    report.add("events taken of 1 000 beside one bad event", taken, "", goal, note);
    let delay = delay_behind_rejected().await;
    let note = format!("behind {REJECTED} rejected events; at most {LIMIT:?} are measured");
    report.add("delay of a good event", delay, "ms", Goal::AtMost(30_000.0), note);
}
