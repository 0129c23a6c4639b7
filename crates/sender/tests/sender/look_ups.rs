//! Owners whose names never resolve, and the others.

use crate::support::{Receiver, loopback, request_within};
use delivery::outcome::{Class, Outcome, Verdict};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::task::JoinSet;
use webhookd_sender::{
    Request, Sender,
    dial::{Dialer, native_roots, tls_config},
    http::HttpSender,
    look_ups::LOOK_UPS_MAX,
    resolve::{Resolve, Resolved},
};

const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const TIMEOUT: Duration = Duration::from_secs(2);

/// Resolves names to this machine, and those that end in `.silent.example` never. Counts queries.
#[derive(Default)]
struct Names(Mutex<HashMap<String, usize>>);

impl Names {
    fn queries(&self, filter: impl Fn(&str) -> bool) -> Vec<usize> {
        self.0.lock().unwrap().iter().filter(|(name, _)| filter(name)).map(|(_, count)| *count).collect()
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolved<'a> {
        *self.0.lock().unwrap().entry(name.to_owned()).or_default() += 1;
        Box::pin(async move {
            if name.ends_with(".silent.example") {
                std::future::pending::<()>().await;
            }
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        })
    }
}

struct Parties {
    names: Arc<Names>,
    sender: Arc<HttpSender>,
    receiver: Receiver,
    attacker: JoinSet<Outcome>,
}

impl Parties {
    async fn new() -> Self {
        let names = Arc::<Names>::default();
        let dialer = Dialer::new(loopback(), Arc::clone(&names) as _, tls_config(native_roots()).unwrap());
        let receiver = Receiver::answering(OK).await;
        Self { names, sender: Arc::new(HttpSender::over(dialer)), receiver, attacker: JoinSet::new() }
    }

    fn request(&self, owner: &str, scheme: &str, host: &str) -> Request {
        let url = format!("{scheme}://{host}:{}/", self.receiver.address.port());
        Request { owner: Some(owner.into()), ..request_within(&url, TIMEOUT) }
    }

    fn attack(&mut self, request: Request) {
        let sender = Arc::clone(&self.sender);
        self.attacker.spawn(async move { sender.send(request).await });
    }

    /// Makes 700 requests to names that never resolve, and waits until the owner has its share.
    async fn attack_with_silent_names(&mut self) {
        for name in 0..700 {
            self.attack(self.request("a", "http", &format!("{name}.silent.example")));
        }
        while self.names.queries(|_| true).len() < LOOK_UPS_MAX / 2 {
            tokio::task::yield_now().await;
        }
    }

    async fn send(&self, owner: &str, scheme: &str, host: &str) -> Outcome {
        self.sender.send(self.request(owner, scheme, host)).await
    }
}

#[tokio::test]
async fn silent_names_of_one_owner_leave_places_for_the_others() {
    let mut parties = Parties::new().await;
    parties.attack_with_silent_names().await;
    for owner in 0..100 {
        let outcome = parties.send(&format!("b{owner}"), "http", &format!("b{owner}.example")).await;
        assert_eq!(outcome.class, Class::Succeeded, "{outcome:?}");
    }
    let (mut begun, mut overflow) = (0, 0);
    for outcome in parties.attacker.join_all().await {
        match outcome.class {
            Class::Timeout => begun += 1,
            Class::Refused => {
                overflow += 1;
                assert_eq!((outcome.verdict(), outcome.status), (Verdict::Shortage, None));
                let error = outcome.error.unwrap();
                assert!(error.contains("too many lookups") && error.contains("owner"), "{error}");
                assert!(
                    outcome.phases.dns.is_some_and(|dns| dns >= TIMEOUT / 4),
                    "it had a turn to wait for"
                );
            }
            _ => panic!("{outcome:?}"),
        }
    }
    assert_eq!((begun, overflow), (LOOK_UPS_MAX / 2, 700 - LOOK_UPS_MAX / 2));
    assert_eq!(parties.names.queries(|name| name.ends_with(".silent.example")), [1; LOOK_UPS_MAX / 2]);
}

#[tokio::test]
async fn a_name_that_is_asked_100_times_is_one_query() {
    let parties = Parties::new().await;
    let send = |at: usize| {
        let sender = Arc::clone(&parties.sender);
        let request = parties.request(&format!("b{}", at % 3), "http", "one.silent.example");
        async move { sender.send(request).await }
    };
    for _ in 0..2 {
        let all = (0..100).map(send).collect::<JoinSet<_>>().join_all().await;
        assert!(all.iter().all(|outcome| outcome.class == Class::Timeout), "{:?}", all[0]);
    }
    assert_eq!(parties.names.queries(|_| true), [1], "also after it has timed out");
}

#[tokio::test]
async fn an_attempt_that_waits_for_a_place_does_not_hold_the_endpoint() {
    let mut parties = Parties::new().await;
    parties.attack_with_silent_names().await;
    let long = Request { timeout: TIMEOUT * 10, ..parties.request("a", "https", "shared.example") };
    for _ in 0..3 {
        parties.attack(long.clone());
    }
    // They are polled once, and wait.
    tokio::task::yield_now().await;
    // The receiver does not speak TLS, and never answers.
    let outcome = parties.send("b", "https", "shared.example").await;
    assert_eq!((outcome.class, parties.receiver.connections()), (Class::Timeout, 1), "{outcome:?}");
}
