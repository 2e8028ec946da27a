//! The agent's DHCP client on difficult networks: several servers, relays' rules, odd options, several cards.
//! The servers are by others (scapy, Kea). Needs root, iproute2, scapy, Kea and BusyBox.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ka::cmdline;
use ka::keys::{JoinKey, KeyPair};
use ka_agent::boot::find::Search;
use ka_agent::boot::network::Network;
use ka_agent::boot::reach::{ReachError, reach, reach_behind};
use ka_net::listen::Side;
use ka_tests::wire::{Server, Wire, heard, keep_log, log_of, logged, wait_until};
use kactl::rendezvous::discovery::Responder;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

/// The address that the first server offers.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);
/// The address that the second server offers.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 60);

fn lab(name: &str, servers: &Value) -> (Wire, TempDir, Server) {
    let (wire, folder) = (Wire::new(name), tempdir().unwrap());
    let server = Server::scapy(&wire, folder.path(), "eth0", servers);
    (wire, folder, server)
}

fn server(last: u8, offer: Ipv4Addr, more: &Value) -> Value {
    let mut server = json!({ "id": format!("10.77.0.{last}"), "offer": offer.to_string() });
    server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server
}

fn requests(folder: &Path) -> usize {
    heard(folder).iter().filter(|packet| packet.kind == "request").count()
}

fn discovers(folder: &Path) -> usize {
    heard(folder).iter().filter(|packet| packet.kind == "discover").count()
}

#[test]
fn another_servers_refusal_does_not_count() {
    // The second server rejects each request to the first, and is faster.
    let servers = json!([
        server(1, FIRST, &json!({ "lease": 20, "request": "every-second" })),
        { "id": "10.77.0.2", "nak_others": true },
    ]);
    let (wire, folder, _server) = lab("nak", &servers);
    let network = wire.bring_up("");
    assert_eq!(network.address, FIRST);
    let (first, discovers) = (requests(folder.path()), discovers(folder.path()));
    // Nor during a renewal, although every second answer is lost.
    wait_until(|| log_of(folder.path()), || requests(folder.path()) >= first + 4);
    assert!(wire.node_is(&["addr", "show", "eth0"], "inet 10.77.0.50/24"));
    assert_eq!(
        self::discovers(folder.path()),
        discovers,
        "the lease was never lost: {:?}",
        heard(folder.path())
    );
}

#[test]
fn after_a_refusal_other_offers_are_tried() {
    let servers = json!([server(1, FIRST, &json!({ "request": "nak" })), server(2, SECOND, &json!({}))]);
    let (wire, folder, _server) = lab("other", &servers);
    assert_eq!(wire.bring_up("").address, SECOND);
    assert!(requests(folder.path()) >= 2);
}

#[test]
fn refusals_use_up_no_tries_and_move_no_limit() {
    let (wire, folder, _server) = lab("limit", &json!([server(1, FIRST, &json!({ "request": "nak" }))]));
    keep_log();
    let start = Instant::now();
    let error = wire.try_to_bring_up("").unwrap_err().to_string();
    assert!(logged(&["INFO: no DHCP server has granted an address on eth0 after", "asking again, for"]));
    let took = start.elapsed().as_secs();
    assert!(error.contains("10.77.0.1 offered 10.77.0.50 and then refused it"), "{error}");
    assert!(took >= 60, "given up after {took} s");
    assert!(took < 90, "the limit does not hold: {took} s");
    // Each attempt waits its full time: no storm, and no more requests than attempts.
    let (asked, all) = (requests(folder.path()), heard(folder.path()).len());
    assert!((3..=12).contains(&asked) && all <= 24, "{asked} requests, {all} packets");
}

