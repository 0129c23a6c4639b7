//! The bytes of a request on the wire, and whether the library of another project accepts them.

use crate::support::{Receiver, SECRET, request, sender, signer};
use bytes::Bytes;
use delivery::outcome::Class;
use http::HeaderMap;
use signature::Secret;
use standardwebhooks::Webhook;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use webhookd_sender::{Inquiry, Request, Sender};

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[tokio::test]
async fn the_request_is_known_to_the_byte() {
    let receiver = Receiver::answering(OK).await;
    let body = r#"{"name":"Zoë 🚀"}"#;
    let outcome = sender()
        .send(Request {
            body: Bytes::from(body),
            id: "msg_1".into(),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            ..request(&receiver.url("/a/b?c=d#fragment"))
        })
        .await;
    assert_eq!((outcome.class, outcome.status, outcome.error), (Class::Succeeded, Some(204), None));
    let [received] = &receiver.requests()[..] else { panic!("one request") };
    let timestamp: i64 = received.headers()["webhook-timestamp"].parse().unwrap();
    assert_eq!(timestamp, outcome.started_at_us / 1_000_000);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(timestamp.abs_diff(now as i64) < 60);
    assert_eq!(
        received.head,
        format!(
            "POST /a/b?c=d HTTP/1.1\r\n\
             host: {}\r\n\
             user-agent: pg_webhook/{}\r\n\
             content-type: application/json\r\n\
             content-length: {}\r\n\
             accept-encoding: identity\r\n\
             webhook-id: msg_1\r\n\
             webhook-timestamp: {timestamp}\r\n\
             webhook-signature: {}\r\n\
             traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
             accept: */*",
            receiver.address,
            env!("CARGO_PKG_VERSION"),
            body.len(),
            signer().sign("msg_1", timestamp, body.as_bytes()),
        )
    );
    assert_eq!(received.body, body.as_bytes());
}

#[tokio::test]
async fn the_official_library_accepts_each_secret_alone() {
    let receiver = Receiver::answering(OK).await;
    let signers = [SECRET, OTHER_SECRET].map(|secret| Secret::parse(secret).unwrap().signer());
    sender().send(Request { signers: Arc::new(signers), ..request(&receiver.url("/")) }).await;
    let received = receiver.requests().remove(0);
    let headers: HeaderMap =
        received.headers().into_iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
    for secret in [SECRET, OTHER_SECRET] {
        Webhook::new(secret).unwrap().verify(&received.body, &headers).unwrap();
    }
    let stranger = Webhook::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    assert!(stranger.verify(&received.body, &headers).is_err());
    let tokens: Vec<_> = received.headers()["webhook-signature"].split(' ').map(str::len).collect();
    assert_eq!(tokens, [47, 47], "one space between tokens, none around them");
    assert!(!received.headers().contains_key("traceparent"));
}

#[tokio::test]
async fn nothing_is_sent_unsigned() {
    let receiver = Receiver::answering(OK).await;
    let outcome = sender().send(Request { signers: Arc::new([]), ..request(&receiver.url("/")) }).await;
    assert_eq!(outcome.class, Class::Refused);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_traceparent_that_is_no_header_value_is_left_out() {
    let receiver = Receiver::answering(OK).await;
    let outcome = sender()
        .send(Request { traceparent: Some("a\r\nx-evil: 1".into()), ..request(&receiver.url("/")) })
        .await;
    assert_eq!(outcome.class, Class::Succeeded);
    let received = receiver.requests().remove(0);
    assert!(!received.head.contains("traceparent") && !received.head.contains("evil"), "{}", received.head);
}

fn map(pairs: &[(&'static str, &'static str)]) -> Option<Arc<HeaderMap>> {
    let header =
        |(name, value): &(&'static str, &'static str)| (name.parse().unwrap(), value.parse().unwrap());
    Some(Arc::new(pairs.iter().map(header).collect::<HeaderMap>()))
}

#[tokio::test]
async fn a_format_and_a_subscription_add_headers_and_replace_none() {
    let receiver = Receiver::answering(OK).await;
    let outcome = sender()
        .send(Request {
            content_type: "application/cloudevents+json; charset=utf-8".parse().unwrap(),
            attributes: map(&[("ce-type", "order.created"), ("webhook-sequence", "7")]),
            headers: map(&[
                ("authorization", "Bearer x"),
                ("accept", "application/json"),
                ("host", "evil.example"),
                ("content-length", "0"),
                ("webhook-id", "evt_0"),
                ("webhook-signature", "v1,x"),
                ("content-type", "text/plain"),
                ("ce-type", "evil"),
            ]),
            origin: Some("hooks.example".parse().unwrap()),
            ..request(&receiver.url("/"))
        })
        .await;
    assert_eq!(outcome.class, Class::Succeeded);
    let received = receiver.requests().remove(0);
    let headers = received.headers();
    for (name, value) in [
        ("content-type", "application/cloudevents+json; charset=utf-8"),
        ("ce-type", "order.created"),
        ("webhook-sequence", "7"),
        ("authorization", "Bearer x"),
        ("accept", "application/json"),
        ("webhook-request-origin", "hooks.example"),
        ("webhook-id", "evt_1"),
        ("content-length", "14"),
        ("host", &receiver.address.to_string()),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(received.head.lines().count(), headers.len() + 1, "each header once");
    let signature = &headers["webhook-signature"];
    let timestamp = headers["webhook-timestamp"].parse().unwrap();
    assert_eq!(*signature, signer().sign("evt_1", timestamp, &received.body));
}

#[tokio::test]
async fn names_keep_the_spelling_of_the_subscription_and_of_the_profile() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender();
    let profiles = ["standard", "github", "stripe"];
    let spelled = Request {
        headers: map(&[("x-api-key", "1"), ("x-tenant-id", "2"), ("x-plain", "3")]),
        header_names: Some(["X-API-Key", "X-tenant-ID"].map(Box::from).into()),
        profiles: signature::Profiles::parse(profiles).unwrap(),
        ..request(&receiver.url("/"))
    };
    for _ in 0..2 {
        assert_eq!(sender.send(spelled.clone()).await.class, Class::Succeeded);
    }
    sender.send(request(&receiver.url("/"))).await;
    let requests = receiver.requests();
    for received in &requests[..2] {
        let names = received.headers();
        for name in
            ["X-API-Key", "X-tenant-ID", "x-plain", "X-Hub-Signature-256", "Stripe-Signature", "webhook-id"]
        {
            assert!(names.contains_key(name), "{name}: {}", received.head);
        }
    }
    assert_eq!(requests[2].head.to_lowercase().lines().skip(1).collect::<Vec<_>>().len(), 9);
    assert!(requests[2].headers().keys().all(|name| *name == name.to_lowercase()));

    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let inquired = Receiver::answering_heads(answer).await;
    let inquiry = Inquiry {
        owner: None,
        url: Arc::new(inquired.url("/").parse().unwrap()),
        questions: HeaderMap::new(),
        headers: spelled.headers,
        header_names: spelled.header_names,
        tls: None,
        timeout: Duration::from_secs(10),
    };
    sender.inquire(inquiry).await.unwrap();
    assert_eq!(inquired.requests()[0].headers()["X-API-Key"], "1");
}

#[tokio::test]
async fn an_inquiry_is_an_options_request_without_a_body() {
    let answer = "HTTP/1.1 200 OK\r\nwebhook-allowed-origin: *\r\nallow: POST\r\ncontent-length: 2\r\n\r\nok";
    let receiver = Receiver::answering_heads(answer).await;
    let inquiry = Inquiry {
        owner: None,
        url: Arc::new(receiver.url("/hook?a=b").parse().unwrap()),
        questions: map(&[("webhook-request-origin", "hooks.example")]).unwrap().as_ref().clone(),
        headers: map(&[("authorization", "Bearer x"), ("webhook-request-origin", "evil")]),
        header_names: None,
        tls: None,
        timeout: Duration::from_secs(10),
    };
    let head = sender().inquire(inquiry.clone()).await.unwrap();
    assert_eq!((head.status.as_u16(), &head.headers["webhook-allowed-origin"]), (200, &"*".parse().unwrap()));
    let received = receiver.requests().remove(0);
    assert!(received.head.starts_with("OPTIONS /hook?a=b HTTP/1.1\r\n"), "{}", received.head);
    assert_eq!(received.headers()["webhook-request-origin"], "hooks.example");
    assert_eq!(received.headers()["authorization"], "Bearer x");
    assert!(!received.head.contains("signature") && !received.headers().contains_key("transfer-encoding"));

    let late = Receiver::start(|peer| peer.hold()).await;
    let url = Arc::new(late.url("/").parse().unwrap());
    let unanswered =
        sender().inquire(Inquiry { url, timeout: Duration::from_millis(100), ..inquiry.clone() }).await;
    assert_eq!(unanswered, Err("no answer within 0.1 s".to_owned()));
    let url = Arc::new("http://169.254.169.254/".parse().unwrap());
    let refused = sender().inquire(Inquiry { url, ..inquiry }).await;
    assert!(refused.is_err(), "the address policy holds here too");
}
