//! What one signature costs. The daemon signs once for each attempt, and little else of it takes
//! more time.
//!
//! `cargo bench -p webhook_signature`: nanoseconds for each, the best of twenty
//! rounds.

use std::{hint::black_box, time::Instant};
use webhook_signature::{Key, KeyPair, Message, Profile, Profiles, Secret};

const ROUNDS: usize = 20;
const PER_ROUND: u32 = 50_000;

fn best(name: &str, mut sign: impl FnMut()) {
    let nanoseconds = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            (0..PER_ROUND).for_each(|_| sign());
            begun.elapsed().as_nanos() / u128::from(PER_ROUND)
        })
        .min();
    println!("{name:<24}{:>8} ns", nanoseconds.unwrap_or_default());
}

fn main() {
    let body = vec![b'x'; 300];
    let secret = Secret::from_key(&[7; 32]).expect("a key of 32 bytes");
    let pair = Key::Pair(KeyPair::from_seed(&[7; 32]));
    let (id, timestamp) = ("evt_00063f1c5d2a4e1b2c", 1_700_000_000);
    let signer = secret.signer();
    best("one token", || {
        black_box(signer.sign(id, black_box(timestamp), &body));
    });
    let signers = [signer, pair.signer()];
    for profile in Profile::ALL {
        best(profile.as_str(), || {
            let message = Message { id, timestamp: black_box(timestamp), body: &body };
            let written = Profiles::from(profile).headers(&signers, &message, |name, value| {
                black_box((name, value));
            });
            black_box(written).expect("there is a key for each");
        });
    }
}
