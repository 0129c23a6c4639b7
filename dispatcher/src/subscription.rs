//! A row of `webhook.subscription` with its valid secrets: who gets which events, and how.
//!
//! The module reads the two tables. It never logs the path of a URL, or a secret.

use crate::{
    delivery::{
        headers::{self, LeftOut},
        shape::{Format, PayloadMode, Shape},
    },
    outbox::snapshot::Snapshot,
    postgres::{Transaction, value::Micros},
    secret_store::SecretStore,
    verification::Verification,
};
use event_type::Pattern;
use hyper::HeaderMap;
use signature::{Profiles, Signer};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio_postgres::Row;
use tracing::warn;
use url::Url;

/// The order of deliveries. The CHECK `ordering_is_known` has the same list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ordering {
    /// No delivery waits for another.
    #[default]
    None,
    /// An event waits for the previous event of its key.
    Key,
    /// An event waits for the previous event.
    Strict,
}

impl Ordering {
    /// Every ordering, in the order of the CHECK.
    pub const ALL: [Self; 3] = [Self::None, Self::Key, Self::Strict];

    /// Returns the word in `webhook.subscription.ordering`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Key => "key",
            Self::Strict => "strict",
        }
    }

    /// Returns the ordering with this name, or `None` if there is none.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ordering| ordering.as_str() == word)
    }
}

/// A subscription as the daemon uses it.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub id: i64,
    /// `None` if deliveries are not possible (the log has the reason). The subscription is then
    /// held like a paused one.
    pub url: Option<Arc<Url>>,
    pub patterns: Vec<Pattern>,
    pub enabled: bool,
    /// Time limit for a whole attempt.
    pub timeout: Duration,
    /// Waits after the first, second, … failed attempt.
    pub retry: Box<[Duration]>,
    pub in_flight_max: usize,
    /// Events that are visible in this snapshot were committed before the subscription, and do not
    /// match.
    pub created_snapshot: Snapshot,
    /// A SQL/JSON path that Postgres evaluates. An event that does not match is not delivered.
    pub filter: Option<Arc<str>>,
    /// The filter exceeds its time limit. The subscription is held, and no filter is evaluated.
    pub has_overdue_filter: bool,
    /// Events of these origins do not match.
    pub exclude_origin: Box<[Box<str>]>,
    pub shape: Shape,
    /// Additional request headers, without any of ours. `None` if there are none.
    pub headers: Option<Arc<HeaderMap>>,
    pub verification: Verification,
    /// The receiver has confirmed, if it must confirm.
    pub is_verified: bool,
    pub ordering: Ordering,
    /// Maximum number of requests a second: the configured limit, or the rate that the receiver has
    /// granted, the lower of both.
    pub rate_limit: Option<f64>,
    /// Maximum number of events in one request. Above 1, the body is an array.
    pub batch_size: usize,
    /// How long an event may wait for others to fill the request.
    pub batch_window: Duration,
    /// Several undelivered changes of one key become one event.
    pub compact: bool,
    /// How requests are signed.
    pub profiles: Profiles,
    /// Name of the client certificates for this receiver. `None` for the default ones.
    pub tls: Option<Arc<str>>,
    /// Why this daemon cannot use the subscription and holds it, in words for people.
    pub problem: Option<Arc<str>>,
    pub(crate) signers: Arc<[Signer]>,
    /// For each secret, newest first: until when it signs, in microseconds since 1970.
    pub(crate) expiries_us: Box<[Option<i64>]>,
}

impl Subscription {
    /// Reports whether attempts may be made now. If not, matches are kept in the queue.
    pub fn is_open(&self) -> bool {
        self.enabled
            && self.is_confirmed()
            && self.url.is_some()
            && self.can_sign()
            && !self.has_overdue_filter
    }

    /// Reports whether the subscription has the keys that its signature profiles need.
    pub fn can_sign(&self) -> bool {
        self.profiles.can_sign(&self.signers)
    }

    /// Reports whether its receiver has confirmed, or need not confirm.
    pub fn is_confirmed(&self) -> bool {
        self.verification == Verification::None || self.is_verified
    }

    /// Reports whether events of this origin match.
    pub fn takes_origin(&self, origin: Option<&str>) -> bool {
        origin.is_none_or(|origin| !self.exclude_origin.iter().any(|excluded| **excluded == *origin))
    }

    /// Returns the secrets that sign at this moment, newest first.
    pub fn signers(&self, now_us: i64) -> Arc<[Signer]> {
        if self.expiries_us.iter().all(|expiry| expiry.is_none_or(|at| at > now_us)) {
            return Arc::clone(&self.signers);
        }
        let live = self.signers.iter().zip(&self.expiries_us);
        live.filter(|(_, expiry)| expiry.is_none_or(|at| at > now_us))
            .map(|(signer, _)| signer.clone())
            .collect()
    }
}

