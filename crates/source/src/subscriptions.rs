//! Reads `webhook.subscription` and `webhook.secret`. It never logs the path of a URL, or a secret.

use crate::secret_store::SecretStore;
use database::{
    Text, Transaction,
    schema::Schema,
    value::{Interval, Intervals, Micros},
};
use delivery::{
    headers::{self, LeftOut, Parsed},
    response::ResponseRule,
    scope::{InternalTypes, Scope},
    shape::{Format, PayloadMode, Shape},
    snapshot::Snapshot,
    subscription::{Ordering, Subscription, Subscriptions, Verification},
};
use event_type::Pattern;
use http::HeaderMap;
use signature::{Profiles, Signer};
use std::{collections::HashSet, hash::Hash, sync::Arc, time::Duration};
use tokio_postgres::Row;
use tracing::warn;
use url::Url;

/// The columns that the previous schema lacks, and the values that replace them there.
const SINCE_0_3: &str = "s.failures_reset_at, s.expected_response::text, s.keep_response, s.scope";
const BEFORE_0_3: &str = "null::timestamptz, null::text, false, 'all'::text";

const INTERNAL_TYPES: &str = "select t.type from webhook.event_type t where t.internal";

/// Returns the statements for subscriptions and for secrets.
fn statements(schema: Schema, ids: Option<&[i64]>) -> (String, String) {
    let since_0_3 = if schema.is_outdated() { BEFORE_0_3 } else { SINCE_0_3 };
    let (of_subscriptions, of_secrets) = match ids {
        Some(_) => ("s.id = any ($1)", "s.subscription_id = any ($1)"),
        None => ("true", "true"),
    };
    (
        format!(include_str!("sql/subscriptions.sql"), since_0_3 = since_0_3, which = of_subscriptions),
        format!(include_str!("sql/subscriptions_secrets.sql"), which = of_secrets),
    )
}

/// Reads subscriptions and their secrets in this transaction, all of them (`None`) or some. The
/// store resolves the secrets.
///
/// # Errors
/// The errors of the connection. A row that is not valid is held, with a warning, and is not an
/// error.
pub async fn load(
    client: &Transaction<'_>,
    schema: Schema,
    store: &SecretStore,
    ids: Option<&[i64]>,
) -> Result<Subscriptions, tokio_postgres::Error> {
    let (of_subscriptions, of_secrets) = statements(schema, ids);
    let params: &[&(dyn tokio_postgres::types::ToSql + Sync)] = match &ids {
        Some(ids) => &[ids],
        None => &[],
    };
    // The rows of the second statement arrive after the rows of the first have been read.
    let (secrets, mut rows) = futures_util::try_join!(
        secrets(client, store, &of_secrets, params),
        client.query_rows(&of_subscriptions, params)
    )?;
    let mut secrets = secrets.into_iter().peekable();
    let (mut shared, mut subscriptions) = (CommonValues::default(), Subscriptions::new());
    while let Some(row) = rows.next().await? {
        let id = row.try_get(0)?;
        let mut own = Secrets::default();
        while let Some((of, secret)) = secrets.next_if(|(of, _)| *of <= id) {
            // A secret without a subscription is not possible (foreign key).
            if of == id {
                own.add(secret);
            }
        }
        subscriptions.insert(id, Arc::new(subscription(&row, own, &mut shared)?));
    }
    Ok(subscriptions)
}

/// A key with its end in microseconds since 1970, or why the secret cannot be used.
type Secret = Result<(Signer, Option<i64>), String>;

