//! Connections: kept, replaced, and given up.

use crate::support::{Receiver, pass, request, request_within, send_to, sender};
use delivery::outcome::Class;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    sync::{Notify, Semaphore},
};
use webhookd_sender::{Request, Sender};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_connection_serves_many_requests() {
    for answer in [
        OK,
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\nno",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let (receiver, sender) = (Receiver::answering(answer).await, sender());
        for i in 0..50 {
            sender.send(request(&receiver.url(&format!("/{}", i % 3)))).await;
        }
        assert_eq!((receiver.connections(), receiver.requests().len()), (1, 50), "{answer:?}");
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_sent_costs_no_connection() {
    let receiver = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let sender = sender();
    for id in ["evt_1", "evt\n1", "evt_1"] {
        let outcome = sender.send(Request { id: id.into(), ..request(&receiver.url("/")) }).await;
        assert_eq!(outcome.class == Class::Succeeded, id == "evt_1", "{outcome:?}");
    }
    assert_eq!((receiver.connections(), receiver.requests().len()), (1, 2));
}

#[tokio::test]
async fn a_receiver_that_closes_is_obeyed() {
    let receiver =
        Receiver::answering("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    let sender = sender();
    for _ in 0..3 {
        assert_eq!(sender.send(request(&receiver.url("/"))).await.error, None);
    }
    assert_eq!((receiver.connections(), receiver.requests().len()), (3, 3));
}

#[tokio::test]
async fn as_many_connections_as_requests_under_way() {
    let (arrived, go) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (seen, gate) = (arrived.clone(), go.clone());
    let receiver = Receiver::start(move |mut peer| {
        let (arrived, go) = (seen.clone(), gate.clone());
        async move {
            while peer.read_request().await.is_some() {
                let may_go = go.notified();
                arrived.add_permits(1);
                may_go.await;
                peer.write(OK).await;
            }
        }
    })
    .await;
    let sender = Arc::new(sender());
    for _ in 0..2 {
        let sends: Vec<_> = (0..200)
            .map(|_| {
                let (sender, request) = (sender.clone(), request(&receiver.url("/")));
                tokio::spawn(async move { sender.send(request).await })
            })
            .collect();
        arrived.acquire_many(200).await.unwrap().forget();
        go.notify_waiters();
        for send in sends {
            assert_eq!(send.await.unwrap().class, Class::Succeeded);
        }
    }
    assert_eq!(
        (receiver.connections(), receiver.requests().len()),
        (200, 400),
        "all were kept for the second round"
    );
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_and_nothing_sent_twice() {
    let closed = Arc::new(Notify::new());
    let tell = closed.clone();
    let receiver = Receiver::start(move |mut peer| {
        let tell = tell.clone();
        async move {
            peer.read_request().await;
            peer.write(OK).await;
            drop(peer);
            tell.notify_one();
        }
    })
    .await;
    let sender = sender();
    for _ in 0..20 {
        let outcome = sender.send(request(&receiver.url("/"))).await;
        assert_eq!((outcome.class, outcome.error), (Class::Succeeded, None));
        closed.notified().await;
    }
    assert_eq!((receiver.connections(), receiver.requests().len()), (20, 20));
}

/// A kept-alive connection on which the second request meets `then`; later connections answer
/// everything.
async fn second_request_meets<F, Fut>(then: F) -> Receiver
where
    F: Fn(crate::support::Peer) -> Fut + Send + Sync + Copy + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Receiver::start(move |mut peer| async move {
        peer.read_request().await;
        peer.write(OK).await;
        if peer.connection == 0 {
            then(peer).await;
        } else {
            while peer.read_request().await.is_some() {
                peer.write(OK).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_close_that_crosses_the_request_is_no_failure() {
    // The receiver closes without reading what has arrived, so the sender gets RST for an answer.
    let receiver = second_request_meets(|peer| async move {
        assert_eq!(peer.stream.peek(&mut [0]).await.unwrap(), 1);
        drop(peer);
    })
    .await;
    let sender = sender();
    for is_resent in [false, true, false] {
        let outcome = sender.send(request(&receiver.url("/"))).await;
        let note = outcome.error.as_deref().is_some_and(|error| error.contains("was sent again"));
        assert_eq!((outcome.class, note), (Class::Succeeded, is_resent), "{outcome:?}");
    }
    assert_eq!((receiver.connections(), receiver.requests().len()), (2, 3), "each was read once");
}

#[tokio::test]
async fn a_receiver_that_fails_over_a_request_gets_it_once() {
    // Half an answer; and an end that comes too late for a connection that had been closed before.
    let half = second_request_meets(|mut peer| async move {
        peer.read_request().await;
        peer.write("HTTP/1.1 200").await;
    })
    .await;
    let late = second_request_meets(|mut peer| async move {
        peer.read_request().await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
    })
    .await;
    for receiver in [half, late] {
        let sender = sender();
        assert_eq!(sender.send(request(&receiver.url("/"))).await.class, Class::Succeeded);
        let outcome = sender.send(request(&receiver.url("/"))).await;
        assert_eq!((outcome.class, outcome.status), (Class::Protocol, None));
        assert_eq!((receiver.connections(), receiver.requests().len()), (1, 2));
    }
}

#[tokio::test]
async fn a_new_connection_that_ends_without_an_answer_is_a_failure() {
    let closes = Receiver::start(|mut peer| async move {
        peer.read_request().await;
    })
    .await;
    let resets = Receiver::start(|mut peer| async move {
        peer.read_request().await;
        peer.reset();
    })
    .await;
    let half = Receiver::start(|mut peer| async move {
        peer.read_request().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-le").await;
    })
    .await;
    for receiver in [closes, resets, half] {
        let outcome = send_to(&receiver).await;
        assert_eq!((outcome.class, outcome.status), (Class::Protocol, None));
        assert!(outcome.error.unwrap().starts_with("the connection was"));
        assert_eq!((receiver.connections(), receiver.requests().len()), (1, 1), "sent once");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_a_minute() {
    let ended = Arc::new(Notify::new());
    let tell = ended.clone();
    let receiver = Receiver::start(move |mut peer| {
        let tell = tell.clone();
        async move {
            while peer.read_request().await.is_some() {
                peer.write(OK).await;
            }
            tell.notify_one();
        }
    })
    .await;
    let sender = sender();
    sender.send(request(&receiver.url("/"))).await;
    pass(45).await;
    sender.send(request(&receiver.url("/"))).await;
    pass(45).await;
    sender.send(request(&receiver.url("/"))).await;
    assert_eq!(receiver.connections(), 1, "in use again in time");
    pass(75).await;
    tokio::time::timeout(Duration::from_secs(5), ended.notified()).await.expect("the connection is closed");
}

#[tokio::test]
async fn a_closed_port_is_a_connect_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let outcome = sender().send(request(&format!("http://{address}/secret-path?token=1"))).await;
    assert_eq!((outcome.class, outcome.status), (Class::Connect, None));
    assert_eq!(outcome.error.as_deref(), Some("the connection was refused"));
}

#[tokio::test]
async fn an_attempt_that_is_over_sends_no_more() {
    const BODY_BYTES: usize = 32 << 20;
    let over = Arc::new(Notify::new());
    let (tell, told) = tokio::sync::oneshot::channel();
    let (is_over, tell) = (over.clone(), Arc::new(std::sync::Mutex::new(Some(tell))));
    let receiver = Receiver::start(move |mut peer| {
        let (over, tell) = (is_over.clone(), tell.clone());
        async move {
            // Reads nothing until the attempt has timed out, so that most of the body does not fit
            // into the sockets.
            over.notified().await;
            let (mut total, mut part) = (0, vec![0; 1 << 20]);
            while let Ok(n @ 1..) = peer.stream.read(&mut part).await {
                total += n;
            }
            tell.lock().unwrap().take().unwrap().send(total).unwrap();
        }
    })
    .await;
    let sender = sender();
    let mut large = request_within(&receiver.url("/"), Duration::from_millis(200));
    large.body = vec![b' '; BODY_BYTES].into();
    assert_eq!(sender.send(large).await.class, Class::Timeout);
    over.notify_one();
    let total =
        tokio::time::timeout(Duration::from_secs(10), told).await.expect("the connection ends").unwrap();
    assert!(total < BODY_BYTES, "{total}");
}

#[tokio::test]
async fn an_attempt_that_is_dropped_or_times_out_closes_its_connection() {
    for dropped in [true, false] {
        let (arrived, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell_arrived, tell_ended) = (arrived.clone(), ended.clone());
        let receiver = Receiver::start(move |mut peer| {
            let (arrived, ended) = (tell_arrived.clone(), tell_ended.clone());
            async move {
                peer.read_request().await;
                arrived.notify_one();
                let end = peer.stream.read(&mut [0; 16]).await;
                assert!(matches!(end, Ok(0) | Err(_)));
                ended.notify_one();
            }
        })
        .await;
        let sender = sender();
        let send = sender.send(request_within(&receiver.url("/"), Duration::from_millis(100)));
        if dropped {
            tokio::select! {
                biased;
                _ = send => panic!("there is no answer"),
                () = arrived.notified() => {}
            }
        } else {
            assert_eq!(send.await.class, Class::Timeout);
        }
        tokio::time::timeout(Duration::from_secs(5), ended.notified())
            .await
            .expect("the connection is closed");
    }
}
