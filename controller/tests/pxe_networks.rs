//! `kactl pxe` for various firmware and networks, judged by scapy's packets. Needs root, iproute2, dnsmasq,
//! scapy, nftables, BusyBox, Kea, and the boot loaders' packages.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

mod site;

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use site::{Pxe, Site, done, end, wait_until};

fn file(answer: &Value) -> &str {
    answer["file"].as_str().unwrap_or("nothing at all")
}

fn serving(site: &Site, args: &[&str]) -> Pxe {
    let pxe = site.serving(args);
    wait_until("TFTP", || site.tftp("vmlinuz").is_some());
    pxe
}

#[test]
fn only_machines_that_find_something_to_boot_get_an_offer() {
    let site = Site::new("arch");
    let _pxe = serving(&site, &["--interface", "srv"]);
    for (arch, expected) in [
        (0, "lpxelinux.0"),
        (7, "snponly.efi"),
        (9, "snponly.efi"),
        (16, "http://10.77.0.1:30766/snponly.efi"),
    ] {
        let answer = site.ask(&json!({ "arch": arch, "rom": true }));
        assert_eq!(file(&answer), expected, "{arch}: {answer}");
    }
    // 32-bit UEFI, ARM, 32-bit UEFI over HTTP, ARM over HTTP, and some architectures that do not exist.
    for arch in [6, 11, 15, 19, 10, 18, 27, 4711] {
        for rom in [true, false] {
            let answer = site.ask(&json!({ "arch": arch, "rom": rom, "seconds": 1 }));
            assert_eq!(answer, Value::Null, "{arch}");
        }
    }
    // It still serves, and clients that are not firmware get an address.
    assert!(site.ask(&json!({}))["yiaddr"].as_str().unwrap().starts_with("10.77.0."));
}

#[test]
fn settings_are_for_all_machines_or_for_one() {
    let site = Site::new("firm");
    let own = site.directory.path().join("own.efi");
    fs::write(&own, "iPXE of the site's").unwrap();
    site.configure(&format!(
        "[pxe]\nipxe = \"ipxe\"\nlocal_pxelinux = \"LOCALBOOT -1\"\nlocal_ipxe = \"exit 0\"\n\
         [pxe.machine.\"52:54:00:77:00:01\"]\nbios = \"undionly\"\nipxe = {own:?}\nlocal_ipxe = \"sanboot\"\n\
         [pxe.machine.\"525400770002\"]\nbios = \"pxelinux\"\nlocal_pxelinux = \"chain.c32 hd0\"\n"
    ));
    let ipxe = json!([[175, "b10500"]]);
    for args in [&["--interface", "srv"][..], &["--interface", "srv", "--proxy"]] {
        let _pxe = serving(&site, args);
        for (machine, arch, options, expected) in [
            (9, 0, json!([]), "lpxelinux.0"),
            (9, 7, json!([]), "ipxe.efi"),
            (9, 7, ipxe.clone(), "boot.ipxe"),
            (1, 0, json!([]), "undionly.kpxe"),
            (1, 0, ipxe.clone(), "boot.ipxe"),
            (1, 7, json!([]), "own.efi"),
            (2, 0, json!([]), "pxelinux.0"),
            (2, 7, json!([]), "ipxe.efi"),
        ] {
            let mac = format!("52:54:00:77:00:0{machine}");
            let answer = site.ask(
                &json!({ "mac": mac, "arch": arch, "rom": true, "options": options, "pxe": "10.77.0.200" }),
            );
            assert_eq!(file(&answer), expected, "{args:?} {machine} {arch} {options}: {answer}");
        }
    }
    let _pxe = serving(&site, &["--interface", "srv"]);
    for (name, text) in [
        ("pxelinux.cfg/default", "LABEL local\n  LOCALBOOT -1\n"),
        ("pxelinux.cfg/01-52-54-00-77-00-01", "LABEL local\n  LOCALBOOT -1\n"),
        ("pxelinux.cfg/01-52-54-00-77-00-02", "LABEL local\n  COM32 chain.c32\n  APPEND hd0\n"),
        ("ipxe/default", "\nexit 0\n"),
        ("ipxe/01-52-54-00-77-00-01", "\nsanboot --no-describe --drive 0x80 || exit 1\n"),
        ("ipxe/01-52-54-00-77-00-02", "\nexit 0\n"),
    ] {
        let served = String::from_utf8(site.tftp(name).unwrap_or_default()).unwrap();
        assert!(served.contains(text) && !served.contains("DEFAULT kamethod"), "{name}: {served}");
    }
    for loader in ["own.efi", "ipxe.efi", "undionly.kpxe", "chain.c32", "libcom32.c32", "libutil.c32"] {
        assert!(site.tftp(loader).is_some(), "{loader}");
    }
}

