//! Checks the requirements for delivering from a database. Reads only.

use crate::{Client, Error, ForeignRole, Lack, chain, instance::Instance, schema::Schema};
use delivery::snapshot::Snapshot;
use tokio_postgres::Row;
use tracing::warn;

/// The cluster that a database belongs to. The values differ for a dump that was restored
/// elsewhere, and for a cluster that was initialized again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub system_identifier: i64,
    pub database_oid: u32,
}

/// The properties of a database that the daemon can deliver from.
#[derive(Debug, Clone)]
pub struct Report {
    pub role: String,
    /// `server_version`, as the server reports it.
    pub server_version: String,
    /// `extversion` of the extension.
    pub extension_version: String,
    pub schema: Schema,
    pub identity: Identity,
    /// First eight digits of the WAL file name. They change with a failover, after which
    /// transaction ids may be assigned again.
    pub timeline: String,
    /// The checkpoint. `None` before the first daemon.
    pub checkpoint: Option<Snapshot>,
    /// The instance that the database is armed for. With `None`, the first daemon that delivers
    /// decides.
    pub instance: Option<String>,
    pub subscriptions: i64,
}

const SERVER: &str = "
    select pg_is_in_recovery(), current_user::text, current_setting('server_version'),
           (select extversion from pg_extension where extname = 'pg_webhook')";

/// The required rights by relation. The daemon reads and writes partitions of the ring directly, so
/// rights on the parent are not enough. The first and the last partition stand for all sixteen.
const RIGHTS: [(&str, &str); 12] = [
    ("webhook.event", "select"),
    ("webhook.event_0", "select"),
    ("webhook.event_15", "select"),
    ("webhook.attempt", "select,insert"),
    ("webhook.attempt_0", "select,insert"),
    ("webhook.attempt_15", "select,insert"),
    ("webhook.queue", "select,insert,update,delete"),
    ("webhook.subscription", "select"),
    ("webhook.receiver", "select,insert,update,delete"),
    ("webhook.backfill", "select"),
    ("webhook.secret", "select"),
    ("webhook.cursor", "select,insert,update"),
];

/// The functions of schema webhook that the daemon calls, or that its views contain. An older grant
/// lacks functions that were added later. Without the functions of the gate, the daemon polls at an
/// interval.
const FUNCTIONS: [&str; 10] = [
    "disable_subscription",
    "confirm_subscription",
    "tell",
    "backfill_step",
    "end_backfill",
    "path_matches",
    "filter_matches",
    "mismatch",
    "may_see_all",
    "may_see",
];

/// The additional rights that the admin server needs.
const ADMIN_RIGHTS: [(&str, &str); 4] = [
    ("webhook.token", "select"),
    ("webhook.portal_link", "select"),
    ("webhook.idempotency", "select,insert,update,delete"),
    ("webhook.beyond_checkpoint", "select"),
];
const ADMIN_FUNCTIONS: [&str; 5] =
    ["act_for", "last_number", "delivery_number", "number_at", "lower_priority"];

/// The roles that callers of the admin server act as, and that the daemon is not a member of.
const FOREIGN_ROLES: &str = include_str!("sql/preflight_foreign_roles.sql");

const MISSING_FUNCTIONS: &str = include_str!("sql/preflight_missing_functions.sql");

const MISSING_RIGHTS: &str = include_str!("sql/preflight_missing_rights.sql");

const STATE: &str = include_str!("sql/preflight_state.sql");

/// Whether a restored dump contained the checkpoint, and the instance that the database is armed
/// for.
const ARMED: &str = "select restored_at is not null, instance from webhook.cursor";

/// Checks one session: it is with a primary, the extension has our version or the one before, the
/// role has the rights, and the checkpoint belongs to this cluster and this instance.
///
/// # Errors
/// The first requirement that is not met.
pub async fn preflight(client: &Client, instance: &Instance) -> Result<Report, Error> {
    let server = client.query_one(SERVER, &[]).await.map_err(Error::of_statement)?;
    let (standby, role): (bool, String) = (get(&server, 0)?, get(&server, 1)?);
    let (server_version, installed): (String, Option<String>) = (get(&server, 2)?, get(&server, 3)?);
    if standby {
        return Err(Error::ReadOnly);
    }
    let extension_version = installed.ok_or(Error::ExtensionMissing)?;
    let Some(schema) = Schema::of(&extension_version) else {
        return Err(Error::OtherVersion { installed: extension_version });
    };
    check_rights(client, &role, &RIGHTS, &FUNCTIONS).await?;
    let row = client.query_one(STATE, &[]).await.map_err(Error::of_statement)?;
    let identity = Identity { system_identifier: get(&row, 0)?, database_oid: get(&row, 1)? };
    let checkpoint: Option<String> = get(&row, 3)?;
    let armed = client.query_opt(ARMED, &[]).await.map_err(Error::of_statement)?;
    let (is_restored, armed): (bool, Option<String>) = match &armed {
        Some(row) => (get(row, 0)?, get(row, 1)?),
        None => (false, None),
    };
    if let (Some(system_identifier), Some(database_oid)) = (get(&row, 4)?, get(&row, 5)?)
        && (identity != (Identity { system_identifier, database_oid }) || is_restored)
    {
        return Err(Error::OtherCluster);
    }
    check_instance(instance, armed.as_deref())?;
    let checkpoint = checkpoint.and_then(|text| {
        text.parse().inspect_err(|error| warn!(error = %chain(error), "checkpoint.unreadable")).ok()
    });
    Ok(Report {
        role,
        server_version,
        extension_version,
        schema,
        identity,
        timeline: get(&row, 2)?,
        checkpoint,
        instance: armed,
        subscriptions: get(&row, 6)?,
    })
}

