//! A session of Postgres that answers or ends.
//!
//! TCP detects a machine that is gone. It does not detect a proxy, a firewall or a server that
//! acknowledges every byte and never answers. So every wait for an answer is bounded here. A
//! statement may take long for good reasons (a large window, a locked table, a slow disk), and a
//! fixed limit would end it again and again. Therefore, after [`SILENCE`], the session asks the
//! server over a new connection what the backend of the silent session does:
//!
//! * The backend executes the statement: the session waits on, and the log shows what the backend
//!   waits for.
//! * The backend waits for us, is gone, or the server does not answer this question either: the
//!   link is dead. The session ends, and with it the other sessions of its [`Watch`].
//!
//! Sessions of the admin server have a limit in the server, so they need no question.

use crate::{Encoding, Purpose, Target, Watch, chain};
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, TryStreamExt, future::join_all, join};
use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{
    Error, GenericClient, IsolationLevel, Row, RowStream, SimpleQueryMessage, Statement, ToStatement,
    types::ToSql,
};
use tracing::{debug, info, warn};

/// The time without an answer after which the session asks what its backend does.
const SILENCE: Duration = Duration::from_secs(10);

/// The longest time between two such questions about one statement.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The time for the question, including the new connection.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(8);

/// The answer may be on its way when the backend is found to be idle.
const LATE_ANSWER: Duration = Duration::from_secs(2);

/// What the backend of a session does. `idle`: it waits for us, with everything said.
const AT_WORK: &str = include_str!("sql/at_work.sql");

/// One value of a statement's parameters.
type Parameter<'a> = &'a (dyn ToSql + Sync);

/// A session, or a transaction of it.
#[derive(Debug)]
pub struct Session<C> {
    inner: C,
    link: Arc<Link>,
}

/// Maximum number of statements that [`Session::prepare_cached`] keeps per connection.
const CACHED_MAX: usize = 256;

pub type Client = Session<tokio_postgres::Client>;

/// A transaction is rolled back if it is dropped before [`commit`](Self::commit).
pub type Transaction<'a> = Session<tokio_postgres::Transaction<'a>>;

/// The rows of an answer, one by one.
pub struct Rows {
    inner: Pin<Box<RowStream>>,
    link: Arc<Link>,
}

/// The connection of a session, as far as a wait for an answer needs it.
#[derive(Debug)]
struct Link {
    server: Target,
    purpose: Purpose,
    backend_pid: i32,
    encoding: Encoding,
    watch: Watch,
    /// Prepared statements by their text.
    cached: Mutex<HashMap<Box<str>, Statement>>,
}

/// What the backend does, by its own account.
#[derive(Debug, PartialEq, Eq)]
enum Backend {
    /// It executes our statement, and waits for this.
    AtWork(String),
    /// It will not answer: the reason.
    Silent(String),
}

impl Backend {
    fn of(state: Option<&str>, waits_for: &str) -> Self {
        match state {
            // Another role's session is hidden, and so is what it does.
            None | Some("") => Self::AtWork("unknown".to_owned()),
            // We have said everything and read everything that has come.
            Some("active" | "fastpath function call") if !waits_for.starts_with("Client:") => {
                Self::AtWork(waits_for.to_owned())
            }
            Some(state) => Self::Silent(format!("the backend is {state} and waits for {waits_for}")),
        }
    }
}

