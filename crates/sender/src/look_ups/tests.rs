//! Lookups that share an answer, wait for a place, or are silent.

use super::*;
use crate::resolve::Resolved;
use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Semaphore;

/// Answers one query for each permit, and counts the queries.
struct OnRequest {
    answers: Semaphore,
    asked: AtomicUsize,
    error: Option<i32>,
}

impl Resolve for OnRequest {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolved<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            self.answers.acquire().await.unwrap().forget();
            match self.error {
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None => Ok(vec![[192, 0, 2, 1].into()]),
            }
        })
    }
}

fn look_ups(places: usize, error: Option<i32>) -> (LookUps, Arc<OnRequest>) {
    let resolver = Arc::new(OnRequest { answers: Semaphore::new(0), asked: AtomicUsize::new(0), error });
    (LookUps::new(Arc::clone(&resolver) as _, places), resolver)
}

fn owner() -> Owner {
    Some("a".into())
}

fn in_5_s() -> Option<Instant> {
    Some(Instant::now() + DNS_TIMEOUT)
}

#[tokio::test]
async fn those_who_ask_meanwhile_share_the_query() {
    let (look_ups, resolver) = look_ups(16, None);
    let (a, b) = (owner(), Some("b".into()));
    let asked = async {
        tokio::join!(
            look_ups.resolve("a.example", &a, in_5_s()),
            look_ups.resolve("a.example", &b, in_5_s()),
            look_ups.resolve("a.example", &a, None),
        )
    };
    let answer = async { resolver.answers.add_permits(1) };
    let ((first, second, third), ()) = tokio::join!(asked, answer);
    for found in [first, second, third] {
        assert_eq!(found, Ok(vec![[192, 0, 2, 1].into()]));
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
    resolver.answers.add_permits(1);
    look_ups.resolve("a.example", &a, None).await.unwrap();
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 2, "an answer is not kept");
}

#[tokio::test]
async fn a_shortage_of_the_system_is_told_from_a_wrong_name() {
    for (errno, is_shortage) in [(24, true), (2, false)] {
        let (look_ups, resolver) = look_ups(16, Some(errno));
        resolver.answers.add_permits(1);
        let failure = look_ups.resolve("a.example", &None, None).await.unwrap_err();
        assert_eq!(matches!(failure, Failure::Shortage(_)), is_shortage, "{failure:?}");
        assert_eq!(failure == Failure::Dns, !is_shortage);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_timed_out_keeps_its_place_until_it_ends() {
    let (look_ups, resolver) = look_ups(4, None);
    let began = Instant::now();
    let ask = |name: &'static str| {
        let look_ups = look_ups.clone();
        async move { look_ups.resolve(name, &owner(), in_5_s()).await.unwrap_err() }
    };
    let both = || async { tokio::join!(ask("a.example"), ask("b.example")) };
    let timed_out = Failure::DnsTimeout(DNS_TIMEOUT);
    assert_eq!(both().await, (timed_out.clone(), timed_out.clone()));
    assert_eq!(ask("c.example").await, NOT_BEGUN, "it never had a place");
    assert_eq!(began.elapsed(), DNS_TIMEOUT * 2);
    assert_eq!(both().await, (timed_out.clone(), timed_out), "they wait for the same queries");
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 2);
    resolver.answers.add_permits(3);
    look_ups.resolve("c.example", &owner(), in_5_s()).await.unwrap();
}

#[tokio::test]
async fn a_panic_of_the_resolver_frees_the_place() {
    struct Broken;
    impl Resolve for Broken {
        fn resolve<'a>(&'a self, _: &'a str) -> Resolved<'a> {
            Box::pin(async { panic!("broken") })
        }
    }
    let look_ups = LookUps::new(Arc::new(Broken), 2);
    for _ in 0..4 {
        assert_eq!(look_ups.resolve("a.example", &owner(), None).await, Err(Failure::Dns));
    }
}
