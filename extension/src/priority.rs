//! `webhook.lower_priority()`: gives a session of the daemon's admin server a lower priority than
//! the sessions that deliver and those that write.
//!
//! It changes only this backend's process: no memory, no lock, no row. A process with a higher nice
//! value still gets a tenth of a contended processor. A lock that it happens to hold is therefore
//! held a little longer, but not forever.

use pgrx::prelude::*;
use rustix::process;

/// The nice value (see nice(2)).
const NICENESS: i32 = 10;

/// Lowers this backend's priority until its session ends; an unprivileged process cannot raise it
/// again. Lowers the priority of the process, and of its operating system session if the process
/// leads it: where the kernel divides processors by session (sched(7), "The autogroup feature"),
/// niceness counts only within a session.
///
/// Returns false if the caller must ask again later: the kernel accepts one such request in a tenth
/// of a second from the whole machine. Returns true if the system has no such feature or does not
/// allow the change, because asking again would not help.
#[pg_extern(sql = false)]
fn lower_priority() -> bool {
    let is_nice = process::getpriority_process(None).is_ok_and(|niceness| niceness >= NICENESS);
    if !is_nice && let Err(error) = process::setpriority_process(None, NICENESS) {
        debug1!("pg_webhook: niceness stays as it is: {error}");
    }
    // A backend leads a session of its own. If it does not, the change would slow other processes
    // down too.
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
    requires = ["daemon_locks"]
);