impl Link {
    /// Waits for an answer, and ends the session if none can come.
    async fn bound<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.bound_after(SILENCE, answer).await
    }

    async fn bound_after<T>(
        &self,
        silence: Duration,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut answer = pin!(answer);
        let began = Instant::now();
        let mut wait = self.purpose.answers_within().unwrap_or(silence);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = sleep(wait) => {}
            }
            let backend = tokio::select! {
                biased;
                answer = &mut answer => return answer,
                backend = self.backend() => backend,
            };
            let seconds = began.elapsed().as_secs();
            match backend {
                // Emptying a slot may read millions of rows.
                Backend::AtWork(waits_for) if self.purpose == Purpose::Maintenance => {
                    info!(seconds, waits_for, "maintenance.slow");
                    wait = (wait * 2).min(SILENCE_MAX);
                }
                Backend::AtWork(waits_for) => {
                    warn!(purpose = ?self.purpose, seconds, waits_for, "postgres.slow");
                    wait = (wait * 2).min(SILENCE_MAX);
                }
                Backend::Silent(why) => {
                    if let Ok(answer) = timeout(LATE_ANSWER, &mut answer).await {
                        return answer;
                    }
                    warn!(purpose = ?self.purpose, seconds, why, "postgres.silent; closing the session");
                    // The task that carries the session ends, and with it this wait.
                    self.watch.silent.cancel();
                    return answer.await;
                }
            }
        }
    }

    /// Asks the server over a new connection.
    async fn backend(&self) -> Backend {
        if self.purpose.answers_within().is_some() {
            return Backend::Silent("the server exceeded its own time limit".to_owned());
        }
        let question = async {
            let mut config = self.server.connection_config();
            config.application_name("webhookd question");
            let (client, connection) = config.connect(self.server.tls()).await?;
            let carried = tokio::spawn(connection);
            let row = client.query_opt(AT_WORK, &[&self.backend_pid]).await;
            carried.abort();
            let Some(row) = row? else {
                return Ok(Backend::Silent("the backend no longer exists".to_owned()));
            };
            Ok::<_, Error>(Backend::of(row.try_get(0)?, row.try_get(1)?))
        };
        match timeout(QUESTION_TIMEOUT, question).await {
            Ok(Ok(backend)) => backend,
            Ok(Err(error)) => {
                debug!(error = chain(&error), "postgres.question_failed");
                Backend::Silent(format!("cannot query the server: {}", chain(&error)))
            }
            Err(_) => Backend::Silent("the server does not answer on a new connection".to_owned()),
        }
    }
}

impl Client {
    /// Adopts a session. The task that carries it must end when `watch.silent` is cancelled.
    pub(super) fn new(
        inner: tokio_postgres::Client,
        server: Target,
        purpose: Purpose,
        (backend_pid, encoding): (i32, Encoding),
        watch: Watch,
    ) -> Self {
        Self {
            inner,
            link: Arc::new(Link { server, purpose, backend_pid, encoding, watch, cached: Mutex::default() }),
        }
    }

