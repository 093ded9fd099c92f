//! The fuzz targets without a fuzzer: every committed seed, and some thousands of mutations of them that are the same
//! at every run. `make fuzz` looks further.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "../fuzz/checks/mod.rs"]
mod checks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Mutations of each target at each run.
const MUTATIONS: usize = 4000;

/// The longest input that is made, in bytes.
const LONGEST: usize = 4096;

/// The inputs of a target that are committed, by name.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// The words of a target's dictionary, which the fuzzer uses too: lines of the form `"word"`.
fn words(target: &str) -> Vec<Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/dict").join(format!("{target}.dict"));
    let text = std::fs::read_to_string(file).unwrap();
    let word = |line: &str| Some(line.strip_prefix('"')?.strip_suffix('"')?.replace("\\\"", "\"").into_bytes());
    text.lines().filter_map(word).collect()
}

/// One small change; `other` is an input to borrow from.
fn mutate(input: &mut Vec<u8>, dice: &mut fastrand::Rng, words: &[Vec<u8>], other: &[u8]) {
    let at = dice.usize(..=input.len());
    let piece = |from: &[u8], dice: &mut fastrand::Rng| {
        let start = dice.usize(..=from.len());
        from[start..(start + dice.usize(..64)).min(from.len())].to_vec()
    };
    let end = (at + dice.usize(..16)).min(input.len());
    let with = match dice.u8(..7) {
        0 => vec![dice.u8(..)],
        1 => Vec::new(),
        2 => dice.choice(words).cloned().unwrap_or_default(),
        3 => piece(other, dice),
        4 => piece(input, dice),
        5 => input[at..end].iter().map(|byte| byte ^ (1 << dice.u8(..8))).collect(),
        _ => vec![*dice.choice(b"0\"{}[]:,%/.\\\n \xff\0").unwrap(); dice.usize(1..4)],
    };
    // Half of the changes overwrite, half insert.
    let end = if dice.bool() { end } else { at };
    input.splice(at..end, with);
    input.truncate(LONGEST);
}

fn run(name: &str, check: checks::Check, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| check(input))).is_err() {
        let file = std::env::temp_dir().join(format!("sharelink-fuzz-{name}"));
        std::fs::write(&file, input).unwrap();
        panic!("{name} fails on {} bytes, kept in {}: {}", input.len(), file.display(), input.escape_ascii());
    }
}

fn short(name: &str) {
    let (_, check) = *checks::TARGETS.iter().find(|(target, _)| *target == name).unwrap();
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "fuzz/seeds/{name} is empty");
    let words = words(name);
    seeds.iter().for_each(|seed| run(name, check, seed));
    let mut dice = fastrand::Rng::with_seed(0x5eed);
    for _ in 0..MUTATIONS {
        let mut input = dice.choice(&seeds).unwrap().clone();
        let other = dice.choice(&seeds).unwrap();
        for _ in 0..dice.usize(1..6) {
            mutate(&mut input, &mut dice, &words, other);
        }
        run(name, check, &input);
    }
}

#[test]
fn any_request_stays_in_its_place_or_is_refused_in_a_line() {
    short("request");
}

#[test]
fn any_retry_after_gives_a_bounded_wait() {
    short("retry_after");
}

#[test]
fn any_answer_of_a_provider_is_read_and_never_wider_than_asked() {
    short("provider_answer");
}

#[test]
fn any_configuration_is_accepted_whole_or_refused_without_a_secret() {
    short("configuration");
}

#[test]
fn any_delivery_gets_a_reply_and_copies_that_fit_and_can_be_read() {
    short("reply_side");
}

#[test]
fn every_target_has_its_file_and_its_short_run() {
    let here = include_str!("fuzz_short.rs");
    let manifest = include_str!("../fuzz/Cargo.toml");
    for (name, _) in checks::TARGETS {
        assert!(here.contains(&format!("short(\"{name}\")")), "{name} has no short run");
        assert!(manifest.contains(&format!("fuzz_targets/{name}.rs")), "{name} has no target");
    }
}
