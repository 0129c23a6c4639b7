//! Asks receivers for confirmation until they confirm. A receiver that must confirm gets no events
//! before.
//!
//! The reader passes the subscriptions to this module. It sends requests through the sender and
//! calls `webhook.confirm_subscription()`. Confirmations are rare, so each one opens its own
//! connection. The resulting change of the subscription comes back through the outbox and opens its
//! send queue; this module touches no send queue.
//!
//! It also writes to `webhook.receiver` why a subscription is held, so the log is not the only
//! place to find the reason.

mod handshake;
mod held;
mod ping;
mod schedule;
use delivery::{
    feed::VerificationInput,
    identity::Identity,
    subscription::{Subscription, Verification},
};

use database::{self, Purpose, Target, Watch, chain};
use handshake::Unconfirmed;
use held::{Held, HeldUpdate};
use schedule::Schedule;
use sender::Sender;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};
use url::Url;

/// Maximum number of receivers that are asked at the same time.
const ASKED_MAX: usize = 16;

/// Time until reasons are written that could not be written, because another session had locked
/// their subscriptions.
const LOCKED_INTERVAL: Duration = Duration::from_secs(1);

/// Writes why subscriptions are held, and returns those that another session has locked. A user
/// may hold such a lock for long, and this task serves all subscriptions.
const HELD: &str = include_str!("sql/verification_held.sql");
const NOT_HELD: &str = include_str!("sql/verification_not_held.sql");

/// The same for the previous schema, which may wait.
const HELD_0_2: &str = include_str!("sql/verification_held_0_2.sql");
const NOT_HELD_0_2: &str = "
    update webhook.receiver set held_because = null, updated_at = clock_timestamp()
    where held_because is not null and subscription_id <> all ($1::bigint[])";

/// A request for confirmation has one of [`ASKED_MAX`] places, and does not keep it for a lock.
const SESSION: &str = "set lock_timeout = '1s'";
const IS_CURRENT: &str = "select to_regproc('webhook.subscription_lockers') is not null";

/// The resources that a request for confirmation needs.
pub struct VerificationContext<S> {
    pub sender: Arc<S>,
    pub identity: Arc<Identity>,
    pub database: Target,
}

impl<S> Clone for VerificationContext<S> {
    fn clone(&self) -> Self {
        Self {
            sender: Arc::clone(&self.sender),
            identity: Arc::clone(&self.identity),
            database: self.database.clone(),
        }
    }
}

/// The answer of a receiver.
type Confirmation = (Arc<Subscription>, Result<(), Unconfirmed>);