#[test]
fn packets_are_as_servers_and_relays_want_them() {
    let (wire, folder, _server) = lab("packet", &json!([server(1, FIRST, &json!({}))]));
    drop(wire.bring_up(""));
    let heard = heard(folder.path());
    assert!(["discover", "request"].iter().all(|kind| heard.iter().any(|packet| packet.kind == *kind)));
    let firmware = if Path::new("/sys/firmware/efi").exists() { "0007" } else { "0000" };
    for packet in &heard {
        assert!(packet.length >= 300, "{packet:?}");
        assert_eq!(packet.options.get(&93).map(String::as_str), Some(firmware), "{packet:?}");
        let has_uuid = Path::new("/sys/class/dmi/id/product_uuid").exists();
        assert_eq!(packet.options.get(&97).map(String::len), has_uuid.then_some(34), "{packet:?}");
        assert!(!packet.options.contains_key(&60), "{packet:?}");
        let wanted = &packet.options[&55];
        assert!(["79", "1a"].iter().all(|code| wanted.contains(code)), "{wanted}");
    }
}

#[test]
fn a_server_that_answers_only_to_network_roms_is_reached() {
    let (wire, folder, _server) = lab("rom", &json!([server(1, FIRST, &json!({ "needs_rom": true }))]));
    assert_eq!(wire.bring_up("").address, FIRST);
    let request = heard(folder.path()).pop().unwrap();
    assert_eq!(request.kind, "request");
    // PXEClient:Arch:
    assert!(request.options[&60].starts_with("505845436c69656e743a417263683a"), "{request:?}");
}

#[test]
fn an_offer_to_the_address_that_is_offered_is_heard() {
    let (wire, _folder, _server) = lab("unicast", &json!([server(1, FIRST, &json!({ "unicast": true }))]));
    assert_eq!(wire.bring_up("").address, FIRST);
}

#[test]
fn options_are_obeyed_or_left_alone() {
    let name = |code, text: &str| json!([code, text]);
    // Option 121: 10.99.0.0/16 via 10.77.0.9, and the default route via 10.77.0.8 in the second; option 3:
    // 10.77.0.254.
    let (other, default) = ("100a630a4d0009", "000a4d0008");
    let router = name(3, "0a4d00fe");
    for (what, more, routes) in [
        (
            "with",
            json!([name(121, &format!("{other}{default}")), router]),
            &["10.99.0.0/16 via 10.77.0.9", "default via 10.77.0.8"][..],
        ),
        ("without", json!([name(121, other), router]), &["10.99.0.0/16 via 10.77.0.9"]),
        // Vendor options, a server and a file for network ROMs that make no sense; invalid classless routes.
        (
            "roms",
            json!([name(43, "060108ff"), name(66, "ff00"), name(67, "00"), name(121, "2101"), router]),
            &["default via 10.77.0.254"],
        ),
    ] {
        let (wire, _folder, _server) = lab(what, &json!([server(1, FIRST, &json!({ "options": more }))]));
        let network = wire.bring_up("");
        assert_eq!(network.prefix, 24, "{what}");
        for route in routes {
            assert!(wire.node_is(&["route"], route), "{what}: {route}");
        }
        let has_default = routes.iter().any(|route| route.starts_with("default"));
        assert_eq!(wire.node_is(&["route"], "default"), has_default, "{what}");
        assert_eq!(network.gateway.is_some(), has_default, "{what}");
    }
}

#[test]
fn a_network_without_a_mask_has_that_of_its_class() {
    let (wire, _folder, _server) = lab("mask", &json!([server(1, FIRST, &json!({ "mask": null }))]));
    assert_eq!(wire.bring_up("").prefix, 8);
    assert!(wire.node_is(&["addr", "show", "eth0"], "inet 10.77.0.50/8"));
}

