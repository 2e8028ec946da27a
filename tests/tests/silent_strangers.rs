//! Hosts with the join key that join a session and take no part: they do not delay active ones.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ka::inventory::{Disk, Inventory};
use ka::keys::JoinKey;
use ka::wire::CONTROL_PORT;
use ka::wire::control::{Progress, ToAgent, ToController};
use ka_tests::hostile::agent::Agent;
use ka_tests::netns::NetNs;
use ka_tests::process::{Process, program};
use ka_tests::site::{MIB, Site, reasons, summary};

/// Joins this many times, and leaves the connections open.
fn strangers(site: &Site, count: usize) -> Vec<Agent> {
    let join = JoinKey::from_text(&std::fs::read_to_string(site.path("keys/join.key")).unwrap()).unwrap();
    let controller = SocketAddr::from((site.address, CONTROL_PORT));
    let stranger = |number: usize| {
        let mut agent = Agent::dial(controller, &join).unwrap();
        let card = format!("02:00:00:00:00:{number:02x}");
        agent.join("a", &format!("stranger{number}"), &card, 1).unwrap();
        agent
    };
    (0..count).map(stranger).collect()
}

/// Once welcomed, they send heartbeats until the controller rejects them.
fn live(agents: Vec<Agent>) -> Vec<JoinHandle<()>> {
    let beat = |agent: &mut Agent| -> std::io::Result<()> {
        agent.hear(Duration::from_secs(60))?;
        loop {
            agent.say(&ToController::Heartbeat(Progress::default()))?;
            while agent.hear(Duration::from_millis(100))?.is_some() {}
        }
    };
    agents.into_iter().map(|mut agent| thread::spawn(move || drop(beat(&mut agent)))).collect()
}

#[test]
fn who_never_answers_takes_no_place_before_and_none_afterwards() {
    let site = Site::new();
    let gate = site.gate("gate");
    let file = site.noise("file", 12 * MIB, 1);
    let source = format!("cat {} {}", file.display(), gate.path().display());
    let mut sender = site.send("a", 1, ["--dead-after", "4", "--command", &source]);
    // The session has one place.
    let early = strangers(&site, 3);
    sender.wait_for("has joined", 3);
    let mut receiver = site.receiver(&mut sender, "a", 3, ["--file".into(), site.path("out")]);
    site.wait_for_partial("out", 10 * MIB);
    let late = strangers(&site, 20);
    sender.wait_for("for the next round", 20);
    gate.open();
    assert_eq!(receiver.end(), 0, "{}", receiver.said());
    assert_eq!(sender.end(), 0, "{}", sender.said());
    let summary = summary(&sender);
    assert_eq!((summary["rounds"].as_u64(), summary["nodes"].as_array().unwrap().len()), (Some(1), 1));
    drop((early, late));
}

/// In the past, three inventories of 4 MB kept the hub busy for good, and repeated hellos filled its log.
#[test]
fn who_says_too_much_is_hung_up_on() {
    let site = Site::new();
    let file = site.noise("file", MIB, 3);
    let mut sender = site.send("a", 1, ["--file".as_ref(), file.as_path()]);
    let [mut usual, mut twice] = <[Agent; 2]>::try_from(strangers(&site, 2)).ok().unwrap();
    // Its first message was short, and this one exceeds the limit.
    for _ in 0..2 {
        twice.join("a", "stranger1", "02:00:00:00:00:01", 1).unwrap();
    }
    let join = JoinKey::from_text(&std::fs::read_to_string(site.path("keys/join.key")).unwrap()).unwrap();
    let mut huge = Agent::dial(SocketAddr::from((site.address, CONTROL_PORT)), &join).unwrap();
    let disk = Disk { model: "x".repeat(4 << 20), ..Disk::default() };
    let hello = huge.hello("a", Inventory { disks: vec![disk], ..Inventory::default() }, 1);
    // Data sent after the end are the sender's own problem.
    let _ = huge.say(&ToController::Hello(Box::new(hello)));
    let is_hung_up_on = |agent: &mut Agent| {
        let mut message = || agent.hear(Duration::from_secs(60));
        std::iter::from_fn(move || message().transpose()).any(|outcome| outcome.is_err())
    };
    assert!(is_hung_up_on(&mut huge) && is_hung_up_on(&mut twice));
    assert!(usual.hear(Duration::from_secs(60)).unwrap().is_some(), "{}", sender.said());
    let mut receiver = site.receiver(&mut sender, "a", 2, ["--file".into(), site.path("out")]);
    assert_eq!((receiver.end(), sender.end()), (0, 0), "{}", sender.said());
}

