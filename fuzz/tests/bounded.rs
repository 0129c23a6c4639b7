//! Runs the targets without a fuzzer: over the corpus, its mutations, and random bytes.

use proptest::{prelude::*, sample::Index};
use std::{fs, path::Path};

/// Returns the inputs of one target, from the corpus.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_target_has_a_corpus_of_small_files() {
    for (name, _) in fuzz::ALL {
        let inputs = corpus(name);
        assert!(inputs.len() >= 3, "{name}");
        assert!(inputs.iter().all(|input| input.len() <= 4096), "{name}");
    }
}

#[test]
fn the_corpus() {
    for (name, run) in fuzz::ALL {
        for input in corpus(name) {
            println!("{name}: {:?}", String::from_utf8_lossy(&input));
            run(&input);
        }
    }
}

/// A piece of an input replaced, removed, doubled or added.
#[derive(Debug, Clone)]
struct Change {
    at: Index,
    length: usize,
    with: Vec<u8>,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let with = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..4),
        Just(b"\r\n".to_vec()),
        Just(b"\r\n\r\n".to_vec()),
        Just(b"99999999999999999999".to_vec()),
        Just("\u{2028}é🚀".as_bytes().to_vec()),
        Just(b"\\u0000".to_vec()),
        Just(vec![b'a'; 5000]),
    ];
    let change = (any::<Index>(), 0usize..8, with).prop_map(|(at, length, with)| Change { at, length, with });
    proptest::collection::vec(change, 1..5)
}

fn apply(mut input: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for Change { at, length, with } in changes {
        let start = at.index(input.len() + 1);
        let end = (start + length).min(input.len());
        input.splice(start..end, with.iter().copied());
    }
    input
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutations_of_the_corpus(which in any::<Index>(), changes in changes()) {
        for (name, run) in fuzz::ALL {
            let inputs = corpus(name);
            run(&apply(inputs[which.index(inputs.len())].clone(), &changes));
        }
    }

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (_, run) in fuzz::ALL {
            run(&bytes);
        }
    }
}
