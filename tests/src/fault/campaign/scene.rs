//! The setup of one injection: a sender, its receivers, and the disks and network that they use.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::Injection;
use super::fault::{Fault, Sent};
use super::material::{self, Look};
use super::watch::Watch;
use crate::fault::file_system::{FaultyFileSystem, Kind};
use crate::fault::wire::{self, Wire};
use crate::process::Process;
use crate::sim::random::Random;
use crate::site::Site;
use crate::tool::run;

/// The setup. The fields are dropped in their order: no process may use a disk that is removed.
pub(super) struct Scene {
    pub(super) injection: Injection,
    pub(super) sender: Process,
    pub(super) receivers: Vec<Process>,
    /// The reader of a FIFO.
    pub(super) reader: Option<Process>,
    /// The destination of each receiver's copy.
    pub(super) targets: Vec<PathBuf>,
    pub(super) sent: PathBuf,
    /// The sent data, in their original state.
    pub(super) wanted: Look,
    pub(super) bytes: u64,
    pub(super) disk: Option<FaultyFileSystem>,
    pub(super) wire: Option<Wire>,
    /// What hung, if anything did.
    pub(super) hang: Option<String>,
    /// Receivers that the injection itself killed.
    pub(super) killed: Vec<usize>,
    _full: Option<Full>,
    _site: Site,
}

/// A tmpfs with little space.
struct Full(PathBuf);

