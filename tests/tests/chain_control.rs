//! The control connections: strangers, noise and replays have no effect; an outage interrupts no stream;
//! several sessions are served side by side.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use ka::wire::PROTOCOL;
use ka_tests::halting::Halting;
use ka_tests::process::{Process, wait_until};
use ka_tests::proxy::Proxy;
use ka_tests::site::{DEAD_AFTER, MIB, Site, chain_order, data_port, reasons};

const CONTROL: u16 = 30765;

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Waits until the other side has closed the connection; returns what it had sent.
fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
        Err(e) => panic!("it is not closed: {e}"),
    }
    said
}

/// Connections that send half a frame, or nothing at all: more than a relay allows.
fn idle(to: SocketAddr) -> Vec<TcpStream> {
    (0..40)
        .map(|i| {
            let mut stream = connect(to);
            if i % 2 == 0 {
                stream.write_all(&[0, 53]).unwrap();
            }
            stream
        })
        .collect()
}

/// Data that a stranger may send to a port.
fn noise() -> Vec<Vec<u8>> {
    vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        // Frames of every kind, empty and with the maximum length.
        vec![0, 0, 0, 0],
        vec![1, 0xff, 0xff, 0],
        vec![3, 0, 0, 0],
        // An invalid handshake after a valid preamble.
        [&[0, 53, 0, 0][..], b"KA", &PROTOCOL.to_le_bytes(), b"\0", &[7; 48]].concat(),
        another_version(),
        // A data link for a stream that does not exist, and a truncated one.
        [&[0, 85, 0, 0][..], b"KA", &PROTOCOL.to_le_bytes(), b"\x01", &[9; 80]].concat(),
        [&[0, 10, 0, 0][..], b"KA", &PROTOCOL.to_le_bytes(), b"\x01", &[9; 5]].concat(),
    ]
}

/// The first message of an agent from an older image.
fn another_version() -> Vec<u8> {
    [&[0, 53, 0, 0][..], b"KA", &(PROTOCOL - 1).to_le_bytes(), b"\0", &[7; 48]].concat()
}

#[test]
fn noise_and_silence_disturb_nobody() {
    let site = Site::new();
    let stream = Halting::new(&site, 12 * MIB);
    let mut sender = site.send("a", 3, ["--command", stream.command()]);
    let control = SocketAddr::new(site.address.into(), CONTROL);
    let mut open = idle(control);
    let mut nodes = site.receivers(&mut sender, "a", 3);
    stream.wait_for_half(&site, 3);
    let mut ports = vec![control];
    ports.extend(nodes.iter().map(|node| SocketAddr::from(([127, 0, 0, 1], data_port(node)))));
    for port in ports {
        open.extend(idle(port));
        for bytes in noise() {
            let mut stream = connect(port);
            // The connection may be closed before it has accepted everything.
            let _ = stream.write_all(&bytes);
            open.push(stream);
        }
    }
    stream.open();
    assert_eq!(sender.end(), 0, "{}", sender.said());
    for (i, node) in nodes.iter_mut().enumerate() {
        assert_eq!(node.end(), 0, "{}", node.said());
        assert!(stream.is_in(&site, &format!("out-{i}")));
    }
}

/// A chain that heals needs new links while strangers occupy every port.
#[test]
fn idle_strangers_keep_no_successor_out() {
    let site = Site::new();
    let stream = Halting::new(&site, 12 * MIB);
    let mut sender = site.send("a", 4, ["--dead-after", DEAD_AFTER, "--command", stream.command()]);
    let mut nodes = site.receivers(&mut sender, "a", 4);
    stream.wait_for_half(&site, 4);
    let ports = nodes.iter().map(|node| SocketAddr::from(([127, 0, 0, 1], data_port(node))));
    let _strangers: Vec<TcpStream> = ports.flat_map(idle).collect();
    let dead = chain_order(&nodes)[1];
    nodes[dead].kill();
    stream.open();
    assert_eq!(sender.end(), 1, "{}", sender.said());
    for (i, node) in nodes.iter_mut().enumerate().filter(|(i, _)| *i != dead) {
        assert_eq!(node.end(), 0, "{}", node.said());
        assert!(stream.is_in(&site, &format!("out-{i}")));
    }
}

