//! What an answer means, however it is shaped.

use crate::support::{Receiver, request, request_within, send_to, sender};
use delivery::outcome::Class;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::io::AsyncWriteExt;
use webhookd_sender::Sender;

#[tokio::test]
async fn only_2xx_is_success() {
    for (status, class) in [200, 201, 202, 204, 299].map(|s| (s, Class::Succeeded)).into_iter().chain(
        [300, 400, 401, 403, 404, 410, 413, 429, 500, 502, 503, 599, 999].map(|s| (s, Class::HttpError)),
    ) {
        let body = if status == 204 { "" } else { "content-length: 5\r\n\r\nhello" };
        let end = if status == 204 { "\r\n" } else { "" };
        let receiver = Receiver::answering(format!("HTTP/1.1 {status} X\r\n{body}{end}")).await;
        let outcome = send_to(&receiver).await;
        assert_eq!((outcome.class, outcome.status), (class, Some(status)), "{outcome:?}");
        let failed = class == Class::HttpError;
        assert_eq!(outcome.error.is_some(), failed, "{outcome:?}");
        assert_eq!(outcome.response.as_deref(), failed.then_some("hello"), "kept of failed attempts only");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    for status in [301, 302, 303, 304, 307, 308] {
        let location = elsewhere.url("/next");
        let receiver = Receiver::answering(format!(
            "HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
        ))
        .await;
        let outcome = send_to(&receiver).await;
        assert_eq!((outcome.class, outcome.status), (Class::HttpError, Some(status)));
        assert!(outcome.error.unwrap().contains(&format!("Location: {location}")));
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn retry_after_is_read_from_any_answer() {
    for status in [200, 429, 500, 503] {
        let receiver = Receiver::answering(format!(
            "HTTP/1.1 {status} X\r\nRetry-After: 120\r\ncontent-length: 0\r\n\r\n"
        ))
        .await;
        assert_eq!(send_to(&receiver).await.retry_after, Some(Duration::from_secs(120)));
    }
}

#[tokio::test]
async fn a_silent_receiver_times_out() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.read_request().await;
        peer.hold().await;
    })
    .await;
    let begun = Instant::now();
    let outcome = sender().send(request_within(&receiver.url("/"), Duration::from_millis(200))).await;
    assert_eq!((outcome.class, outcome.status), (Class::Timeout, None));
    assert_eq!(outcome.error.as_deref(), Some("no answer within 0.2 s"));
    assert!(outcome.duration >= Duration::from_millis(200) && begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_head_that_never_ends_times_out() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.read_request().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-").await;
        peer.hold().await;
    })
    .await;
    let outcome = sender().send(request_within(&receiver.url("/"), Duration::from_millis(200))).await;
    assert_eq!((outcome.class, outcome.status), (Class::Timeout, None));
}

