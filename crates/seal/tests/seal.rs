//! What opens, what does not, and that another implementation of HPKE agrees.

use proptest::prelude::*;
use seal::{
    CannotOpen, CannotSeal, InvalidKey, InvalidRing, KeyRing, PrivateKey, ProvenKey, PublicKey, Purpose,
    is_sealed, open, seal,
};

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const HERE: Purpose = Purpose::SecretOf(42);

#[test]
fn only_the_private_key_opens() {
    let key = PrivateKey::generate().unwrap();
    let sealed = seal(key.public_key(), HERE, SECRET).unwrap();
    assert_eq!(open(&key, HERE, &sealed).unwrap().as_str(), SECRET);
    assert!(is_sealed(&sealed) && !sealed.contains(&SECRET[6..20]));
    assert!(sealed.starts_with(&format!("sealed:v1:{}:", key.public_key().id())));
    assert_ne!(seal(key.public_key(), HERE, SECRET).unwrap(), sealed, "a new key for each");

    let other = PrivateKey::generate().unwrap();
    assert_eq!(open(&other, HERE, &sealed), Err(CannotOpen::OtherKey(key.public_key().id())));
    // With the id forged, the content still does not fit.
    let forged = sealed.replace(&key.public_key().id().to_string(), &other.public_key().id().to_string());
    assert_eq!(open(&other, HERE, &forged), Err(CannotOpen::Damaged));
}

#[test]
fn a_text_opens_only_where_it_belongs() {
    let key = PrivateKey::generate().unwrap();
    let sealed = seal(key.public_key(), HERE, SECRET).unwrap();
    assert_eq!(open(&key, Purpose::SecretOf(43), &sealed), Err(CannotOpen::Damaged));
    assert_eq!(open(&key, Purpose::SecretOf(4), &sealed), Err(CannotOpen::Damaged));
}

#[test]
fn keys_are_their_texts() {
    let key = PrivateKey::generate().unwrap();
    assert_eq!(PrivateKey::parse(&key.reveal()), Ok(key.clone()));
    assert_eq!(PublicKey::parse(&key.public_key().to_string()).as_ref(), Ok(key.public_key()));
    assert_eq!(format!("{key:?}"), "***");
    assert!(!format!("{:?}", KeyRing::parse(&key.reveal()).unwrap()).contains(&key.reveal()[20..28]));
    assert_eq!(PublicKey::parse(&key.reveal()), Err(InvalidKey::NotPublic));
    assert_eq!(PrivateKey::parse(&key.public_key().to_string()), Err(InvalidKey::NotPrivate));
}

#[test]
fn a_letter_lost_or_changed_is_noticed() {
    let key = PrivateKey::generate().unwrap();
    let (public, private) = (key.public_key().to_string(), key.reveal());
    for at in "webhookd_public_".len()..public.len() {
        let mut shorter = public.clone();
        shorter.remove(at);
        assert_eq!(PublicKey::parse(&shorter), Err(InvalidKey::Letters));
        let mut other = public.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(PublicKey::parse(str::from_utf8(&other).unwrap()), Err(InvalidKey::Letters));
    }
    assert_eq!(PrivateKey::parse(&private[..private.len() - 4]), Err(InvalidKey::Letters));
    // The bytes of one half are not taken for the other.
    let swapped = public.replace("webhookd_public_", "webhookd_private_");
    assert_eq!(PrivateKey::parse(&swapped), Err(InvalidKey::Letters));
}

