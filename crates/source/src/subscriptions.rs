//! Reads `webhook.subscription` and `webhook.secret`. It never logs the path of a URL, or a secret.

use crate::secret_store::SecretStore;
use database::{Text, Transaction, schema::Schema, value::Micros};
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
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio_postgres::Row;
use tracing::warn;
use url::Url;

const SUBSCRIPTIONS: &str = include_str!("sql/subscriptions.sql");

const SECRETS: &str = include_str!("sql/subscriptions_secrets.sql");

const INTERNAL_TYPES: &str = "select t.type from webhook.event_type t where t.internal";

/// Reads subscriptions and their secrets in this transaction, all of them (`None`) or some. The
/// store resolves the secrets.
///
/// # Errors
/// The errors of the connection. A row that is not valid is held, with a warning, and is not an
/// error.
pub async fn load(
    client: &Transaction<'_>,
    secrets: &SecretStore,
    ids: Option<&[i64]>,
) -> Result<Subscriptions, tokio_postgres::Error> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&ids];
    let (rows, texts) =
        futures_util::try_join!(client.query(SUBSCRIPTIONS, &params), client.query(SECRETS, &params))?;
    let mut by_subscription: HashMap<i64, Secrets> = HashMap::new();
    for row in &texts {
        let (id, text, expiry): (i64, &str, Option<Micros>) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        match secrets.resolve(id, text) {
            Ok(key) => {
                by_subscription.entry(id).or_default().signers.push((key.signer(), expiry.map(|at| at.0)));
            }
            Err(error) => {
                warn!(subscription_id = id, %error, "subscription.secret_unusable");
                by_subscription.entry(id).or_default().problem.get_or_insert(format!("secret: {error}"));
            }
        }
    }
    rows.iter()
        .map(|row| {
            let id = row.try_get(0)?;
            Ok((id, Arc::new(subscription(row, by_subscription.remove(&id).unwrap_or_default())?)))
        })
        .collect()
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
    /// Each with its end, in microseconds since 1970.
    signers: Vec<(Signer, Option<i64>)>,
    /// What is wrong with the newest secret that cannot be used.
    problem: Option<String>,
}

fn subscription(row: &Row, secrets: Secrets) -> Result<Subscription, tokio_postgres::Error> {
    let (id, url): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
    let (timeout_us, retry_us): (i64, Vec<i64>) = (row.try_get(4)?, row.try_get(5)?);
    let mut problem = None;
    let url = Url::parse(url)
        .inspect_err(|error| {
            warn!(subscription_id = id, %error, "subscription.url_unusable");
            problem = Some(format!("URL: {error}"));
        })
        .ok();
    let mut patterns = Vec::new();
    for text in row.try_get::<_, Vec<&str>>(2)? {
        match Pattern::parse(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                warn!(subscription_id = id, pattern = text, %error, "subscription.pattern_unusable")
            }
        }
    }
    // A subscription with an unknown signature profile is held. It is never sent unsigned.
    let profiles = Profiles::parse(row.try_get::<_, Vec<&str>>(20)?);
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
    let exclude_origin: Vec<&str> = row.try_get(9)?;
    let verification: &str = row.try_get(13)?;
    let duration = |us: i64| Duration::from_micros(us.max(0).unsigned_abs());
    let (signers, expiries_us): (Vec<_>, Vec<_>) = secrets.signers.into_iter().unzip();
    if !profiles.can_sign(&signers) {
        warn!(subscription_id = id, "subscription.has_no_fitting_secret");
        let none = || "there is no key for one of the signatures".to_owned();
        problem = problem.or(secrets.problem).or_else(|| Some(none()));
    }
    Ok(Subscription {
        id,
        name: row.try_get::<_, Option<Text>>(22)?.map(|Text(name)| name.into()),
        owner: row.try_get::<_, Text>(26)?.0.into(),
        // The table's CHECK allows no other words.
        scope: Scope::parse(row.try_get(27)?).unwrap_or_default(),
        url: url.map(Arc::new),
        patterns,
        enabled: row.try_get(3)?,
        failures_reset_us: row.try_get::<_, Option<Micros>>(23)?.map(|at| at.0),
        timeout: duration(timeout_us),
        retry: retry_us.into_iter().map(duration).collect(),
        max_in_flight: row.try_get::<_, i32>(6)?.max(1).unsigned_abs() as usize,
        created_snapshot,
        filter: row.try_get::<_, Option<&str>>(8)?.map(Arc::from),
        has_slow_filter: false,
        exclude_origin: exclude_origin.into_iter().map(Box::from).collect(),
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
        batch_window: duration(row.try_get(18)?),
        compact: row.try_get(19)?,
        profiles,
        tls: row.try_get::<_, Option<&str>>(21)?.map(Arc::from),
        response: ResponseRule {
            // The column is jsonb, so the text is JSON.
            expected: row
                .try_get::<_, Option<&str>>(24)?
                .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
                .map(Arc::new),
            is_kept: row.try_get(25)?,
        },
        problem: problem.map(Arc::from),
        signers: signers.into(),
        expiries_us: expiries_us.into(),
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