/// All subscriptions at one moment, by id.
pub type Subscriptions = HashMap<i64, Arc<Subscription>>;

/// A subscription in its present state. `None` if it was deleted.
pub type Changed = (i64, Option<Arc<Subscription>>);

/// A new version of the table of subscriptions. Each part of the daemon that needs the table keeps
/// its own. So the cost of a change does not depend on the number of subscriptions.
#[derive(Debug, Clone)]
pub enum Update {
    All(Arc<Subscriptions>),
    /// These subscriptions have changed. All others are the same.
    Only(Arc<[Changed]>),
}

impl Update {
    /// Returns the update after these subscriptions have been read again. Subscriptions that are
    /// not among the loaded ones are gone.
    pub fn of(ids: &[i64], mut loaded: Subscriptions) -> Self {
        Self::Only(ids.iter().map(|id| (*id, loaded.remove(id))).collect())
    }

    /// Returns the subscriptions that differ from those of a table.
    pub fn differences(&self, old: &Subscriptions) -> Vec<Changed> {
        match self {
            Self::Only(changed) => changed.to_vec(),
            Self::All(new) => {
                let gone = old.keys().filter(|id| !new.contains_key(id)).map(|id| (*id, None));
                let is_other =
                    |id, subscription| !old.get(id).is_some_and(|old| Arc::ptr_eq(old, subscription));
                let other = new.iter().filter(|(id, subscription)| is_other(*id, *subscription));
                gone.chain(other.map(|(id, subscription)| (*id, Some(Arc::clone(subscription))))).collect()
            }
        }
    }
}

const SUBSCRIPTIONS: &str = "
    select s.id, s.url, array_remove(s.events, null), s.enabled, (extract(epoch from s.timeout) * 1000000)::bigint,
           array(select (extract(epoch from r.wait) * 1000000)::bigint
                 from unnest(s.retry) with ordinality as r (wait, at)
                 where r.wait is not null order by r.at),
           s.max_in_flight, s.created_snapshot::text, s.filter::text, array_remove(s.exclude_origin, null), s.format,
           s.payload_mode, nullif(s.headers::text, '{}'), s.verification, s.verified_at is not null,
           s.ordering, least(s.rate_limit, r.allowed_rate)::float8, s.batch_size,
           (extract(epoch from s.batch_window) * 1000000)::bigint, s.compact, array_remove(s.signature, null), s.tls
    from webhook.subscription s left join webhook.receiver r on r.subscription_id = s.id
    where $1::bigint[] is null or s.id = any ($1)";

const SECRETS: &str = "
    select subscription_id, secret, expires_at from webhook.secret
    where (expires_at is null or expires_at > now()) and ($1::bigint[] is null or subscription_id = any ($1))
    order by id desc";

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
                by_subscription.entry(id).or_default().problem.get_or_insert(format!("its secret: {error}"));
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
            problem = Some(format!("its URL: {error}"));
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
            problem = Some(format!("its signature: {error}"));
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
    let headers = row.try_get::<_, Option<&str>>(12)?.and_then(|text| headers(id, text));
    let exclude_origin: Vec<&str> = row.try_get(9)?;
    let verification: &str = row.try_get(13)?;
    let duration = |us: i64| Duration::from_micros(us.max(0).unsigned_abs());
    let (signers, expiries_us): (Vec<_>, Vec<_>) = secrets.signers.into_iter().unzip();
    if !profiles.can_sign(&signers) {
        warn!(subscription_id = id, "subscription.has_no_fitting_secret");
        let none = || "there is no key for one of its signatures".to_owned();
        problem = problem.or(secrets.problem).or_else(|| Some(none()));
    }
    Ok(Subscription {
        id,
        url: url.map(Arc::new),
        patterns,
        enabled: row.try_get(3)?,
        timeout: duration(timeout_us),
        retry: retry_us.into_iter().map(duration).collect(),
        in_flight_max: row.try_get::<_, i32>(6)?.max(1).unsigned_abs() as usize,
        created_snapshot,
        filter: row.try_get::<_, Option<&str>>(8)?.map(Arc::from),
        has_overdue_filter: false,
        exclude_origin: exclude_origin.into_iter().map(Box::from).collect(),
        shape: Shape {
            // The table's CHECKs allow no other words.
            format: Format::parse(format).unwrap_or_default(),
            payload_mode: PayloadMode::parse(payload_mode).unwrap_or_default(),
        },
        headers,
        verification: Verification::parse(verification).unwrap_or_default(),
        is_verified: row.try_get(14)?,
        ordering: Ordering::parse(row.try_get(15)?).unwrap_or_default(),
        rate_limit: row.try_get::<_, Option<f64>>(16)?.filter(|rate| *rate > 0.0),
        batch_size: row.try_get::<_, i32>(17)?.max(1).unsigned_abs() as usize,
        batch_window: duration(row.try_get(18)?),
        compact: row.try_get(19)?,
        profiles,
        tls: row.try_get::<_, Option<&str>>(21)?.map(Arc::from),
        problem: problem.map(Arc::from),
        signers: signers.into(),
        expiries_us: expiries_us.into(),
    })
}

