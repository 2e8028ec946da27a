//! Switching machines on and off. Judges: scapy for Wake-on-LAN, ipmi_sim for IPMI, sushy-tools for Redfish.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use ka_tests::console::Golden;
use ka_tests::netns::NetNs;
use ka_tests::process::{Process, wait_until};
use ka_tests::{root, succeed};
use tempfile::TempDir;

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn power(golden: &Golden, bmc: &str, words: &[&str]) -> (i32, String, String) {
    write(&golden.file("bmc.toml"), bmc, 0o600);
    let all = [&["power"], words].concat();
    told(&golden.kactl(&all).output().unwrap())
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Prints each Wake-on-LAN packet that scapy decodes.
const SNIFFER: &str = "
import sys
from scapy.all import sniff, UDP, Raw, IP, Ether
def show(p):
    if UDP in p and Raw in p:
        b = bytes(p[Raw].load)
        good = b[:6] == b'\\xff' * 6 and b[6:102] == b[6:12] * 16
        print(p[Ether].dst, p[IP].dst, p[UDP].dport, b[6:12].hex(':') if good else 'bad', b[102:].hex(), flush=True)
sniff(iface='eth0', filter=None, prn=show, started_callback=lambda: print('ready', flush=True), store=False)
";

#[test]
fn cards_are_woken_as_a_packet_capture_sees_it() {
    let (here, there) = (NetNs::new("wake-g"), NetNs::new("wake-n"));
    here.cable("eth0", &there, "eth0");
    for (host, address) in [(&here, "10.78.0.1/24"), (&there, "10.78.0.2/24")] {
        host.ip(&["link", "set", "lo", "up"]);
        host.ip(&["link", "set", "eth0", "up"]);
        host.ip(&["addr", "add", address, "brd", "+", "dev", "eth0"]);
    }
    // A network behind a router: only a directed broadcast reaches it.
    here.ip(&["route", "add", "10.79.0.0/24", "via", "10.78.0.2"]);
    let golden = Golden::new();
    let folder = tempfile::tempdir().unwrap();
    let mut sniffer = there.command("/usr/bin/python3");
    let sniffer = Process::start(sniffer.args(["-c", SNIFFER]), "sniffer", folder.path());
    wait_until("scapy listens", || sniffer.printed().contains("ready"));
    let bmc = "
[[bmc]]
nodes = \"n1\"
method = \"wake\"
mac = \"02:00:00:00:0a:01\"
secure-on = \"00:11:22:33:44:55\"
interface = \"eth0\"
[[bmc]]
nodes = \"n2\"
method = \"wake\"
mac = \"02:00:00:00:0a:02\"
broadcast = \"10.79.0.255\"
port = 7
";
    write(&golden.file("bmc.toml"), bmc, 0o600);
    let kactl = |words: &[&str]| {
        let inner = golden.kactl(words);
        let mut command = here.command(inner.get_program().to_str().unwrap());
        told(&command.args(inner.get_args()).output().unwrap())
    };
    let (status, out, err) = kactl(&["power", "on", "n[1-2],02:00:00:00:0a:03"]);
    assert_eq!(status, 0, "{err}");
    for node in ["n1: woken", "n2: woken", "02:00:00:00:0a:03: woken"] {
        assert!(out.contains(node), "{out}");
    }
    for (packet, why) in [
        ("ff:ff:ff:ff:ff:ff 255.255.255.255 9 02:00:00:00:0a:01 001122334455\n", "SecureOn, one interface"),
        (" 10.79.0.255 7 02:00:00:00:0a:02 \n", "a directed broadcast through the router"),
        ("ff:ff:ff:ff:ff:ff 10.78.0.255 9 02:00:00:00:0a:03 \n", "a machine without a [[bmc]]"),
    ] {
        wait_until(why, || sniffer.printed().matches(packet).count() == 3);
    }
    // An action that a card does not support, and an unknown machine; the other is woken anyway.
    let (status, _, err) = kactl(&["power", "off", "n1"]);
    assert!(
        status == 1 && err.contains("n1: it has no [[bmc]], and its card can only wake it, not 'off'"),
        "{err}"
    );
    let (status, out, err) = kactl(&["power", "on", "n9,n1"]);
    assert!(status == 1 && out == "n1: woken\n", "{out}{err}");
    assert!(err.contains("n9: it has no [[bmc]], and its hardware address is not known"), "{err}");
}

/// ipmi_sim with one BMC, whose machine consists of two files: `power` and `boot`.
struct Sim {
    folder: TempDir,
    port: u16,
    _process: Process,
}

impl Sim {
    fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| folder.path().join(name);
        let chassis = format!(
            "#!/bin/sh\ncd '{}'\necho \"$@\" >>calls\nverb=$1; shift\nwhile [ $# -gt 0 ]; do\n\
             case $verb$1 in getpower) echo power:$(cat power);; getboot) echo boot:$(cat boot);;\n\
             setpower) shift; echo $1 >power;; setboot) shift; [ ! -e stubborn ] || exit 1; echo $1 >boot;;\n\
             setreset) shift;; esac; shift; done\n",
            folder.path().display()
        );
        write(&at("chassis"), &chassis, 0o755);
        fs::write(at("power"), "0\n").unwrap();
        fs::write(at("boot"), "default\n").unwrap();
        fs::create_dir(at("state")).unwrap();
        let auths: String = ["callback", "user", "operator", "admin"]
            .map(|level| format!("allowed_auths_{level} none md2 md5 straight\n"))
            .concat();
        let config = format!(
            "name \"{name}\"\nset_working_mc 0x20\nstartlan 1\naddr 127.0.0.1 {port}\npriv_limit admin\n{auths}\
             guid a123456789abcdefa123456789abcdef\nendlan\nchassis_control \"{}\"\n\
             user 2 true \"admin\" \"s3cret\" admin 10 none md2 md5 straight\n",
            at("chassis").display()
        );
        fs::write(at("lan.conf"), config).unwrap();
        fs::write(
            at("emu"),
            "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n",
        )
        .unwrap();
        let mut command = Command::new("ipmi_sim");
        command.arg("-c").arg(at("lan.conf")).arg("-f").arg(at("emu")).arg("-n").arg("-s").arg(at("state"));
        let process = Process::start(&mut command, "ipmi_sim", folder.path());
        Self { folder, port, _process: process }
    }

    fn is(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap_or_default().trim().to_owned()
    }

    fn bmc(&self, node: &str, password: &str) -> String {
        format!(
            "[[bmc]]\nnodes = \"{node}\"\nmethod = \"ipmi\"\naddress = \"127.0.0.1\"\nport = {}\nuser = \"admin\"\n\
             password = \"{password}\"\ncipher = 3\n",
            self.port
        )
    }
}

