//! `webhookd check`: checks whether this machine can deliver from a database. Prints one line for
//! each requirement.

use crate::{
    app,
    commands::{DATABASE, Error, FAILED, one_line, output::tell, run::Descriptors},
};
use admin::{self, sessions::has_tokens};
use database::{
    self, Client, Purpose, Target, Watch,
    preflight::{self, Report},
};
use source::secret_store::SecretStore;
use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tls_files::native_roots;
use tokio::{sync::Notify, time::timeout};

/// Time limit for a notification to ourselves.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// Receivers reject timestamps that are 5 minutes off. Half a minute deserves a warning.
const CLOCK_TOLERANCE_SECONDS: f64 = 30.0;

/// The result of one requirement, in words. `None` if an earlier requirement is not met.
type Step = Option<Result<Met, String>>;

/// A requirement that is met.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Met {
    Well(String),
    /// Deliveries work, and an operator should change this nevertheless.
    Poorly(String),
}

impl From<String> for Met {
    fn from(text: String) -> Self {
        Self::Well(text)
    }
}

/// Prints the list. The exit code is 0 if all requirements are met, 3 if the database does not meet
/// one, and 1 otherwise.
///
/// # Errors
/// Standard output cannot be written. Each problem of the database is a line of the list.
pub async fn run(
    database: Target,
    store: Arc<SecretStore>,
    admin: Option<admin::Settings>,
) -> Result<ExitCode, Error> {
    let report = app::check(&database).await;
    let mut code = report.as_ref().err().map_or(0, super::database_exit_code);
    for (name, step) in demands(&report) {
        print(name, &step)?;
    }
    let (notifies, clock) = match &report {
        Err(database::Error::Connect(_)) => (None, None),
        _ => session(&database).await,
    };
    let secrets = match &report {
        Ok(_) => Some(secrets(&database, &store).await),
        Err(_) => None,
    };
    let admin = match (&report, admin) {
        (Ok(_), Some(admin)) => Some(admin_server(&database, &admin).await),
        _ => None,
    };
    for (name, step, charge) in [
        ("admin", admin, DATABASE),
        ("secrets", secrets, FAILED),
        ("notify", notifies, DATABASE),
        ("clock", clock, FAILED),
        ("https", Some(trust().map(Met::from)), FAILED),
        ("files", Some(files().map(Met::from)), FAILED),
    ] {
        print(name, &step)?;
        if matches!(step, Some(Err(_))) {
            code = code.max(charge);
        }
    }
    Ok(ExitCode::from(code))
}

fn print(name: &str, step: &Step) -> Result<(), Error> {
    let (sign, text) = match step {
        Some(Ok(Met::Well(text))) => ("✓", text.as_str()),
        Some(Ok(Met::Poorly(text))) => ("!", text.as_str()),
        Some(Err(text)) => ("✗", text.as_str()),
        None => ("-", "not checked"),
    };
    tell(&format!("{}\n", format!("{sign} {name:<11}{text}").trim_end()))
}

