//! Compares the received data with the sent data and with the reports of both sides.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::path::Path;

use super::Finding;
use super::fault::{Fault, Reach};
use super::material::{self, Look};
use super::scene::{Scene, last_line};
use crate::process::wait_until;
use crate::site;

/// Among 256 sampled pieces of 64 KiB, at least one shows a loss of this size: the probability of missing it
/// is below 10^-14.
const READ_BACK_FINDS: f64 = 0.125;

/// The findings.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) findings: Vec<Finding>,
    pub(super) unproven: bool,
    pub(super) complete: usize,
}

/// What both sides reported about a node.
struct Said {
    /// The sender's report: complete, or the reason for the failure. `None` if it was killed.
    sender: Option<Result<(), String>>,
    /// The node's own report; `None` if it was killed.
    node: Option<Result<(), String>>,
}

impl Said {
    fn is_complete(&self) -> bool {
        matches!(self.sender, Some(Ok(()))) || matches!(self.node, Some(Ok(())))
    }

    fn reasons(&self) -> impl Iterator<Item = &String> {
        [&self.sender, &self.node].into_iter().filter_map(|said| said.as_ref()?.as_ref().err())
    }
}

/// Judges a completed injection.
pub(super) fn judge(mut scene: Scene) -> Judged {
    let mut judged = Judged::default();
    if let Some(hang) = scene.hang.take() {
        judged.findings.push(Finding::Hang(hang));
        return judged;
    }
    let said: Vec<Said> = said(&mut scene);
    settle(&mut scene);
    let lost = lost_share(&scene);
    let copies = copies(&scene);
    let now = material::look(&scene.sent);
    for (i, (said, copy)) in said.iter().zip(&copies).enumerate() {
        judged.complete += usize::from(said.is_complete());
        let right = is_right(&scene, copy.as_ref(), now.as_ref());
        if said.is_complete() && !right {
            let how = format!("node {i}: {}", material::difference(&scene.wanted, copy.as_ref()));
            if scene.injection.fault.loses_silently() && lost < READ_BACK_FINDS {
                judged.unproven = true;
            } else {
                judged.findings.push(Finding::FalseSuccess(how));
            }
        } else if !said.is_complete() && !right && looks_whole(&scene, copy.as_ref()) {
            judged
                .findings
                .push(Finding::FalseSuccess(format!("node {i} failed, and left what looks whole")));
        }
        judged.findings.extend(untrue(&scene, i, said));
    }
    judged
}

fn said(scene: &mut Scene) -> Vec<Said> {
    let killed = matches!(scene.injection.fault, Fault::KilledSender | Fault::ChildOfKilledSender);
    let reasons =
        if killed && scene.sender.printed().is_empty() { None } else { Some(site::reasons(&scene.sender)) };
    let of_sender = |i: usize| match reasons.as_ref()?.get(i)? {
        None => Some(Ok(())),
        Some(reason) => Some(Err(reason.clone())),
    };
    let mut said = Vec::new();
    for (i, receiver) in scene.receivers.iter_mut().enumerate() {
        let node = match receiver.status().and_then(|status| status.code()) {
            Some(0) => Some(Ok(())),
            Some(_) => Some(Err(last_line(receiver))),
            None if scene.killed.contains(&i) => None,
            None => Some(Err(format!("it ended by a signal: {}", last_line(receiver)))),
        };
        said.push(Said { sender: of_sender(i), node });
    }
    said
}

/// A process that was not killed must end.
fn settle(scene: &mut Scene) {
    if let Some(reader) = &mut scene.reader {
        wait_until("the FIFO's reader has ended", || reader.has_ended());
    }
    let target = &scene.targets[scene.injection.victim];
    let partial = target.with_extension("new");
    if matches!(scene.injection.fault, Fault::ChildOfKilledReceiver | Fault::ChildOfKilledSender)
        && partial.exists()
    {
        wait_until("nobody writes the file any more", || !is_open(&partial));
    }
}

/// The share of the sent data that the medium does not return, as the struck file system shows it while still
/// mounted: this is what reading back can find. It cannot find what only a remount shows.
fn lost_share(scene: &Scene) -> f64 {
    let Some(disk) = scene.disk.as_ref().filter(|_| scene.injection.fault.loses_silently()) else {
        return 0.0;
    };
    material::lost_share(&scene.sent, &disk.path().join("out"))
}

/// Whether any process has this file open.
fn is_open(path: &Path) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { return false };
        descriptors.flatten().any(|d| std::fs::read_link(d.path()).is_ok_and(|target| target == path))
    })
}

/// The contents of each target, on the medium itself if that was struck.
fn copies(scene: &Scene) -> Vec<Option<Look>> {
    let victim = scene.injection.victim;
    let of = |(i, target): (usize, &std::path::PathBuf)| match &scene.disk {
        Some(disk) if i == victim && scene.injection.fault.is_of_disk() => {
            let again = disk.again().ok()?;
            material::look(&again.join("out"))
        }
        _ => material::look(target),
    };
    scene.targets.iter().enumerate().map(of).collect()
}

/// Whether a copy may be called complete. If a source changes, each file has its old or its new state, or the
/// summary reports that it has neither.
fn is_right(scene: &Scene, copy: Option<&Look>, now: Option<&Look>) -> bool {
    if copy == Some(&scene.wanted) {
        return true;
    }
    let (Some(copy), Some(now)) = (copy, now) else { return false };
    let old_or_new = || {
        let names = scene.wanted.keys().chain(copy.keys());
        names.clone().all(|name| copy.get(name) == now.get(name) || copy.get(name) == scene.wanted.get(name))
    };
    let warned = || site::summary(&scene.sender)["notes"].as_array().is_some_and(|notes| !notes.is_empty());
    match scene.injection.fault {
        Fault::SourceRewritten | Fault::SourceTreeChanges => old_or_new() || warned(),
        _ => false,
    }
}

/// Whether an incomplete copy has its final name. A failing disk may have kept a name and lost bytes.
fn looks_whole(scene: &Scene, copy: Option<&Look>) -> bool {
    use super::Sent;
    let named = match scene.injection.fault {
        Fault::LeavesEarly | Fault::MissesTheEnd | Fault::FifoReaderLeaves | Fault::FifoWithoutReader => {
            false
        }
        fault => !fault.is_of_disk() && scene.injection.sent != Sent::Tree,
    };
    named && copy.is_some()
}

/// Reports that are not true.
fn untrue(scene: &Scene, node: usize, said: &Said) -> Vec<Finding> {
    let fault = scene.injection.fault;
    let struck = match fault.reach() {
        Reach::Nobody => false,
        Reach::Victim => node == scene.injection.victim,
        Reach::All => true,
    };
    let mut findings = Vec::new();
    for reason in said.reasons() {
        let lower = reason.to_lowercase();
        if !struck {
            findings.push(Finding::Untrue(format!("node {node} was not struck: {reason}")));
        } else if !fault.words().iter().any(|word| lower.contains(word)) {
            findings.push(Finding::Untrue(format!("node {node}: {reason}")));
        }
    }
    // A sender that counts a node as complete has received that from the node.
    let differ = matches!((&said.sender, &said.node), (Some(Ok(())), Some(Err(_))));
    if differ && !fault.is_of_wire() {
        findings.push(Finding::Untrue(format!("node {node}: the sender says complete, the node does not")));
    }
    findings
}