#[test]
fn bmcs_that_speak_ipmi_switch_their_machines() {
    let (one, other) = (Sim::start("one"), Sim::start("other"));
    let golden = Golden::new();
    let bmc = one.bmc("n1", "s3cret") + &other.bmc("n2", "s3cret");
    wait_until("ipmi_sim answers", || power(&golden, &bmc, &["status", "n1,n2"]).0 == 0);
    let (status, out, err) = power(&golden, &bmc, &["status", "n[1-2]"]);
    assert!(status == 0 && out.contains("n1: off\n") && out.contains("n2: off\n"), "{out}{err}");
    let (status, out, err) = power(&golden, &bmc, &["on", "--network", "n1"]);
    assert_eq!((status, out.as_str()), (0, "n1: on\n"), "{err}");
    assert_eq!([one.is("power"), one.is("boot"), other.is("power")], ["1", "pxe", "0"]);
    // A machine that is off is only switched on.
    let (status, out, err) = power(&golden, &bmc, &["cycle", "n[1-2]"]);
    assert!(status == 0 && out.contains("n1: on\n") && out.contains("n2: on\n"), "{out}{err}");
    let (status, out, _) = power(&golden, &bmc, &["off", "n[1-2]"]);
    assert!(status == 0 && out.contains("n1: off"), "{out}");
    assert_eq!([one.is("power"), other.is("power")], ["0", "0"]);
}

#[test]
fn each_error_of_a_bmc_names_its_machine_and_the_others_go_on() {
    let (good, stubborn) = (Sim::start("good"), Sim::start("stubborn"));
    fs::write(stubborn.folder.path().join("stubborn"), "").unwrap();
    let gone = format!(
        "[[bmc]]\nnodes = \"n3\"\nmethod = \"ipmi\"\naddress = \"127.0.0.1\"\nport = {}\nuser = \"admin\"\npassword = \"s3cret\"\n",
        UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    );
    let golden = Golden::new();
    let bmc = good.bmc("n1", "s3cret") + &good.bmc("n2", "wr0ng") + &gone + &stubborn.bmc("n4", "s3cret");
    wait_until("ipmi_sim answers", || power(&golden, &bmc, &["status", "n1,n4"]).0 == 0);
    let (status, out, err) = power(&golden, &bmc, &["on", "--network", "n[1-4]"]);
    assert_eq!((status, out.as_str()), (1, "n1: on\n"), "{err}");
    for line in [
        "n2: its BMC 127.0.0.1 refuses the user or the password",
        "n3: its BMC 127.0.0.1 does not answer: no IPMI there",
        "n4: its next boot cannot be set to the network: ",
    ] {
        assert!(err.contains(line), "{line}:\n{err}");
    }
    assert!(!err.contains("s3cret") && !err.contains("wr0ng"), "{err}");
    assert_eq!(stubborn.is("power"), "0", "a machine that would boot its disk is not switched on");
}

