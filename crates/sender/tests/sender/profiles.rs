//! Signature profiles on the wire.

use crate::support::{Receiver, SECRET, loopback, request};
use delivery::outcome::{Class, Verdict};
use signature::{Key, KeyPair, Message, Profile, Profiles, Secret, Verifier};
use std::collections::BTreeSet;
use webhookd_sender::{Request, Sender, http::HttpSender};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn signed(url: &str, profiles: &[Profile], keys: &[Key]) -> Request {
    Request {
        profiles: Profiles::parse(profiles.iter().map(|profile| profile.as_str())).unwrap(),
        signers: keys.iter().map(Key::signer).collect(),
        ..request(url)
    }
}

#[tokio::test]
async fn each_profile_sends_its_headers_beside_id_and_timestamp() {
    let receiver = Receiver::answering(OK).await;
    let keys = [Key::Secret(Secret::parse(SECRET).unwrap()), Key::Pair(KeyPair::from_seed(&[7; 32]))];
    let sender = HttpSender::new(loopback()).unwrap();
    let usual = ["accept", "accept-encoding", "content-length", "content-type", "host", "user-agent"];
    for (profiles, want) in [
        (&[Profile::Standard][..], &["webhook-signature"][..]),
        (&[Profile::StandardV1a], &["webhook-signature"]),
        (&[Profile::Svix], &["svix-id", "svix-timestamp", "svix-signature"]),
        (&[Profile::Github], &["X-Hub-Signature-256"]),
        (&[Profile::Stripe], &["Stripe-Signature"]),
        (&[Profile::None], &[]),
        (&[Profile::Standard, Profile::Github], &["webhook-signature", "X-Hub-Signature-256"]),
    ] {
        let outcome = sender.send(signed(&receiver.url("/"), profiles, &keys)).await;
        assert_eq!((outcome.class, outcome.error), (Class::Succeeded, None), "{profiles:?}");
        let received = receiver.requests().pop().unwrap();
        let headers = received.headers();
        let names: BTreeSet<&str> = headers.keys().copied().collect();
        let want: BTreeSet<&str> =
            usual.iter().chain(&["webhook-id", "webhook-timestamp"]).chain(want).copied().collect();
        assert_eq!(names, want, "{profiles:?}");
        assert!(!received.head.contains(&SECRET[6..20]));
    }
}

#[tokio::test]
async fn both_secrets_and_both_kinds_verify_while_they_overlap() {
    let receiver = Receiver::answering(OK).await;
    let keys = [
        Key::Secret(Secret::from_key(&[1; 32]).unwrap()),
        Key::Pair(KeyPair::from_seed(&[2; 32])),
        Key::Secret(Secret::from_key(&[3; 32]).unwrap()),
    ];
    let sender = HttpSender::new(loopback()).unwrap();
    let profiles = [Profile::Standard, Profile::StandardV1a];
    sender.send(signed(&receiver.url("/"), &profiles, &keys)).await;
    sender.send(signed(&receiver.url("/"), &profiles, &keys[..2])).await;
    let verdicts: Vec<Vec<bool>> = receiver
        .requests()
        .iter()
        .map(|received| {
            let headers = received.headers();
            let timestamp = headers["webhook-timestamp"].parse().unwrap();
            let message = Message { id: headers["webhook-id"], timestamp, body: &received.body };
            let verifiers = keys.iter().map(|key| Verifier::parse(&key.reveal()).unwrap());
            verifiers
                .map(|verifier| verifier.verify(&message, headers["webhook-signature"], timestamp).is_ok())
                .collect()
        })
        .collect();
    assert_eq!(verdicts, [vec![true, true, true], vec![true, true, false]]);
}

#[tokio::test]
async fn without_a_fitting_key_nothing_is_sent_and_nobody_else_is_blamed() {
    let receiver = Receiver::answering(OK).await;
    let sender = HttpSender::new(loopback()).unwrap();
    let keys = [Key::Secret(Secret::parse(SECRET).unwrap())];
    let outcome =
        sender.send(signed(&receiver.url("/"), &[Profile::Standard, Profile::StandardV1a], &keys)).await;
    assert_eq!((outcome.verdict(), receiver.connections()), (Verdict::Ours, 0));
    let error = outcome.error.unwrap();
    assert!(error.contains("`standard-v1a`") && error.contains("webhook_rotate_secret"), "{error}");
}
