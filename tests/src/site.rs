//! The setting of a transfer: keys, a configuration, and an address of this host that no other test uses.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fs::{self, OpenOptions};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, program, wait_until};
use crate::succeed;

/// The length of silence that counts as death in tests (`--dead-after`): longer than a busy machine keeps a
/// healthy process waiting. A killed process is detected sooner, because its connections close.
pub const DEAD_AFTER: &str = "10";

/// One MiB in bytes.
pub const MIB: usize = 1 << 20;

/// The window of every node: the smallest allowed, so that most of a stream has been dropped.
const WINDOW: &str = "8M";

/// Keys, configuration and files of one test.
pub struct Site {
    dir: TempDir,
    /// The address of this test's controllers.
    pub address: Ipv4Addr,
}

impl Site {
    /// Creates the keys with `kactl init`.
    ///
    /// # Panics
    /// When the programs have not been built.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let dir = tempfile::tempdir().unwrap();
        // All of 127/8 belongs to this host: parallel tests each have the well-known ports.
        let [.., high, low] = process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, high.clamp(1, 254), low, NEXT.fetch_add(1, Ordering::Relaxed));
        let site = Self { dir, address };
        let (run, keys, state) = (site.path("run"), site.path("keys"), site.path("state"));
        let directories = format!("[directories]\nrun = {run:?}\nkeys = {keys:?}\nstate = {state:?}\n");
        fs::write(site.path("ka.toml"), directories).unwrap();
        succeed(site.kactl().arg("init"));
        site
    }

    /// The path of a file of this test.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Creates a file of this test, with `length` bytes that do not compress and differ for each `seed`.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn noise(&self, name: &str, length: usize, seed: u64) -> PathBuf {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            // Xorshift, by George Marsaglia.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(length);
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A closed gate: a reader of the FIFO waits until [`Gate::open`].
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn gate(&self, name: &str) -> Gate {
        let path = self.path(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        Gate(path)
    }

    /// `kactl` with this site's configuration.
    #[must_use]
    pub fn kactl(&self) -> Command {
        let mut command = Command::new(program("kactl"));
        command.arg("--config").arg(self.path("ka.toml"));
        command
    }

    /// Starts `kactl send --json` for a session with `nodes` nodes, and waits until it listens.
    pub fn send<A: AsRef<Path>>(
        &self,
        session: &str,
        nodes: usize,
        more: impl IntoIterator<Item = A>,
    ) -> Process {
        let mut process = self.start_send(session, nodes, more);
        process.wait_for("waits for", 1);
        process
    }

    /// Starts `kactl send --json`, which may refuse.
    pub fn start_send<A: AsRef<Path>>(
        &self,
        session: &str,
        nodes: usize,
        more: impl IntoIterator<Item = A>,
    ) -> Process {
        let mut command = self.kactl();
        command.args(["send", "--json", "--session", session, "-n", &nodes.to_string()]);
        command.args(["--listen", &self.address.to_string()]);
        command.args(more.into_iter().map(|argument| argument.as_ref().to_owned()));
        Process::start(&mut command, &format!("send-{session}"), self.dir.path())
    }

    /// `ka-agent receive` with this site's join key.
    #[must_use]
    pub fn agent(&self, session: &str, controller: &str) -> Command {
        let mut command = Command::new(program("ka-agent"));
        command.args(["receive", "--session", session, "--window", WINDOW, "--controller", controller]);
        command.arg("--key").arg(self.path("keys/join.key"));
        command
    }

    /// Starts `ka-agent receive`, with a sink chosen by the test.
    pub fn receive<A: AsRef<Path>>(
        &self,
        session: &str,
        name: &str,
        sink: impl IntoIterator<Item = A>,
    ) -> Process {
        let mut command = self.agent(session, &self.address.to_string());
        command.args(sink.into_iter().map(|argument| argument.as_ref().to_owned()));
        Process::start(&mut command, name, self.dir.path())
    }

    /// Starts `count` receivers one after another, each with its file `out-I`. The first node in the result
    /// is the first in `kactl`'s list.
    pub fn receivers(&self, sender: &mut Process, session: &str, count: usize) -> Vec<Process> {
        (0..count)
            .map(|i| self.receiver(sender, session, i, ["--file".into(), self.path(&format!("out-{i}"))]))
            .collect()
    }

    /// Starts the receiver `index` once all earlier ones have joined, and waits until it has joined.
    pub fn receiver<A: AsRef<Path>>(
        &self,
        sender: &mut Process,
        session: &str,
        index: usize,
        sink: impl IntoIterator<Item = A>,
    ) -> Process {
        let receiver = self.receive(session, &format!("node-{index}"), sink);
        sender.wait_for("has joined", index + 1);
        receiver
    }

    /// Whether the file `name` contains exactly the concatenation of `parts`.
    ///
    /// # Panics
    /// When a file cannot be read.
    #[must_use]
    pub fn holds(&self, name: &str, parts: &[&Path]) -> bool {
        let wanted: Vec<u8> = parts.iter().flat_map(|part| fs::read(part).unwrap()).collect();
        fs::read(self.path(name)).unwrap() == wanted
    }

    /// Waits until the file `name` has at least this many bytes.
    ///
    /// # Panics
    /// When they do not arrive.
    pub fn wait_for_bytes(&self, name: &str, length: usize) {
        let path = self.path(name);
        wait_until(&format!("{length} bytes in {name}"), || {
            path.metadata().is_ok_and(|metadata| metadata.len() >= length as u64)
        });
    }

    /// Waits until the partial file of `name`, whose own name is unknown, has this many bytes.
    pub fn wait_for_partial(&self, name: &str, length: usize) {
        wait_until(&format!("{length} bytes of {name}"), || {
            let part = self.partial(name).and_then(|path| path.metadata().ok());
            part.is_some_and(|metadata| metadata.len() >= length as u64)
        });
    }

    /// The partial file of `name`, if there is one.
    #[must_use]
    pub fn partial(&self, name: &str) -> Option<PathBuf> {
        let path = self.path(name);
        let start = format!("{}.ka-partial", path.file_name()?.to_str()?);
        let entries = fs::read_dir(path.parent()?).ok()?.filter_map(Result::ok);
        entries.map(|entry| entry.path()).find(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&start))
        })
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