#[test]
fn a_password_is_in_no_command_line() {
    let golden = Golden::new();
    let folder = tempfile::tempdir().unwrap();
    let tool = "#!/bin/sh\necho \"$@\" >>\"${0%/*}/words\"\necho \"$IPMI_PASSWORD\" >>\"${0%/*}/secret\"\necho Chassis Power is on\n";
    write(&folder.path().join("ipmitool"), tool, 0o755);
    let file = folder.path().join("password");
    write(&file, "s3cret\nmore\n", 0o600);
    let bmc = format!(
        "[[bmc]]\nnodes = \"n1\"\nmethod = \"ipmi\"\naddress = \"b\"\nuser = \"admin\"\npassword-file = {file:?}\n"
    );
    write(&golden.file("bmc.toml"), &bmc, 0o600);
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let (status, out, err) =
        told(&golden.kactl(&["power", "status", "n1", "-vv"]).env("PATH", path).output().unwrap());
    assert_eq!((status, out.as_str()), (0, "n1: on\n"), "{err}");
    assert_eq!(fs::read_to_string(folder.path().join("secret")).unwrap(), "s3cret\n");
    let words = fs::read_to_string(folder.path().join("words")).unwrap();
    assert!(
        words.contains("-U admin -E") && !words.contains("s3cret") && !err.contains("s3cret"),
        "{words}{err}"
    );
    write(&golden.file("bmc.toml"), &bmc, 0o644);
    let (status, _, err) = told(&golden.kactl(&["power", "status", "n1"]).output().unwrap());
    assert!(status == 2 && err.contains("bmc.toml: others can read it (mode 0644)"), "{err}");
}

/// sushy-tools' Redfish emulator, with simulated machines.
struct Redfish {
    folder: TempDir,
    port: u16,
    _process: Process,
}

const SYSTEMS: [(&str, &str); 2] =
    [("blade1", "27946b59-9e44-4fa7-8e91-f3527a1ef091"), ("blade2", "27946b59-9e44-4fa7-8e91-f3527a1ef092")];

impl Redfish {
    fn start(systems: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // The user admin with the password s3cret, as created by htpasswd.
        let python = tools().join("python3");
        let hash = "import bcrypt; print('admin:' + bcrypt.hashpw(b's3cret', bcrypt.gensalt(4)).decode())";
        write(&at("users"), &succeed(Command::new(&python).args(["-c", hash])), 0o600);
        let made = [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=bmc",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=CA:FALSE",
        ];
        succeed(Command::new("openssl").args(made).arg("-keyout").arg(at("key")).arg("-out").arg(at("cert")));
        let fakes: String = SYSTEMS[..systems]
            .iter()
            .map(|(name, uuid)| format!("{{'uuid': '{uuid}', 'name': '{name}', 'power_state': 'Off', 'external_notifier': False, 'nics': []}},"))
            .collect();
        let config = format!(
            "SUSHY_EMULATOR_FAKE_DRIVER = True\nSUSHY_EMULATOR_FAKE_SYSTEMS = [{fakes}]\n\
             SUSHY_EMULATOR_AUTH_FILE = {:?}\nSUSHY_EMULATOR_STATE_DIR = {:?}\n\
             SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\nSUSHY_EMULATOR_LISTEN_PORT = {port}\n\
             SUSHY_EMULATOR_SSL_CERT = {:?}\nSUSHY_EMULATOR_SSL_KEY = {:?}\n",
            at("users"),
            folder.path(),
            at("cert"),
            at("key")
        );
        fs::write(at("config"), config).unwrap();
        let mut command = Command::new(tools().join("sushy-emulator"));
        command.arg("--config").arg(at("config"));
        let process = Process::start(&mut command, "sushy", folder.path());
        let place = (Ipv4Addr::LOCALHOST, port);
        wait_until("the emulator listens", || TcpStream::connect(place).is_ok());
        Self { folder, port, _process: process }
    }

    fn bmc(&self, node: &str, password: &str, more: &str) -> String {
        format!(
            "[[bmc]]\nnodes = \"{node}\"\nmethod = \"redfish\"\naddress = \"127.0.0.1:{}\"\nuser = \"admin\"\n\
             password = \"{password}\"\n{more}\n",
            self.port
        )
    }

