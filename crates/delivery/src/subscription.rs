//! A row of `webhook.subscription` with its valid secrets: who gets which events, and how. Pure.

use crate::{
    event::Event,
    response::ResponseRule,
    scope::{Audience, InternalTypes, Scope, includes},
    shape::Shape,
    snapshot::Snapshot,
};
use event_type::{Pattern, is_reserved};
use http::HeaderMap;
use signature::{Profiles, Signer};
use std::{collections::HashMap, sync::Arc, time::Duration};
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

/// How a receiver confirms. The CHECK `verification_is_known` has the same list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verification {
    /// No confirmation is needed.
    #[default]
    None,
    /// The receiver answers a signed `webhook.ping` with 2xx.
    Ping,
    /// The receiver answers the OPTIONS request of CloudEvents' abuse protection.
    Handshake,
}

impl Verification {
    /// Every kind, in the order of the CHECK.
    pub const ALL: [Self; 3] = [Self::None, Self::Ping, Self::Handshake];

    /// Returns the word in `webhook.subscription.verification`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ping => "ping",
            Self::Handshake => "handshake",
        }
    }

    /// Returns the kind with this name, or `None` if there is none.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A subscription as the daemon uses it.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub id: i64,
    pub name: Option<Arc<str>>,
    /// Role or tenant that it belongs to. Owners share the daemon fairly.
    pub owner: Arc<str>,
    pub scope: Scope,
    /// `None` if deliveries are not possible (the log has the reason). The subscription is then
    /// held like a paused one.
    pub url: Option<Arc<Url>>,
    pub patterns: Arc<[Pattern]>,
    pub enabled: bool,
    /// When the past failures of the receiver were last forgotten, in microseconds since 1970.
    pub failures_reset_us: Option<i64>,
    /// Time limit for a whole attempt.
    pub timeout: Duration,
    /// Waits after the first, second, … failed attempt.
    pub retry: Arc<[Duration]>,
    pub max_in_flight: usize,
    /// Events that are visible in this snapshot were committed before the subscription, and do not
    /// match.
    pub created_snapshot: Snapshot,
    /// A SQL/JSON path that Postgres evaluates. An event that does not match is not delivered.
    pub filter: Option<Arc<str>>,
    /// The filter exceeds its time limit. The subscription is held, and no filter is evaluated.
    pub has_slow_filter: bool,
    /// Events of these origins do not match.
    pub exclude_origin: Box<[Box<str>]>,
    pub shape: Shape,
    /// Additional request headers, without any of ours. `None` if there are none.
    pub headers: Option<Arc<HeaderMap>>,
    /// Names of those headers that contain upper case, as they are spelled. `None` if there are
    /// none.
    pub header_names: Option<Arc<[Box<str>]>>,
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
    /// Merges several undelivered changes of one key into one event.
    pub compact: bool,
    /// How requests are signed.
    pub profiles: Profiles,
    /// Name of the client certificates for this receiver. `None` for the default ones.
    pub tls: Option<Arc<str>>,
    pub response: ResponseRule,
    /// Why this daemon cannot use the subscription and holds it, in words for people.
    pub problem: Option<Arc<str>>,
    pub signers: Arc<[Signer]>,
    /// For each secret, newest first: until when it signs, in microseconds since 1970. Empty if
    /// none expires.
    pub expiries_us: Box<[Option<i64>]>,
}

impl Subscription {
    /// Reports whether attempts may be made now. If not, matches are kept in the queue.
    pub fn is_open(&self) -> bool {
        self.enabled && self.is_confirmed() && self.url.is_some() && self.can_sign() && !self.has_slow_filter
    }

    /// Reports whether the subscription has the keys that its signature profiles need.
    pub fn can_sign(&self) -> bool {
        self.profiles.can_sign(&self.signers)
    }

    /// Reports whether its receiver has confirmed, or need not confirm.
    pub fn is_confirmed(&self) -> bool {
        self.verification == Verification::None || self.is_verified
    }

    /// Returns whose events match.
    pub fn audience(&self) -> Audience {
        Audience { owner: Arc::clone(&self.owner), scope: self.scope }
    }

    /// Reports whether an event may be delivered to the subscription as it is now. An event of
    /// pg_webhook for this subscription alone, such as a ping, always may. A snapshot for one
    /// subscription is a row, which belongs to an owner.
    pub fn may_get(&self, event: &Event, internal: &InternalTypes) -> bool {
        self.scope == Scope::All
            || event.subscription_id == Some(self.id) && is_reserved(&event.event_type)
            || includes((&self.owner, self.scope), event, internal.contains(&event.event_type))
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

/// Reports whether deliveries of the subscription wait for one another.
pub fn has_order(subscription: &Subscription) -> bool {
    subscription.ordering != Ordering::None || subscription.compact
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

#[cfg(any(test, feature = "samples"))]
impl Subscription {
    /// Returns an open subscription to everything, for tests to vary.
    pub fn sample(id: i64) -> Self {
        Self {
            id,
            owner: Arc::from("owner"),
            scope: Scope::All,
            name: None,
            url: Some(Arc::new(Url::parse("http://127.0.0.1:9/hook").unwrap())),
            patterns: [Pattern::All].into(),
            enabled: true,
            failures_reset_us: None,
            timeout: Duration::from_secs(15),
            retry: [5, 300].map(Duration::from_secs).into(),
            max_in_flight: 512,
            created_snapshot: Snapshot::beginning(),
            filter: None,
            has_slow_filter: false,
            exclude_origin: Box::default(),
            shape: Shape::default(),
            headers: None,
            header_names: None,
            verification: Verification::None,
            is_verified: false,
            ordering: Ordering::None,
            rate_limit: None,
            batch_size: 1,
            batch_window: Duration::ZERO,
            compact: false,
            profiles: Profiles::default(),
            tls: None,
            response: ResponseRule::default(),
            problem: None,
            signers: [signature::Secret::from_key(&[7; 32]).unwrap().signer()].into(),
            expiries_us: Box::default(),
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

    /// A daemon can have a hundred thousand of them.
    #[test]
    fn a_subscription_is_small() {
        assert!(size_of::<Subscription>() <= 344, "{}", size_of::<Subscription>());
    }

    #[test]
    fn the_check_constraint_knows_the_same_orderings() {
        let sql = include_str!("../../../sql/subscription.sql");
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