#[test]
fn a_machine_of_its_own_is_cloned_as_the_others_are() {
    let site = Site::new("ownrun");
    let mac = site.client_mac();
    site.configure(&format!("[pxe.machine.\"{mac}\"]\nlocal_pxelinux = \"LOCALBOOT -1\"\n"));
    let _pxe = serving(&site, &["--interface", "srv"]);
    let own = mac.pxelinux_name();
    assert_eq!(site.boots(&own).as_deref(), Some("local"));
    let held = kactl::rendezvous::lease::HeldLease::take(
        &site.runs(),
        "here",
        site::lease(kactl::rendezvous::lease::Allowed::Any),
    );
    let mut held = held.unwrap();
    wait_until("kamethod", || site.boots(&own).as_deref() == Some("kamethod"));
    held.done(mac).unwrap();
    wait_until("local again", || site.boots(&own).as_deref() == Some("local"));
    let text = String::from_utf8(site.tftp(&format!("pxelinux.cfg/{own}")).unwrap()).unwrap();
    assert!(text.contains("LOCALBOOT -1"), "{text}");
}

/// Here the client's host is a relay for 10.78.0.0/24: it has its address there, and the server a route to
/// it.
fn with_relay(name: &str) -> Site {
    let site = Site::new(name);
    done(&mut site.in_client(&["ip", "addr", "add", "10.78.0.1/24", "dev", "cli"]));
    done(&mut site.in_server(&["ip", "route", "add", "10.78.0.0/24", "via", "10.77.0.200"]));
    site.configure(
        "[pxe]\nrange = \"10.77.0.50,10.77.0.59\"\nrouter = \"10.77.0.200\"\n\
         [[pxe.subnet]]\nrange = \"10.78.0.100,10.78.0.109\"\nnetmask = \"255.255.255.0\"\nrouter = \"10.78.0.1\"\n\
         [[pxe.subnet]]\nrange = \"10.79.0.100,10.79.0.109\"\nnetmask = \"255.255.0.0\"\nrouter = \"10.79.0.1\"\n",
    );
    site
}

#[test]
fn a_relayed_machine_gets_an_address_of_its_network() {
    let site = with_relay("relay");
    let pxe = serving(&site, &["--interface", "srv"]);
    let answer = site.ask(&json!({ "arch": 0, "rom": true, "giaddr": "10.78.0.1" }));
    assert!(answer["yiaddr"].as_str().is_some_and(|address| address.starts_with("10.78.0.10")), "{answer}");
    assert_eq!((file(&answer), &answer["to"]), ("lpxelinux.0", &json!("10.78.0.1")), "{answer}");
    // Mask, router, and no DNS server.
    let options = &answer["options"];
    assert_eq!((&options["1"], &options["3"]), (&json!("ffffff00"), &json!("0a4e0001")), "{answer}");
    assert_eq!(options["6"], Value::Null);
    // The network's own machines get their own router.
    let answer = site.ask(&json!({}));
    assert!(answer["yiaddr"].as_str().is_some_and(|address| address.starts_with("10.77.0.5")), "{answer}");
    assert_eq!(answer["options"]["3"], json!("0a4d00c8"), "{answer}");
    // There is no route to the other network.
    assert!(
        pxe.log().contains("no route to 10.79.0.0/16") && !pxe.log().contains("no route to 10.78"),
        "{}",
        pxe.log()
    );
    let answer = site.ask(&json!({ "giaddr": "10.80.0.1", "seconds": 1 }));
    assert_eq!(answer, Value::Null, "a network that nobody configured");
}

