//! The agent is the only program of stage1: it must run without any library, and be loadable over TFTP.

use std::fs;
use std::process::Command;

use ka_tests::{static_agent, succeed};

const MEBIBYTE: u64 = 1024 * 1024;

#[test]
fn the_agent_is_statically_linked() {
    let kind = succeed(Command::new("file").arg("--brief").arg(static_agent()));
    assert!(kind.contains("ELF 64-bit") && kind.contains("x86-64"), "{kind}");
    assert!(kind.contains("statically linked") || kind.contains("static-pie linked"), "{kind}");
    let segments = succeed(Command::new("readelf").args(["--wide", "--segments"]).arg(static_agent()));
    assert!(!segments.contains("INTERP"), "it asks for an interpreter:\n{segments}");
    let dynamic = succeed(Command::new("readelf").args(["--wide", "--dynamic"]).arg(static_agent()));
    assert!(!dynamic.contains("NEEDED"), "it asks for libraries:\n{dynamic}");
}

#[test]
fn the_agent_is_at_most_6_mib() {
    let size = fs::metadata(static_agent()).expect("it is there").len();
    assert!(size <= 6 * MEBIBYTE, "{size} bytes");
}