#[test]
fn garbage_is_hung_up_on_without_an_answer() {
    let site = Site::new();
    let _sender = site.send("a", 1, ["--file", "/dev/null"]);
    // An incomplete frame and another version each have their own answer.
    let apart = [vec![1, 0xff, 0xff, 0], another_version()];
    for bytes in noise().into_iter().filter(|bytes| !apart.contains(bytes)) {
        let mut stream = connect(SocketAddr::new(site.address.into(), CONTROL));
        let _ = stream.write_all(&bytes);
        assert_eq!(until_closed(stream), b"", "{:?}", &bytes[..bytes.len().min(20)]);
    }
}

#[test]
fn an_agent_of_another_version_is_named_once() {
    let site = Site::new();
    let mut sender = site.send("a", 1, ["--file", "/dev/null"]);
    let named = format!("speaks version {} of ka's protocol", PROTOCOL - 1);
    for _ in 0..2 {
        let mut stream = connect(SocketAddr::new(site.address.into(), CONTROL));
        stream.write_all(&another_version()).unwrap();
        assert_eq!(until_closed(stream), this_version(PROTOCOL));
    }
    wait_until("the version is named", || sender.said().contains(&named));
    let mut nodes = site.receivers(&mut sender, "a", 1);
    assert_eq!((sender.end(), nodes[0].end()), (0, 0));
    let said = sender.said();
    assert_eq!(said.matches(&named).count(), 1, "{said}");
    assert!(said.contains("kactl image"), "{said}");
}

/// The answer of a controller of that version to an agent of another one.
fn this_version(version: u16) -> Vec<u8> {
    [&[0, 4, 0, 0][..], b"KA", &version.to_le_bytes()].concat()
}

/// Its image is older or newer than the controller.
#[test]
fn an_agent_says_which_version_its_controller_has() {
    let site = Site::new();
    let listener = TcpListener::bind((site.address, 0)).unwrap();
    let controller = listener.local_addr().unwrap();
    let answers = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
        stream.write_all(&this_version(PROTOCOL + 1)).unwrap();
    });
    let mut command = site.agent("a", &controller.to_string());
    command.args(["--wait", "0", "--file", site.path("out").to_str().unwrap()]);
    let mut agent = Process::start(&mut command, "agent", &site.path(""));
    assert_eq!(agent.end(), 1);
    answers.join().unwrap();
    let sentence = format!(
        "{controller}: the other side speaks version {} of ka's protocol, this side {PROTOCOL}: rebuild the nodes' \
         images with kactl image",
        PROTOCOL + 1
    );
    assert!(agent.said().contains(&sentence), "{}", agent.said());
}

#[test]
fn a_wrong_key_takes_no_place() {
    let (site, other) = (Site::new(), Site::new());
    let file = site.noise("file", MIB, 1);
    let mut sender = site.send("a", 1, ["--file".as_ref(), file.as_path()]);
    let controller = site.address.to_string();
    let mut command = other.agent("a", &controller);
    command.args(["--wait", "1", "--file", other.path("out").to_str().unwrap()]);
    let mut stranger = Process::start(&mut command, "stranger", &other.path(""));
    assert_eq!(stranger.end(), 1);
    assert!(stranger.said().contains("join key"), "{}", stranger.said());
    assert!(!sender.said().contains("has joined"), "{}", sender.said());
    let mut nodes = site.receivers(&mut sender, "a", 1);
    assert_eq!((sender.end(), nodes[0].end()), (0, 0));
    assert_eq!(reasons(&sender), [None]);
}

#[test]
fn a_replayed_handshake_takes_no_place() {
    let site = Site::new();
    let file = site.noise("file", MIB, 1);
    let mut sender = site.send("a", 2, ["--file".as_ref(), file.as_path()]);
    let control = SocketAddr::new(site.address.into(), CONTROL);
    let proxy = Proxy::honest(control);
    let mut command = site.agent("a", &proxy.address.to_string());
    command.args(["--file", site.path("out-0").to_str().unwrap()]);
    let mut first = Process::start(&mut command, "node-0", &site.path(""));
    sender.wait_for("has joined", 1);
    // The agent's side of the whole conversation: handshake, hello, heartbeats.
    let recorded = proxy.recorded();
    for _ in 0..3 {
        let mut replay = connect(control);
        replay.write_all(&recorded).unwrap();
        until_closed(replay);
    }
    assert_eq!(sender.said().matches("has joined").count(), 1, "{}", sender.said());
    let mut second = site.receiver(&mut sender, "a", 1, ["--file".into(), site.path("out-1")]);
    assert_eq!((sender.end(), first.end(), second.end()), (0, 0, 0), "{}", sender.said());
    assert_eq!(reasons(&sender), [None, None]);
}

