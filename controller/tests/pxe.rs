//! `kactl pxe` against real DHCP and TFTP clients, in network namespaces of its own.
//!
//! Needs root, iproute2, busybox, dnsmasq, and the boot loader's packages.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

mod site;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ka::keys::{JoinKey, KeyPair};
use kactl::rendezvous::lease::{Allowed, HeldLease, Lease};
use site::{SERVES, Site, alive, done, end, kill, lease, wait_for, wait_until};

#[test]
fn machines_get_an_address_the_loader_and_their_own_disk() {
    let site = Site::new("a");
    let _pxe = site.serving(&["--interface", "srv", "--range", "10.77.0.50,10.77.0.59"]);

    let offer = site.dhcp();
    for line in ["ip=10.77.0.5", "siaddr=10.77.0.1", "boot_file=lpxelinux.0"] {
        assert!(offer.lines().any(|l| l.starts_with(line)), "{line} is missing in {offer}");
    }
    for line in ["router=", "dns="] {
        assert!(!offer.lines().any(|l| l.starts_with(line)), "{line} is in {offer}");
    }
    for loader in ["lpxelinux.0", "pxelinux.0"] {
        let served = site.tftp(loader).unwrap();
        assert_eq!(served, fs::read(format!("/usr/lib/PXELINUX/{loader}")).unwrap());
    }
    assert!(site.tftp("ldlinux.c32").is_some());
    assert_eq!(site.tftp("vmlinuz").unwrap(), b"the kernel");
    assert_eq!(site.boots("default").unwrap(), "local");
    assert_eq!(site.boots(&site.client_mac().pxelinux_name()), None);
    assert_eq!(site.tftp("../keys/controller.key"), None);
}

#[test]
fn uefi_machines_get_ipxe_and_the_files_over_http() {
    let site = Site::new("f");
    let _pxe = site.serving(&["--interface", "srv"]);
    // Option 93, the architecture, and option 175, iPXE's own.
    let (uefi, http, ipxe) = ("0x5d:0007", "0x5d:0010", "0xaf:b10500");
    for (options, file) in [
        (&[][..], "lpxelinux.0"),
        (&["0x5d:0000"][..], "lpxelinux.0"),
        (&["0x5d:0000", ipxe][..], "lpxelinux.0"),
        (&[uefi][..], "snponly.efi"),
        (&["0x5d:0009"][..], "snponly.efi"),
        (&[uefi, ipxe][..], "boot.ipxe"),
        (&[http][..], "http://10.77.0.1:30766/snponly.efi"),
    ] {
        let offer = site.dhcp_with(options);
        assert!(offer.lines().any(|l| l == format!("boot_file={file}")), "{options:?}: {offer}");
    }
    assert!(site.tftp("boot.ipxe").unwrap().starts_with(b"#!ipxe\n"));
    let loader = site.http("snponly.efi").unwrap();
    assert_eq!(loader, fs::read("/usr/lib/ipxe/snponly.efi").unwrap());
    assert_eq!(site.http("vmlinuz").unwrap(), b"the kernel");
    assert_eq!(site.http("../keys/controller.key"), None);
    let script = |file: &str| String::from_utf8(site.http(&format!("ipxe/{file}"))?).ok();
    assert!(script("default").unwrap().ends_with("\nexit 1\n"));

    let own = site.client_mac().pxelinux_name();
    let mut run = site.start_run("listed");
    wait_until("kamethod for one", || script(&own).is_some_and(|text| text.contains("\nkernel http://")));
    assert!(script("default").unwrap().ends_with("\nexit 1\n"));
    end(&mut run);
    wait_until("no file of its own", || script(&own).is_none());
}

#[test]
fn a_sites_servers_are_told_what_they_need() {
    let site = Site::new("g");
    for (server, word) in [
        ("dhcpd", "next-server 10.77.0.1;"),
        ("kea", "\"next-server\": \"10.77.0.1\""),
        ("tftpd", "server_args"),
        ("dnsmasq", "dhcp-boot=tag:uefi,tag:ipxe,boot.ipxe,,10.77.0.1"),
        ("pxelinux", "ka.server=10.77.0.1"),
    ] {
        let mut pxe = site.pxe(&["--interface", "srv", "config", server]);
        let text = String::from_utf8(done(&mut pxe).stdout).unwrap();
        assert!(text.contains(word), "{server}: {text}");
    }
    assert!(!site.boot().join("lpxelinux.0").exists(), "to print is not to serve");
}