/// Sends the head, then a byte every 20 ms until the sender has gone.
async fn dripping(head: &'static str) -> Receiver {
    Receiver::start(move |mut peer| async move {
        peer.read_request().await;
        peer.write(head).await;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while peer.stream.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_dripping_error_ends_at_the_deadline_with_its_status() {
    let receiver = dripping("HTTP/1.1 500 X\r\ncontent-length: 1000000\r\n\r\n").await;
    let outcome = sender().send(request_within(&receiver.url("/"), Duration::from_millis(300))).await;
    assert_eq!((outcome.class, outcome.status), (Class::HttpError, Some(500)));
    assert_eq!(
        outcome.error.as_deref(),
        Some("HTTP 500 Internal Server Error; the rest of the answer did not arrive in time")
    );
    assert!(outcome.response.unwrap().starts_with("xx"));
    assert!(outcome.duration >= Duration::from_millis(300) && outcome.duration < Duration::from_secs(2));
}

#[tokio::test]
async fn a_dripping_success_is_a_success_and_is_not_waited_for() {
    let receiver = dripping("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;
    let begun = Instant::now();
    let outcome = sender().send(request(&receiver.url("/"))).await;
    assert_eq!((outcome.class, outcome.status), (Class::Succeeded, Some(200)));
    assert_eq!(outcome.error.as_deref(), Some("the rest of the answer did not arrive in time"));
    assert!(outcome.duration < Duration::from_secs(1), "until the status was known: {:?}", outcome.duration);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_success_cut_short_is_a_success_with_a_note() {
    let receiver = Receiver::start(|mut peer| async move {
        peer.read_request().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
        peer.reset();
    })
    .await;
    let outcome = send_to(&receiver).await;
    assert_eq!((outcome.class, outcome.status), (Class::Succeeded, Some(200)));
    assert_eq!(outcome.error.as_deref(), Some("the connection was closed before the answer ended"));
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error() {
    for answer in [
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/3.7 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2p1\r\n",
        "\0\x01\x02\x03\x04\x05\x06\x07\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let receiver = Receiver::answering(answer).await;
        let outcome = send_to(&receiver).await;
        assert_eq!(
            (outcome.class, outcome.status),
            (Class::Protocol, None),
            "{answer:?} {:?}",
            outcome.error
        );
        assert_eq!(receiver.requests().len(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn headers_that_break_the_rules_are_accepted() {
    let hundred = format!("HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\nok", "a: b\r\n".repeat(99));
    for answer in [
        "HTTP/1.1 200 OK\r\nx-note: folded\r\n over two lines\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nName : v\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx-note: a\x01b\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx note: a\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nbad header\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
        &hundred,
    ] {
        let (receiver, sender) = (Receiver::answering(answer).await, sender());
        for _ in 0..2 {
            let outcome = sender.send(request(&receiver.url("/"))).await;
            assert_eq!(
                (outcome.class, outcome.status, outcome.error),
                (Class::Succeeded, Some(200), None),
                "{answer:?}"
            );
        }
        assert_eq!((receiver.connections(), receiver.requests().len()), (1, 2), "{answer:?}");
    }
}

#[tokio::test]
async fn a_status_with_a_head_that_cannot_be_parsed_counts() {
    let many = |status| format!("HTTP/1.1 {status} X\r\nretry-after: 7\r\n{}\r\n", "a: b\r\n".repeat(100));
    let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(1 << 20));
    let (accepted, overloaded) = (many(200), many(429));
    for (answer, status, why) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", 200, "`content-length`"),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", 200, "`content-length`"),
        ("HTTP/1.1 500 X\r\ncontent-length: -1\r\n\r\n", 500, "`content-length`"),
        (&accepted, 200, "more than 100 headers"),
        (&overloaded, 429, "more than 100 headers"),
        (&long, 200, "too large"),
    ] {
        let receiver = Receiver::answering(answer).await;
        let outcome = send_to(&receiver).await;
        let shown = &answer[..answer.len().min(60)];
        let class = if status == 200 { Class::Succeeded } else { Class::HttpError };
        assert_eq!((outcome.class, outcome.status), (class, Some(status)), "{shown:?} {:?}", outcome.error);
        assert!(outcome.error.as_ref().unwrap().contains(why), "{:?}", outcome.error);
        assert_eq!(outcome.retry_after.is_some(), answer.contains("retry-after: 7"), "{shown:?}");
        assert_eq!(receiver.requests().len(), 1, "{shown:?}");
    }
}

#[tokio::test]
async fn a_body_after_204_does_not_spoil_the_next_answer() {
    for answer in [
        "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more",
    ] {
        let (receiver, sender) = (Receiver::answering(answer).await, sender());
        for _ in 0..20 {
            let outcome = sender.send(request(&receiver.url("/"))).await;
            assert_eq!((outcome.class, outcome.error), (Class::Succeeded, None), "{answer:?}");
        }
        assert_eq!(receiver.requests().len(), 20, "each was sent once");
    }
}

#[tokio::test]
async fn bytes_that_come_late_and_unasked_end_the_connection() {
    let late = Arc::new(tokio::sync::Notify::new());
    let write = late.clone();
    let receiver = Receiver::start(move |mut peer| {
        let write = write.clone();
        async move {
            while peer.read_request().await.is_some() {
                peer.write("HTTP/1.1 204 No Content\r\n\r\n").await;
                write.notified().await;
                peer.write("hello").await;
                write.notify_one();
            }
        }
    })
    .await;
    let sender = sender();
    for _ in 0..3 {
        let outcome = sender.send(request(&receiver.url("/"))).await;
        assert_eq!((outcome.class, outcome.error), (Class::Succeeded, None));
        late.notify_one();
        tokio::task::yield_now().await;
        late.notified().await;
    }
    assert_eq!(receiver.requests().len(), 3);
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let interim =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 102 X\r\n\r\n";
    let receiver =
        Receiver::answering(format!("{interim}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    let outcome = send_to(&receiver).await;
    assert_eq!((outcome.class, outcome.status, outcome.error), (Class::Succeeded, Some(200), None));
}

#[tokio::test]
async fn of_a_long_answer_4_kib_are_stored_and_64_kib_read() {
    for (length, kept_alive) in [(4095, true), (4096, true), (4097, true), (65_536, true), (65_537, false)] {
        let receiver = Receiver::answering(format!(
            "HTTP/1.1 500 X\r\ncontent-length: {length}\r\n\r\n{}",
            "y".repeat(length)
        ))
        .await;
        let sender = sender();
        for _ in 0..2 {
            let outcome = sender.send(request(&receiver.url("/"))).await;
            assert_eq!(outcome.status, Some(500));
            assert_eq!(outcome.response.unwrap().len(), length.min(4096));
        }
        assert_eq!(receiver.connections(), if kept_alive { 1 } else { 2 }, "{length}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_not_read() {
    for (head, chunk) in [
        ("HTTP/1.1 503 X\r\ncontent-length: 100000000000\r\n\r\n", "z".repeat(65_536)),
        (
            "HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n",
            format!("10000\r\n{}\r\n", "z".repeat(65_536)),
        ),
        ("HTTP/1.0 503 X\r\n\r\n", "z".repeat(65_536)),
    ] {
        let written = Arc::new(AtomicUsize::new(0));
        let (gone, is_gone) = tokio::sync::oneshot::channel();
        let gone = Arc::new(std::sync::Mutex::new(Some(gone)));
        let counted = written.clone();
        let receiver = Receiver::start(move |mut peer| {
            let (written, gone, chunk) = (counted.clone(), gone.clone(), chunk.clone());
            async move {
                peer.read_request().await;
                peer.write(head).await;
                while peer.stream.write_all(chunk.as_bytes()).await.is_ok() {
                    written.fetch_add(chunk.len(), Ordering::SeqCst);
                }
                gone.lock().unwrap().take().unwrap().send(()).unwrap();
            }
        })
        .await;
        let outcome = send_to(&receiver).await;
        assert_eq!((outcome.class, outcome.status), (Class::HttpError, Some(503)));
        assert_eq!(outcome.response.unwrap(), "z".repeat(4096));
        tokio::time::timeout(Duration::from_secs(5), is_gone)
            .await
            .expect("the connection is closed")
            .unwrap();
        // What the sockets' buffers took, not what the sender read.
        assert!(written.load(Ordering::SeqCst) < 16 << 20);
    }
}

#[tokio::test]
async fn a_compressed_answer_is_not_inflated() {
    // 31 bytes that gunzip to 10 zeros; the point is that they are stored as they are.
    let bomb = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\x33\x30\x80\x01\x00";
    let mut answer =
        format!("HTTP/1.1 500 X\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len())
            .into_bytes();
    answer.extend_from_slice(bomb);
    let receiver = Receiver::answering(answer).await;
    let outcome = send_to(&receiver).await;
    assert!(outcome.response.unwrap().starts_with("\u{1f}\u{fffd}\u{8}"));
    assert_eq!(receiver.requests()[0].headers()["accept-encoding"], "identity");
}

#[tokio::test]
async fn an_answer_of_any_bytes_becomes_text_for_postgres() {
    let mut body = b"a\0b\xff\xfe\xc3".to_vec();
    body.extend(std::iter::repeat_n("ä".as_bytes(), 3000).flatten());
    let mut answer = format!("HTTP/1.1 500 X\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend(body);
    let receiver = Receiver::answering(answer).await;
    let stored = send_to(&receiver).await.response.unwrap();
    assert!(stored.starts_with("a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}ää"), "{stored:.20}");
    assert!(!stored.contains('\0') && stored.len() <= 4096 && stored.len() > 4090);
}

#[tokio::test]
async fn an_answer_before_the_request_was_read_counts() {
    // hyper can parse the first one only.
    for length in ["0", "-1"] {
        let receiver = Receiver::start(move |mut peer| async move {
            peer.stream.readable().await.unwrap();
            peer.write(&format!("HTTP/1.1 413 X\r\ncontent-length: {length}\r\n\r\n")).await;
            // Reads nothing: 32 MiB do not fit into the sockets' buffers.
            std::future::pending::<()>().await;
        })
        .await;
        let mut large = request(&receiver.url("/"));
        large.body = vec![b' '; 32 << 20].into();
        let outcome = sender().send(large).await;
        assert_eq!((outcome.class, outcome.status), (Class::HttpError, Some(413)), "{outcome:?}");
        assert!(outcome.duration < Duration::from_secs(9));
    }
}

/// Without a limit, they cost more than a processor until the deadline.
#[tokio::test]
async fn interim_responses_without_end_end_the_attempt() {
    for line in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"] {
        let receiver = Receiver::start(move |mut peer| async move {
            let many = line.repeat(500);
            while peer.stream.write_all(many.as_bytes()).await.is_ok() {}
        })
        .await;
        let began = Instant::now();
        let outcome = sender().send(request_within(&receiver.url("/"), Duration::from_secs(30))).await;
        assert_eq!(outcome.class, Class::Protocol, "{outcome:?}");
        assert!(outcome.error.unwrap().contains("interim responses without end"));
        assert!(began.elapsed() < Duration::from_secs(15));
    }
    // A few are ordinary.
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(20);
    let receiver = Receiver::answering(format!("{hints}HTTP/1.1 204 No Content\r\n\r\n")).await;
    assert_eq!(send_to(&receiver).await.status, Some(204));
}
