//! The Postgres sessions of the admin server, and one transaction for each request, with the
//! caller's rights.
//!
//! Deliveries use none of these sessions. The daemon looks up the caller with its own rights. From
//! then on, the transaction has the rights of the token's role (`SET LOCAL ROLE`), and sees the
//! rows of the token's owner (`webhook.act_for()`). So Postgres decides what a caller may do, even
//! if this module is wrong.

use crate::{
    caller::{Caller, Permit},
    priority::Priority,
    problem::Problem,
};
use axum::http::StatusCode;
use database::{self, Client, Encoding, Purpose, Target, Text, Watch, preflight};
use serde::de::DeserializeOwned;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_postgres::{Row, Statement, types::ToSql};
use tracing::warn;

/// Maximum number of sessions, and how long a request waits for one. A token has at most half of
/// them at the same time ([`Permit::turns`]), and one more is only for metrics.
const SESSIONS_MAX: usize = 4;
const OPERATOR_SESSIONS_MAX: usize = 1;
const WAIT_FOR_SESSION: Duration = Duration::from_secs(5);

/// Requests run one after the other, so that the server's other processors are free for deliveries.
/// A request that has waited this long for a slow one runs beside it.
const WAIT_FOR_TURN: Duration = Duration::from_millis(25);

/// The limits of a request. A change is durable when it is answered. Plans are made once: for views
/// over all slots, planning takes several times as long as execution, and the plan does not depend
/// on the parameters. Statements read a few rows by their index. So hash and merge joins are off,
/// because they would read the whole queue.
const SESSION: &str = "\
    set statement_timeout = '5s'; set lock_timeout = '2s'; set idle_in_transaction_session_timeout = '15s'; \
    set intervalstyle = 'iso_8601'; set synchronous_commit = on; set plan_cache_mode = force_generic_plan; \
    set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set enable_material = off; \
    set max_parallel_workers_per_gather = 0; set default_transaction_isolation = 'read committed'";

/// Parameters of a statement.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Whose sessions a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    Callers,
    /// Reserved for metrics.
    Operators,
}

/// A statement with its parameters.
pub type Call<'a> = (&'a str, Params<'a>);

/// A session, and its priority.
struct DatabaseSession {
    client: Client,
    priority: Priority,
}

impl DatabaseSession {
    fn new(client: Client) -> Self {
        Self { client, priority: Priority::default() }
    }

    async fn statement(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        self.client.prepare_cached(sql).await
    }

    /// Executes a statement between two others, in one round trip. The server executes them in
    /// order.
    async fn query_between(
        &mut self,
        before: &Call<'_>,
        sql: &str,
        params: Params<'_>,
        after: &Call<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let (first, statement, last) =
            (self.statement(before.0).await?, self.statement(sql).await?, self.statement(after.0).await?);
        let client = &self.client;
        let (done, rows, undone) = tokio::join!(
            client.query(&first, before.1),
            client.query(&statement, params),
            client.query(&last, after.1)
        );
        // Report the first failure. The later ones follow from it.
        done?;
        let rows = rows?;
        undone?;
        Ok(rows)
    }

    async fn query(&mut self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        let statement = self.statement(sql).await?;
        self.client.query(&statement, params).await
    }
}

/// The sessions.
pub struct Database {
    target: Target,
    /// The schema of the extension's functions, quoted.
    schema: String,
    idle: Mutex<Vec<DatabaseSession>>,
    permits: Arc<Semaphore>,
    operator_permits: Arc<Semaphore>,
    /// One place. See [`WAIT_FOR_TURN`].
    turn: Arc<Semaphore>,
}

impl Database {
    /// Opens the first session and finds the extension. Callers without a token act as `open_as`.
    ///
    /// # Errors
    /// The server is away, or the database cannot be used: it lacks the extension, the extension
    /// must be updated first, or the role lacks rights.
    pub async fn open(target: Target, open_as: Option<&str>) -> Result<Arc<Self>, database::Error> {
        let client = connect(&target).await.map_err(|cause| target.cannot_connect(cause))?;
        let (report, foreign) = preflight::preflight_admin(&client, &target.instance, open_as).await?;
        if !foreign.is_empty() {
            let advice = database::Advice { roles: &foreign, daemon: &report.role };
            warn!("admin.roles_missing; {advice}");
        }
        let schema =
            client.query_opt(database::EXTENSION_SCHEMA, &[]).await.map_err(database::Error::of_statement)?;
        let schema = schema
            .ok_or(database::Error::ExtensionMissing)?
            .try_get(0)
            .map_err(database::Error::of_statement)?;
        let session = DatabaseSession::new(client);
        Ok(Arc::new(Self {
            target,
            schema,
            idle: Mutex::new(vec![session]),
            permits: Arc::new(Semaphore::new(SESSIONS_MAX)),
            operator_permits: Arc::new(Semaphore::new(OPERATOR_SESSIONS_MAX)),
            turn: Arc::new(Semaphore::new(1)),
        }))
    }