#[test]
fn beside_another_server_no_address_is_given() {
    let site = Site::new("h");
    for option in ["--proxy", "--no-dhcp"] {
        let _pxe = site.serving(&["--interface", "srv", option]);
        wait_until("TFTP", || site.tftp("vmlinuz").is_some());
        let mut client =
            site.in_client(&["busybox", "udhcpc", "-i", "cli", "-f", "-n", "-q", "-t", "3", "-T", "1"]);
        let output = client.args(["-s", "/bin/true"]).output().unwrap();
        assert!(!output.status.success(), "{option}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn kamethod_lasts_as_long_as_the_run_that_wants_it() {
    let site = Site::new("b");
    let _pxe = site.serving(&["--interface", "srv"]);
    let own = site.client_mac().pxelinux_name();

    let mut run = site.start_run("any");
    wait_until("kamethod for all", || site.boots("default").as_deref() == Some("kamethod"));
    let text = String::from_utf8(site.tftp("pxelinux.cfg/default").unwrap()).unwrap();
    for word in
        ["ka.server=10.77.0.1", "ka.session=kainstall", "initrd=all.rdz", "kamethod", "console=ttyS0,115200"]
    {
        assert!(text.split_whitespace().any(|w| w == word), "{word} is missing in {text}");
    }
    end(&mut run);
    wait_until("local after the run was killed", || site.boots("default").as_deref() == Some("local"));

    let mut run = site.start_run("listed");
    wait_until("kamethod for one", || site.boots(&own).as_deref() == Some("kamethod"));
    assert_eq!(site.boots("default").as_deref(), Some("local"));
    end(&mut run);
    wait_until("no file of its own", || site.boots(&own).is_none());

    // A run in this process, so that a node can be marked as finished.
    let mut held = HeldLease::take(&site.runs(), "here", lease(Allowed::Any)).unwrap();
    wait_until("kamethod again", || site.boots("default").as_deref() == Some("kamethod"));
    held.done(site.client_mac()).unwrap();
    wait_until("local for the one that is done", || site.boots(&own).as_deref() == Some("local"));
    assert_eq!(site.boots("default").as_deref(), Some("kamethod"));
    drop(held);
    wait_until("local for all", || site.boots("default").as_deref() == Some("local"));
}

/// What a stranger loads over TFTP is useless once the run has ended.
#[test]
fn a_run_has_a_secret_of_its_own_and_the_long_lived_one_is_not_served() {
    let site = Site::new("k");
    fs::write(site.boot().join("stage1.rdz"), "stage1 without a key").unwrap();
    let config = site.directory.path().join("ka.toml");
    let text = fs::read_to_string(&config).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::write(&config, text.replace("[directories]\n", &format!("[directories]\nlib = {scripts:?}\n")))
        .unwrap();
    let pxe = site.serving(&["--interface", "srv"]);
    wait_until("TFTP", || site.tftp("vmlinuz").is_some());
    assert_eq!(site.tftp("all.rdz"), None, "the long-lived secret");

    let join = JoinKey::generate(&KeyPair::generate().unwrap()).unwrap().to_text();
    let wanted = Lease { join: Some(join.clone()), ..lease(Allowed::Any) };
    let held = HeldLease::take(&site.runs(), "a", wanted).unwrap();
    wait_until("kamethod", || site.boots("default").as_deref() == Some("kamethod"));
    let menu = String::from_utf8(site.tftp("pxelinux.cfg/default").unwrap()).unwrap();
    assert!(menu.contains("initrd=run-a.rdz ") && !menu.contains("all.rdz"), "{menu}");
    let image = site.tftp("run-a.rdz").expect("what the menu names");
    assert!(image.starts_with(b"stage1 without a key"));
    assert_eq!(image, fs::read(site.boot().join("run-a.rdz")).unwrap());
    assert_eq!(site.tftp("all.rdz"), None, "the long-lived secret");
    drop(held);
    wait_until("local for all", || site.boots("default").as_deref() == Some("local"));
    wait_until("the image of the run is gone", || site.tftp("run-a.rdz").is_none());
    drop(pxe);

    // A site with its own DHCP server uses the image with the long-lived key, as its server names it.
    let _pxe = site.serving(&["--interface", "srv", "--no-dhcp"]);
    wait_until("all.rdz", || site.tftp("all.rdz").is_some());
}

#[test]
fn a_stopped_server_leaves_local_and_no_dnsmasq() {
    let site = Site::new("c");
    let _run = HeldLease::take(&site.runs(), "here", lease(Allowed::Any)).unwrap();
    for signal in ["TERM", "INT", "HUP"] {
        let mut pxe = site.start_pxe(&["--interface", "srv"]);
        wait_until("kamethod", || site.menu("default").contains("DEFAULT kamethod"));
        let dnsmasq = wait_for("dnsmasq", || site.dnsmasq());
        let status = pxe.stop(signal);
        assert_eq!(status, Some(0), "{signal}: {}", pxe.log());
        assert!(site.menu("default").contains("DEFAULT local"), "{signal}");
        assert!(!alive(dnsmasq), "{signal}");
        assert!(!pxe.log().contains("does not end when asked"), "{}", pxe.log());
    }

    let mut pxe = site.start_pxe(&["--interface", "srv"]);
    let dnsmasq = wait_for("dnsmasq", || site.dnsmasq());
    pxe.stop("KILL");
    wait_until("dnsmasq gone with its killed parent", || !alive(dnsmasq));
}

#[test]
fn dnsmasq_is_started_again_and_given_up_when_it_cannot_live() {
    let site = Site::new("d");
    let mut pxe = site.start_pxe(&["--interface", "srv"]);
    let first = wait_for("dnsmasq", || site.dnsmasq());
    kill("KILL", first);
    wait_for("another dnsmasq", || site.dnsmasq().filter(|&pid| pid != first));
    wait_until("it serves", || site.tftp("vmlinuz").is_some());

    // It no longer finds a configuration.
    let second = wait_for("dnsmasq", || site.dnsmasq());
    fs::remove_file(site.directory.path().join("run/dnsmasq.conf")).unwrap();
    kill("KILL", second);
    assert_eq!(pxe.wait(), Some(2));
    let log = pxe.log();
    assert!(
        log.contains("dnsmasq ended 5 times in a row") && log.contains("    dnsmasq: cannot read"),
        "{log}"
    );
}

#[test]
fn an_interface_that_is_gone_ends_the_serving() {
    let site = Site::new("i");
    let mut pxe = site.start_pxe(&["--interface", "srv"]);
    wait_until("it serves", || site.tftp("vmlinuz").is_some());
    done(&mut site.in_server(&["ip", "link", "del", "srv"]));
    assert_eq!(pxe.wait(), Some(2));
    assert!(pxe.log().contains("the interface srv is gone"), "{}", pxe.log());
    assert!(site.menu("default").contains("DEFAULT local"));
}

#[test]
fn another_dhcp_server_is_reported() {
    let site = Site::new("j");
    // Both on the same wire: the other server runs on the client's host.
    let mut other = site.in_client(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--user=root",
        "--interface=cli",
        "--bind-dynamic",
        "--dhcp-range=10.77.0.220,10.77.0.230",
        "--dhcp-leasefile=/dev/null",
        "--pid-file=",
    ]);
    let mut other = other.stderr(Stdio::null()).spawn().unwrap();
    let pxe = site.start_pxe(&["--interface", "srv", "--range", "10.77.0.50,10.77.0.59"]);
    pxe.wait_for_line("srv: 10.77.0.200 answers DHCP here as well");
    end(&mut other);
}

#[test]
fn another_dnsmasq_on_another_interface_does_no_harm() {
    let site = Site::new("k");
    for line in ["ip addr add 192.168.122.1/24 dev bare", "ip link set bare up"] {
        done(&mut site.in_server(&line.split(' ').collect::<Vec<_>>()));
    }
    // As started by libvirt.
    let mut other = site.in_server(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--user=root",
        "--except-interface=lo",
        "--bind-dynamic",
        "--interface=bare",
        "--dhcp-range=192.168.122.2,192.168.122.254",
        "--dhcp-leasefile=/dev/null",
        "--pid-file=",
    ]);
    let mut other = other.stderr(Stdio::null()).spawn().unwrap();
    let pxe = site.serving(&["--interface", "srv", "--range", "10.77.0.50,10.77.0.59"]);
    assert!(!pxe.log().contains("listens there too"), "{}", pxe.log());
    let offer = site.dhcp();
    assert!(offer.lines().any(|line| line == "siaddr=10.77.0.1"), "{offer}");
    assert!(site.tftp("vmlinuz").is_some());
    end(&mut other);
}