#[test]
fn the_mtu_is_what_the_server_wants_and_the_link_can() {
    for (what, mtu, expected) in [
        ("low", "0578", "mtu 1400"),
        ("high", "0fa0", "mtu 4000"),
        ("absurd", "0064", "mtu 1500"),
        // A stacked interface can do no more than the one below it.
        ("above", "2328", "mtu 1500"),
    ] {
        let options = json!({ "options": [[26, mtu]] });
        let (wire, _folder, _server) = lab(what, &json!([server(1, FIRST, &options)]));
        let card = if what == "above" {
            wire.node.ip(&["link", "set", "eth0", "up"]);
            wire.node
                .ip(&["link", "add", "link", "eth0", "name", "top", "type", "macvlan", "mode", "bridge"]);
            "top"
        } else {
            "eth0"
        };
        let network = wire.bring_up(&format!("automatic=interface:{card}"));
        assert_eq!((network.address, network.interface.as_str()), (FIRST, card));
        assert!(wire.node_is(&["link", "show", card], expected), "{what}");
    }
}

#[test]
fn a_card_that_the_boot_loader_does_not_name_is_used_if_it_is_the_one_with_a_carrier() {
    let (wire, _folder, _server) = lab("dock", &json!([server(1, FIRST, &json!({}))]));
    keep_log();
    let network = wire.bring_up("BOOTIF=01-52-54-00-99-99-99");
    assert!(logged(&["WARN: the boot loader used the card 52:54:00:99:99:99 (BOOTIF), but no card has it"]));
    assert_eq!((network.address, network.interface.as_str()), (FIRST, "eth0"));
}

#[test]
fn of_several_cards_the_one_with_a_server_is_used() {
    let (wire, folder) = (Wire::new("cards"), tempdir().unwrap());
    wire.second_cable("far", "eth1");
    wire.golden.ip(&["addr", "add", "10.77.1.1/24", "dev", "far"]);
    let offer = Ipv4Addr::new(10, 77, 1, 50);
    let behind = json!([{ "id": "10.77.1.1", "offer": offer.to_string() }]);
    let _server = Server::scapy(&wire, folder.path(), "far", &behind);
    let network = wire.bring_up("automatic=interface:auto");
    assert_eq!((network.address, network.interface.as_str()), (offer, "eth1"));
}

#[test]
fn an_offer_that_leads_to_no_controller_is_followed_by_the_next() {
    let servers = json!([server(1, FIRST, &json!({})), server(2, SECOND, &json!({}))]);
    let (wire, _folder, _server) = lab("vain", &servers);
    let line = cmdline::parse("").unwrap();
    let mut tried = Vec::new();
    let connect = |network: &Network| {
        tried.push(network.address);
        if network.address == SECOND { Ok(()) } else { Err("no controller".to_owned()) }
    };
    let (network, ()) = wire.node.enter(|| reach(&line, || (), connect)).unwrap();
    assert_eq!(network.address, SECOND);
    assert_eq!(tried, [FIRST, SECOND]);
    assert!(wire.node_is(&["addr", "show", "eth0"], "10.77.0.60/24"));
    assert!(!wire.node_is(&["addr", "show", "eth0"], "10.77.0.50/24"), "the first address is gone");
}

#[test]
fn what_comes_twice_late_or_for_others_is_no_harm() {
    let broken = json!([[52, "07"], [58, "00"], [59, "0000"], [121, "21"], [26, "05"], [12, "ff"]]);
    for (what, more, gateway) in [
        ("copies", json!({ "copies": 4 }), None),
        ("strange", json!({ "strangers": true, "copies": 2 }), None),
        ("overload", json!({ "overload": true }), Some(Ipv4Addr::new(10, 77, 0, 254))),
        // It receives the second DISCOVER and the second REQUEST.
        ("late", json!({ "deaf": 1 }), None),
        ("broken", json!({ "options": broken }), None),
    ] {
        let (wire, folder, _server) = lab(what, &json!([server(1, FIRST, &more)]));
        let network = wire.bring_up("");
        assert_eq!((network.address, network.prefix, network.gateway), (FIRST, 24, gateway), "{what}");
        let asked = (discovers(folder.path()), requests(folder.path()));
        assert!(if what == "late" { asked >= (2, 2) } else { asked >= (1, 1) }, "{what}: {asked:?}");
    }
}

