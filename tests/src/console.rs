//! A node's console as a process, and a golden node that recognises it.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a helper of tests fails as a test does")]

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ka::keys::{JoinKey, KeyPair};
use ka::mac::Mac;
use kactl::machines::store::Store;
use tempfile::TempDir;

use crate::process::{Process, program, wait_until};

/// A golden node's configuration and keys.
pub struct Golden {
    folder: TempDir,
    /// The controller's key pair.
    pub pair: KeyPair,
    /// The join key that machines boot with.
    pub join: JoinKey,
    /// The port of all nodes.
    pub port: u16,
}

/// A node's console.
pub struct ConsoleNode {
    /// The directory with its files: `log`, `key`, `step`.
    pub folder: TempDir,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its key of this boot.
    pub key: KeyPair,
    /// Its process.
    pub process: Process,
    port: u16,
}

impl Golden {
    /// Creates one.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = KeyPair::generate().unwrap();
        let join = JoinKey::generate(&pair).unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("keys")).unwrap();
        secret(&at("keys/controller.key"), &pair.to_text());
        secret(&at("keys/join.key"), &join.to_text());
        let directories: String =
            ["state", "run", "keys", "log"].map(|name| format!("{name} = {:?}\n", at(name))).concat();
        let config = format!(
            "[directories]\n{directories}bmc = {:?}\n[groups]\nall = \"node[1-3]\"\n",
            at("bmc.toml")
        );
        fs::write(at("ka.toml"), config).unwrap();
        // A port that is currently free on every loopback address.
        let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        Self { folder, pair, join, port }
    }

    /// A file of the golden node.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `kactl` with this configuration.
    #[must_use]
    pub fn kactl(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("kactl"));
        command.arg("--config").arg(self.file("ka.toml")).args(words);
        command
    }

    /// The same for a command that connects to consoles: its port is set.
    #[must_use]
    pub fn dials(&self, words: &[&str]) -> Command {
        let (first, rest) = words.split_first().unwrap();
        let port = self.port.to_string();
        let mut all = vec![*first, "--port", &port];
        all.extend(rest);
        self.kactl(&all)
    }

    /// Records that a machine has joined with this key.
    pub fn knows(&self, number: u8, key: &KeyPair) {
        let store = Store::of(&self.file("state"));
        let change = |record: &mut kactl::machines::record::Record| {
            record.name = format!("node{number}");
            record.address = Some(address(number).into());
            record.set_key(&key.public);
        };
        store.change(mac(number), 1_000_000, change).unwrap();
    }

    /// Starts the console of a node that has joined.
    #[must_use]
    pub fn node(&self, number: u8) -> ConsoleNode {
        let node = self.stranger(number, &[]);
        secret(&node.folder.path().join("key"), &node.key.to_text());
        self.knows(number, &node.key);
        node
    }

    /// Starts the console of a node that has not joined yet.
    #[must_use]
    pub fn stranger(&self, number: u8, more: &[&str]) -> ConsoleNode {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("join"), self.join.to_text()).unwrap();
        fs::write(at("step"), "drivers   ").unwrap();
        fs::write(at("log"), "[    0.001] ka-agent is PID 1\n").unwrap();
        let address = address(number);
        let mut command = Command::new(program("ka-agent"));
        command.args(["console", "--root", "/", "--listen", &format!("{address}:{}", self.port)]).args(more);
        for name in ["join", "key", "step", "log"] {
            command.arg(format!("--{name}")).arg(at(name));
        }
        let process = Process::start(&mut command, "console", folder.path());
        let key = KeyPair::generate().unwrap();
        let node = ConsoleNode { folder, address, key, process, port: self.port };
        wait_until("the console listens", || TcpStream::connect(node.place()).is_ok());
        node
    }
}

impl Default for Golden {
    fn default() -> Self {
        Self::new()
    }
}

impl ConsoleNode {
    /// Its address and port.
    #[must_use]
    pub fn place(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), self.port)
    }

    /// Appends to its log, like its own steps do.
    pub fn logs(&self, text: &str) {
        let log = File::options().append(true).open(self.folder.path().join("log"));
        log.unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until its log contains this text.
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("the node's log says '{text}'"), || self.log().contains(text));
    }
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, 0, number)
}

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}