/// Asks receivers until the reader closes the channel. Requests in progress are then dropped.
pub async fn run<S: Sender>(
    context: VerificationContext<S>,
    mut told: mpsc::UnboundedReceiver<VerificationInput>,
) {
    let epoch = Instant::now();
    let mut schedule = Schedule::default();
    let mut asked: JoinSet<Confirmation> = JoinSet::new();
    let (mut held, mut writing): (Held, JoinSet<Option<HeldUpdate>>) = (Held::default(), JoinSet::new());
    // After a failed write, wait for the next table of subscriptions. Postgres is unreachable, and
    // the reader sends the whole table once Postgres is back.
    let mut may_write = false;
    let mut write_at = epoch;
    loop {
        for subscription in schedule.take_due(epoch.elapsed(), ASKED_MAX - asked.len()) {
            asked.spawn(context.clone().ask(subscription));
        }
        let now = Instant::now();
        if may_write
            && writing.is_empty()
            && write_at <= now
            && let Some(change) = held.change()
        {
            let context = context.clone();
            writing.spawn(async move { context.write_held(change).await });
        }
        // At the maximum, only an answer makes room for the next request.
        let next = schedule.next().filter(|_| asked.len() < ASKED_MAX).map(|at| epoch + at);
        let next = next.into_iter().chain(Some(write_at).filter(|at| *at > now)).min();
        tokio::select! {
            some = told.recv() => match some {
                Some(VerificationInput::Subscriptions(update)) => {
                    schedule.update(&update, epoch.elapsed());
                    held.look(&update);
                    may_write = true;
                }
                Some(VerificationInput::Wanted(id)) => schedule.want(id, epoch.elapsed()),
                None => return,
            },
            Some(Ok(written)) = writing.join_next() => match written {
                Some(change) => {
                    if !change.locked.is_empty() {
                        write_at = Instant::now() + LOCKED_INTERVAL;
                    }
                    held.written(change);
                }
                None => may_write = false,
            },
            Some(Ok((subscription, answer))) = asked.join_next() => {
                held.asked(subscription.id, answer.as_ref().err().map(|why| chain(why).to_string()).as_deref());
                note(&mut schedule, &subscription, answer, epoch.elapsed());
            }
            () = wait_until(next) => {}
        }
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn note(
    schedule: &mut Schedule,
    subscription: &Arc<Subscription>,
    answer: Result<(), Unconfirmed>,
    now: Duration,
) {
    let id = subscription.id;
    match answer {
        Ok(()) => {
            info!(subscription_id = id, "subscription.confirmed");
            schedule.confirmed(subscription);
        }
        Err(why) => {
            let next = schedule.failed(subscription, now, fastrand::f64());
            let again_in_s = next.map(|at| at.saturating_sub(now).as_secs());
            warn!(subscription_id = id, why = chain(&why), again_in_s, "subscription.unconfirmed");
        }
    }
}

/// Reports whether a subscription has a receiver to ask and needs a confirmation.
fn is_to_be_asked(subscription: &Subscription) -> bool {
    let signs = subscription.can_sign() || subscription.verification == Verification::Handshake;
    subscription.enabled && !subscription.is_confirmed() && subscription.url.is_some() && signs
}

impl<S: Sender> VerificationContext<S> {
    async fn ask(self, subscription: Arc<Subscription>) -> Confirmation {
        let answer = self.confirm(&subscription).await;
        (subscription, answer)
    }

    async fn confirm(&self, subscription: &Subscription) -> Result<(), Unconfirmed> {
        let url = subscription.url.clone().ok_or(Unconfirmed::Changed)?;
        let per_minute = match subscription.verification {
            Verification::None => return Ok(()),
            Verification::Ping => ping::ask(&*self.sender, &self.identity, subscription, &url).await?,
            Verification::Handshake => {
                handshake::ask(&*self.sender, &self.identity, subscription, &url).await?
            }
        };
        match self.write(subscription.id, &url, per_minute).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unconfirmed::Changed),
            Err(error) => Err(Unconfirmed::Unwritten(error)),
        }
    }

    /// Writes why subscriptions are held. Returns the change if it was written.
    async fn write_held(self, mut change: HeldUpdate) -> Option<HeldUpdate> {
        let written = async {
            let client = database::connect(&self.database, Purpose::Command, Watch::default()).await?;
            let is_current: bool = client.query_one(IS_CURRENT, &[]).await?.try_get(0)?;
            let (held, not_held) = if is_current { (HELD, NOT_HELD) } else { (HELD_0_2, NOT_HELD_0_2) };
            let locked = client.query(held, &[&change.ids, &change.reasons]).await?;
            if change.is_whole {
                client.execute(not_held, &[&change.ids]).await?;
            }
            locked.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, tokio_postgres::Error>>()
        };
        match written.await {
            Ok(locked) => {
                change.locked = locked;
                Some(change)
            }
            Err(error) => {
                debug!(error = chain(&error), "held.unwritten");
                None
            }
        }
    }

    /// Writes the confirmation. Returns false if the subscription now has another receiver.
    async fn write(
        &self,
        id: i64,
        url: &Url,
        per_minute: Option<i64>,
    ) -> Result<bool, tokio_postgres::Error> {
        let client = database::connect(&self.database, Purpose::Command, Watch::default()).await?;
        client.batch_execute(SESSION).await?;
        // The table holds the URL as it was entered; the request used its parsed form.
        let found = client.query_opt("select url from webhook.subscription where id = $1", &[&id]).await?;
        let Some(row) = found else { return Ok(false) };
        let text: &str = row.try_get(0)?;
        if Url::parse(text).as_ref() != Ok(url) {
            return Ok(false);
        }
        let confirm = "select webhook.confirm_subscription($1, $2, $3::bigint / 60::numeric)";
        client.query_one(confirm, &[&id, &text, &per_minute]).await?.try_get(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_constraint_knows_the_same_words() {
        let sql = include_str!("../../sql/subscription.sql");
        let check = sql.split("verification_is_known check").nth(1).unwrap().split("))").next().unwrap();
        let words: Vec<_> = check.split('\'').skip(1).step_by(2).collect();
        assert_eq!(words, Verification::ALL.map(Verification::as_str));
        for kind in Verification::ALL {
            assert_eq!(Verification::parse(kind.as_str()), Some(kind));
        }
    }
}