    /// Returns the schema of the extension's functions, as SQL.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// See [`has_tokens`].
    ///
    /// # Errors
    /// The errors of the connection, and a role that is not a dispatcher.
    pub async fn has_tokens(&self) -> Result<bool, database::Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(session) = idle else { return Err(database::Error::ConnectionLost) };
        let is_there = has_tokens(&session.client).await;
        self.put_back(session);
        is_there.map_err(database::Error::of_statement)
    }

    async fn session(&self, pool: Pool) -> Result<(DatabaseSession, OwnedSemaphorePermit), Problem> {
        let permits = match pool {
            Pool::Callers => &self.permits,
            Pool::Operators => &self.operator_permits,
        };
        let permit = wait_for(Arc::clone(permits)).await?;
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(session) if session.client.is_closed() => {}
                Some(session) => return Ok((session, permit)),
                None => {
                    let client = connect(&self.target).await.map_err(|error| {
                        warn!(error = %database::chain(&error), "admin.no_session");
                        Problem::unavailable("the database is not available")
                    })?;
                    return Ok((DatabaseSession::new(client), permit));
                }
            }
        }
    }

    /// Begins a transaction with the daemon's own rights, and executes a first statement in the
    /// same round trip. The end of the transaction releases the token's place.
    ///
    /// # Errors
    /// No session is available, and the errors of the statement.
    pub async fn begin(
        self: &Arc<Self>,
        is_repeatable: bool,
        pool: Pool,
        place: Option<Permit<[u8; 32]>>,
        first: Option<Call<'_>>,
    ) -> Result<(Work, Vec<Row>), Problem> {
        let own_turn = match &place {
            Some(place) if pool == Pool::Callers => Some(wait_for(place.turns()).await?),
            _ => None,
        };
        let (mut session, permit) = self.session(pool).await?;
        session.priority.lower(&session.client).await?;
        let turn = timeout(WAIT_FOR_TURN, Arc::clone(&self.turn).acquire_owned()).await;
        let begin = if is_repeatable { "begin isolation level repeatable read" } else { "begin" };
        let mut work = Work {
            session: Some(session),
            permit: Some(permit),
            turn: turn.ok().and_then(Result::ok),
            own_turn,
            place,
            owner_turn: None,
            database: Arc::clone(self),
            caller: None,
        };
        let Some((sql, params)) = first else {
            work.client()?.batch_execute(begin).await?;
            return Ok((work, Vec::new()));
        };
        let session = work.session()?;
        let statement = session.statement(sql).await?;
        let (begun, rows) =
            tokio::join!(session.client.batch_execute(begin), session.client.query(&statement, params));
        begun?;
        Ok((work, rows?))
    }

    fn put_back(&self, session: DatabaseSession) {
        if !session.client.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}

/// Waits for a place, but not for long.
///
/// # Errors
/// 503 if none becomes free.
pub async fn wait_for(permits: Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    match timeout(WAIT_FOR_SESSION, permits.acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Problem::unavailable("too many requests at once")),
    }
}

/// Reports whether there is a valid token.
///
/// # Errors
/// The errors of the statement.
pub async fn has_tokens(client: &Client) -> Result<bool, tokio_postgres::Error> {
    const ANY: &str =
        "select exists (select from webhook.token where expires_at is null or expires_at > now())";
    client.query_one(ANY, &[]).await?.try_get(0)
}

async fn connect(target: &Target) -> Result<Client, tokio_postgres::Error> {
    let client = database::connect(target, Purpose::Admin, Watch::default()).await?;
    client.batch_execute(SESSION).await?;
    Ok(client)
}

/// A turn among the requests of one owner.
pub type OwnerTurn = Option<(OwnedSemaphorePermit, Permit<String>)>;

/// A transaction. It is rolled back if it is dropped without [`Work::commit`].
pub struct Work {
    session: Option<DatabaseSession>,
    permit: Option<OwnedSemaphorePermit>,
    turn: Option<OwnedSemaphorePermit>,
    own_turn: Option<OwnedSemaphorePermit>,
    place: Option<Permit<[u8; 32]>>,
    owner_turn: OwnerTurn,
    database: Arc<Database>,
    caller: Option<Caller>,
}

impl Work {
    fn session(&mut self) -> Result<&mut DatabaseSession, Problem> {
        self.session.as_mut().ok_or_else(|| Problem::unavailable("the session with the database has ended"))
    }

    fn client(&mut self) -> Result<&Client, Problem> {
        Ok(&self.session()?.client)
    }

    /// Holds the turn of the owner until the transaction ends.
    pub fn hold(&mut self, turn: OwnerTurn) {
        self.owner_turn = turn;
    }

    /// Returns the encoding that the session reads.
    pub fn encoding(&self) -> Encoding {
        self.session.as_ref().map(|session| session.client.encoding()).unwrap_or_default()
    }

    /// Returns the caller of the request.
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// Returns the schema of the extension's functions, as SQL.
    pub fn schema(&self) -> &str {
        self.database.schema()
    }