/// Reads secrets, each with its subscription, in the order of these.
async fn secrets(
    client: &Transaction<'_>,
    store: &SecretStore,
    statement: &str,
    params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Vec<(i64, Secret)>, tokio_postgres::Error> {
    let (mut rows, mut secrets) = (client.query_rows(statement, params).await?, Vec::new());
    while let Some(row) = rows.next().await? {
        let (id, text, expiry): (i64, &str, Option<Micros>) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let secret = match store.resolve(id, text) {
            Ok(key) => Ok((key.signer(), expiry.map(|at| at.0))),
            Err(error) => {
                warn!(subscription_id = id, %error, "subscription.secret_unusable");
                Err(format!("secret: {error}"))
            }
        };
        secrets.push((id, secret));
    }
    Ok(secrets)
}

/// Reads the event types that are internal.
///
/// # Errors
/// The errors of the connection.
pub async fn internal_types(
    client: &Transaction<'_>,
    schema: Schema,
) -> Result<InternalTypes, tokio_postgres::Error> {
    if schema.is_outdated() {
        return Ok(InternalTypes::new());
    }
    let rows = client.query(INTERNAL_TYPES, &[]).await?;
    rows.iter().map(|row| Ok(row.try_get::<_, &str>(0)?.into())).collect()
}

/// The secrets of one subscription.
#[derive(Default)]
struct Secrets {
    signers: Vec<Signer>,
    expiries_us: Vec<Option<i64>>,
    /// What is wrong with the newest secret that cannot be used.
    problem: Option<String>,
}

impl Secrets {
    fn add(&mut self, secret: Secret) {
        match secret {
            Ok((signer, expiry_us)) => {
                self.signers.push(signer);
                self.expiries_us.push(expiry_us);
            }
            Err(problem) => drop(self.problem.get_or_insert(problem)),
        }
    }
}

/// Values that many subscriptions have in common. They share the memory.
#[derive(Default)]
struct CommonValues {
    owners: HashSet<Arc<str>>,
    patterns: HashSet<Arc<[Pattern]>>,
    retries: HashSet<Arc<[Duration]>>,
}

/// Returns the known value that equals this one, which becomes known.
fn share<T: ?Sized + Eq + Hash>(known: &mut HashSet<Arc<T>>, value: &T) -> Arc<T>
where
    Arc<T>: for<'a> From<&'a T>,
{
    if let Some(known) = known.get(value) {
        return Arc::clone(known);
    }
    let value = Arc::from(value);
    known.insert(Arc::clone(&value));
    value
}

fn duration(us: i64) -> Duration {
    Duration::from_micros(us.max(0).unsigned_abs())
}

/// Parses the patterns of a subscription. One that is not valid is left out, with a warning.
fn patterns(id: i64, texts: &[Option<&str>]) -> Vec<Pattern> {
    let parse = |text: &&str| match Pattern::parse(text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            warn!(subscription_id = id, pattern = text, %error, "subscription.pattern_unusable");
            None
        }
    };
    texts.iter().flatten().filter_map(parse).collect()
}

