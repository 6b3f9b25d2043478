//! The kept seeds of `fuzz/`, each through its target's check: what a fuzzer once found stays found.

#[path = "../../fuzz/fuzz_targets/checks.rs"]
mod checks;

use std::path::PathBuf;
use std::process::Command;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let seeds: Vec<Vec<u8>> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!seeds.is_empty(), "{} is empty", folder.display());
    seeds
}

/// Whole, cut at each place, and with each byte changed: what a fuzzer tries first.
fn variants(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..=seed.len()).map(|end| seed[..end].to_vec());
    let changed = (0..seed.len()).flat_map(|place| {
        [b'<', b'>', b'"', b'{', b'\\', 0, 0xff].map(|byte| {
            let mut changed = seed.to_vec();
            changed[place] = byte;
            changed
        })
    });
    cut.chain(changed)
}

fn replay(target: &str, check: fn(&[u8])) {
    for seed in seeds(target) {
        variants(&seed).for_each(|variant| check(&variant));
    }
}

fn replay_texts(target: &str, check: fn(&str)) {
    for seed in seeds(target) {
        for variant in variants(&seed) {
            check(&String::from_utf8_lossy(&variant));
        }
    }
}

#[test]
fn the_seeds_of_callbacks_break_nothing() {
    replay("callback", checks::callback);
}

#[test]
fn the_seeds_of_data_break_nothing() {
    replay_texts("data", checks::data);
}

#[test]
fn the_seeds_of_xml_break_nothing() {
    replay_texts("xml", checks::xml);
}

#[test]
fn the_seeds_of_json_break_nothing() {
    replay_texts("json", checks::json);
}

/// On a new machine there is none, and nothing but the fuzzing needs it.
#[test]
fn make_fuzz_without_its_compiler_says_how_to_get_it() {
    let made = Command::new("make")
        .args(["fuzz", "NIGHTLY=nightly-2000-01-01"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();

    assert!(!made.status.success());
    let said = String::from_utf8(made.stderr).unwrap();
    let mut lines = said.lines();
    let first = lines.next().unwrap();
    assert!(
        first.contains("\"nightly-2000-01-01\", which is not installed"),
        "{said}"
    );
    assert!(
        first.contains("`rustup toolchain install nightly-2000-01-01 "),
        "{said}"
    );
    assert_eq!(lines.count(), 1, "but for what make itself says: {said}");
}