#[test]
fn a_lease_is_renewed_when_the_server_says_so() {
    // T1 is two seconds, with a lease of one hour; a lease time of zero; an infinite lease.
    let times = json!({ "options": [[58, "00000002"], [59, "0000000a"]] });
    for (what, more, renewed) in [
        ("t1", times, true),
        ("none", json!({ "lease": 0 }), true),
        ("ever", json!({ "lease": 0xffff_ffff_u32 }), false),
    ] {
        let (wire, folder, _server) = lab(what, &json!([server(1, FIRST, &more)]));
        let network = wire.bring_up("");
        assert_eq!(network.address, FIRST, "{what}");
        let renewals = || -> Vec<f64> {
            heard(folder.path()).iter().filter(|packet| packet.renews).map(|packet| packet.time).collect()
        };
        if renewed {
            wait_until(|| format!("{what}: {:?}", heard(folder.path())), || renewals().len() >= 3);
            let pause = renewals().windows(2).map(|pair| pair[1] - pair[0]).fold(f64::MAX, f64::min);
            // Each answer is a new lease with its own times.
            assert!(pause > 0.9, "{what}: {:?}", renewals());
        } else {
            assert!(renewals().is_empty(), "{what}");
        }
        assert!(wire.node_is(&["addr", "show", "eth0"], "inet 10.77.0.50/24"), "{what}");
    }
}

#[test]
fn an_address_in_use_is_declined_and_the_next_one_taken() {
    let turns = json!({ "in_turn": [SECOND.to_string()] });
    let (wire, folder, _server) = lab("used", &json!([server(1, FIRST, &turns)]));
    keep_log();
    // Another host, unknown to the server, uses the address.
    wire.golden.ip(&["addr", "add", "10.77.0.50/24", "dev", "eth0"]);
    assert_eq!(wire.bring_up("").address, SECOND);
    assert!(!wire.node_is(&["addr", "show", "eth0"], "10.77.0.50/24"));
    let heard = heard(folder.path());
    let declined: Vec<_> = heard.iter().filter(|packet| packet.kind == "decline").collect();
    assert_eq!(declined.len(), 1, "{heard:?}");
    let options = &declined[0].options;
    assert_eq!((options[&50].as_str(), options[&54].as_str()), ("0a4d0032", "0a4d0001"), "{options:?}");
    assert!(!declined[0].renews && declined[0].length >= 300, "{declined:?}");
    assert!(logged(&["WARN: eth0: DHCP server 10.77.0.1 grants 10.77.0.50, which", "uses: declined"]));
}

#[test]
fn a_server_that_grants_only_what_is_in_use_is_told_of_at_the_end() {
    let (wire, _folder, _server) = lab("all-used", &json!([server(1, FIRST, &json!({}))]));
    wire.golden.ip(&["addr", "add", "10.77.0.50/24", "dev", "eth0"]);
    let error = wire.try_to_bring_up("").unwrap_err().to_string();
    assert!(error.contains("10.77.0.1 offered 10.77.0.50 and then granted it, although"), "{error}");
}

#[test]
fn dnsmasq_takes_what_is_declined_out_of_use() {
    let (wire, folder) = (Wire::new("dnsmasq"), tempdir().unwrap());
    wire.node.ip(&["link", "set", "eth0", "address", "52:54:00:12:34:57"]);
    wire.golden.ip(&["addr", "add", "10.77.0.50/24", "dev", "eth0"]);
    let range = "--dhcp-range=10.77.0.100,10.77.0.150,255.255.255.0,2m";
    let _server = Server::dnsmasq(&wire, folder.path(), &[range, "--dhcp-host=52:54:00:12:34:57,10.77.0.50"]);
    let network = wire.bring_up("");
    assert!((100..=150).contains(&network.address.octets()[3]), "{}", network.address);
    let log = log_of(folder.path());
    assert!(log.contains("DHCPDECLINE(eth0) 10.77.0.50 52:54:00:12:34:57"), "{log}");
}

