//! `webhook.lower_priority()`: a session of the daemon's admin server stands back behind those that deliver and those that write.
//!
//! It changes this backend's process and nothing else: no memory, no lock, no row. Who is nicer still gets a tenth of a
//! processor that everybody wants, so a lock that it happens to hold is held a little longer and never for good.

use pgrx::prelude::*;
use rustix::process;

/// nice(2).
const NICENESS: i32 = 10;

/// Lowers this backend's priority until its session ends (an unprivileged process cannot raise it again): as a process, and as the
/// only one of its session, for where the kernel shares processors out by session (sched(7), "The autogroup feature") niceness
/// counts within one only.
///
/// False: the kernel takes one such wish in a tenth of a second from the whole machine; ask again later.
/// Where there is no such thing, or it may not be changed, the answer is true: asking again would not help.
#[pg_extern(sql = false)]
fn lower_priority() -> bool {
    let is_nice = process::getpriority_process(None).is_ok_and(|niceness| niceness >= NICENESS);
    if !is_nice && let Err(error) = process::setpriority_process(None, NICENESS) {
        debug1!("pg_webhook: niceness stays as it is: {error}");
    }
    // A backend leads a session of its own; where it does not, others would be slowed down with it.
    let leads = process::getsid(None).is_ok_and(|session| session == process::getpid());
    !leads || lower_session()
}

#[cfg(target_os = "linux")]
fn lower_session() -> bool {
    match std::fs::write("/proc/self/autogroup", NICENESS.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
        Err(error) => {
            debug1!("pg_webhook: the session's niceness stays as it is: {error}");
            true
        }
        Ok(()) => true,
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_session() -> bool {
    true
}

extension_sql!(
    r#"
create function webhook.lower_priority() returns boolean
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'lower_priority_wrapper';
comment on function webhook.lower_priority() is
    'Daemon, for sessions of its admin server: until it ends, this session leaves the processor to others that want it (nice 10). False: not yet; ask again after a tenth of a second';
revoke all on function webhook.lower_priority() from public;
"#,
    name = "priority",
    requires = ["gate"]
);
