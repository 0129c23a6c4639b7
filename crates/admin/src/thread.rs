//! A thread with a runtime of its own for the admin server, with a lower priority than deliveries.

use std::{future::Future, io, thread};
use tokio::{runtime, sync::oneshot, task::JoinHandle};
use tracing::debug;

/// How much nicer the thread is than the rest of the daemon (nice(2)).
const NICENESS: i32 = 10;

/// Runs the task that `prepare` returns, in a thread of its own. Returns after `prepare`. The
/// handle ends with the task.
///
/// # Errors
/// Those of `prepare`, and a thread or runtime that cannot be created.
pub async fn run<P, S, E>(prepare: P) -> Result<JoinHandle<()>, E>
where
    P: Future<Output = Result<S, E>> + Send + 'static,
    S: Future<Output = ()>,
    E: From<io::Error> + Send + 'static,
{
    let (tells, hears) = oneshot::channel();
    let (ends, ended) = oneshot::channel::<()>();
    thread::Builder::new().name("admin".to_owned()).spawn(move || {
        if let Err(error) = rustix::process::nice(NICENESS) {
            debug!(%error, "admin.not_nice");
        }
        let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                drop(tells.send(Err(error.into())));
                return;
            }
        };
        runtime.block_on(async move {
            match prepare.await {
                Ok(serve) => {
                    drop(tells.send(Ok(())));
                    serve.await;
                }
                Err(error) => drop(tells.send(Err(error))),
            }
        });
        // A look-up of a name may still occupy a thread. Nothing waits for it now.
        runtime.shutdown_background();
        drop(ends);
    })?;
    let ended = async {
        // Nothing is sent. The end of the channel is the signal.
        let _ = ended.await;
    };
    match hears.await {
        Ok(Ok(())) => Ok(tokio::spawn(ended)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("the thread has ended").into()),
    }
}