/// Compares our instance with that in the database.
///
/// # Errors
/// [`Error::OtherInstance`].
pub fn check_instance(ours: &Instance, armed: Option<&str>) -> Result<(), Error> {
    match armed {
        Some(armed) if !ours.may_deliver_from(armed) => {
            Err(Error::OtherInstance { armed: armed.to_owned(), ours: ours.to_string() })
        }
        _ => Ok(()),
    }
}

/// The same, with the requirements of the admin server. Also returns the roles that its callers act
/// as (by token, or `open_as`) and that the daemon is not a member of. The daemon rejects these
/// callers. Other callers are not affected.
///
/// # Errors
/// The first requirement that is not met.
pub async fn preflight_admin(
    client: &Client,
    instance: &Instance,
    open_as: Option<&str>,
) -> Result<(Report, Vec<ForeignRole>), Error> {
    let report = preflight(client, instance).await?;
    if report.schema.is_outdated() {
        return Err(Error::Outdated { installed: report.extension_version });
    }
    check_rights(client, &report.role, &ADMIN_RIGHTS, &ADMIN_FUNCTIONS).await?;
    let rows = client.query(FOREIGN_ROLES, &[&open_as]).await.map_err(Error::of_statement)?;
    let foreign = rows.iter().map(foreign_role).collect::<Result<_, _>>()?;
    Ok((report, foreign))
}

fn foreign_role(row: &Row) -> Result<ForeignRole, Error> {
    let lack = match get::<Option<&str>>(row, 1)? {
        Some("absent") => Lack::Role,
        Some(_) => Lack::Limits,
        None => Lack::Membership,
    };
    Ok(ForeignRole { name: get(row, 0)?, lack })
}

fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, Error> {
    row.try_get(at).map_err(Error::of_statement)
}

async fn check_rights(
    client: &Client,
    role: &str,
    rights: &[(&str, &str)],
    functions: &[&str],
) -> Result<(), Error> {
    let lacks = |missing: String| Error::Privileges { role: role.to_owned(), missing };
    let usage = client.query_one("select has_schema_privilege('webhook', 'usage')", &[]).await;
    if !get::<bool>(&usage.map_err(Error::of_statement)?, 0)? {
        return Err(lacks("usage on schema webhook".to_owned()));
    }
    let (relations, privileges): (Vec<&str>, Vec<&str>) = rights.iter().copied().unzip();
    let rows = client.query(MISSING_RIGHTS, &[&relations, &privileges]).await.map_err(Error::of_statement)?;
    let mut missing = Vec::new();
    for row in &rows {
        missing.push(format!("{} on {}", get::<String>(row, 1)?, get::<String>(row, 0)?));
    }
    for row in &client.query(MISSING_FUNCTIONS, &[&functions]).await.map_err(Error::of_statement)? {
        missing.push(format!("execute on function webhook.{}", get::<String>(row, 0)?));
    }
    if missing.is_empty() { Ok(()) } else { Err(lacks(missing.join("; "))) }
}

/// Checks that two open sessions have two backends, and that each keeps its backend from statement
/// to statement.
///
/// A transaction pooler gives the second session the backend of the first, or gives the first
/// another one while the second holds it.
///
/// # Errors
/// [`Error::TransactionPooler`], or the connection's.
pub async fn refuse_transaction_pooler(one: &Client, other: &Client) -> Result<(), Error> {
    for _ in 0..3 {
        let before = backend_pid(one).await?;
        other.batch_execute("begin").await.map_err(Error::of_statement)?;
        let held = backend_pid(other).await?;
        let after = backend_pid(one).await?;
        other.batch_execute("commit").await.map_err(Error::of_statement)?;
        if held == before || after != before {
            return Err(Error::TransactionPooler);
        }
    }
    Ok(())
}

/// Returns the process id of the backend.
///
/// # Errors
/// The errors of the connection.
pub async fn backend_pid(client: &Client) -> Result<i32, Error> {
    let answer = client.simple_query("select pg_backend_pid()").await.map_err(Error::of_statement)?;
    Ok(super::backend_pid(&answer))
}
