//! The targets of the faults: two daemons, their link to the server, the server, and the receiver.

use crate::{
    faults::Fault,
    judge::{Happened, Harm},
};
use e2e::{
    clock::Clock,
    cluster::{Database, value},
    daemon::Daemon,
    link::Link,
    parameters::extremes,
    traffic::Changes,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// A standby that sees the clock jump this far considers the leader silent. The limit is 8 s; 7
/// here, since time passes as well.
const TAKEN_FOR_FROZEN_MS: i64 = 7_000;

/// Returns the application name of the leader's session.
const ACTIVE: &str = "
    select a.application_name from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'advisory' and l.granted and l.classid = 1885820776 and l.objid = 1 and l.objsubid = 7";

/// The ids of the rows that [`Fault::WriteBytes`] writes begin here, after the ids of the writers.
const BYTES_FROM: i64 = 90_000_000_000;

pub struct Scene {
    database: Database,
    link: Link,
    resets: Arc<AtomicU64>,
    daemons: [Option<Daemon>; 2],
    clocks: [Clock; 2],
    server_clock_ms: i64,
    written: i64,
    points: u32,
}

impl Scene {
    pub fn new(database: Database, link: Link, resets: Arc<AtomicU64>) -> Self {
        let folder = database.cluster.dir().to_owned();
        let clocks = ["daemon-0", "daemon-1"].map(|name| Clock::new(&folder, name, "+0"));
        Self {
            database,
            link,
            resets,
            daemons: [None, None],
            clocks,
            server_clock_ms: 0,
            written: 0,
            points: 0,
        }
    }

    /// Restarts each daemon that has ended, as a supervisor would.
    pub fn keep_daemons(&mut self) {
        for (place, clock) in self.daemons.iter_mut().zip(&self.clocks) {
            if place.as_ref().is_none_or(|daemon| daemon.process().has_ended()) {
                *place = Some(daemon(&self.link, clock));
            }
        }
    }

    pub async fn perform(&mut self, fault: Fault) -> Happened {
        let harm = self.harm(fault).await;
        let began = Instant::now();
        match fault {
            Fault::KillDaemon(which) => {
                if let Some(daemon) = self.daemons[which].take() {
                    daemon.kill9().await;
                }
            }
            Fault::FreezeDaemon(which, long) => {
                if let Some(daemon) =
                    self.daemons[which].as_ref().filter(|daemon| !daemon.process().has_ended())
                {
                    daemon.process().signal(libc::SIGSTOP);
                    sleep(long).await;
                    daemon.process().signal(libc::SIGCONT);
                }
            }
            Fault::EndDaemonSession(which) => self.end_sessions("webhookd%", Some(which)).await,
            Fault::EndDaemonSessions => self.end_sessions("webhookd%", None).await,
            Fault::EndWriterSession(which) => self.end_sessions("e2e", Some(which)).await,
            Fault::KillServer => {
                self.database.cluster.kill9().await;
                self.database.cluster.boot().await;
            }
            Fault::CutLink => self.link.cut(),
            Fault::HoldLink(long) => {
                self.link.hold();
                sleep(long).await;
                self.link.release();
            }
            Fault::ResetRequests(count) => {
                self.resets.fetch_add(count, Ordering::Relaxed);
            }
            Fault::SetServerClock(ms) => {
                self.database.cluster.set_clock(&offset(ms));
                self.server_clock_ms = ms;
            }
            Fault::SetDaemonClock(which, ms) => self.clocks[which].set(&offset(ms)),
            Fault::Analyze => self.database.run("analyze").await,
            Fault::FalsifyStatistics(rows) => self.falsify_statistics(rows).await,
            Fault::SetParameter(which, is_least) => self.set_parameter(which, is_least).await,
            Fault::ResetParameters => self.database.run("alter role webhookd reset all").await,
            Fault::WriteBytes => self.write_bytes().await,
            Fault::RecoverToPoint(ago) => self.recover(ago).await,
        }
        Happened { harm, began, ended: Instant::now() }
    }

    async fn falsify_statistics(&self, rows: u64) {
        let ours = "select c.oid from pg_class c where c.relnamespace = 'webhook'::regnamespace";
        self.database
            .run(&format!(
                "delete from pg_statistic where starelid in ({ours});
                 update pg_class set reltuples = {rows}, relpages = {rows} / 100 where oid in ({ours}) and relkind in ('r', 'i')"
            ))
            .await;
    }

    async fn set_parameter(&self, which: u32, is_least: bool) {
        let client = self.database.client().await;
        let all = extremes(&client, is_least).await;
        let (name, text) = &all[which as usize % all.len()];
        let is_list = name == "search_path" || name == "DateStyle";
        let text = if is_list { text.clone() } else { format!("'{text}'") };
        // Some values need others.
        let _ = client.batch_execute(&format!("alter role webhookd set {name} = {text}")).await;
    }

    /// Writes a row with all bytes above ASCII that the encoding admits one by one.
    async fn write_bytes(&mut self) {
        let client = self.database.client().await;
        let encoding = value(&client, "select getdatabaseencoding()").await;
        let text = match encoding.as_deref() {
            Some("UTF8") => "U&'\\FFFD'",
            Some("EUC_JP") => "e'\\x8f\\xa1\\xa1'",
            _ => "e'\\x81\\x8d\\xe9'",
        };
        let id = BYTES_FROM + self.written;
        let insert = format!("insert into orders values ({id}, {text}, 0, {text})");
        if client.batch_execute(&insert).await.is_ok() {
            self.written += 1;
        }
    }

    /// Returns the changes that [`Fault::WriteBytes`] has committed and no recovery has undone.
    pub async fn written(&self) -> Changes {
        let query = "select id from orders where id >= $1";
        let rows = self.database.client().await.query(query, &[&BYTES_FROM]).await;
        let change = |id: i64| (("order.created".to_owned(), id.to_string()), 1);
        rows.expect("the table can be read").iter().map(|row| change(row.get(0))).collect()
    }

    /// Recovers the cluster to a point that is `ago` in the past.
    async fn recover(&mut self, ago: Duration) {
        self.points += 1;
        let point = format!("point_{}", self.points);
        self.database.run(&format!("select pg_create_restore_point('{point}')")).await;
        sleep(ago).await;
        self.database.cluster.recover_to(&point).await;
    }

    /// Returns what the fault can destroy, judged before it is performed.
    async fn harm(&self, fault: Fault) -> Harm {
        match fault {
            Fault::KillDaemon(which) | Fault::FreezeDaemon(which, _) => match &self.daemons[which] {
                Some(daemon) if stands_by(daemon) => Harm::None,
                _ => Harm::Results,
            },
            Fault::EndDaemonSession(which) => {
                let ended = format!(
                    "select application_name from ({}) s where n - 1 = {which} % s.all",
                    sessions("webhookd%")
                );
                let client = self.database.client().await;
                let (ended, active) = (value(&client, &ended).await, value(&client, ACTIVE).await);
                if active.is_some() && ended != active { Harm::None } else { Harm::Results }
            }
            Fault::EndDaemonSessions | Fault::CutLink => Harm::Results,
            Fault::KillServer => Harm::ResultsAndUnflushedCommits,
            Fault::RecoverToPoint(_) => Harm::Undone,
            Fault::HoldLink(_) => Harm::Delay,
            Fault::SetServerClock(ms) if ms - self.server_clock_ms >= TAKEN_FOR_FROZEN_MS => Harm::Results,
            Fault::EndWriterSession(_)
            | Fault::ResetRequests(_)
            | Fault::SetServerClock(_)
            | Fault::SetDaemonClock(..)
            | Fault::Analyze
            | Fault::FalsifyStatistics(_)
            | Fault::SetParameter(..)
            | Fault::ResetParameters
            | Fault::WriteBytes => Harm::None,
        }
    }

    async fn end_sessions(&self, name: &str, only: Option<u32>) {
        let wanted = only.map_or_else(String::new, |at| format!("where n - 1 = {at} % s.all"));
        let end = format!("select count(pg_terminate_backend(pid)) from ({}) s {wanted}", sessions(name));
        value(&self.database.client().await, &end).await;
    }

    /// Ends the faults, and reports whether everything is delivered within `deadline`.
    pub async fn settle(&mut self, deadline: Duration) -> bool {
        self.resets.store(0, Ordering::Relaxed);
        let all = "select not exists (select from webhook.delivery where state <> 'delivered')";
        let end = Instant::now() + deadline;
        while Instant::now() < end {
            // A daemon that found no server at its start has ended.
            self.keep_daemons();
            if self.database.becomes(all, Duration::from_secs(2)).await {
                return true;
            }
        }
        false
    }

    pub async fn end(self) {
        for daemon in self.daemons.into_iter().flatten() {
            daemon.kill9().await;
        }
    }
}

/// Returns a query for the sessions with this name, numbered, with their count.
fn sessions(name: &str) -> String {
    format!(
        "select pid, application_name, row_number() over (order by pid) as n, count(*) over () as all
         from pg_stat_activity where application_name like '{name}' and pid <> pg_backend_pid()"
    )
}

/// Reports whether the daemon's log shows it as a standby that never was the leader.
fn stands_by(daemon: &Daemon) -> bool {
    let parts = ["daemon.stands_by", "daemon.active", "session.lost"];
    let log = daemon.process().log();
    let last = log.iter().rev().find_map(|line| parts.iter().find(|part| line.contains(**part)));
    last == Some(&"daemon.stands_by") && !log.iter().any(|line| line.contains("daemon.active"))
}

fn offset(ms: i64) -> String {
    format!("{:+.3}", ms as f64 / 1000.0)
}

/// Starts a daemon that reaches the server through the link, with a clock of its own.
fn daemon(link: &Link, clock: &Clock) -> Daemon {
    let url = format!("postgresql://webhookd@127.0.0.1:{}/app", link.port());
    let environment = clock.environment();
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_os_str())).collect();
    Daemon::spawn_in(&url, &["--allow-net", "127.0.0.0/8", "--probe-interval-ms", "300"], &environment)
}
