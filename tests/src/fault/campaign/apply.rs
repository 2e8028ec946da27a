//! Injections into `ka-agent disk apply`: a disk reported as prepared has intact file systems.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fs;
use std::process::Command;

use super::fault::Fault;
use super::judge::Judged;
use super::scene::last_line;
use super::watch::{self, Watch};
use super::{Finding, Injection};
use crate::fault::disk::{Access, Effect, FaultyDisk, Rule};
use crate::process::{Process, program};
use crate::sim::random::Random;

const DESC: &str = "linux 40\nlinux fill\nswap 16\n";

/// Performs the injection and judges it.
pub(super) fn perform(injection: &Injection) -> Judged {
    let mut random = Random::new(injection.seed);
    let work = tempfile::tempdir().unwrap();
    let desc = work.path().join("desc");
    fs::write(&desc, DESC).unwrap();
    let disk = FaultyDisk::new(200 << 20);
    let from = random.fraction() * 0.7;
    let range = disk.part(from, from + 0.02 + random.fraction() * 0.4);
    let (access, effect) = match injection.fault {
        Fault::ApplyReadErrors => (Access::Read, Effect::Eio),
        Fault::ApplyLostWrites => (Access::Write, Effect::Lose),
        Fault::ApplyNoSpaceBelow => (Access::Write, Effect::NoSpace),
        _ => (Access::Write, Effect::Eio),
    };
    if injection.fault != Fault::ApplyKilled {
        disk.harm(Rule { access, range, effect });
    }
    let kind = ["ext4", "ext2"][random.index(2)];
    let mut command = Command::new(program("ka-agent"));
    command.args(["disk", "apply", "--yes", "--fs", kind, "--disk", disk.node(), "--desc"]).arg(&desc);
    let mut apply = Process::start(&mut command, "apply", work.path());
    let mut judged = Judged::default();
    let mut watch = Watch::new();
    let most = random.between(1, 200) << 10;
    while !apply.has_ended() {
        if injection.fault == Fault::ApplyKilled && watch::written(&apply) >= most {
            apply.kill();
        } else if watch.hangs([&apply]) {
            judged.findings.push(Finding::Hang(format!("apply: {}", last_line(&apply))));
            disk.heal();
            apply.kill();
        }
    }
    if apply.status().is_some_and(|status| status.success()) {
        judged.complete = 1;
        if let Err(damage) = check(&disk, kind) {
            judged.findings.push(Finding::FalseSuccess(damage));
        }
    } else if injection.fault != Fault::ApplyKilled && judged.findings.is_empty() {
        let said = last_line(&apply);
        let lower = said.to_lowercase();
        if !injection.fault.words().iter().any(|word| lower.contains(word)) {
            judged.findings.push(Finding::Untrue(said));
        }
    }
    judged
}

/// Whether the file systems are intact on the medium itself.
fn check(disk: &FaultyDisk, kind: &str) -> Result<(), String> {
    let _ = Command::new("blockdev").args(["--flushbufs", disk.node()]).output();
    disk.heal();
    for number in 1..=2 {
        let partition = format!("{}p{number}", disk.node());
        let _ = Command::new("blockdev").args(["--flushbufs", &partition]).output();
        let fsck = Command::new(format!("fsck.{kind}")).args(["-fn", &partition]).output().unwrap();
        if !fsck.status.success() {
            return Err(format!("{partition}: {}", String::from_utf8_lossy(&fsck.stdout).trim()));
        }
    }
    Ok(())
}