#[test]
fn a_taken_port_names_its_holder() {
    let site = Site::new("l");
    let mut other = site.in_server(&["busybox", "httpd", "-f", "-p", "10.77.0.1:30766"]).spawn().unwrap();
    wait_until("the other server", || {
        site.http("").is_some() || {
            let text = site.in_server(&["cat", "/proc/net/tcp"]).output().unwrap().stdout;
            String::from_utf8(text).unwrap().contains(":782E 00000000:0000 0A")
        }
    });
    let mut pxe = site.start_pxe(&["--interface", "srv"]);
    assert_eq!(pxe.wait(), Some(2));
    assert!(
        pxe.log().contains("cannot serve HTTP at 10.77.0.1:30766: the port is held by busybox ("),
        "{}",
        pxe.log()
    );
    end(&mut other);
}

#[test]
fn dnsmasq_has_a_user_and_few_rights() {
    let site = Site::new("m");
    let _pxe = site.serving(&["--interface", "srv"]);
    let dnsmasq = wait_for("dnsmasq", || site.dnsmasq());
    let status = fs::read_to_string(format!("/proc/{dnsmasq}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_ne!(field("Uid"), "0", "{status}");
    // CAP_NET_BIND_SERVICE, CAP_NET_ADMIN and CAP_NET_RAW (capabilities(7)).
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(
            u64::from_str_radix(&field(set), 16).unwrap(),
            1 << 10 | 1 << 12 | 1 << 13,
            "{set}: {status}"
        );
    }
    assert_eq!(field("NoNewPrivs"), "1");
    let facl = done(Command::new("getfacl").args(["--absolute-names", "--omit-header"]).arg(site.boot()));
    let facl = String::from_utf8(facl.stdout).unwrap();
    for line in ["user:dnsmasq:r-x", "group::---", "other::---"] {
        assert!(facl.lines().any(|l| l == line), "{line} is missing in {facl}");
    }
}

/// For the server itself: every thread has exactly the capabilities that its unit grants.
#[test]
fn the_server_has_few_rights_whoever_starts_it() {
    let site = Site::new("p");
    let pxe = site.serving(&["--interface", "srv"]);
    wait_for("dnsmasq", || site.dnsmasq());
    let unit =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/ka-pxe.service")).unwrap();
    let words = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let number = |name: &str| match name {
        "CAP_CHOWN" => 0,
        "CAP_FOWNER" => 3,
        "CAP_KILL" => 5,
        "CAP_SETGID" => 6,
        "CAP_SETUID" => 7,
        "CAP_SETPCAP" => 8,
        "CAP_NET_BIND_SERVICE" => 10,
        "CAP_NET_ADMIN" => 12,
        "CAP_NET_RAW" => 13,
        other => panic!("{other} is more than the server needs"),
    };
    let allowed = words.split_whitespace().fold(0_u64, |set, name| set | 1 << number(name));
    for task in fs::read_dir(format!("/proc/{}/task", pxe.child.id())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for line in status.lines() {
            match line.split_once(':').map(|(name, value)| (name, value.trim())) {
                Some(("CapPrm" | "CapEff" | "CapBnd", set)) => {
                    assert_eq!(u64::from_str_radix(set, 16).unwrap(), allowed, "{status}");
                }
                Some(("CapInh" | "CapAmb", set)) => {
                    assert_eq!(u64::from_str_radix(set, 16).unwrap(), 0, "{status}")
                }
                Some(("NoNewPrivs", is)) => assert_eq!(is, "1", "{status}"),
                _ => {}
            }
        }
    }
    // It can still do its work: serve, restart dnsmasq with its capabilities, and stop it.
    assert!(site.tftp("vmlinuz").is_some() && site.http("vmlinuz").is_some());
    kill("KILL", site.dnsmasq().unwrap());
    wait_for("another dnsmasq", || site.dnsmasq());
}

/// A local user can neither hold the server's locks nor place files where the server looks.
#[test]
fn no_other_user_stops_the_server() {
    let site = Site::new("q");
    let run = site.directory.path().join("run");
    let mut pxe = site.start_pxe_with_umask("0000", &["--interface", "srv"]);
    pxe.wait_for_line(SERVES);
    assert_eq!(pxe.stop("TERM"), Some(0));
    let open =
        done(Command::new("find").arg(&run).arg(site.boot()).args(["!", "-type", "l", "-perm", "/022"]));
    let open = String::from_utf8(open.stdout).unwrap();
    assert_eq!(open, "", "others can write there");
    done(Command::new("chmod").arg("0755").arg(site.directory.path()));
    let lock = run.join("pxe.lock");
    // No other user can open the lock, even if an earlier version left it open to all.
    done(Command::new("chmod").arg("0666").arg(&lock));
    let hold = |who: &[&str]| {
        let mut command = Command::new(who[0]);
        command.args(&who[1..]).args(["flock", "--nonblock", "--shared"]).arg(&lock).args(["sleep", "600"]);
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    let mut stranger = hold(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    let status = wait_for("the stranger's end", || stranger.try_wait().unwrap());
    assert!(!status.success(), "another user holds the lock");
    let again = site.serving(&["--interface", "srv"]);
    drop(again);
    // Files of another user are named, and not used.
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &lock).unwrap();
    let mut refused = site.start_pxe(&["--interface", "srv"]);
    assert_eq!(refused.wait(), Some(2));
    assert!(
        refused.log().contains("pxe.lock") && refused.log().contains("symbolic link"),
        "{}",
        refused.log()
    );
}

/// dnsmasq keeps a transfer for half a minute for a client that never answers, and supports only a few at a
/// time.
#[test]
fn requests_that_are_never_confirmed_keep_nobody_from_tftp() {
    let site = Site::new("flood");
    let pxe = site.serving(&["--interface", "srv"]);
    assert!(!pxe.log().contains("cannot limit its requests"), "{}", pxe.log());
    done(&mut site.in_client(&["ip", "addr", "add", "10.77.0.201/24", "dev", "cli"]));
    // Each from a port of its own, as a machine that is reset repeatedly; they continue while another one
    // asks.
    let flood = "import socket, sys\n\
                 held = []\n\
                 while True:\n\
                 \x20   s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                 \x20   s.bind(('10.77.0.201', 0))\n\
                 \x20   s.sendto(b'\\0\\1all.rdz\\0octet\\0', ('10.77.0.1', 69))\n\
                 \x20   held = held[-500:] + [s]\n\
                 \x20   if len(held) == 500: print('held', flush=True)\n";
    let mut flood = site.in_client(&["/usr/bin/python3", "-c", flood]);
    let mut flood = flood.stdout(Stdio::piped()).spawn().unwrap();
    let mut held = [0; 5];
    std::io::Read::read_exact(flood.stdout.as_mut().unwrap(), &mut held).unwrap();
    let got = site.tftp("all.rdz");
    end(&mut flood);
    assert_eq!(got.as_deref(), Some(b"stage1".as_slice()), "{}", pxe.log());
}

#[test]
fn a_machine_keeps_its_address_whatever_it_calls_itself() {
    let site = Site::new("n");
    let _pxe = site.serving(&["--interface", "srv"]);
    let address = |options: &[&str]| {
        let told = site.dhcp_with(options);
        told.lines().find(|line| line.starts_with("ip=")).unwrap().to_owned()
    };
    let first = address(&[]);
    // Option 61: the identifiers that the ROM, iPXE and systemd use for one card.
    for id in ["0x3d:0152540012ab", "0x3d:ff00112233", "0x3d:ffcafecafe0002"] {
        assert_eq!(address(&[id]), first, "{id}");
    }
}

#[test]
fn what_cannot_be_served_is_refused() {
    let site = Site::new("e");
    let refused = |args: &[&str]| {
        let mut pxe = site.start_pxe(args);
        assert_eq!(pxe.wait(), Some(2), "{args:?}: {}", pxe.log());
        assert_eq!(site.dnsmasq(), None, "{args:?}");
        pxe.log()
    };
    for (args, message) in [
        (
            &[][..],
            "no interface was given: name one with --interface, or in the configuration's [pxe]; there are srv (10.77.0.1/24), bare (no IPv4 address)",
        ),
        (&["--interface", "eth9"], "there is no interface eth9"),
        (&["--interface", "bare"], "interface bare has no IPv4 address"),
        (&["--interface", "lo"], "loopback"),
        (&["--interface", "srv", "--range", "10.78.0.1,10.78.0.9"], "not within the network of srv"),
        (&["--interface", "srv", "--address", "10.77.0.2"], "does not have the address 10.77.0.2"),
    ] {
        let log = refused(args);
        assert!(log.contains(message), "{log}");
    }

    let first = site.serving(&["--interface", "srv"]);
    let mut second = site.start_pxe(&["--interface", "srv"]);
    assert_eq!(second.wait(), Some(2));
    assert!(second.log().contains("another kactl pxe is running"), "{}", second.log());
    drop(first);

    fs::remove_file(site.boot().join("all.rdz")).unwrap();
    let log = refused(&["--interface", "srv"]);
    assert!(log.contains("all.rdz is missing: create the boot image with `kactl image`"), "{log}");
}

/// Not a test by itself: the process of a run that the tests can kill.
#[test]
#[ignore = "started by other tests"]
fn hold_a_lease() {
    let runs = PathBuf::from(std::env::var_os("KA_TEST_RUNS").expect("started by another test"));
    let allowed = match std::env::var("KA_TEST_MAC") {
        Ok(mac) => Allowed::Listed([mac.parse().unwrap()].into()),
        Err(_) => Allowed::Any,
    };
    let _held = HeldLease::take(&runs, "other", lease(allowed)).unwrap();
    // Ends with the test that started it, even if that fails before it kills this process.
    std::io::stdin().read_line(&mut String::new()).unwrap();
}