/// Returns the requirements of `app::check`, in order. It stops at the first that is not met.
fn demands(report: &Result<Report, database::Error>) -> [(&'static str, Step); 6] {
    let met = match report {
        Ok(report) => [
            format!("Postgres {} as {}", report.server_version, report.role),
            "the server accepts writes".to_owned(),
            format!(
                "pg_webhook {}, {} subscriptions{}",
                report.extension_version,
                report.subscriptions,
                if report.schema.is_outdated() {
                    "; update it: alter extension pg_webhook update"
                } else {
                    ""
                }
            ),
            format!("{} has the privileges that the daemon needs", report.role),
            armed(report),
            "sessions keep their backends".to_owned(),
        ],
        Err(_) => Default::default(),
    };
    let failed = report.as_ref().err().map(|error| {
        let at = match error {
            database::Error::Connect(_) => 0,
            database::Error::ReadOnly | database::Error::FormerPrimary { .. } => 1,
            database::Error::ExtensionMissing
            | database::Error::OtherVersion { .. }
            | database::Error::Outdated { .. } => 2,
            // The list of rights does not contain this right, or the server is shutting down.
            database::Error::Privileges { .. }
            | database::Error::Database(_)
            | database::Error::ConnectionLost
            | database::Error::LockLost
            | database::Error::Superseded
            | database::Error::Updated
            | database::Error::Snapshot(_)
            | database::Error::Unwritten(_) => 3,
            database::Error::OtherCluster | database::Error::OtherInstance { .. } => 4,
            database::Error::TransactionPooler => 5,
        };
        (at, one_line(error))
    });
    let names = ["connect", "primary", "extension", "privileges", "armed", "no pooler"];
    let mut met = names.into_iter().zip(met).enumerate();
    std::array::from_fn(|_| {
        let (at, (name, text)) = met.next().unwrap_or_default();
        let step = match &failed {
            Some((failed, why)) if at == *failed => Some(Err(why.clone())),
            Some((failed, _)) if at > *failed => None,
            _ => Some(Ok(Met::Well(text))),
        };
        (name, step)
    })
}

/// Describes whose checkpoint it is.
fn armed(report: &Report) -> String {
    match (&report.checkpoint, &report.instance) {
        (None, _) => "there is no checkpoint yet".to_owned(),
        (_, Some(instance)) => format!("the checkpoint belongs to this cluster; instance {instance}"),
        // The previous schema stores none.
        (_, None) if report.schema.is_outdated() => "the checkpoint belongs to this cluster".to_owned(),
        (_, None) => "the checkpoint belongs to this cluster; the first daemon sets its instance".to_owned(),
    }
}

/// Checks notifications and the clock, with one session.
async fn session(database: &Target) -> (Step, Step) {
    let watch = Watch::default();
    match database::connect(database, Purpose::Command, watch.clone()).await {
        Ok(client) => (
            Some(notify(&client, &watch.notified).await.map(Met::from)),
            Some(clock(&client).await.map(Met::from)),
        ),
        Err(error) => (Some(Err(one_line(&error))), None),
    }
}

/// Checks whether the admin server can serve all its callers.
async fn admin_server(database: &Target, settings: &admin::Settings) -> Result<Met, String> {
    let open_as = settings.open_as.as_deref();
    let client = database::connect(database, Purpose::Admin, Watch::default())
        .await
        .map_err(|error| one_line(&error))?;
    let (report, foreign) = preflight::preflight_admin(&client, &database.instance, open_as)
        .await
        .map_err(|error| one_line(&error))?;
    if !foreign.is_empty() {
        return Err(database::Advice { roles: &foreign, daemon: &report.role }.to_string());
    }
    let is_usable = open_as.is_some() || has_tokens(&client).await.map_err(|error| one_line(&error))?;
    let hint = if is_usable { "" } else { "; there is no token yet: create one with webhookd token create" };
    let text = format!("{} has the privileges that the admin server needs{hint}", report.role);
    if settings.is_exposed() {
        return Ok(Met::Poorly(format!("{text}; {}", admin::EXPOSED)));
    }
    Ok(Met::Well(text))
}

/// Checks whether all valid secrets can be read, and returns where they are kept.
async fn secrets(database: &Target, store: &SecretStore) -> Result<Met, String> {
    const IN_FORCE: &str = "
        select subscription_id, secret from webhook.secret where expires_at is null or expires_at > now()
        order by id";
    let opened = database::connect(database, Purpose::Command, Watch::default()).await;
    let rows = match opened {
        Ok(client) => client.query(IN_FORCE, &[]).await,
        Err(error) => Err(error),
    };
    let (mut sealed, mut elsewhere, mut clear, mut broken) = (0, 0, 0, Vec::new());
    for row in rows.map_err(|error| one_line(&error))? {
        let read = row.try_get(0).and_then(|id| Ok((id, row.try_get(1)?)));
        let (subscription, text): (i64, &str) = read.map_err(|error| one_line(&error))?;
        match store.resolve(subscription, text) {
            Err(why) => broken.push(format!("secret of subscription {subscription}: {why}")),
            Ok(_) if seal::is_sealed(text) => sealed += 1,
            Ok(_) if text.starts_with("env:") || text.starts_with("file:") => elsewhere += 1,
            Ok(_) => clear += 1,
        }
    }
    match &broken[..] {
        [] if clear > 0 => Ok(Met::Poorly(format!(
            "{clear} in clear text, {sealed} sealed, {elsewhere} kept elsewhere; to seal those in clear text, use \
             webhookd keygen and webhookd rekey"
        ))),
        [] => Ok(Met::Well(format!("{sealed} sealed, {elsewhere} kept elsewhere"))),
        [one] => Err(one.clone()),
        [first, rest @ ..] => Err(format!("{first}; {} more cannot be read", rest.len())),
    }
}

/// Listens on a channel of its own, and sends a notification to it.
async fn notify(client: &Client, ring: &Notify) -> Result<String, String> {
    let channel = format!("webhookd_check_{}", std::process::id());
    let sent = client.batch_execute(&format!("listen {channel}; notify {channel};")).await;
    let heard = match sent {
        Ok(()) => {
            timeout(NOTIFY_TIMEOUT, ring.notified()).await.map_err(|_| "no notification arrived".to_owned())
        }
        Err(error) => Err(one_line(&error)),
    };
    heard
        .map(|()| "LISTEN and NOTIFY work".to_owned())
        .map_err(|why| format!("LISTEN does not work ({why}); backfills wait for their next poll"))
}

/// Compares Postgres' clock with ours, which dates the signatures.
async fn clock(client: &Client) -> Result<String, String> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let before = now();
    let row = client.query_one("select extract(epoch from clock_timestamp())::float8", &[]).await;
    let theirs: f64 = row.and_then(|row| row.try_get(0)).map_err(|error| one_line(&error))?;
    let apart = theirs - (before + now()) / 2.0;
    if apart.abs() <= CLOCK_TOLERANCE_SECONDS {
        Ok("the clocks of this machine and of Postgres agree".to_owned())
    } else {
        Err(format!(
            "the clocks of this machine and of Postgres differ by {:.0} s; receivers reject more than 300 s",
            apart.abs()
        ))
    }
}

