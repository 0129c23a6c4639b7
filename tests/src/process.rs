//! A child process that cannot outlive the test. Its log is kept, and waiting for its end has a
//! deadline.
//!
//! Children die with the test process (`PR_SET_PDEATHSIG`), even if that is killed. The kernel
//! takes the death of the *thread* that forked as the parent's death, so one thread that lives for
//! ever starts all children.

use std::{
    io::{BufRead as _, BufReader, Read},
    os::unix::process::CommandExt as _,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
    time::Duration,
};
use tokio::sync::watch;

/// Locks a mutex. It ignores poisoning: a test that panicked elsewhere must not hide its own
/// message behind a poisoned lock.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running (or ended) child.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: i32,
    exit: watch::Receiver<Option<ExitStatus>>,
    lines: Arc<Mutex<Vec<String>>>,
    line_count: watch::Receiver<usize>,
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs a closure in the thread that starts children.
fn in_nursery<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    static NURSERY: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        Mutex::new(sender)
    });
    let (sender, result) = mpsc::channel();
    lock(nursery).send(Box::new(move || drop(sender.send(job())))).expect("the nursery lives for ever");
    result.recv().expect("the nursery answers")
}

/// Makes the kernel send `signal` to the child when we die.
pub fn die_with_parent(command: &mut Command, signal: i32) {
    // SAFETY: prctl and getppid are async-signal-safe and touch no memory of ours; the closure
    // allocates nothing.
    unsafe {
        command.pre_exec(move || match libc::prctl(libc::PR_SET_PDEATHSIG, signal) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

impl Process {
    /// Starts `command` and captures its output. The child gets `death_signal` if we die first.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn spawn(name: &str, mut command: Command, death_signal: i32) -> Self {
        die_with_parent(&mut command, death_signal);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let what = format!("{command:?}");
        let mut child =
            in_nursery(move || command.spawn()).unwrap_or_else(|e| panic!("cannot start {what}: {e}"));
        let pid = i32::try_from(child.id()).expect("a pid is an i32");

        let lines = Arc::new(Mutex::new(Vec::new()));
        let (count, line_count) = watch::channel(0);
        let count = Arc::new(count);
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("stdout is piped")),
            Box::new(child.stderr.take().expect("stderr is piped")),
        ];
        let readers = outputs.map(|output| {
            let (lines, count) = (lines.clone(), count.clone());
            thread::spawn(move || {
                for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                    let mut lines = lock(&lines);
                    lines.push(String::from_utf8_lossy(&line).into_owned());
                    count.send_replace(lines.len());
                }
            })
        });
        let (exited, exit) = watch::channel(None);
        thread::spawn(move || {
            let status = child.wait().expect("a child can be waited for");
            // A postmaster's orphans may hold the pipes for a moment longer than it lives; do not
            // wait for them.
            if status.code().is_some() {
                readers.into_iter().for_each(|reader| drop(reader.join()));
            }
            exited.send_replace(Some(status));
        });
        Self { name: name.to_owned(), pid, exit, lines, line_count }
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(&self, signal: i32) {
        if self.exit.borrow().is_none() {
            // SAFETY: kill(2) on the pid of a child that has not been reaped.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    /// Waits for the end and returns the exit status.
    ///
    /// # Panics
    /// If it has not ended within `deadline`.
    pub async fn wait(&self, deadline: Duration) -> ExitStatus {
        let mut exit = self.exit.clone();
        let ended = tokio::time::timeout(deadline, exit.wait_for(Option::is_some)).await;
        match ended {
            Ok(status) => status.expect("the reaper reports").expect("it has ended"),
            Err(_) => panic!("{} (pid {}) has not ended within {deadline:?}", self.name, self.pid),
        }
    }

    /// Waits for the end without a runtime, for `Drop`. Returns true if it came within `deadline`.
    pub fn wait_blocking(&self, deadline: Duration) -> bool {
        let until = std::time::Instant::now() + deadline;
        while self.exit.borrow().is_none() {
            if std::time::Instant::now() > until {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }

    pub fn has_ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Returns all lines that it has written to stdout and stderr so far.
    pub fn log(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }

    /// Waits for a matching line of output and returns it.
    ///
    /// # Panics
    /// If none has come within `deadline`, with the log.
    pub async fn wait_for_line(&self, fits: impl Fn(&str) -> bool, deadline: Duration) -> String {
        let mut count = self.line_count.clone();
        let search = async {
            let mut seen = 0;
            loop {
                let now = *count.borrow_and_update();
                if let Some(line) = lock(&self.lines)[seen..now].iter().find(|line| fits(line)) {
                    return line.clone();
                }
                seen = now;
                if count.changed().await.is_err() {
                    panic!("{} ended without the line waited for\n{}", self.name, self.log().join("\n"));
                }
            }
        };
        match tokio::time::timeout(deadline, search).await {
            Ok(line) => line,
            Err(_) => {
                panic!("{}: no such line within {deadline:?}; the log:\n{}", self.name, self.log().join("\n"))
            }
        }
    }

    /// Returns a field of `/proc/<pid>/status` in KiB (`VmHWM`, `VmRSS`).
    ///
    /// # Panics
    /// If the process has ended.
    pub fn status_kib(&self, field: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process is alive");
        status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or_else(|| panic!("/proc/{}/status has no {field}", self.pid))
    }

    /// Returns the processor time used so far, user and system.
    ///
    /// # Panics
    /// If the process has ended.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.pid)
    }
}

/// Returns the processor time that a process of this machine has used so far, user and system.
///
/// # Panics
/// If it has ended.
pub fn cpu_of(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is alive");
    // After the name in parentheses: state is field 3, utime 14, stime 15.
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..].split(' ').collect();
    let ticks: u64 = fields[11..=12].iter().map(|f| f.parse::<u64>().expect("a number of ticks")).sum();
    // SAFETY: sysconf reads a constant.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

/// Returns a process's niceness (nice(2)), and that of its session if the kernel groups processes
/// by session (autogroup). Returns `None` if it has ended.
///
/// # Panics
/// If the kernel's text has another form.
pub fn niceness_of(pid: i32) -> Option<(i32, Option<i32>)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name in parentheses: state is field 3, nice 19.
    let own = stat[stat.rfind(')').expect("a name") + 2..].split(' ').nth(16).expect("a field");
    let session = std::fs::read_to_string(format!("/proc/{pid}/autogroup")).ok();
    let of_session = session.and_then(|text| text.trim().rsplit(' ').next()?.parse().ok());
    Some((own.parse().expect("a number"), of_session))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        self.wait_blocking(Duration::from_secs(10));
        if thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(80);
            eprintln!("── {} (last {} of {} lines) ──", self.name, log.len() - from, log.len());
            log[from..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}