/// In the past, thousands of connections from one host left no room for others. Needs root and iproute2, for
/// hosts with addresses.
#[test]
fn one_host_takes_few_connections_and_others_come_in() {
    let site = Site::new();
    let [golden, crowd, other] = ["g", "c", "o"].map(|host| NetNs::new(&format!("places-{host}")));
    for (host, card, network) in [(&crowd, "eth0", "10.78.1"), (&other, "eth1", "10.78.2")] {
        golden.cable(card, host, "eth0");
        for (side, device, number) in [(&golden, card, 1), (host, "eth0", 2)] {
            side.ip(&["addr", "add", &format!("{network}.{number}/24"), "dev", device]);
            side.ip(&["link", "set", device, "up"]);
        }
    }
    let settings = std::fs::read_to_string(site.path("ka.toml")).unwrap();
    std::fs::write(site.path("ka.toml"), settings + "\n[net]\nper_address = 64\n").unwrap();
    let file = site.noise("file", MIB, 4);
    let mut command = golden.command(program("kactl").to_str().unwrap());
    command.arg("--config").arg(site.path("ka.toml")).args(["send", "--session", "a", "-n", "200", "--file"]);
    let mut sender = Process::start(command.arg(file), "send", &site.path(""));
    sender.wait_for("waits for", 1);
    let join = JoinKey::from_text(&std::fs::read_to_string(site.path("keys/join.key")).unwrap()).unwrap();
    let welcomed = |from: &NetNs, network: &str, number: u8| {
        let controller: SocketAddr = format!("{network}.1:{CONTROL_PORT}").parse().unwrap();
        from.enter(|| {
            let mut agent = Agent::dial(controller, &join).ok()?;
            agent.join("a", "stranger", &format!("02:00:00:00:01:{number:02x}"), 1).ok()?;
            let said = agent.hear(Duration::from_secs(60)).ok()??;
            matches!(said, ToAgent::Welcome { .. }).then_some(agent)
        })
    };
    let held: Vec<Agent> = (0..80).filter_map(|number| welcomed(&crowd, "10.78.1", number)).collect();
    assert_eq!(held.len(), 64, "{}", sender.said());
    assert!(welcomed(&other, "10.78.2", 200).is_some(), "{}", sender.said());
}

/// They are admitted to a further round, and do nothing there.
#[test]
fn who_answers_and_does_nothing_costs_the_run_no_more_than_its_own_end() {
    let site = Site::new();
    let gate = site.gate("gate");
    let file = site.noise("file", 12 * MIB, 2);
    let opened = site.path("opened");
    let wait = format!("test -e {} || cat {}", opened.display(), gate.path().display());
    let source = format!("cat {}; {wait}", file.display());
    let mut sender = site.send("a", 1, ["--dead-after", "4", "--command", &source]);
    let mut receiver = site.receiver(&mut sender, "a", 0, ["--file".into(), site.path("out")]);
    site.wait_for_partial("out", 10 * MIB);
    let late = live(strangers(&site, 2));
    sender.wait_for("for the next round", 2);
    std::fs::write(opened, "").unwrap();
    gate.open();
    assert_eq!(receiver.end(), 0, "{}", receiver.said());
    // It ends, and reports that each of them failed.
    assert_eq!(sender.end(), 1, "{}", sender.said());
    let failed = reasons(&sender).iter().flatten().count();
    assert_eq!((summary(&sender)["rounds"].as_u64(), failed), (Some(2), 2), "{}", sender.said());
    assert!(site.holds("out", &[&file]));
    late.into_iter().for_each(|stranger| stranger.join().unwrap());
}