fn subscription(
    row: &Row,
    secrets: Secrets,
    shared: &mut CommonValues,
) -> Result<Subscription, tokio_postgres::Error> {
    let (id, url): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
    let mut problem = None;
    let url = Url::parse(url)
        .inspect_err(|error| {
            warn!(subscription_id = id, %error, "subscription.url_unusable");
            problem = Some(format!("URL: {error}"));
        })
        .ok();
    // A subscription with an unknown signature profile is held. It is never sent unsigned.
    let profiles = Profiles::parse(row.try_get::<_, Vec<Option<&str>>>(20)?.into_iter().flatten());
    let url = match &profiles {
        Ok(_) => url,
        Err(error) => {
            warn!(subscription_id = id, %error, "subscription.signature_unusable");
            problem = Some(format!("signature: {error}"));
            None
        }
    };
    let profiles = profiles.unwrap_or_default();
    let created: &str = row.try_get(7)?;
    let created_snapshot = created.parse().unwrap_or_else(|error| {
        warn!(subscription_id = id, %error, "subscription.snapshot_unusable");
        Snapshot::beginning()
    });
    let (format, payload_mode): (&str, &str) = (row.try_get(10)?, row.try_get(11)?);
    let Headers { map: headers, names: header_names } =
        row.try_get::<_, Option<&str>>(12)?.map(|text| headers(id, text)).unwrap_or_default();
    let exclude_origin: Vec<Option<&str>> = row.try_get(9)?;
    let verification: &str = row.try_get(13)?;
    let retry: Vec<Duration> = row.try_get::<_, Intervals>(5)?.0.into_iter().map(duration).collect();
    let Secrets { signers, expiries_us, problem: of_secret } = secrets;
    if !profiles.can_sign(&signers) {
        warn!(subscription_id = id, "subscription.has_no_fitting_secret");
        let none = || "there is no key for one of the signatures".to_owned();
        problem = problem.or(of_secret).or_else(|| Some(none()));
    }
    Ok(Subscription {
        id,
        name: row.try_get::<_, Option<Text>>(22)?.map(|Text(name)| name.into()),
        owner: share(&mut shared.owners, &row.try_get::<_, Text>(23)?.0),
        // The table's CHECK allows no other words.
        scope: Scope::parse(row.try_get(27)?).unwrap_or_default(),
        url: url.map(Arc::new),
        patterns: share(&mut shared.patterns, &patterns(id, &row.try_get::<_, Vec<_>>(2)?)),
        enabled: row.try_get(3)?,
        failures_reset_us: row.try_get::<_, Option<Micros>>(24)?.map(|at| at.0),
        timeout: duration(row.try_get::<_, Interval>(4)?.0),
        retry: share(&mut shared.retries, &retry),
        max_in_flight: row.try_get::<_, i32>(6)?.max(1).unsigned_abs() as usize,
        created_snapshot,
        filter: row.try_get::<_, Option<&str>>(8)?.map(Arc::from),
        has_slow_filter: false,
        exclude_origin: exclude_origin.into_iter().flatten().map(Box::from).collect(),
        shape: Shape {
            // The table's CHECKs allow no other words.
            format: Format::parse(format).unwrap_or_default(),
            payload_mode: PayloadMode::parse(payload_mode).unwrap_or_default(),
        },
        headers,
        header_names,
        verification: Verification::parse(verification).unwrap_or_default(),
        is_verified: row.try_get(14)?,
        ordering: Ordering::parse(row.try_get(15)?).unwrap_or_default(),
        rate_limit: row.try_get::<_, Option<f64>>(16)?.filter(|rate| *rate > 0.0),
        batch_size: row.try_get::<_, i32>(17)?.max(1).unsigned_abs() as usize,
        batch_window: duration(row.try_get::<_, Interval>(18)?.0),
        compact: row.try_get(19)?,
        profiles,
        tls: row.try_get::<_, Option<&str>>(21)?.map(Arc::from),
        response: ResponseRule {
            // The column is jsonb, so the text is JSON.
            expected: row
                .try_get::<_, Option<&str>>(25)?
                .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
                .map(Arc::new),
            is_kept: row.try_get(26)?,
        },
        problem: problem.map(Arc::from),
        signers: signers.into(),
        expiries_us: match expiries_us.iter().all(Option::is_none) {
            true => Box::default(),
            false => expiries_us.into(),
        },
    })
}

/// The additional request headers, and those names that contain upper case.
#[derive(Default)]
struct Headers {
    map: Option<Arc<HeaderMap>>,
    names: Option<Arc<[Box<str>]>>,
}

/// Parses the additional request headers. A header that is not allowed is left out, with a warning
/// that contains its name and not its value.
fn headers(id: i64, text: &str) -> Headers {
    let Parsed { map, names, left_out } = headers::parse(text);
    for LeftOut { name, why } in left_out {
        warn!(subscription_id = id, header = name, why, "subscription.header_left_out");
    }
    Headers {
        map: (!map.is_empty()).then(|| Arc::new(map)),
        names: (!names.is_empty()).then(|| names.into()),
    }
}
