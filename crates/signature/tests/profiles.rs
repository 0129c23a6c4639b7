//! What each profile writes: known answers, and properties that verifying libraries rely on.
//!
//! The known answers were computed with the HMAC and ed25519 of other languages (Python's `hmac`
//! and `cryptography`, node:crypto), or stand in the documentation of the service that is imitated.

use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use sha2::Sha256;
use std::collections::BTreeMap;
use webhook_signature::{
    Key, KeyPair, Message, NoKey, Profile, Profiles, Rejected, Secret, Signer, Verifier, sign, verify,
};

const COUNTING: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const PAIR: &str =
    "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==";

/// Key, public key if it is a pair, id, timestamp, body, token.
type Vector = (&'static str, Option<&'static str>, &'static str, i64, &'static str, &'static str);

const STANDARD: [Vector; 6] = [
    (
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        None,
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1_649_367_553,
        r#"{"email":"test@example.com","username":"test_user"}"#,
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
    (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        None,
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        r#"{"test": 2432232314}"#,
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
    (
        COUNTING,
        None,
        "msg_1",
        1_700_000_000,
        r#"{"name":"Zoë 🚀"}"#,
        "v1,h4wM0iJBg86tjddY9w57S2oGX7vmhxNSYAqdgUYnv2c=",
    ),
    (COUNTING, None, "msg_1", 1_700_000_000, "{}", "v1,fhksJF5ElKjlPoT/jtefCO5XjQPvhf7Dhf/8R1ad9yU="),
    (
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
        Some("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="),
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        r#"{"test": 2432232314}"#,
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
    ),
    (
        PAIR,
        Some("whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="),
        "msg_1",
        1_700_000_000,
        "{}",
        "v1a,fR8yyhXRO0do/WxNS4zXzRCZpGO+mwd0OAbs9Yr4JTAZF2y4KGv3H0dFLUCKzYN4xVJij9U5gkTIbHLMAd6YCQ==",
    ),
];

#[test]
fn known_answers_of_standard_webhooks() {
    for (key, public, id, timestamp, body, want) in STANDARD {
        let key = Key::parse(key).unwrap();
        assert_eq!(key.signer().sign(id, timestamp, body.as_bytes()), want);
        let message = Message { id, timestamp, body: body.as_bytes() };
        let verifier = Verifier::parse(public.unwrap_or(&key.reveal())).unwrap();
        assert_eq!(verifier.verify(&message, want, timestamp), Ok(()));
        match &key {
            Key::Secret(secret) => assert_eq!(sign(secret, id, timestamp, body.as_bytes()), want),
            Key::Pair(pair) => assert_eq!(Some(pair.public_key().to_string().as_str()), public),
        }
    }
}

#[test]
fn the_key_is_the_decoded_secret_not_its_text() {
    let secret = Secret::parse(COUNTING).unwrap();
    let by_text = "v1,0nhPPVTAyNIQw6D2QBJpoji6wC9Jrb7eRf8/j+yvhK0=";
    assert_ne!(sign(&secret, "msg_1", 1_700_000_000, b"{}"), by_text);
    let verdict = verify(&secret, "msg_1", 1_700_000_000, b"{}", by_text, 1_700_000_000);
    assert_eq!(verdict, Err(Rejected::Mismatch));
}

fn headers(
    profiles: &[Profile],
    keys: &[Key],
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> Result<BTreeMap<&'static str, String>, NoKey> {
    let profiles = Profiles::parse(profiles.iter().map(|profile| profile.as_str())).unwrap();
    let signers: Vec<Signer> = keys.iter().map(Key::signer).collect();
    let mut headers = BTreeMap::new();
    let written = profiles.headers(&signers, &Message { id, timestamp, body }, |name, value| {
        assert_eq!(headers.insert(name, value), None, "{name} is written once");
    });
    assert_eq!(profiles.can_sign(&signers), written.is_ok());
    written.map(|()| headers)
}

/// Computed by hand: with the secret's text as the key, unlike Standard Webhooks.
fn hex_hmac(secret: &str, signed: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_yardsticks_of_github_and_stripe_are_the_published_ones() {
    assert_eq!(
        hex_hmac("It's a Secret to Everybody", b"Hello, World!"),
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    );
    assert_eq!(
        hex_hmac("whsec_test_secret", b"1614265330.{\"id\":\"evt_test\"}"),
        "00cd8805b6dfb4317048892c492f8ff769e2075ec20013c6ed546e639a4e20ba"
    );
}

#[test]
fn each_profile_writes_its_headers_and_no_other() {
    let (new, old) = (Key::parse(COUNTING).unwrap(), Key::parse(STANDARD[0].0).unwrap());
    let pair = Key::parse(PAIR).unwrap();
    let (id, at, body) = ("msg_1", 1_700_000_000, b"{}");
    let keys = [new.clone(), pair.clone(), old.clone()];
    let (v1, v1_old) = (new.signer().sign(id, at, body), old.signer().sign(id, at, body));
    let v1a = pair.signer().sign(id, at, body);
    for (profiles, want) in [
        (&[Profile::Standard][..], vec![("webhook-signature", format!("{v1} {v1_old}"))]),
        (&[Profile::StandardV1a], vec![("webhook-signature", v1a.clone())]),
        (
            &[Profile::StandardV1a, Profile::Standard],
            vec![("webhook-signature", format!("{v1} {v1_old} {v1a}"))],
        ),
        (
            &[Profile::Svix],
            vec![
                ("svix-id", id.to_owned()),
                ("svix-signature", format!("{v1} {v1_old}")),
                ("svix-timestamp", at.to_string()),
            ],
        ),
        (&[Profile::Github], vec![("x-hub-signature-256", format!("sha256={}", hex_hmac(COUNTING, body)))]),
        (
            &[Profile::Stripe],
            vec![(
                "stripe-signature",
                format!(
                    "t={at},v1={},v1={}",
                    hex_hmac(COUNTING, format!("{at}.{{}}").as_bytes()),
                    hex_hmac(STANDARD[0].0, format!("{at}.{{}}").as_bytes())
                ),
            )],
        ),
        (&[Profile::None], vec![]),
    ] {
        assert_eq!(
            headers(profiles, &keys, id, at, body).unwrap(),
            want.into_iter().collect(),
            "{profiles:?}"
        );
    }
    let all = headers(&Profile::ALL[..5], &keys, id, at, body).unwrap();
    let names: Vec<&str> = all.keys().copied().collect();
    let want = [
        "stripe-signature",
        "svix-id",
        "svix-signature",
        "svix-timestamp",
        "webhook-signature",
        "x-hub-signature-256",
    ];
    assert_eq!(names, want);
}

#[test]
fn nothing_is_signed_without_a_fitting_key() {
    let secret = [Key::parse(COUNTING).unwrap()];
    let pair = [Key::parse(PAIR).unwrap()];
    for profile in Profile::ALL {
        let by_pair = profile == Profile::StandardV1a;
        let fitting = [
            profile == Profile::None,
            profile == Profile::None || !by_pair,
            by_pair || profile == Profile::None,
        ];
        for (keys, fits) in [&[][..], &secret, &pair].into_iter().zip(fitting) {
            let written = headers(&[profile], keys, "a", 1, b"{}");
            let want = if fits { Ok(()) } else { Err(NoKey(profile)) };
            assert_eq!(written.map(drop), want, "{profile:?} with {} keys", keys.len());
        }
    }
    assert_eq!(
        headers(&[Profile::Standard, Profile::StandardV1a], &secret, "a", 1, b"{}"),
        Err(NoKey(Profile::StandardV1a))
    );
    assert_eq!(NoKey(Profile::Stripe).to_string(), "the subscription has no key for the signature `stripe`");
}

fn keys() -> impl Strategy<Value = Vec<Key>> {
    let secret = proptest::collection::vec(any::<u8>(), 24..=64)
        .prop_map(|key| Key::Secret(Secret::from_key(&key).unwrap()));
    let pair = any::<[u8; 32]>().prop_map(|seed| Key::Pair(KeyPair::from_seed(&seed)));
    proptest::collection::vec(prop_oneof![secret, pair], 1..5)
}

proptest! {
    #[test]
    fn every_key_verifies_and_a_flipped_bit_is_noticed(
        keys in keys(), body in proptest::collection::vec(any::<u8>(), 1..64), at in 0usize..512,
    ) {
        let signers: Vec<Signer> = keys.iter().map(Key::signer).collect();
        let profiles = Profile::ALL[..2].iter().filter(|p| Profiles::from(**p).can_sign(&signers));
        let header = headers(&profiles.copied().collect::<Vec<_>>(), &keys, "evt_1", 5, &body).unwrap()
            .remove("webhook-signature").unwrap();
        let mut other = body.clone();
        other[(at / 8) % body.len()] ^= 1 << (at % 8);
        for key in &keys {
            let verifier = Verifier::parse(&key.reveal()).unwrap();
            let check = |body: &[u8]| verifier.verify(&Message { id: "evt_1", timestamp: 5, body }, &header, 5);
            prop_assert_eq!(check(&body), Ok(()));
            prop_assert_eq!(check(&other), Err(Rejected::Mismatch));
        }
    }

    /// The Python library splits at every space, and each token into exactly two at its comma.
    #[test]
    fn tokens_are_parted_by_one_space(keys in keys(), body in ".{1,40}", at in 0i64..1 << 40) {
        for profiles in [&[Profile::Standard][..], &[Profile::StandardV1a], &Profile::ALL[..2], &[Profile::Svix]] {
            let Ok(headers) = headers(profiles, &keys, "evt_1", at, body.as_bytes()) else { continue };
            for (name, value) in headers.iter().filter(|(name, _)| name.ends_with("-signature")) {
                for token in value.split(' ') {
                    let parts: Vec<&str> = token.split(',').collect();
                    prop_assert!(parts.len() == 2 && !parts[1].is_empty(), "{}: {:?}", name, value);
                    prop_assert!(["v1", "v1a"].contains(&parts[0]), "{}: {:?}", name, value);
                }
            }
        }
    }

    #[test]
    fn keys_are_their_texts(keys in keys()) {
        for key in keys {
            let text = key.reveal();
            prop_assert_eq!(Key::parse(&text), Ok(key));
        }
    }

    #[test]
    fn no_text_is_worse_than_no_key(text in "(whsec_|whsk_|whpk_|)\\PC{0,100}") {
        let _ = (Key::parse(&text), Verifier::parse(&text));
    }
}