#[test]
fn a_proxy_answers_through_a_relay() {
    let site = with_relay("rproxy");
    let pxe = serving(&site, &["--interface", "srv", "--proxy"]);
    let question = json!({ "arch": 0, "rom": true, "giaddr": "10.78.0.1" });
    let answer = site.ask(&question);
    assert_eq!((&answer["yiaddr"], &answer["to"]), (&json!("0.0.0.0"), &json!("10.78.0.1")), "{answer}");
    // The machine has its address, and asks the boot server directly, which names the file.
    for (arch, expected) in [(0, "lpxelinux.0"), (7, "snponly.efi")] {
        let answer =
            site.ask(&json!({ "arch": arch, "rom": true, "giaddr": "10.78.0.1", "pxe": "10.78.0.1" }));
        assert_eq!(file(&answer), expected, "{answer}");
    }
    assert!(pxe.log().contains("machines that boot by UEFI HTTP boot get no offer"), "{}", pxe.log());
    let answer = site.ask(&json!({ "arch": 16, "rom": "HTTPClient:Arch:00016:UNDI:003016", "seconds": 1 }));
    assert_eq!(answer, Value::Null);
}

#[test]
fn what_does_not_fit_the_interface_is_told_with_its_place() {
    let site = Site::new("places");
    site.configure(
        "[pxe]\nrange = \"10.77.0.9,10.77.0.255\"\nrouter = \"10.78.0.1\"\n\
         [[pxe.subnet]]\nrange = \"10.77.4.100,10.77.4.109\"\nnetmask = \"255.255.248.0\"\nrouter = \"10.77.4.99\"\n",
    );
    let refused = |args: &[&str]| {
        let mut pxe = site.start_pxe(args);
        assert_eq!(pxe.wait(), Some(2), "{}", pxe.log());
        pxe.log()
    };
    let log = refused(&["--interface", "srv"]);
    for part in [
        "ka.toml:6:9: the range 10.77.0.9,10.77.0.255 is not within the network of srv, 10.77.0.1/24",
        "ka.toml:7:10: the router 10.78.0.1 is not another host in the network of srv",
        "ka.toml:8:1: the network 10.77.0.0/21 is not behind a relay",
    ] {
        assert!(log.contains(part), "{part} is missing in {log}");
    }
    let log = refused(&["--interface", "srv", "--proxy"]);
    assert!(log.contains("ka.toml:8:1: the network 10.77.0.0/21 is not behind a relay"), "{log}");
}

#[test]
fn all_that_is_in_the_way_is_told_before_anything_is_served() {
    let site = Site::new("checks");
    let mut others = Vec::new();
    let bound = "import socket, time; s = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)]; \
                 s[0].bind(('', 67)); s[1].bind(('10.77.0.1', 69)); time.sleep(600)";
    for command in [&["/usr/bin/python3", "-c", bound][..], &["busybox", "httpd", "-f", "-p", "30766"]] {
        others.push(Other::start(&mut site.in_server(command)));
    }
    let rules = "table inet site { chain in { type filter hook input priority 0; policy drop; tcp dport 30765 accept; }; }";
    done(&mut site.in_server(&["nft", rules]));
    let foreign = foreign_server(&site);
    wait_until("the others", || {
        let sockets =
            site.in_server(&["cat", "/proc/net/udp", "/proc/net/tcp", "/proc/net/udp6", "/proc/net/tcp6"]);
        let text = String::from_utf8(done(&mut { sockets }).stdout).unwrap();
        [":0045 ", ":0043 ", ":782E "].iter().all(|port| text.contains(port))
    });
    let mut pxe = site.start_pxe(&["--interface", "srv", "--range", "10.77.0.50,10.77.0.59"]);
    assert_eq!(pxe.wait(), Some(2));
    let log = pxe.log();
    for part in [
        "cannot serve DHCP at srv:67: the port is held by python3 (",
        "cannot serve TFTP at 10.77.0.1:69: the port is held by python3 (",
        "cannot serve HTTP at 10.77.0.1:30766: the port is held by busybox (",
        "srv: 10.77.0.200 answers DHCP here as well",
        "srv: the firewall (nftables: table inet site, chain in) drops what machines send to UDP 67 (DHCP), UDP 69 (TFTP), \
         UDP 32768-60999 (TFTP's transfers), TCP 30766 (HTTP), UDP 4957 (discovery), TCP 30764 (data), TCP 30767 (first boots)",
        "nft insert rule inet site in iifname srv udp dport { 67,69,32768-60999,4957 } accept",
    ] {
        assert!(log.contains(part), "{part} is missing in {log}");
    }
    assert_eq!(site.dnsmasq(), None);
    drop(others);

    // No process holds a port any more: everything else is a warning. The advice is correct.
    for line in log.lines().filter_map(|line| line.split_once("for example with `")) {
        let commands = line.1.trim_end_matches('`');
        done(&mut site.in_server(&["sh", "-c", &commands.replace('{', "'{").replace('}', "}'")]));
    }
    let pxe = serving(&site, &["--interface", "srv", "--range", "10.77.0.50,10.77.0.59"]);
    assert!(!pxe.log().contains("the firewall"), "{}", pxe.log());
    assert!(pxe.log().contains("10.77.0.200 answers DHCP here as well"), "{}", pxe.log());
    drop(foreign);
}

