//! The fuzz targets with the stored inputs: seeds, inputs that a fuzzer found to reach new code, and all
//! inputs that ever caused a failure.

use std::fs;
use std::path::Path;

use ka_tests::fuzz::TARGETS;
use ka_tests::root;

/// Runs a target with each input in a directory; returns their number.
fn run_all(folder: &Path, run: fn(&[u8])) -> usize {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut count = 0;
    for entry in entries {
        let path = entry.expect("an entry").path();
        let input = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if std::panic::catch_unwind(|| run(&input)).is_err() {
            panic!("{} makes its target fail, as told above", path.display());
        }
        count += 1;
    }
    count
}

#[test]
fn every_target_has_seeds_and_takes_them() {
    let corpus = root().join("tests/fuzz/corpus");
    for target in TARGETS {
        assert!(run_all(&corpus.join(target.name), target.run) > 0, "{}: no seeds", target.name);
    }
    let folders = fs::read_dir(&corpus).expect("the corpus").count();
    assert_eq!(folders, TARGETS.len(), "a folder without a target");
}

#[test]
fn what_failed_once_fails_no_more() {
    let regressions = root().join("tests/fuzz/regressions");
    for target in TARGETS {
        let folder = regressions.join(target.name);
        if folder.exists() {
            run_all(&folder, target.run);
        }
    }
}
