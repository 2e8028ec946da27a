//! Namespaces with a wire between them, `kactl pxe` at one end of it, and clients at the other.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each file of tests uses a part of it")]

pub mod machine;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ka::mac::Mac;
use kactl::rendezvous::lease::{Allowed, Lease};
use serde_json::Value;

pub const SERVER: &str = "10.77.0.1";
/// Longer than any test takes unless something hangs.
const PATIENCE: Duration = Duration::from_secs(600);

pub fn lease(allowed: Allowed) -> Lease {
    Lease::new("kainstall", allowed)
}

/// The output once the checks are complete.
pub const SERVES: &str = "every machine boots from its disk";

/// Two namespaces with a wire between them, and ka's directories.
pub struct Site {
    name: String,
    pub directory: tempfile::TempDir,
}

impl Site {
    pub fn new(name: &str) -> Self {
        let site = Self {
            name: format!("kapxe-{name}-{}", std::process::id()),
            directory: tempfile::tempdir().unwrap(),
        };
        let (server, client) = (site.server(), site.client());
        for line in [
            format!("ip netns add {server}"),
            format!("ip netns add {client}"),
            format!("ip -n {server} link add srv type veth peer name cli netns {client}"),
            format!("ip -n {server} addr add {SERVER}/24 dev srv"),
            format!("ip -n {server} link set srv up"),
            format!("ip -n {server} link add bare type bridge"),
            format!("ip -n {client} addr add 10.77.0.200/24 dev cli"),
            format!("ip -n {client} link set cli up"),
        ] {
            done(Command::new("sh").arg("-c").arg(line));
        }
        // dnsmasq runs as its own user, who needs access.
        fs::set_permissions(site.directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .unwrap();
        fs::create_dir_all(site.boot()).unwrap();
        fs::write(site.boot().join("vmlinuz"), "the kernel").unwrap();
        fs::write(site.boot().join("all.rdz"), "stage1").unwrap();
        let at = |name: &str| site.directory.path().join(name);
        let config = format!(
            "[directories]\nstate = {:?}\nrun = {:?}\nkeys = {:?}\n",
            at("state"),
            at("run"),
            at("keys")
        );
        fs::write(at("ka.toml"), config).unwrap();
        site
    }

    /// Adds to the configuration.
    pub fn configure(&self, text: &str) {
        let file = self.directory.path().join("ka.toml");
        let before = fs::read_to_string(&file).unwrap();
        fs::write(file, before + text).unwrap();
    }

    /// A DHCP server's answer to one of scapy's packets, as `ask.py` describes both; null for none.
    pub fn ask(&self, question: &Value) -> Value {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/site/ask.py");
        let mut client = self.in_client(&["/usr/bin/python3"]);
        let output = done(client.arg(script).arg(question.to_string()));
        serde_json::from_slice(&output.stdout).expect("scapy is needed: apt-get install python3-scapy")
    }

    pub fn server(&self) -> String {
        format!("{}-s", self.name)
    }

    pub fn client(&self) -> String {
        format!("{}-c", self.name)
    }

    pub fn boot(&self) -> PathBuf {
        self.directory.path().join("state/boot")
    }

    pub fn runs(&self) -> PathBuf {
        self.directory.path().join("run/runs")
    }

    pub fn in_server(&self, command: &[&str]) -> Command {
        in_namespace(&self.server(), command)
    }

    pub fn in_client(&self, command: &[&str]) -> Command {
        in_namespace(&self.client(), command)
    }

    pub fn start_pxe(&self, args: &[&str]) -> Pxe {
        Pxe::start(&mut self.pxe(args))
    }

    /// `kactl pxe`, once it serves.
    pub fn serving(&self, args: &[&str]) -> Pxe {
        let pxe = self.start_pxe(args);
        pxe.wait_for_line(SERVES);
        pxe
    }

    pub fn start_pxe_with_umask(&self, umask: &str, args: &[&str]) -> Pxe {
        let config = self.directory.path().join("ka.toml");
        let line = format!("umask {umask}; exec \"$@\"");
        let mut command =
            self.in_server(&["sh", "-c", &line, "sh", env!("CARGO_BIN_EXE_kactl"), "pxe", "--config"]);
        Pxe::start(command.arg(config).args(args))
    }

    pub fn pxe(&self, args: &[&str]) -> Command {
        let config = self.directory.path().join("ka.toml");
        let mut command = self.in_server(&[env!("CARGO_BIN_EXE_kactl"), "pxe", "--config"]);
        command.arg(config).args(args);
        command
    }

    /// A run in another process.
    pub fn start_run(&self, kind: &str) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "hold_a_lease", "--ignored"]).env("KA_TEST_RUNS", self.runs());
        if kind == "listed" {
            command.env("KA_TEST_MAC", self.client_mac().to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    pub fn client_mac(&self) -> Mac {
        let output = done(&mut self.in_client(&["ip", "-o", "link", "show", "cli"]));
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().skip_while(|w| *w != "link/ether").nth(1).unwrap().parse().unwrap()
    }

    /// The options that a DHCP client received, as `name=value` lines.
    pub fn dhcp(&self) -> String {
        self.dhcp_with(&[])
    }

    /// The same for a DHCP client that sends more options, given as `CODE:HEX`.
    pub fn dhcp_with(&self, options: &[&str]) -> String {
        let script = self.directory.path().join("told");
        fs::write(&script, "#!/bin/sh\n[ \"$1\" = bound ] && set\nexit 0\n").unwrap();
        done(Command::new("chmod").arg("+x").arg(&script));
        let mut client = self
            .in_client(&["busybox", "udhcpc", "-i", "cli", "-f", "-n", "-q", "-t", "20", "-T", "1", "-s"]);
        let output = done(client.arg(&script).args(options.iter().flat_map(|option| ["-x", option])));
        String::from_utf8(output.stdout).unwrap().replace('\'', "")
    }

    /// A file as TFTP serves it; `None` if it is refused.
    pub fn tftp(&self, file: &str) -> Option<Vec<u8>> {
        let copy = tempfile::NamedTempFile::new().unwrap();
        let mut client = self.in_client(&["busybox", "tftp", "-g", "-r", file, "-l"]);
        let output = client.arg(copy.path()).arg(SERVER).output().unwrap();
        output.status.success().then(|| fs::read(copy.path()).unwrap())
    }

    /// A file as HTTP serves it; `None` if it is refused.
    pub fn http(&self, file: &str) -> Option<Vec<u8>> {
        let mut client = self.in_client(&["busybox", "wget", "-q", "-O", "-"]);
        let output = client.arg(format!("http://{SERVER}:30766/{file}")).output().unwrap();
        output.status.success().then_some(output.stdout)
    }

    /// The label that a machine with this file boots.
    pub fn boots(&self, file: &str) -> Option<String> {
        let text = String::from_utf8(self.tftp(&format!("pxelinux.cfg/{file}"))?).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("DEFAULT "))?;
        assert!(text.contains("LABEL local\n") && text.contains("LABEL kamethod\n"), "{text}");
        Some(line.to_owned())
    }

    pub fn menu(&self, file: &str) -> String {
        fs::read_to_string(self.boot().join("pxelinux.cfg").join(file)).unwrap_or_default()
    }

    /// The process of the server's dnsmasq, if it runs.
    pub fn dnsmasq(&self) -> Option<u32> {
        let config = self.directory.path().join("run/dnsmasq.conf");
        let wanted = format!("--conf-file={}", config.display());
        fs::read_dir("/proc").unwrap().find_map(|entry| {
            let entry = entry.ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let is =
                line.starts_with(b"dnsmasq\0") && line.split(|&b| b == 0).any(|w| w == wanted.as_bytes());
            is.then(|| entry.file_name().to_str()?.parse().ok()).flatten()
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(left) = self.dnsmasq() {
            kill("KILL", left);
        }
        for namespace in [self.server(), self.client()] {
            let status = Command::new("ip").args(["netns", "del", &namespace]).status();
            assert!(std::thread::panicking() || status.is_ok_and(|s| s.success()));
        }
    }
}

/// A running `kactl pxe`; dropping it stops the server.
pub struct Pxe {
    pub child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Pxe {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (source, kept) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                kept.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { child, log, reader: Some(reader) }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn wait_for_line(&self, part: &str) {
        wait_until(part, || self.log().contains(part));
    }

    /// Its exit status, once it ends by itself.
    pub fn wait(&mut self) -> Option<i32> {
        let status = wait_for("kactl's end", || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status.code()
    }

    pub fn stop(&mut self, signal: &str) -> Option<i32> {
        kill(signal, self.child.id());
        self.wait()
    }
}

impl Drop for Pxe {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            kill("TERM", self.child.id());
            self.wait();
        }
        if std::thread::panicking() {
            eprintln!("kactl pxe said:\n{}", self.log());
        }
    }
}

pub fn in_namespace(name: &str, command: &[&str]) -> Command {
    let mut ip = Command::new("ip");
    ip.args(["netns", "exec", name]).args(command);
    ip
}

pub fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

pub fn kill(signal: &str, pid: u32) {
    done(Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()));
}

pub fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A zombie process counts as ended.
pub fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|s| !s.contains(") Z "))
}

pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    wait_for(what, || is().then_some(()));
}

pub fn wait_for<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = get() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "nothing came of: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