/// Another program, ended with the test.
struct Other(Child);

impl Other {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Another DHCP server on the wire, at the client's host.
fn foreign_server(site: &Site) -> Other {
    let mut other = site.in_client(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--user=root",
        "--interface=cli",
        "--bind-dynamic",
        "--no-ping",
        "--dhcp-range=10.77.0.220,10.77.0.230",
        "--dhcp-leasefile=/dev/null",
        "--pid-file=",
    ]);
    Other::start(&mut other)
}

#[test]
fn a_program_that_shares_dhcps_port_is_named() {
    let site = Site::new("shared");
    for line in [
        "ip addr add 192.168.122.1/24 dev bare",
        "ip link set bare up",
        "ip link add more type bridge",
        "ip link set more up",
    ] {
        done(&mut site.in_server(&line.split(' ').collect::<Vec<_>>()));
    }
    // On two interfaces, it listens on all, and checks the interface later.
    let mut other = site.in_server(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--user=root",
        "--bind-dynamic",
        "--interface=bare",
        "--interface=more",
        "--dhcp-range=192.168.122.2,192.168.122.254",
        "--dhcp-leasefile=/dev/null",
        "--pid-file=",
    ]);
    let other = Other::start(&mut other);
    wait_until("the other server", || {
        let text = done(&mut site.in_server(&["cat", "/proc/net/udp"])).stdout;
        String::from_utf8(text).unwrap().contains(":0043 ")
    });
    let pxe = serving(&site, &["--interface", "srv"]);
    let said = format!("DHCP at srv:67: dnsmasq ({}) listens there too", other.0.id());
    assert!(pxe.log().contains(&said), "{said} is missing in {}", pxe.log());
    assert_eq!(file(&site.ask(&json!({ "arch": 0 }))), "lpxelinux.0");
}

#[test]
fn kea_says_what_to_boot_as_it_is_told() {
    let site = Site::new("kea");
    let own = "52:54:00:77:00:02";
    site.configure(&format!("[pxe.machine.\"{own}\"]\nbios = \"undionly\"\nipxe = \"ipxe\"\n"));
    let text =
        String::from_utf8(done(&mut site.pxe(&["--interface", "srv", "config", "kea"])).stdout).unwrap();
    let classes: String = text.lines().filter(|line| !line.starts_with("//")).collect();
    let mut config: Value = serde_json::from_str(&classes).unwrap();
    let server = &mut config["Dhcp4"];
    server["interfaces-config"] = json!({ "interfaces": ["srv"] });
    server["lease-database"] = json!({ "type": "memfile", "persist": false });
    server["subnet4"] =
        json!([{ "subnet": "10.77.0.0/24", "pools": [{ "pool": "10.77.0.50 - 10.77.0.99" }] }]);
    let conf = site.directory.path().join("kea.json");
    fs::write(&conf, config.to_string()).unwrap();
    let run = site.directory.path();
    let mut kea = site.in_server(&["kea-dhcp4", "-c"]);
    kea.arg(&conf).env("KEA_PIDFILE_DIR", run).env("KEA_LOCKFILE_DIR", run);
    let _kea = Other::start(&mut kea);
    for (machine, arch, ipxe, expected) in [
        (1, 0, false, "lpxelinux.0"),
        (1, 7, false, "snponly.efi"),
        (1, 9, true, "boot.ipxe"),
        (1, 16, false, "http://10.77.0.1:30766/snponly.efi"),
        (1, 11, false, ""),
        (2, 0, false, "undionly.kpxe"),
        (2, 0, true, "boot.ipxe"),
        (2, 7, false, "ipxe.efi"),
    ] {
        let options = if ipxe { json!([[175, "b10500"]]) } else { json!([]) };
        let mac = format!("52:54:00:77:00:0{machine}");
        let question = json!({ "mac": mac, "arch": arch, "rom": true, "options": options, "seconds": 40 });
        let answer = site.ask(&question);
        assert_eq!(file(&answer), expected, "{machine} {arch} {ipxe}: {answer}");
        if arch == 16 {
            assert_eq!(answer["options"]["60"], json!("48545450436c69656e74"), "{answer}");
        }
    }
}