impl Drop for Full {
    fn drop(&mut self) {
        // A lazy unmount: a failing test may leave a process in there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

impl Scene {
    /// Performs the injection to its end.
    pub(super) fn perform(injection: &Injection) -> Self {
        let mut scene = Self::begin(*injection);
        scene.strike();
        scene.end();
        scene
    }

    fn begin(injection: Injection) -> Self {
        let site = Site::new();
        let Injection { seed, sent: kind, nodes, victim, fault, .. } = injection;
        let mut random = Random::new(seed ^ 0x5ca1_ab1e);
        let mut sent =
            if kind == Sent::Tree { material::tree(&site, seed) } else { material::file(&site, seed) };
        let wanted = material::look(&sent).unwrap();
        let bytes = length(&sent);
        let disk = disk(fault, &mut random);
        if fault == Fault::SourceUnreadable {
            let disk = disk.as_ref().unwrap();
            fs::copy(&sent, disk.path().join("sent")).unwrap();
            sent = disk.again().unwrap().join("sent");
        }
        let full = (fault == Fault::Full).then(|| full(&site, bytes * injection.moment / 100));
        let wire = fault.is_of_wire().then(|| Wire::new(&format!("w{seed}"), nodes + 1, seed));
        let targets: Vec<PathBuf> = (0..nodes)
            .map(|i| match (i == victim, &disk, &full) {
                (true, Some(disk), _) if fault.is_of_disk() => disk.path().join("out"),
                (true, _, Some(full)) => full.0.join("out"),
                (..) if fault == Fault::SameTarget && i == (victim + 1) % nodes => {
                    site.path(&format!("out-{victim}"))
                }
                _ => site.path(&format!("out-{i}")),
            })
            .collect();
        let mut sender = start_sender(&site, wire.as_ref(), &injection, &sent, bytes);
        let mut reader = None;
        let mut receivers = Vec::new();
        for (i, target) in targets.iter().enumerate() {
            let words = if i == victim {
                let (words, starts) = struck_sink(&site, &injection, target, bytes);
                reader = starts;
                words
            } else {
                sink(kind, target)
            };
            let controller = wire.as_ref().map_or(site.address.to_string(), |_| wire::address(0));
            let mut command = site.agent("a", &controller);
            command.args(words);
            if fault == Fault::FileLimit && i == victim {
                command = limited(&command, bytes * injection.moment / 100);
            }
            if let Some(wire) = &wire {
                command = wire.on(i + 1, &command);
            }
            receivers.push(Process::start(&mut command, &format!("node-{i}"), &site.path("")));
            sender.wait_for("has joined", i + 1);
        }
        Self {
            injection,
            sender,
            receivers,
            reader,
            targets,
            sent,
            wanted,
            bytes,
            disk,
            wire,
            hang: None,
            killed: Vec::new(),
            _full: full,
            _site: site,
        }
    }

    /// Waits until all have ended, or nothing moves.
    fn end(&mut self) {
        let mut watch = Watch::new();
        loop {
            let sender = self.sender.has_ended();
            let ended: Vec<bool> = self.receivers.iter_mut().map(Process::has_ended).collect();
            if sender && ended.iter().all(|ended| *ended) {
                return;
            }
            // A process that waits for a hanging disk cannot end, and neither can a process that waits for
            // it.
            if sender
                && let Some(disk) = self.disk.as_ref().filter(|_| self.injection.fault == Fault::HungDisk)
            {
                disk.disk.heal();
            }
            if watch.hangs(std::iter::once(&self.sender).chain(&self.receivers)) {
                let who = |i: usize| format!("node {i}: {}", last_line(&self.receivers[i]));
                let mut still: Vec<String> = (0..ended.len()).filter(|i| !ended[*i]).map(who).collect();
                if !sender {
                    still.push(format!("sender: {}", last_line(&self.sender)));
                }
                self.hang = Some(still.join("; "));
                self.kill_all();
                return;
            }
        }
    }

    fn kill_all(&mut self) {
        if let Some(disk) = &self.disk {
            disk.disk.heal();
        }
        for process in self.receivers.iter_mut().chain([&mut self.sender]) {
            if !process.has_ended() {
                process.kill();
            }
        }
    }

    /// Random numbers for this injection's fault only.
    pub(super) fn random(&self) -> Random {
        Random::new(self.injection.seed ^ 0xfa17)
    }
}

/// The last line of a process's output.
pub(super) fn last_line(process: &Process) -> String {
    process.said().lines().last().unwrap_or("it printed nothing").to_owned()
}

fn length(path: &Path) -> u64 {
    let metadata = fs::symlink_metadata(path).unwrap();
    if !metadata.is_dir() {
        return metadata.len();
    }
    fs::read_dir(path).unwrap().map(|entry| length(&entry.unwrap().path())).sum()
}

/// The file system that the fault needs.
fn disk(fault: Fault, random: &mut Random) -> Option<FaultyFileSystem> {
    let any = [Kind::Ext4, Kind::Xfs, Kind::Btrfs][random.index(3)];
    match fault {
        Fault::DamagedBitmaps => Some(FaultyFileSystem::with_damaged_bitmaps()),
        Fault::UnreadableBitmaps => Some(FaultyFileSystem::with_unreadable_bitmaps()),
        Fault::SourceUnreadable => Some(FaultyFileSystem::new(Kind::Ext4)),
        Fault::ShutDown => Some(FaultyFileSystem::new([Kind::Ext4, Kind::Xfs][random.index(2)])),
        _ if fault.is_of_disk() => Some(FaultyFileSystem::new(any)),
        _ => None,
    }
}

fn full(site: &Site, room: u64) -> Full {
    let at = site.path("full");
    fs::create_dir(&at).unwrap();
    run(
        "mount",
        ["-t", "tmpfs", "-o", &format!("size={}", room.max(1 << 16)), "ka-fault", at.to_str().unwrap()],
    );
    Full(at)
}

fn limited(command: &Command, bytes: u64) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--fsize={bytes}")).arg("--").arg(command.get_program()).args(command.get_args());
    limited
}

fn start_sender(site: &Site, wire: Option<&Wire>, injection: &Injection, sent: &Path, bytes: u64) -> Process {
    let mut command = site.kactl();
    let address = wire.map_or(site.address.to_string(), |_| wire::address(0));
    command.args([
        "send",
        "--json",
        "--session",
        "a",
        "-n",
        &injection.nodes.to_string(),
        "--listen",
        &address,
    ]);
    // A busy machine must not count as dead.
    command.args(["--dead-after", "3", "--rounds", &injection.rounds.to_string()]);
    // The default is longer than any tool's own limit; here it must take effect before a hang is declared.
    command.args(["--step-limit", "20"]);
    match (injection.sent, injection.fault) {
        (_, Fault::SourceFails) => {
            let half = bytes * injection.moment / 100;
            command.args(["--command", &format!("head -c {half} {}; exit 3", sent.display())]);
        }
        (Sent::Tree, _) => {
            command.arg("--dir").arg(sent);
        }
        _ => {
            command.arg("--file").arg(sent);
        }
    }
    if let Some(wire) = wire {
        command = wire.on(0, &command);
    }
    let mut sender = Process::start(&mut command, "sender", &site.path(""));
    sender.wait_for("waits for", 1);
    sender
}

fn sink(kind: Sent, target: &Path) -> Vec<String> {
    let target = target.display().to_string();
    match kind {
        Sent::File | Sent::Nothing => vec!["--file".into(), target],
        Sent::Tree => vec!["--dir".into(), target],
        // A file that has its final name was read to its end.
        Sent::Command => vec!["--command".into(), format!("cat > {target}.new && mv {target}.new {target}")],
    }
}

/// The sink of the victim, and the reader of its FIFO.
fn struck_sink(
    site: &Site,
    injection: &Injection,
    target: &Path,
    bytes: u64,
) -> (Vec<String>, Option<Process>) {
    let part = bytes * injection.moment / 100;
    let out = target.display();
    let last = 1 + injection.seed % 65536;
    let command = match injection.fault {
        Fault::LeavesEarly => format!("head -c {part} > {out}"),
        Fault::MissesTheEnd => format!("head -c {} > {out}", bytes - last),
        Fault::Fails => format!("head -c {part} > {out}.new; exit 7"),
        Fault::TakesNoMore => format!("head -c {part} > {out}.new; exec sleep 1000"),
        Fault::ChildOfKilledReceiver | Fault::ChildOfKilledSender => {
            format!("exec 3<&0; (cat <&3 > {out}.new && mv {out}.new {out}) & exit 0")
        }
        Fault::FifoReaderLeaves | Fault::FifoWithoutReader => {
            let fifo = site.path("fifo");
            mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            let leaves = injection.fault == Fault::FifoReaderLeaves;
            let reads = format!("head -c {} {} > {out}", bytes - last, fifo.display());
            let reader = leaves
                .then(|| Process::start(Command::new("sh").args(["-c", &reads]), "reader", &site.path("")));
            return (vec!["--file".into(), fifo.display().to_string()], reader);
        }
        _ => return (sink(injection.sent, target), None),
    };
    (vec!["--command".into(), command], None)
}