#[test]
fn a_ring_opens_what_was_sealed_for_any_of_its_keys() {
    let (new, old) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let text =
        format!("# in use\n{}\n\n  {} # until everything is sealed again\n", *new.reveal(), *old.reveal());
    let ring = KeyRing::parse(&text).unwrap();
    assert_eq!(ring.keys(), [new.clone(), old.clone()]);
    assert_eq!(ring.current(), Some(&new));
    for key in [&new, &old] {
        let sealed = seal(key.public_key(), HERE, SECRET).unwrap();
        assert_eq!(ring.open(HERE, &sealed).unwrap().as_str(), SECRET);
    }
    let stranger = PrivateKey::generate().unwrap().public_key().clone();
    let sealed = seal(&stranger, HERE, SECRET).unwrap();
    assert_eq!(ring.open(HERE, &sealed), Err(CannotOpen::OtherKey(stranger.id())));
    assert_eq!(KeyRing::default().open(HERE, &sealed), Err(CannotOpen::OtherKey(stranger.id())));

    let commas = format!("{},{}", *new.reveal(), *old.reveal());
    assert_eq!(KeyRing::parse(&commas).unwrap().keys().len(), 2);
    assert!(KeyRing::parse(" \n# nothing\n").unwrap().keys().is_empty());
    let second = format!("{} hunter2", *new.reveal());
    let error = KeyRing::parse(&second).unwrap_err();
    assert_eq!(error, InvalidRing { at: 2, why: InvalidKey::NotPrivate });
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn a_proof_belongs_to_one_key() {
    // Both signs of the point occur.
    let keys: Vec<PrivateKey> = (0..32).map(|_| PrivateKey::generate().unwrap()).collect();
    for key in &keys {
        let text = key.proven_key().to_string();
        let proven = ProvenKey::parse(&text).unwrap();
        assert_eq!(proven.key(), key.public_key());
        assert_eq!(proven.to_string(), text);
        assert_eq!(key.proven_key().to_string(), text, "the same each time");
        assert_eq!(text.split_once('.').unwrap().0, key.public_key().to_string());
    }
    let proof = |key: &PrivateKey| key.proven_key().to_string().split_once('.').unwrap().1.to_owned();
    let other = format!("{}.{}", keys[0].public_key(), proof(&keys[1]));
    assert_eq!(ProvenKey::parse(&other), Err(InvalidKey::FalseProof));
    // The private half counts from 1 to 32. Operators keep these texts.
    let key = PrivateKey::parse("webhookd_private_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyDf5nAH").unwrap();
    assert_eq!(
        key.proven_key().to_string(),
        "webhookd_public_B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHza5IVk.\
         3eXaNbBEtV6OENM5XGVQz2fdiCYw3wlUOwhsPJX9lopeCy93CvHptg63kJcO734yJpZP2jjVx1grxEBHt023DQ"
    );
}

#[test]
fn an_invented_key_has_no_proof() {
    // The key that the manual once printed: the bytes from 1 to 32.
    let invented = "webhookd_public_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA4fVVp";
    assert!(PublicKey::parse(invented).is_ok());
    assert_eq!(ProvenKey::parse(invented), Err(InvalidKey::Unproven));
    let key = PrivateKey::generate().unwrap().proven_key().to_string();
    let (_, proof) = key.split_once('.').unwrap();
    assert_eq!(ProvenKey::parse(&format!("{invented}.{proof}")), Err(InvalidKey::FalseProof));
    for damaged in [&key[..key.len() - 1], &format!("{key}A"), &format!("{key}=="), &format!("{key}.")] {
        assert_eq!(ProvenKey::parse(damaged), Err(InvalidKey::Letters), "{damaged}");
    }
    for at in key.find('.').unwrap() + 1..key.len() {
        let mut other = key.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        assert!(ProvenKey::parse(str::from_utf8(&other).unwrap()).is_err(), "letter {at}");
    }
    for placeholder in ["webhookd_public_…", "webhookd_public_", "webhookd_public_….…"] {
        assert_eq!(ProvenKey::parse(placeholder), Err(InvalidKey::Letters));
    }
    // A signature of zeros holds for a key of small order, unless the check is strict.
    let weak = format!("webhookd_public_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA6NjqA.{}", "A".repeat(86));
    assert_eq!(ProvenKey::parse(&weak), Err(InvalidKey::FalseProof));
}

#[test]
fn a_key_of_small_order_seals_nothing() {
    // 32 zero bytes, with their checksum.
    let key = PublicKey::parse("webhookd_public_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA6NjqA").unwrap();
    assert_eq!(seal(&key, HERE, SECRET), Err(CannotSeal::WeakKey));
}

/// Sealed by another implementation (pyhpke 0.6) for the key whose bytes count from 0.
#[test]
fn another_implementation_agrees() {
    let key = PrivateKey::parse("webhookd_private_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8XqsIW").unwrap();
    assert_eq!(
        key.public_key().to_string(),
        "webhookd_public_j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF+e4Qxb"
    );
    let sealed = "sealed:v1:eedd883da0a94515:yc+Xph+CE1JEKj1ibDT3cCmdWMJIxw9qDxR4RxXQOn8UFMU5mLb6g1I2fAg9Vpjw/seGYMUNAy7WAlK9Pg9etS5f23321O6cEElBq263/2/+/MpEAyH4TsXF2bxMlWYrbjw=";
    assert_eq!(open(&key, HERE, sealed).unwrap().as_str(), SECRET);
}

#[test]
fn other_texts_have_no_form() {
    let key = PrivateKey::generate().unwrap();
    let id = key.public_key().id();
    for text in [
        "",
        "sealed:",
        "sealed:v1",
        "sealed:v1:",
        "sealed:v1::",
        "sealed:v2:0011223344556677:AAAA",
        "sealed:v1:0011223344556677",
        "sealed:v1:001122334455667:AAAA",
        "sealed:v1:001122334455667G:AAAA",
        "sealed:v1:+011223344556677:AAAA",
        "sealed:v1:0011223344556677:A",
        "sealed:v1:0011223344556677:AAA*",
        SECRET,
    ] {
        assert_eq!(open(&key, HERE, text), Err(CannotOpen::Form), "{text}");
    }
    for short in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
        assert_eq!(open(&key, HERE, &format!("sealed:v1:{id}:{short}")), Err(CannotOpen::Damaged), "{short}");
    }
    let long = format!("sealed:v1:{id}:{}", "A".repeat(1 << 20));
    assert_eq!(open(&key, HERE, &long), Err(CannotOpen::Form));
}

proptest! {
    #[test]
    fn every_text_comes_back(text in "\\PC{0,200}", id in any::<i64>()) {
        let key = PrivateKey::generate().unwrap();
        let sealed = seal(key.public_key(), Purpose::SecretOf(id), &text).unwrap();
        let opened = open(&key, Purpose::SecretOf(id), &sealed).unwrap();
        prop_assert_eq!(opened.as_str(), text);
    }

    #[test]
    fn no_changed_letter_opens(at in 10usize..150, to in "[A-Za-z0-9+/=:]") {
        let key = PrivateKey::generate().unwrap();
        let sealed = seal(key.public_key(), HERE, SECRET).unwrap();
        let at = at.min(sealed.len() - 1);
        let mut changed = sealed.clone();
        changed.replace_range(at..=at, &to);
        if changed != sealed {
            prop_assert!(open(&key, HERE, &changed).is_err());
        }
    }

    #[test]
    fn no_text_is_worse_than_an_error(text in "(sealed:(v1:)?([0-9a-f]{16}:)?)?\\PC{0,100}") {
        let key = PrivateKey::generate().unwrap();
        prop_assert!(open(&key, HERE, &text).is_err());
    }
}