#[test]
fn an_outage_of_the_controller_stops_nothing() {
    let site = Site::new();
    let stream = Halting::new(&site, 12 * MIB);
    let mut sender = site.send("a", 3, ["--dead-after", DEAD_AFTER, "--command", stream.command()]);
    let control = SocketAddr::new(site.address.into(), CONTROL);
    let proxy = Proxy::honest(control);
    let mut nodes: Vec<Process> = (0..3)
        .map(|i| {
            let mut command = site.agent("a", &proxy.address.to_string());
            command.args(["--file", site.path(&format!("out-{i}")).to_str().unwrap()]);
            let node = Process::start(&mut command, &format!("node-{i}"), &site.path(""));
            sender.wait_for("has joined", i + 1);
            node
        })
        .collect();
    stream.wait_for_half(&site, 3);
    proxy.refuse(true);
    for node in &mut nodes {
        node.wait_for("the connection to the controller", 1);
    }
    // The stream continues to its end in the meantime. Only the controller can confirm that it is the golden
    // node's: no file gets its final name before.
    stream.open();
    for i in 0..3 {
        site.wait_for_partial(&format!("out-{i}"), 24 * MIB);
        assert!(!site.path(&format!("out-{i}")).exists());
    }
    let before = proxy.accepted();
    wait_until("another attempt of each node", || proxy.accepted() >= before + 3);
    proxy.refuse(false);
    assert_eq!(sender.end(), 0, "{}", sender.said());
    for (i, node) in nodes.iter_mut().enumerate() {
        assert_eq!(node.end(), 0, "{}", node.said());
        assert!(node.said().contains("is back"), "{}", node.said());
        assert!(stream.is_in(&site, &format!("out-{i}")));
    }
}

#[test]
fn sessions_are_served_side_by_side() {
    let site = Site::new();
    let files = [site.noise("a", MIB, 1), site.noise("b", MIB, 2), site.noise("c", MIB, 3)];
    let mut a = site.send("a", 1, ["--file".as_ref(), files[0].as_path()]);
    let mut b = site.send("b", 1, ["--file".as_ref(), files[1].as_path()]);
    let mut c = site.send("c", 1, ["--file".as_ref(), files[2].as_path()]);

    // Through the first one's port.
    let mut of_b = site.receive("b", "of-b", ["--file".into(), site.path("out-b")]);
    assert_eq!((b.end(), of_b.end()), (0, 0), "{}", of_b.said());
    assert!(site.holds("out-b", &[&files[1]]));

    let mut of_a = site.receive("a", "of-a", ["--file".into(), site.path("out-a")]);
    assert_eq!((a.end(), of_a.end()), (0, 0), "{}", of_a.said());
    assert!(site.holds("out-a", &[&files[0]]));

    // The well-known port is free again, so the last one takes it.
    let mut of_c = site.receive("c", "of-c", ["--file".into(), site.path("out-c")]);
    assert_eq!((c.end(), of_c.end()), (0, 0), "{}", of_c.said());
    assert!(site.holds("out-c", &[&files[2]]));
}

#[test]
fn a_name_is_taken_once() {
    let site = Site::new();
    let mut first = site.send("a", 1, ["--file", "/dev/null"]);
    let mut command = site.kactl();
    command.args(["send", "--session", "a", "-n", "1", "--file", "/dev/null"]);
    command.args(["--listen", &site.address.to_string()]);
    let mut second = Process::start(&mut command, "second", &site.path(""));
    assert_eq!(second.end(), 2);
    assert!(second.said().contains("a session 'a' is already active on this machine"), "{}", second.said());
    // A killed process leaves its name behind.
    first.kill();
    let mut third = site.send("a", 1, ["--file", "/dev/null"]);
    let mut nodes = site.receivers(&mut third, "a", 1);
    assert_eq!((third.end(), nodes[0].end()), (0, 0));
}
