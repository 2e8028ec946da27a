//! One libFuzzer program for all targets: `KA_FUZZ_TARGET` says which.
#![no_main]

use std::sync::LazyLock;

use ka_tests::fuzz::{self, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("KA_FUZZ_TARGET").unwrap_or_default();
    fuzz::target(&name).unwrap_or_else(|| {
        let names: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("KA_FUZZ_TARGET='{name}' is no target; there are: {}", names.join(" "));
        std::process::exit(2)
    })
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