/// Checks whether this machine can verify certificates.
fn trust() -> Result<String, String> {
    match native_roots().len() {
        0 => {
            Err("no certificate authority is trusted; install ca-certificates or set SSL_CERT_FILE"
                .to_owned())
        }
        n => Ok(format!("{n} certificate authorities are trusted")),
    }
}

/// Checks whether the limit of file descriptors allows the 512 requests that one subscription may
/// have by default.
fn files() -> Result<String, String> {
    match Descriptors::raise().connections {
        n @ ..512 => Err(format!(
            "only {n} connections to receivers are possible; raise the limit on open files (ulimit -n)"
        )),
        usize::MAX => Ok("no limit on open files".to_owned()),
        n => Ok(format!("{n} connections to receivers are possible")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_the_first_failure_is_not_checked() {
        for (error, at) in [
            (database::Error::ReadOnly, 1),
            (database::Error::ExtensionMissing, 2),
            (database::Error::OtherVersion { installed: "9.9".into() }, 2),
            (database::Error::Privileges { role: "app".into(), missing: "select".into() }, 3),
            (database::Error::OtherCluster, 4),
            (database::Error::OtherInstance { armed: "a:5432/shop".into(), ours: "b:5432/shop".into() }, 4),
            (database::Error::TransactionPooler, 5),
        ] {
            let text = error.to_string();
            let steps = demands(&Err(error));
            for (i, (name, step)) in steps.iter().enumerate() {
                match step {
                    Some(Ok(_)) => assert!(i < at, "{name}"),
                    Some(Err(why)) => assert_eq!((i, why), (at, &text)),
                    None => assert!(i > at, "{name}"),
                }
            }
        }
    }
}
