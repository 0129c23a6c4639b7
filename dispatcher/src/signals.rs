//! Signals of the operating system.
//!
//! SIGTERM, SIGINT and SIGQUIT ask to finish; a second one ends the process. SIGHUP does the same
//! if the process has a terminal, because the terminal has gone. Without a terminal it is what
//! `systemctl reload` and logrotate send: the daemon reads its files again, and other commands log
//! the signal and go on. SIGUSR1 and SIGUSR2 are logged and ignored too: their default action would
//! end the process without draining.

use std::{io::IsTerminal, process, sync::Arc};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

struct Signals {
    finish: [Signal; 3],
    hangup: Signal,
    user: [Signal; 2],
    has_terminal: bool,
}

/// Cancels `shutdown` at the first signal that asks to finish, and exits with `exit_code` at the
/// second. Notifies `reload`, if there is one, at each SIGHUP that does not mean to finish. Once
/// this function has returned, no signal has its default action.
pub fn obey(shutdown: CancellationToken, reload: Option<Arc<Notify>>, exit_code: i32) {
    match Signals::open() {
        Ok(signals) => {
            tokio::spawn(follow(signals, shutdown, reload, exit_code));
        }
        Err(error) => {
            tracing::warn!(%error, "signals.unavailable; SIGTERM stops webhookd without waiting for attempts in flight");
        }
    }
}

async fn follow(
    mut signals: Signals,
    shutdown: CancellationToken,
    reload: Option<Arc<Notify>>,
    exit_code: i32,
) {
    loop {
        signals.finish(reload.as_deref()).await;
        if shutdown.is_cancelled() {
            process::exit(exit_code);
        }
        shutdown.cancel();
    }
}

impl Signals {
    fn open() -> std::io::Result<Self> {
        Ok(Self {
            finish: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::quit())?,
            ],
            hangup: signal(SignalKind::hangup())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
            // Checked now, because a terminal that has gone does not count.
            has_terminal: std::io::stdin().is_terminal() || std::io::stderr().is_terminal(),
        })
    }

    /// Waits for a signal that asks to finish.
    async fn finish(&mut self, reload: Option<&Notify>) {
        let [terminate, interrupt, quit] = &mut self.finish;
        let [user1, user2] = &mut self.user;
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = quit.recv() => return,
                _ = self.hangup.recv() => match reload {
                    _ if self.has_terminal => return,
                    Some(reload) => {
                        reload.notify_one();
                        continue;
                    }
                    None => "SIGHUP",
                },
                _ = user1.recv() => "SIGUSR1",
                _ = user2.recv() => "SIGUSR2",
            };
            tracing::info!(signal = name, "signal.ignored; restart webhookd to change its settings");
        }
    }
}