/// A fixed address that another machine has is used anyway: a router may answer for all addresses. The log
/// warns.
#[test]
fn a_fixed_address_in_use_is_told() {
    let wire = Wire::new("fixed");
    keep_log();
    wire.golden.ip(&["addr", "add", "10.77.0.77/24", "dev", "eth0"]);
    assert_eq!(wire.bring_up("ka.address=10.77.0.77/24").address, Ipv4Addr::new(10, 77, 0, 77));
    assert!(logged(&["WARN: eth0: ", "already uses the address 10.77.0.77 (ka.address)"]));
    drop(wire.bring_up("ka.address=10.77.0.78/24"));
    assert!(!logged(&["already uses the address 10.77.0.78"]));
}

/// The client waits for a late carrier, and logs what it waits for.
#[test]
fn a_late_carrier_is_waited_for() {
    let wire = Wire::new("carrier");
    keep_log();
    wire.golden.ip(&["link", "set", "eth0", "down"]);
    wire.node.ip(&["link", "set", "eth0", "name", "late0"]);
    std::thread::scope(|scope| {
        let node = scope.spawn(|| wire.bring_up("ka.address=10.77.0.7/24"));
        wait_until(
            || "the node says what it waits for".to_owned(),
            || logged(&["INFO: waiting for a carrier on late0, ", " s more"]),
        );
        wire.golden.ip(&["link", "set", "eth0", "up"]);
        assert_eq!(node.join().unwrap().interface, "late0");
    });
}

/// It does not give up before the time for which a switch port may be silent has passed, but then it does.
/// That time is one minute on a node.
#[test]
fn a_controller_is_looked_for_as_long_as_a_switch_port_may_be_silent() {
    let wire = Wire::new("silent");
    let line = cmdline::parse("ka.address=10.77.0.7/24").unwrap();
    let start = Instant::now();
    let connect = |_: &Network| {
        // Like an unsuccessful search.
        std::thread::sleep(Duration::from_millis(100));
        Err::<(), _>("no controller".to_owned())
    };
    let silent = Duration::from_secs(2);
    let error = wire.node.enter(|| reach_behind(silent, &line, || (), connect)).unwrap_err();
    assert!(matches!(error, ReachError::NoController { .. }), "{error}");
    let took = start.elapsed();
    assert!(took >= silent, "given up after {took:?}");
}

#[test]
fn kea_grants_an_address_with_classless_routes() {
    let (wire, folder) = (Wire::new("kea"), tempdir().unwrap());
    let subnet = r#"{ "subnet": "10.77.0.0/24", "pools": [{ "pool": "10.77.0.100 - 10.77.0.150" }],
        "valid-lifetime": 60, "option-data": [
            { "name": "routers", "data": "10.77.0.254" },
            { "name": "interface-mtu", "data": "1400" },
            { "name": "routes", "csv-format": false, "data": "100a630a4d0009000a4d0008" }] }"#;
    // Kea requires a link that is up at both ends.
    wire.node.ip(&["link", "set", "eth0", "up"]);
    let _server = Server::kea(&wire, folder.path(), subnet);
    let network = wire.bring_up("");
    assert_eq!(network.address.octets()[..3], [10, 77, 0]);
    assert_eq!(network.gateway, Some(Ipv4Addr::new(10, 77, 0, 8)));
    assert!(wire.node_is(&["route"], "10.99.0.0/16 via 10.77.0.9"));
    assert!(wire.node_is(&["link", "show", "eth0"], "mtu 1400"));
    let log = log_of(folder.path());
    assert!(!log.contains("DHCP4_PACKET_PARSE_FAIL") && log.contains("DHCP4_LEASE_ALLOC"), "{log}");
    // The one-minute lease is kept: Kea sees it renewed.
    let renewed =
        |log: &str| log.matches("DHCP4_LEASE_ALLOC").count() + log.matches("DHCP4_LEASE_RENEW").count();
    wait_until(|| log_of(folder.path()), || renewed(&log_of(folder.path())) >= 2);
}