    /// The process that serves the session, as the server numbers it.
    pub fn backend_pid(&self) -> i32 {
        self.link.backend_pid
    }

    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Executes a statement that only sleeps: it may take this long before the session asks whether
    /// the server is still there.
    ///
    /// # Errors
    /// The statement's, and the connection's.
    pub async fn execute_sleep(
        &self,
        statement: &Statement,
        params: &[Parameter<'_>],
        longest: Duration,
    ) -> Result<(), Error> {
        self.link.bound_after(longest + SILENCE, self.inner.execute(statement, params)).await.map(|_| ())
    }

    /// Sends data to a COPY statement, in one piece.
    ///
    /// # Errors
    /// The statement's, and the connection's.
    pub async fn copy_in(&self, statement: &Statement, data: Bytes) -> Result<u64, Error> {
        let copy = async {
            let mut sink = pin!(self.inner.copy_in::<_, Bytes>(statement).await?);
            sink.send(data).await?;
            sink.finish().await
        };
        self.link.bound(copy).await
    }

    /// Executes up to 30 statements in one transaction, and returns the rows of each. All are sent
    /// at once, so this takes one round trip, and no lock depends on the client's next step.
    ///
    /// # Errors
    /// The first error of a statement, and the connection's. Then none has an effect, unless the
    /// connection broke during the commit.
    pub async fn query_together(
        &self,
        statements: &[(&Statement, &[Parameter<'_>])],
    ) -> Result<Vec<Vec<Row>>, Error> {
        match statements {
            [] => return Ok(Vec::new()),
            [(statement, params)] => return Ok(vec![self.query(*statement, params).await?]),
            _ => {}
        }
        // Each future sends its message when it is first polled, and both joins do that in order. A
        // value that cannot be encoded fails then, and its statement is not sent.
        let has_failed = AtomicBool::new(false);
        let all = join_all(statements.iter().map(async |(statement, params)| {
            let answer = self.query(*statement, params).await;
            has_failed.fetch_or(answer.is_err(), Ordering::Relaxed);
            answer
        }));
        let end = async {
            let end = if has_failed.load(Ordering::Relaxed) { "rollback" } else { "commit" };
            self.batch_execute(end).await
        };
        let (begun, answers, ended) = join!(self.batch_execute("begin"), all, end);
        begun?;
        let answers = answers.into_iter().collect::<Result<_, _>>()?;
        ended?;
        Ok(answers)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// The connection's.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        let link = Arc::clone(&self.link);
        Ok(Transaction { inner: link.bound(self.inner.transaction()).await?, link })
    }

    /// Begins a transaction that sees one snapshot and writes nothing.
    ///
    /// # Errors
    /// The connection's.
    pub async fn frozen(&mut self) -> Result<Transaction<'_>, Error> {
        let link = Arc::clone(&self.link);
        let frozen = self.inner.build_transaction();
        let frozen = frozen.isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
        Ok(Transaction { inner: link.bound(frozen).await?, link })
    }
}

impl<C: GenericClient + Sync> Session<C> {
    /// What the session reads.
    pub fn encoding(&self) -> Encoding {
        self.link.encoding
    }

    /// Prepares a statement once per connection, and keeps it.
    ///
    /// # Errors
    /// The statement's, and the connection's.
    pub async fn prepare_cached(&self, sql: &str) -> Result<Statement, Error> {
        let cached = || self.link.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = cached().get(sql).cloned() {
            return Ok(statement);
        }
        let statement = self.prepare(sql).await?;
        let mut cached = cached();
        if cached.len() >= CACHED_MAX {
            cached.clear();
        }
        cached.insert(sql.into(), statement.clone());
        Ok(statement)
    }

    /// # Errors
    /// The statement's, and the connection's.
    pub async fn prepare(&self, sql: &str) -> Result<Statement, Error> {
        self.link.bound(self.inner.prepare(sql)).await
    }

    /// # Errors
    /// The statement's, and the connection's.
    pub async fn query<S: ?Sized + ToStatement + Sync + Send>(
        &self,
        statement: &S,
        params: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Error> {
        self.link.bound(self.inner.query(statement, params)).await
    }

    /// # Errors
    /// The statement's, the connection's, and an answer of another number of rows.
    pub async fn query_one<S: ?Sized + ToStatement + Sync + Send>(
        &self,
        statement: &S,
        params: &[Parameter<'_>],
    ) -> Result<Row, Error> {
        self.link.bound(self.inner.query_one(statement, params)).await
    }

    /// # Errors
    /// The statement's, the connection's, and an answer of several rows.
    pub async fn query_opt<S: ?Sized + ToStatement + Sync + Send>(
        &self,
        statement: &S,
        params: &[Parameter<'_>],
    ) -> Result<Option<Row>, Error> {
        self.link.bound(self.inner.query_opt(statement, params)).await
    }

    /// Sends a query whose rows are read one by one.
    ///
    /// # Errors
    /// The statement's, and the connection's.
    pub async fn query_rows<S: ?Sized + ToStatement + Sync + Send>(
        &self,
        statement: &S,
        params: &[Parameter<'_>],
    ) -> Result<Rows, Error> {
        let rows = self.link.bound(self.inner.query_raw(statement, params.iter().copied())).await?;
        Ok(Rows { inner: Box::pin(rows), link: Arc::clone(&self.link) })
    }

    /// # Errors
    /// The statement's, and the connection's.
    pub async fn execute<S: ?Sized + ToStatement + Sync + Send>(
        &self,
        statement: &S,
        params: &[Parameter<'_>],
    ) -> Result<u64, Error> {
        self.link.bound(self.inner.execute(statement, params)).await
    }

    /// # Errors
    /// The statements', and the connection's.
    pub async fn batch_execute(&self, sql: &str) -> Result<(), Error> {
        self.link.bound(self.inner.batch_execute(sql)).await
    }

    /// # Errors
    /// The statements', and the connection's.
    pub async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        self.link.bound(self.inner.simple_query(sql)).await
    }
}

impl Transaction<'_> {
    /// # Errors
    /// The connection's, and what only a commit can find.
    pub async fn commit(self) -> Result<(), Error> {
        self.link.bound(self.inner.commit()).await
    }
}

impl Rows {
    /// Returns the next row, or `None` after the last.
    ///
    /// # Errors
    /// The statement's, and the connection's.
    pub async fn next(&mut self) -> Result<Option<Row>, Error> {
        // Mostly the row has arrived already.
        match self.inner.try_next().now_or_never() {
            Some(row) => row,
            None => self.link.bound(self.inner.try_next()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_waits_for_us_will_not_answer() {
        for (state, waits_for, is_at_work) in [
            (Some("active"), "nothing", true),
            (Some("active"), "Lock:relation", true),
            (Some("active"), "Extension:Extension", true),
            (None, "nothing", true),
            (Some("active"), "Client:ClientWrite", false),
            (Some("active"), "Client:ClientRead", false),
            (Some("idle"), "Client:ClientRead", false),
            (Some("idle in transaction"), "Client:ClientRead", false),
        ] {
            let backend = Backend::of(state, waits_for);
            assert_eq!(matches!(backend, Backend::AtWork(_)), is_at_work, "{state:?} {waits_for}");
        }
    }
}