    /// Switches to the caller's rights.
    ///
    /// # Errors
    /// The daemon is not a member of the caller's role, or the caller of one owner would see all
    /// owners.
    pub async fn act_as(&mut self, caller: Caller) -> Result<(), Problem> {
        const ACT: &str = "select set_config('role', $2, true) from (select webhook.act_for($1, $3)) x";
        let refused = |detail: String| Problem::new(StatusCode::FORBIDDEN, detail);
        if caller.role == "none" {
            // `none` is not a role. SET ROLE NONE would restore the daemon's own rights.
            return Err(refused("webhookd cannot act as the role none".to_owned()));
        }
        match self.query(ACT, &[&caller.owner, &caller.role, &caller.owner_role]).await {
            Ok(_) => {}
            Err(problem) if problem.sqlstate.is_some() => {
                warn!(role = caller.role, detail = problem.detail, "admin.role_refused");
                return Err(refused(format!("webhookd cannot act as the role {}", caller.role)).hint(
                    "The role must exist, and the daemon's role must be a member of it: grant … to ….",
                ));
            }
            Err(problem) => return Err(problem),
        }
        if caller.owner.is_some() {
            // Row-level security must apply to the role. The role must not be able to read the
            // outbox, which has no owners.
            const CONFINED: &str = "select row_security_active('webhook.subscription')
                and not has_table_privilege('webhook.event', 'select')";
            if !self.row(CONFINED, &[]).await?.try_get::<_, bool>(0)? {
                return Err(refused(
                    "the token is for one owner, but its role can see other owners".to_owned(),
                )
                .hint("Create the token with a --role that is only a subscriber."));
            }
        }
        self.caller = Some(caller);
        Ok(())
    }

    /// Executes a statement with the daemon's own rights, in the same transaction. Use it for our
    /// own tables and for where to search, and never for data that is shown.
    ///
    /// # Errors
    /// The errors of the statement.
    pub async fn as_daemon(&mut self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Problem> {
        const NONE: &str = "select set_config('role', 'none', true)";
        const ROLE: &str = "select set_config('role', $1, true)";
        let Some(role) = self.caller.as_ref().map(|caller| caller.role.clone()) else {
            return self.query(sql, params).await;
        };
        Ok(self.session()?.query_between(&(NONE, &[]), sql, params, &(ROLE, &[&role])).await?)
    }

    /// # Errors
    /// The errors of the statement.
    pub async fn query(&mut self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Problem> {
        Ok(self.session()?.query(sql, params).await?)
    }

    /// Returns the one row of an answer.
    ///
    /// # Errors
    /// The errors of the statement. No row counts as a defect of ours.
    pub async fn row(&mut self, sql: &str, params: Params<'_>) -> Result<Row, Problem> {
        let row = self.query(sql, params).await?.into_iter().next();
        row.ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the database returned no row"))
    }

    /// Returns rows whose first column is JSON.
    ///
    /// # Errors
    /// The errors of the statement, and JSON of another shape.
    pub async fn json<T: DeserializeOwned>(
        &mut self,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<T>, Problem> {
        let rows = self.query(sql, params).await?;
        rows.iter()
            .map(|row| {
                let Text(text) = row.try_get(0)?;
                serde_json::from_str(&text).map_err(|error| {
                    tracing::error!(%error, "admin.row_unreadable");
                    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot read a row of the database")
                })
            })
            .collect()
    }

    /// Rolls back the transaction, and begins another one for the same caller.
    ///
    /// # Errors
    /// Those of [`Work::act_as`], and of the session.
    pub async fn restart(&mut self) -> Result<(), Problem> {
        self.restart_with("rollback; begin").await
    }

    /// The same, at repeatable read, to change a state that was read. If another transaction
    /// changes it meanwhile, one of the two fails.
    ///
    /// # Errors
    /// Those of [`Work::restart`].
    pub async fn restart_repeatable(&mut self) -> Result<(), Problem> {
        self.restart_with("rollback; begin isolation level repeatable read").await
    }

    async fn restart_with(&mut self, statements: &str) -> Result<(), Problem> {
        self.client()?.batch_execute(statements).await?;
        match self.caller.take() {
            Some(caller) => self.act_as(caller).await,
            None => Ok(()),
        }
    }

    /// Commits, and returns the session to the pool. No statement can follow.
    ///
    /// # Errors
    /// The errors of the commit. Nothing has changed then.
    pub async fn commit(&mut self) -> Result<(), Problem> {
        self.client()?.batch_execute("commit").await?;
        if let Some(session) = self.session.take() {
            self.database.put_back(session);
            drop((self.permit.take(), self.turn.take(), self.own_turn.take(), self.place.take()));
            self.owner_turn = None;
        }
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        let held = (self.permit.take(), self.turn.take(), self.own_turn.take(), self.place.take());
        let owner_turn = self.owner_turn.take();
        let database = Arc::clone(&self.database);
        // A statement that still runs ends within its time limit. The session counts until then.
        tokio::spawn(async move {
            if session.client.batch_execute("rollback").await.is_ok() {
                database.put_back(session);
            }
            drop((held, owner_turn));
        });
    }
}
