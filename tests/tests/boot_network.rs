//! A node's path to a network and to its controller, on cables between network namespaces. Needs root,
//! iproute2, dnsmasq and BusyBox.

#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ka::cmdline;
use ka::keys::{JoinKey, KeyPair, random};
use ka::wire::DISCOVERY_PORT;
use ka::wire::discovery::{DiscoveryKey, Request};
use ka_agent::boot::find::Search;
use ka_agent::boot::network::socket::{broadcast_socket, receive_until};
use ka_net::listen::Side;
use ka_tests::wire::{Server, Wire, log_of, wait_until};
use kactl::rendezvous::discovery::Responder;

fn join_key() -> JoinKey {
    JoinKey::generate(&KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn dnsmasq_grants_an_address() {
    let wire = Wire::new("dhcp");
    let folder = tempfile::tempdir().unwrap();
    wire.node.ip(&["link", "set", "eth0", "address", "52:54:00:12:34:56"]);
    let _dnsmasq = Server::dnsmasq(
        &wire,
        folder.path(),
        &[
            "--dhcp-range=10.77.0.100,10.77.0.199,255.255.255.0,2m",
            "--dhcp-host=52:54:00:12:34:56,10.77.0.55,node7",
            "--dhcp-option=option:router,10.77.0.254",
            "--dhcp-boot=pxelinux.0,golden,10.77.0.9",
        ],
    );
    let network = wire.bring_up("automatic=method:ka,interface:auto,network:dhcp kamethod");
    assert_eq!(network.interface, "eth0");
    assert_eq!(network.mac.to_string(), "52:54:00:12:34:56");
    assert_eq!((network.address, network.prefix), (Ipv4Addr::new(10, 77, 0, 55), 24));
    assert_eq!(network.gateway, Some(Ipv4Addr::new(10, 77, 0, 254)));
    assert_eq!(network.hostname.as_deref(), Some("node7"));
    assert_eq!(network.next_server, Some(Ipv4Addr::new(10, 77, 0, 9)));
    assert!(wire.node_is(&["addr", "show", "eth0"], "inet 10.77.0.55/24 brd 10.77.0.255"));
    assert!(wire.node_is(&["route"], "default via 10.77.0.254 dev eth0"));
    assert!(wire.node_is(&["addr", "show", "lo"], "inet 127.0.0.1/8"));
    let log = log_of(folder.path());
    let spoken: Vec<usize> = ["DHCPDISCOVER", "DHCPOFFER", "DHCPREQUEST", "DHCPACK"]
        .map(|word| log.find(word).expect(&log))
        .into();
    assert!(spoken.is_sorted(), "{log}");

    // The same machine again: the same lease, and existing settings are not an error.
    let again = wire.bring_up("automatic=interface:eth0");
    assert_eq!(again.address, network.address);
}

/// dnsmasq grants no less than two minutes, so the renewal is tested with BusyBox's server.
#[test]
fn a_lease_is_renewed_and_a_lost_one_replaced() {
    let wire = Wire::new("renew");
    let folder = tempfile::tempdir().unwrap();
    let udhcpd = Server::udhcpd(&wire, folder.path(), "10.77.0.100");
    let network = wire.bring_up("");
    assert_eq!(network.address, Ipv4Addr::new(10, 77, 0, 100));
    let sent = |what: &str| log_of(folder.path()).matches(what).count();
    let offers = sent("sending OFFER");
    wait_until(|| format!("renewed twice: {}", log_of(folder.path())), || sent("sending ACK") >= 3);
    assert_eq!(sent("sending OFFER"), offers, "{}", log_of(folder.path()));
    assert!(wire.node_is(&["addr", "show", "eth0"], "inet 10.77.0.100/24"));

    // A server that does not know the lease, and has other addresses to assign.
    drop(udhcpd);
    let _udhcpd = Server::udhcpd(&wire, folder.path(), "10.77.0.200");
    wait_until(
        || format!("the address is replaced: {}", log_of(folder.path())),
        || {
            wire.node_is(&["addr", "show", "eth0"], "inet 10.77.0.200/24")
                && !wire.node_is(&["addr", "show", "eth0"], "10.77.0.100")
        },
    );
}

#[test]
fn bootif_chooses_among_several_cards() {
    let wire = Wire::new("bootif");
    let folder = tempfile::tempdir().unwrap();
    // eth1 comes up as well and would be a candidate; its cable leads nowhere.
    wire.node.cable("eth1", &wire.golden, "other");
    wire.golden.ip(&["link", "set", "other", "up"]);
    wire.node.ip(&["link", "set", "eth0", "address", "52:54:00:12:34:57"]);
    let _dnsmasq = Server::dnsmasq(&wire, folder.path(), &["--dhcp-range=10.77.0.100,10.77.0.199"]);
    let network = wire.bring_up("automatic=interface:eth1 BOOTIF=01-52-54-00-12-34-57");
    assert_eq!(network.interface, "eth0");
}

#[test]
fn a_fixed_address_needs_no_server() {
    let wire = Wire::new("static");
    let network = wire.bring_up("ka.address=10.77.0.7/24 ka.gateway=10.99.0.1");
    assert_eq!((network.address, network.next_server), (Ipv4Addr::new(10, 77, 0, 7), None));
    assert!(wire.node_is(&["addr", "show", "eth0"], "inet 10.77.0.7/24"));
    // A gateway outside of the network is reached on the link.
    assert!(wire.node_is(&["route"], "default via 10.99.0.1 dev eth0 onlink"));
}

#[test]
fn the_session_is_found_by_broadcast() {
    let wire = Wire::new("find");
    wire.node_address("10.77.0.8/24");
    let join = join_key();
    // Two controllers of one host, each with sessions of its own.
    let (first, second) = wire.golden.enter(|| {
        (
            Responder::start(&[&join], &Side::default()).unwrap(),
            Responder::start(&[&join], &Side::default()).unwrap(),
        )
    });
    first.announce("getstage2", 4001);
    second.announce("lab", 4002);
    for (session, port) in [("getstage2", 4001), ("lab", 4002)] {
        let found = wire.node.enter(|| Search::new(session, &join, "eth0").find(Ok::<_, String>)).unwrap();
        assert_eq!(found, SocketAddr::from(([10, 77, 0, 1], port)), "{session}");
    }
}

#[test]
fn strangers_and_echoes_get_no_answer() {
    let wire = Wire::new("forge");
    wire.node_address("10.77.0.8/24");
    let (join, other) = (join_key(), join_key());
    let responder = wire.golden.enter(|| Responder::start(&[&join], &Side::default())).unwrap();
    responder.announce("getstage2", 4001);
    wire.node.enter(|| {
        let socket = broadcast_socket("eth0", 0).unwrap();
        let request =
            |join: &JoinKey, session| Request::new(&DiscoveryKey::new(join), session, random().unwrap());
        let send = |packet: &[u8]| {
            socket.send_to(packet, SocketAddr::from((Ipv4Addr::BROADCAST, DISCOVERY_PORT))).unwrap();
        };
        let answer = || {
            let deadline = Instant::now() + Duration::from_secs(20);
            receive_until(&socket, deadline, |datagram, _| Some(datagram.to_vec()))
                .unwrap()
                .expect("an answer")
        };
        let good = request(&join, "getstage2");
        send(good.packet());
        assert_eq!(good.answered_by(&DiscoveryKey::new(&join), &answer()), Some(4001));
        // Each datagram that must not be answered is followed by a question that must be: its answer has to
        // be the next one.
        let mut altered = request(&join, "getstage2").packet().to_vec();
        altered[30] ^= 1;
        send(good.packet());
        send(&altered);
        send(request(&other, "getstage2").packet());
        send(request(&join, "unknown").packet());
        send(b"");
        send(&[0; 1400]);
        let last = request(&join, "getstage2");
        send(last.packet());
        assert_eq!(last.answered_by(&DiscoveryKey::new(&join), &answer()), Some(4001));
    });
}

#[test]
fn what_was_tried_is_told_at_the_end() {
    let wire = Wire::new("vain");
    wire.node_address("10.77.0.8/24");
    let join = join_key();
    let line = cmdline::parse("ka.server=10.77.0.1:4000").unwrap();
    let mut search = Search::new("getstage2", &join, "eth0");
    search.server = line.server.as_ref();
    search.next_server = Some(Ipv4Addr::new(10, 77, 0, 9));
    search.pause = Duration::ZERO;
    let mut tried = Vec::new();
    let error = wire
        .node
        .enter(|| {
            search.find(|address| {
                tried.push(address.to_string());
                Err::<(), _>("connection refused")
            })
        })
        .unwrap_err()
        .to_string();
    assert_eq!(tried, ["10.77.0.1:4000", "10.77.0.9:30765"].repeat(5));
    assert!(error.starts_with("Cannot reach a valid KA server"), "{error}");
    for part in [
        "10.77.0.1:4000 (ka.server): connection refused",
        "no answer to a broadcast on eth0",
        "10.77.0.9:30765",
    ] {
        assert!(error.contains(part), "{error}");
    }
}