/// Parses the additional request headers. A header that is not allowed is left out, with a warning
/// that contains its name and not its value.
fn headers(id: i64, text: &str) -> Option<Arc<HeaderMap>> {
    let (map, left_out) = headers::parse(text);
    for LeftOut { name, why } in left_out {
        warn!(subscription_id = id, header = name, why, "subscription.header_left_out");
    }
    (!map.is_empty()).then(|| Arc::new(map))
}

#[cfg(test)]
impl Subscription {
    /// Returns an open subscription to everything, for tests to vary.
    pub fn sample(id: i64) -> Self {
        Self {
            id,
            url: Some(Arc::new(Url::parse("http://127.0.0.1:9/hook").unwrap())),
            patterns: vec![Pattern::All],
            enabled: true,
            timeout: Duration::from_secs(15),
            retry: [5, 300].map(Duration::from_secs).into(),
            in_flight_max: 512,
            created_snapshot: Snapshot::beginning(),
            filter: None,
            has_overdue_filter: false,
            exclude_origin: Box::default(),
            shape: Shape::default(),
            headers: None,
            verification: Verification::None,
            is_verified: false,
            ordering: Ordering::None,
            rate_limit: None,
            batch_size: 1,
            batch_window: Duration::ZERO,
            compact: false,
            profiles: Profiles::default(),
            tls: None,
            problem: None,
            signers: [signature::Secret::from_key(&[7; 32]).unwrap().signer()].into(),
            expiries_us: [None].into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signature::Secret;

    #[test]
    fn a_subscription_is_open_once_its_receiver_has_confirmed() {
        let with =
            |verification, is_verified| Subscription { verification, is_verified, ..Subscription::sample(1) };
        assert!(with(Verification::None, false).is_open());
        for verification in [Verification::Ping, Verification::Handshake] {
            assert!(!with(verification, false).is_open());
            assert!(with(verification, true).is_open());
            assert!(!Subscription { enabled: false, ..with(verification, true) }.is_open());
        }
    }

    #[test]
    fn the_check_constraint_knows_the_same_orderings() {
        let sql = include_str!("../../sql/subscription.sql");
        let check = sql.split("ordering_is_known check").nth(1).unwrap().split("))").next().unwrap();
        let words: Vec<_> = check.split('\'').skip(1).step_by(2).collect();
        assert_eq!(words, Ordering::ALL.map(Ordering::as_str));
        assert!(Ordering::ALL.iter().all(|ordering| Ordering::parse(ordering.as_str()) == Some(*ordering)));
    }

    #[test]
    fn an_expired_secret_no_longer_signs() {
        let signer = |byte| Secret::from_key(&[byte; 32]).unwrap().signer();
        let subscription = Subscription {
            signers: [signer(1), signer(2)].into(),
            expiries_us: [None, Some(1000)].into(),
            ..Subscription::sample(1)
        };
        assert_eq!(subscription.signers(999).len(), 2);
        let live = subscription.signers(1000);
        assert_eq!(live.len(), 1);
        assert_eq!(live[0].sign("a", 1, b""), signer(1).sign("a", 1, b""));
    }

    #[test]
    fn changed_subscriptions_are_replaced_added_or_gone() {
        let table = |ids: &[i64]| -> Subscriptions {
            ids.iter().map(|id| (*id, Arc::new(Subscription::sample(*id)))).collect()
        };
        let (old, mut loaded) = (table(&[1, 2, 3]), table(&[2, 4]));
        let ids = |changed: &[Changed]| {
            let mut ids: Vec<(i64, bool)> =
                changed.iter().map(|(id, subscription)| (*id, subscription.is_some())).collect();
            ids.sort_unstable();
            ids
        };
        let update = Update::of(&[2, 3, 4], loaded.clone());
        assert_eq!(ids(&update.differences(&old)), [(2, true), (3, false), (4, true)]);
        loaded.insert(1, Arc::clone(&old[&1]));
        let update = Update::All(Arc::new(loaded));
        assert_eq!(ids(&update.differences(&old)), [(2, true), (3, false), (4, true)]);
    }
}