#[test]
fn networkd_grants_an_address_and_renews_it() {
    let (wire, folder) = (Wire::new("networkd"), tempdir().unwrap());
    wire.golden.ip(&["addr", "flush", "dev", "eth0"]);
    // It serves a link that is up at both ends.
    wire.node.ip(&["link", "set", "eth0", "up"]);
    let _server = Server::networkd(&wire, folder.path(), 20);
    let network = wire.bring_up("");
    assert!((100..150).contains(&network.address.octets()[3]), "{}", network.address);
    assert_eq!((network.prefix, network.gateway), (24, Some(Ipv4Addr::new(10, 77, 0, 254))));
    assert!(wire.node_is(&["link", "show", "eth0"], "mtu 1400"));
    // In its log: first the offer that was chosen, then the lease that continues.
    let acks = || log_of(folder.path()).matches("DHCPv4 server: ACK").count();
    let renewals = || log_of(folder.path()).matches("DHCPv4 server: REQUEST (rebinding/renewing)").count();
    wait_until(|| log_of(folder.path()), || renewals() >= 2 && acks() >= 3);
    let log = log_of(folder.path());
    assert_eq!(log.matches("DHCPv4 server: DISCOVER").count(), 1, "the lease was never lost: {log}");
    assert!(wire.node_is(&["addr", "show", "eth0"], &format!("inet {}/24", network.address)));
}

/// A real switch port: a bridge that listens and learns, here for 4 s, before it forwards anything. One
/// search takes less time, so it is repeated several times. The limit for a silent port is tested in
/// `network::links`.
#[test]
fn a_fixed_address_outlives_spanning_tree() {
    let wire = Wire::new("stp");
    wire.golden.ip(&["addr", "flush", "dev", "eth0"]);
    wire.golden.ip(&["link", "add", "br0", "type", "bridge", "stp_state", "1", "forward_delay", "200"]);
    wire.golden.ip(&["link", "set", "eth0", "master", "br0"]);
    wire.golden.ip(&["link", "set", "br0", "up"]);
    wire.golden.ip(&["addr", "add", "10.77.0.1/24", "brd", "+", "dev", "br0"]);
    let join = JoinKey::generate(&KeyPair::generate().unwrap()).unwrap();
    let responder = wire.golden.enter(|| Responder::start(&[&join], &Side::default())).unwrap();
    responder.announce("getstage2", 4001);
    let line = cmdline::parse("ka.address=10.77.0.7/24").unwrap();
    let find = |network: &Network| {
        let mut search = Search::new("getstage2", &join, &network.interface);
        (search.pause, search.listen) = (Duration::from_millis(20), [Duration::from_millis(20); 3]);
        search.find(Ok::<_, String>).map_err(|e| e.to_string())
    };
    let (_, found) = wire.node.enter(|| reach(&line, || (), find)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(found.port(), 4001);
}

/// Tagged frames, if the kernel supports them: the virtual cluster's does.
#[test]
fn a_vlan_is_set_up_on_the_card() {
    let wire = Wire::new("vlan");
    let tagged = ["link", "add", "link", "eth0", "name", "tagged", "type", "vlan", "id", "5"];
    if !Command::new("ip").args(["-n", wire.golden.name()]).args(tagged).status().unwrap().success() {
        eprintln!("******** THIS KERNEL HAS NO VLANS (8021q): ka.vlan WAS NOT TESTED ********");
        let error = wire.try_to_bring_up("ka.vlan=5 ka.address=10.78.0.7/24").unwrap_err().to_string();
        assert!(error.contains("VLAN 5 on eth0 (kernel module 8021q)"), "{error}");
        return;
    }
    wire.golden.ip(&["link", "set", "tagged", "up"]);
    wire.golden.ip(&["addr", "add", "10.77.0.2/24", "dev", "tagged"]);
    let folder = tempdir().unwrap();
    let servers = json!([server(2, FIRST, &json!({}))]);
    let _server = Server::scapy(&wire, folder.path(), "tagged", &servers);
    let network = wire.bring_up("ka.vlan=5");
    assert_eq!((network.address, network.interface.as_str()), (FIRST, "eth0.5"));
}