/// A FIFO on which a command waits.
pub struct Gate(PathBuf);

impl Gate {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Lets one waiting command continue, as soon as one waits.
    ///
    /// # Panics
    /// When no command waits.
    pub fn open(&self) {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        wait_until(&format!("a reader of {}", self.0.display()), || {
            match OpenOptions::new().write(true).custom_flags(flags).open(&self.0) {
                Ok(_) => true,
                Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => false,
                Err(e) => panic!("{}: {e}", self.0.display()),
            }
        });
    }
}

/// The receivers' indexes in the order of the chain: all have one address, so their ports decide.
///
/// # Panics
/// When a receiver has not reported its port.
#[must_use]
pub fn chain_order(receivers: &[Process]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..receivers.len()).collect();
    order.sort_by_key(|i| data_port(&receivers[*i]));
    order
}

/// The port on which a receiver's successor reaches it.
///
/// # Panics
/// When it has not reported its port.
#[must_use]
pub fn data_port(receiver: &Process) -> u16 {
    let said = receiver.said();
    let (_, rest) =
        said.split_once("listens for successors on port ").unwrap_or_else(|| panic!("no port: {said}"));
    rest.lines().next().unwrap().parse().unwrap()
}

/// The output of `kactl --json`.
///
/// # Panics
/// When that is not one JSON object.
#[must_use]
pub fn summary(sender: &Process) -> Value {
    let printed = sender.printed();
    serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e} in '{printed}'\n{}", sender.said()))
}

/// How each node ended: empty for a complete one, otherwise the reason; in the order in which they joined.
///
/// # Panics
/// When the summary has no such list.
#[must_use]
pub fn reasons(sender: &Process) -> Vec<Option<String>> {
    let summary = summary(sender);
    let nodes = summary["nodes"].as_array().unwrap();
    nodes
        .iter()
        .map(|node| match (node["ok"].as_bool().unwrap(), node["reason"].as_str()) {
            (true, None) => None,
            (false, Some(reason)) => Some(reason.to_owned()),
            _ => panic!("a node that is neither: {node}"),
        })
        .collect()
}
