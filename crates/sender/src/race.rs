//! Connects to the first of a host's addresses that answers: Happy Eyeballs (RFC 8305).
//!
//! A host may have addresses that drop every packet, often all addresses of one family. So the
//! dialer alternates between the families, starts a further attempt every 250 ms, and takes the
//! connection that is established first. The caller's deadline bounds the whole race.

use crate::failure::Failure;
use std::{
    collections::VecDeque,
    future::poll_fn,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Time between the starts of two attempts (RFC 8305, 5: Connection Attempt Delay). A failed
/// attempt starts the next one at once.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Maximum number of attempts at once. A further attempt ends the oldest, which has then had 2 s.
pub const ATTEMPTS_MAX: usize = 8;
/// The time that an attempt has had when a further one ends it.
const ENDED_AFTER: Duration = Duration::from_secs(2);

/// Returns the addresses in the order in which they are tried: as the resolver sorted them (RFC
/// 6724), alternating between the families (RFC 8305, 4), each address once.
pub fn interleaved(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut rest: Vec<IpAddr> = Vec::with_capacity(addresses.len());
    for ip in addresses.iter().map(IpAddr::to_canonical) {
        if !rest.contains(&ip) {
            rest.push(ip);
        }
    }
    let is_first_v6 = rest.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = rest.into_iter().partition(|ip| ip.is_ipv6() == is_first_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::with_capacity(addresses.len());
    loop {
        let before = order.len();
        order.extend(first.next());
        order.extend(second.next());
        if order.len() == before {
            return order;
        }
    }
}

/// One attempt, and the right to its socket. The first one of a race needs none.
struct Running<F, P> {
    connect: Pin<Box<F>>,
    began: Instant,
    permit: Option<P>,
}

/// Returns the first connection, or the most telling failure. A failure that `is_final` accepts
/// ends the race, because further attempts would fail in the same way. An attempt beside another
/// one needs a permit of `more`. Without one, it replaces the oldest once that has had 2 s.
///
/// # Errors
/// Returns the [`Failure`] of the attempts, and [`Failure::Dns`] if there is no address.
pub async fn first_of<T, P, F: Future<Output = Result<T, Failure>>>(
    addresses: Vec<IpAddr>,
    connect: impl Fn(IpAddr) -> F,
    is_final: impl Fn(&Failure) -> bool,
    more: impl Fn() -> Option<P>,
) -> Result<T, Failure> {
    let mut waiting = addresses.into_iter().peekable();
    let mut running: VecDeque<Running<F, P>> = VecDeque::new();
    let mut last = Failure::Dns;
    let mut starts_at = Instant::now();
    loop {
        let now = Instant::now();
        if waiting.peek().is_none() && running.is_empty() {
            return Err(last);
        }
        if waiting.peek().is_some() && (running.is_empty() || now >= starts_at) {
            let mut permit = match running.len() {
                0 | ATTEMPTS_MAX.. => None,
                _ => more(),
            };
            let has_place = running.is_empty() || permit.is_some();
            let ends_at = running.front().map_or(now, |oldest| oldest.began + ENDED_AFTER);
            starts_at = now + ATTEMPT_DELAY;
            if !has_place && now >= ends_at {
                permit = running.pop_front().and_then(|oldest| oldest.permit);
                last = last.or_more_telling(Failure::ConnectTimeout(ENDED_AFTER));
            }
            if has_place || now >= ends_at {
                let connect = waiting.next().map(&connect);
                running.extend(connect.map(|connect| Running {
                    connect: Box::pin(connect),
                    began: now,
                    permit,
                }));
            } else {
                starts_at = starts_at.min(ends_at);
            }
        }
        tokio::select! {
            ended = poll_fn(|cx| poll_any(&mut running, cx)) => match ended {
                Ok(connected) => return Ok(connected),
                Err(failure) if is_final(&failure) => return Err(failure),
                Err(failure) => {
                    last = last.or_more_telling(failure);
                    starts_at = Instant::now();
                }
            },
            () = sleep_until(starts_at), if waiting.peek().is_some() => {}
        }
    }
}

/// Returns the result of an attempt that has ended, and removes the attempt.
fn poll_any<F: Future, P>(running: &mut VecDeque<Running<F, P>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    for index in 0..running.len() {
        if let Poll::Ready(ended) = running[index].connect.as_mut().poll(cx) {
            drop(running.remove(index));
            return Poll::Ready(ended);
        }
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, future::pending};

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_alternate_and_no_address_is_tried_twice() {
        for (addresses, order) in [
            (&["::1", "::2", "::3", "10.0.0.1"][..], &["::1", "10.0.0.1", "::2", "::3"][..]),
            (&["10.0.0.1", "10.0.0.2", "::1"], &["10.0.0.1", "::1", "10.0.0.2"]),
            (&["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"], &["10.0.0.1", "10.0.0.2"]),
            (&[], &[]),
        ] {
            assert_eq!(interleaved(&ips(addresses)), ips(order), "{addresses:?}");
        }
    }

    /// Returns when each attempt to this number of addresses began, in milliseconds. The last
    /// address answers, `refuses` fails, and the others are silent.
    async fn starts<P>(count: u8, refuses: u8, more: impl Fn() -> Option<P>) -> Vec<u128> {
        let addresses = (1..=count).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        let (began, started) = (Instant::now(), RefCell::new(Vec::new()));
        let connect = |ip| {
            started.borrow_mut().push(began.elapsed().as_millis());
            async move {
                match ip {
                    IpAddr::V4(v4) if v4.octets()[3] == count => Ok(ip),
                    IpAddr::V4(v4) if v4.octets()[3] == refuses => Err(Failure::Connect("refused")),
                    _ => pending().await,
                }
            }
        };
        assert_eq!(first_of(addresses, connect, |_| false, more).await, Ok([10, 0, 0, count].into()));
        started.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_delays_the_next_by_250_ms_and_a_failed_one_does_not() {
        let want: Vec<u128> = (0..20).map(|n| 250 * if n < 3 { n } else { n - 1 }).collect();
        assert_eq!(starts(20, 3, || Some(())).await, want);
    }

    #[tokio::test(start_paused = true)]
    async fn the_failure_that_tells_most_is_returned() {
        let race = |failures: [Failure; 3]| {
            let addresses = ips(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
            let failures = RefCell::new(failures.into_iter());
            async move {
                let next = || failures.borrow_mut().next().unwrap();
                let connect = |_| std::future::ready(Err::<(), _>(next()));
                first_of(addresses, connect, |f| *f == Failure::Dns, || Some(())).await.unwrap_err()
            }
        };
        let (ours, theirs) = (Failure::Ours("no route"), Failure::Connect("refused"));
        assert_eq!(race([ours.clone(), theirs.clone(), ours.clone()]).await, theirs);
        assert_eq!(race([theirs.clone(), Failure::Dns, ours]).await, Failure::Dns, "the final one");
        let none = first_of(vec![], |_| async { Ok::<(), _>(()) }, |_| false, || Some(()));
        assert_eq!(none.await, Err(Failure::Dns));
    }

    #[tokio::test(start_paused = true)]
    async fn without_further_sockets_the_addresses_are_tried_one_after_another() {
        assert_eq!(starts(5, 2, || None::<()>).await, [0, 2000, 2000, 4000, 6000]);
    }
}