    fn trust(&self) -> String {
        format!("ca = {:?}", self.folder.path().join("cert"))
    }
}

/// The directory in which `make setup` installs programs from the Python package index.
fn tools() -> PathBuf {
    let tools = root().join("target/tools/python/bin");
    assert!(
        tools.join("sushy-emulator").exists(),
        "{} has no sushy-emulator: run `make setup`",
        tools.display()
    );
    tools
}

#[test]
fn bmcs_that_speak_redfish_switch_their_machines() {
    let emulator = Redfish::start(2);
    let golden = Golden::new();
    let systems = format!("{}\nsystem = \"27946b59-9e44-4fa7-8e91-f3527a1ef09[1-2]\"", emulator.trust());
    let bmc = emulator.bmc("blade[1-2]", "s3cret", &systems);
    let (status, out, err) = power(&golden, &bmc, &["status", "blade[1-2]"]);
    assert!(status == 0 && out.contains("blade1: off\n") && out.contains("blade2: off\n"), "{out}{err}");
    let (status, out, err) = power(&golden, &bmc, &["on", "--network", "blade1"]);
    assert_eq!((status, out.as_str()), (0, "blade1: on\n"), "{err}");
    let get = format!(
        "curl -sk -u admin:s3cret https://127.0.0.1:{}/redfish/v1/Systems/{}",
        emulator.port, SYSTEMS[0].1
    );
    let system: serde_json::Value =
        serde_json::from_str(&succeed(Command::new("sh").args(["-c", &get]))).unwrap();
    assert_eq!(
        (&system["PowerState"], &system["Boot"]["BootSourceOverrideTarget"]),
        (&"On".into(), &"Pxe".into())
    );
    let (status, out, err) = power(&golden, &bmc, &["cycle", "blade[1-2]"]);
    assert!(status == 0 && out.contains("blade1: on\n") && out.contains("blade2: on\n"), "{out}{err}");
    let (status, out, err) = power(&golden, &bmc, &["off", "blade1"]);
    assert_eq!((status, out.as_str()), (0, "blade1: off\n"), "{err}");
}

#[test]
fn a_redfish_bmc_must_be_the_one_that_is_meant() {
    let (emulator, other) = (Redfish::start(1), Redfish::start(1));
    let golden = Golden::new();
    let shown = |bmc: String| power(&golden, &bmc, &["status", "n1"]);
    let (status, _, err) = shown(emulator.bmc("n1", "s3cret", ""));
    assert!(status == 1 && err.contains("it is not certain that"), "{err}");
    // The fingerprint in the error matches the one that openssl computes for the certificate.
    let says = succeed(
        Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(emulator.folder.path().join("cert")),
    );
    let fingerprint = says.trim().split_once('=').unwrap().1;
    assert!(err.contains(&format!("fingerprint = \"{fingerprint}\"")), "{err}\n{says}");
    for (trust, good) in [
        (format!("fingerprint = \"{fingerprint}\""), true),
        (format!("fingerprint = \"{}\"", fingerprint.replace(':', "").to_lowercase()), true),
        (emulator.trust(), true),
        (other.trust(), false),
        (format!("fingerprint = \"{}\"", "00".repeat(32)), false),
    ] {
        let (status, out, err) = shown(emulator.bmc("n1", "s3cret", &trust));
        assert_eq!((status, out.as_str()), if good { (0, "n1: off\n") } else { (1, "") }, "{trust}: {err}");
        assert!(good || err.contains("a certificate that its [[bmc]] does not allow"), "{err}");
    }
    // The emulator's errors.
    let trust = emulator.trust();
    let (status, _, err) = shown(emulator.bmc("n1", "wr0ng", &trust));
    assert!(
        status == 1
            && err.contains("n1: its BMC https://127.0.0.1:")
            && err.contains("refuses the user or the password"),
        "{err}"
    );
    assert!(!err.contains("wr0ng"), "{err}");
    let (_, _, err) = shown(emulator.bmc("n1", "s3cret", &format!("{trust}\nsystem = \"none\"")));
    assert!(err.contains("refuses GET /redfish/v1/Systems/none (404)"), "{err}");
    let start = Instant::now();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nothing = emulator.bmc("n1", "s3cret", &trust).replace(&emulator.port.to_string(), &port.to_string());
    let (status, _, err) = shown(nothing);
    assert!(status == 1 && err.contains("does not answer"), "{err}");
    assert!(start.elapsed().as_secs() < 60);
    let two = Redfish::start(2);
    let (_, _, err) = shown(two.bmc("n1", "s3cret", &two.trust()));
    assert!(err.contains("has several systems: name one by system = "), "{err}");
}
