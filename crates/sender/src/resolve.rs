//! Resolves host names with the system's resolver. At most one query per name runs at a time.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// The future result of a lookup.
pub type Resolved<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Resolves names. Its errors are not shown to users, because they reveal the network.
pub trait Resolve: Send + Sync + 'static {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolved<'a>;
}

type Answer = Option<Result<Vec<IpAddr>, Cause>>;

/// The parts of an error from which each caller gets a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cause {
    errno: Option<i32>,
    kind: io::ErrorKind,
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Self {
        Self { errno: error.raw_os_error(), kind: error.kind() }
    }
}

impl From<Cause> for io::Error {
    fn from(Cause { errno, kind }: Cause) -> Self {
        errno.map_or_else(|| kind.into(), Self::from_raw_os_error)
    }
}

/// Resolves names with getaddrinfo(3), which occupies a thread until it returns.
///
/// A name whose servers are silent must not occupy a thread per delivery. Callers that ask for a
/// name during its lookup therefore share the result. No result is cached afterwards.
#[derive(Default)]
pub struct SystemResolver {
    under_way: Arc<Mutex<HashMap<Box<str>, watch::Receiver<Answer>>>>,
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolved<'a> {
        let mut answer = self.join(name, |name| async move {
            let found = tokio::net::lookup_host((&*name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        });
        Box::pin(async move {
            let gone = || io::Error::from(io::ErrorKind::Interrupted);
            let answer = answer.wait_for(Option::is_some).await.map_err(|_| gone())?;
            match &*answer {
                Some(Ok(addresses)) => Ok(addresses.clone()),
                Some(Err(cause)) => Err((*cause).into()),
                None => Err(gone()),
            }
        })
    }
}

impl SystemResolver {
    /// Joins the running lookup of this name, or starts one. The lookup runs as its own task, so
    /// the deadline of one caller does not cancel it for the others.
    fn join<F>(&self, name: &str, look_up: impl FnOnce(Box<str>) -> F) -> watch::Receiver<Answer>
    where
        F: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = under_way.get(name) {
            return answer.clone();
        }
        let (tell, answer) = watch::channel(None);
        under_way.insert(name.into(), answer.clone());
        let found = look_up(name.into());
        let (name, map) = (Box::<str>::from(name), self.under_way.clone());
        tokio::spawn(async move {
            let found = found.await.map_err(|error| Cause::from(&error));
            map.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            tell.send_replace(Some(found));
        });
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn those_who_ask_meanwhile_share_the_query() {
        let resolver = SystemResolver::default();
        let (finish, finished) = oneshot::channel::<()>();
        let mut first = resolver.join("a.example", |_| async move {
            let _ = finished.await;
            Ok(vec![[192, 0, 2, 1].into()])
        });
        let mut second = resolver.join("a.example", |_| async { panic!("a second query") });
        finish.send(()).unwrap();
        for answer in [&mut first, &mut second] {
            let got = answer.wait_for(Option::is_some).await.unwrap().clone();
            assert_eq!(got, Some(Ok(vec![[192, 0, 2, 1].into()])));
        }
        let mut third = resolver.join("a.example", |_| async { Err(io::ErrorKind::NotFound.into()) });
        let got = third.wait_for(Option::is_some).await.unwrap().clone();
        let not_found = Cause { errno: None, kind: io::ErrorKind::NotFound };
        assert_eq!(got, Some(Err(not_found)), "an answer is not kept");
        let mut fourth = resolver.join("a.example", |_| async { Err(io::Error::from_raw_os_error(24)) });
        let got = fourth.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert_eq!(
            io::Error::from(got.unwrap_err()).raw_os_error(),
            Some(24),
            "the system's own errors pass through"
        );
    }

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let found = SystemResolver::default().resolve("localhost").await.unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
