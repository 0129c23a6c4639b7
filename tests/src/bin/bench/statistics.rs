//! Measures a large resume and a large replay with statistics of empty tables, compared with fresh
//! ones; and what both do to the deliveries of another subscription.
//!
//! The times of the resume and the replay are without another subscription's events, because a
//! backlog leaves a part of the machine to these. The receiver of the many is a process of its own.
//! The neighbour's figures are the times from COMMIT to its receiver, at 200 events/s, alone and
//! beside.

use crate::{
    median, percentile,
    report::{Goal, Report},
    sink::Sink,
    steady::Steady,
};
use e2e::{daemon::Daemon, receiver::Keep, scale, world::World};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

const DEADLINE: Duration = Duration::from_secs(600);

/// Most events of the neighbour beside one resume or replay.
const BESIDE_MAX: i64 = 1_600;

/// What the planner knows of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statistics {
    /// ANALYZE has run before anything was written.
    Empty,
    /// VACUUM ANALYZE has run just before.
    Fresh,
}

/// One turn: seconds, and the neighbour's p99 in milliseconds.
#[derive(Debug)]
struct Turn {
    resume: f64,
    replay: f64,
    alone: f64,
    beside_resume: f64,
    beside_replay: f64,
}

type Figure = fn(&Turn) -> f64;

async fn write(world: &World, first: u64, count: u64) {
    let last = first + count - 1;
    world
        .database
        .run(&format!("insert into bulk select i, md5(i::text) from generate_series({first}, {last}) i"))
        .await;
}

/// Executes a statement and waits for what it sends. Returns the seconds.
async fn sends(world: &World, sink: &Sink, statement: &str) -> f64 {
    let from = Instant::now();
    world.database.run(statement).await;
    sink.drained(DEADLINE).await;
    from.elapsed().as_secs_f64()
}

/// The same, with events of the neighbour beside. Returns their times.
async fn beside(world: &World, sink: &Sink, steady: &mut Steady, statement: &str) -> Vec<f64> {
    let is_done = AtomicBool::new(false);
    let sends = async {
        sends(world, sink, statement).await;
        is_done.store(true, Ordering::Relaxed);
    };
    let goes_on = |written| written < BESIDE_MAX && !is_done.load(Ordering::Relaxed);
    tokio::join!(sends, steady.latencies(world, goes_on)).1
}

async fn turn(sink: &Sink, statistics: Statistics, count: u64) -> Turn {
    let world = World::with(Keep::Requests, &["autovacuum=off"]).await;
    let knows = async || {
        if statistics == Statistics::Fresh {
            world.database.run("vacuum analyze").await;
        }
        world.database.run("checkpoint").await;
    };
    world
        .database
        .run("create table bulk (id bigint primary key, note text); select webhook_watch('bulk')")
        .await;
    world.subscribe_with("/ok", "events => '{order.*}'").await;
    let bulk = world.subscribe_url(&sink.url("/events"), "events => '{bulk.*}', enabled => false").await;
    world.database.run("analyze").await;
    let daemon = Daemon::start(&world.database).await;
    let mut steady = Steady::new();
    let is_quiet =
        "select not exists (select from webhook.queue) and not exists (select from webhook.pending)";
    let queued = async |first| {
        write(&world, first, count).await;
        world.database.until(&format!("select count(*) = {count} from webhook.queue"), DEADLINE).await;
        knows().await;
        sink.reset(count).await;
    };
    let delivered = async || {
        world.database.until(is_quiet, DEADLINE).await;
        knows().await;
        sink.reset(2 * count).await;
    };

    queued(1).await;
    let resume = format!("select webhook_resume({bulk})");
    let resume_seconds = sends(&world, sink, &resume).await;
    world.database.until(is_quiet, DEADLINE).await;
    world.database.run(&format!("select webhook_pause({bulk})")).await;
    queued(count + 1).await;
    let alone = steady.latencies(&world, |written| written < 800).await;
    let beside_resume = beside(&world, sink, &mut steady, &resume).await;

    let replay = format!("select webhook_replay({bulk}, '-infinity')");
    delivered().await;
    let replay_seconds = sends(&world, sink, &replay).await;
    delivered().await;
    let beside_replay = beside(&world, sink, &mut steady, &replay).await;
    assert!(daemon.sigterm(DEADLINE).await.success(), "the daemon ends well");
    let p99 = |times: &[f64]| percentile(times, 0.99);
    let turn = Turn {
        resume: resume_seconds,
        replay: replay_seconds,
        alone: p99(&alone),
        beside_resume: p99(&beside_resume),
        beside_replay: p99(&beside_replay),
    };
    eprintln!("bench: {statistics:?}: {turn:.2?}");
    turn
}

pub async fn run(report: &mut Report) {
    let (rounds, count) = (scale("PGW_BENCH_ROUNDS", 3, 5), scale("PGW_BENCH_RESUMED", 100_000, 100_000));
    let sink = Sink::start().await;
    let (mut empty, mut fresh) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // The order changes, so a machine that becomes slower favours neither.
        let order = [Statistics::Empty, Statistics::Fresh];
        for statistics in if round % 2 == 0 { order } else { [order[1], order[0]] } {
            let turn = turn(&sink, statistics, count).await;
            if statistics == Statistics::Empty { &mut empty } else { &mut fresh }.push(turn);
        }
    }
    let middle =
        |turns: &[Turn], figure: fn(&Turn) -> f64| median(&turns.iter().map(figure).collect::<Vec<_>>());
    let ratio = |of: &[Turn], figure: Figure, to: &[Turn], base: Figure| {
        median(&of.iter().zip(to).map(|(of, to)| figure(of) / base(to)).collect::<Vec<_>>())
    };
    report.add("resume", middle(&fresh, |turn| turn.resume), "s", Goal::None, format!("{count} events"));
    report.add(
        "replay",
        middle(&fresh, |turn| turn.replay),
        "s",
        Goal::None,
        format!("{} events", 2 * count),
    );
    let note = "ANALYZE of empty tables / VACUUM ANALYZE";
    let figures: [(&str, Figure); 2] = [("resume", |turn| turn.resume), ("replay", |turn| turn.replay)];
    for (name, figure) in figures {
        let ratio = ratio(&empty, figure, &fresh, figure);
        report.add(
            &format!("{name} with old statistics / with fresh ones"),
            ratio,
            "",
            Goal::AtMost(1.5),
            note,
        );
    }
    let figures: [(&str, Figure); 2] =
        [("resume", |turn| turn.beside_resume), ("replay", |turn| turn.beside_replay)];
    for (name, figure) in figures {
        let note = format!("alone {:.2} ms", middle(&empty, |turn| turn.alone));
        let name = format!("p99 of a neighbour beside a {name} / alone");
        report.add(&name, ratio(&empty, figure, &empty, |turn| turn.alone), "", Goal::AtMost(2.0), note);
    }
}
