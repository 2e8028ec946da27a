//! Injects the fault at the chosen moment.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::fault::Fault;
use super::scene::Scene;
use super::watch::{self, Watch};
use crate::fault::disk::{Access, Effect, Rule};
use crate::fault::wire::Harm;
use crate::process::Process;

impl Scene {
    /// Waits for the moment, and injects the fault. Faults that are part of the setup have already happened.
    pub(super) fn strike(&mut self) {
        let victim = self.injection.victim;
        match self.injection.fault {
            Fault::SourceTruncated | Fault::SourceRewritten | Fault::SourceTreeChanges => {
                self.change_source();
            }
            Fault::SourceUnreadable => {
                let disk = &self.disk.as_ref().unwrap().disk;
                disk.harm(Rule { access: Access::Read, range: disk.part(0.0, 1.0), effect: Effect::Eio });
            }
            fault if fault.is_of_disk() => self.harm_disk(fault),
            fault if fault.is_of_wire() => self.harm_wire(fault),
            Fault::KilledReceiver | Fault::ChildOfKilledReceiver => {
                self.wait_for_victim();
                self.kill(victim);
            }
            Fault::KilledSender | Fault::ChildOfKilledSender => {
                self.wait_for_victim();
                if !self.sender.has_ended() {
                    self.sender.kill();
                }
            }
            Fault::StoppedReceiver => {
                self.wait_for_victim();
                self.stop(victim);
                self.wait(|scene| scene.sender.said().contains("gone silent") || scene.sender.has_ended());
                self.signal(victim, Signal::CONT);
            }
            Fault::SameTarget => {
                self.wait_for_victim();
                self.stop(victim);
                let other = (victim + 1) % self.injection.nodes;
                self.wait(|scene| scene.receivers[other].has_ended());
                self.kill(victim);
            }
            _ => {}
        }
    }

    fn harm_disk(&mut self, fault: Fault) {
        let mut random = self.random();
        let from = random.fraction() * 0.5;
        let to = from + 0.05 + random.fraction() * 0.5;
        let (access, (from, to), effect) = match fault {
            Fault::WriteErrors => (Access::Write, (from, to), Effect::Eio),
            Fault::ReadErrors => (Access::Read, (from, to), Effect::Eio),
            Fault::LostWrites => (Access::Write, (from, to), Effect::Lose),
            Fault::Truncated => (Access::Write, (from, 1.0), Effect::Lose),
            Fault::NoSpaceBelow => (Access::Write, (from, 1.0), Effect::NoSpace),
            Fault::SlowDisk => (Access::Write, (0.0, 1.0), Effect::Delay(Duration::from_millis(30))),
            Fault::HungDisk => (Access::Write, (0.0, 1.0), Effect::Hang),
            _ => {
                if fault == Fault::ShutDown {
                    self.wait_for_victim();
                    assert!(
                        self.disk.as_ref().unwrap().shut_down(),
                        "xfs_io cannot shut the file system down"
                    );
                }
                return;
            }
        };
        self.wait_for_victim();
        let disk = &self.disk.as_ref().unwrap().disk;
        let range = disk.part(from, to);
        if fault == Fault::Truncated {
            disk.erase(range.clone());
        }
        disk.harm(Rule { access, range, effect });
    }

    fn harm_wire(&mut self, fault: Fault) {
        let mut random = self.random();
        let host = self.injection.victim + 1;
        let harm = match fault {
            Fault::CutShortly | Fault::Cut => Harm { cut: true, ..Harm::default() },
            Fault::Delayed => Harm { delay: Duration::from_millis(random.between(1, 20)), ..Harm::default() },
            Fault::Reordered => Harm { reorder: random.between(5, 200), ..Harm::default() },
            Fault::Doubled => Harm { double: random.between(5, 300), ..Harm::default() },
            _ => Harm { flip: random.between(1, 5), ..Harm::default() },
        };
        // Permanent faults are active from the start.
        if matches!(fault, Fault::CutShortly | Fault::Cut) {
            self.wait_for_victim();
        }
        self.wire.as_ref().unwrap().harm(host, harm);
        if fault == Fault::CutShortly {
            // The fault is an outage of this duration.
            thread::sleep(Duration::from_millis(random.between(50, 900)));
            self.wire.as_ref().unwrap().harm(host, Harm::default());
        }
    }

    fn change_source(&mut self) {
        // Early: the sender is a window ahead of its receivers, and must not have reached the end.
        let moment = self.bytes * self.injection.moment.min(40) / 100;
        self.wait(|scene| watch::read(&scene.sender) >= moment || scene.sender.has_ended());
        let mut random = self.random();
        if self.injection.fault == Fault::SourceTreeChanges {
            let mut files: Vec<PathBuf> = Vec::new();
            for directory in ["d2", "d4", "d6"] {
                files.extend(
                    fs::read_dir(self.sent.join(directory)).unwrap().map(|entry| entry.unwrap().path()),
                );
            }
            files.sort();
            for file in files {
                if random.chance(30) {
                    fs::remove_file(file).unwrap();
                } else {
                    OpenOptions::new()
                        .write(true)
                        .open(file)
                        .unwrap()
                        .set_len(random.between(0, 5000))
                        .unwrap();
                }
            }
            return;
        }
        let file = OpenOptions::new().write(true).open(&self.sent).unwrap();
        if self.injection.fault == Fault::SourceTruncated {
            file.set_len(self.bytes * random.between(50, 99) / 100).unwrap();
        } else {
            for _ in 0..8 {
                file.write_all_at(b"written meanwhile", random.between(0, self.bytes - 20)).unwrap();
            }
        }
    }

    /// Waits until the victim has written its share.
    fn wait_for_victim(&mut self) {
        let (victim, share) = (self.injection.victim, self.bytes * self.injection.moment / 100);
        self.wait(|scene| {
            watch::written(&scene.receivers[victim]) >= share || scene.receivers[victim].has_ended()
        });
    }

    /// Waits with a limit: a hang is detected at the end.
    fn wait(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let mut watch = Watch::new();
        while !done(self) && !watch.hangs(std::iter::once(&self.sender).chain(&self.receivers)) {}
    }

    fn kill(&mut self, node: usize) {
        if !self.receivers[node].has_ended() {
            self.receivers[node].kill();
            self.killed.push(node);
        }
    }

    fn stop(&mut self, node: usize) {
        self.signal(node, Signal::STOP);
    }

    fn signal(&mut self, node: usize, signal: Signal) {
        let receiver: &mut Process = &mut self.receivers[node];
        if !receiver.has_ended() {
            receiver.signal(signal);
        }
    }
}
