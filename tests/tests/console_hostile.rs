//! A node's console with malicious or slow peers.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ka::keys::KeyPair;
use ka::wire::channel::{Channel, ChannelError, Received};
use ka::wire::console::{Open, Request, Size, ToNode, ToViewer};
use ka_tests::console::{ConsoleNode, Golden};
use ka_tests::process::wait_until;

/// The controller's end of a connection, operated by hand.
struct Wire {
    stream: TcpStream,
    channel: Channel,
}

impl Wire {
    fn dial(node: &ConsoleNode, channel: Channel) -> Self {
        let stream = TcpStream::connect(node.place()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut wire = Self { stream, channel };
        wire.flush();
        wire
    }

    fn flush(&mut self) {
        while self.channel.queued() > 0 {
            if self.channel.write_to(&mut self.stream).is_err() {
                return;
            }
        }
    }

    /// The node's next message; `None` if it closes the connection.
    fn hears(&mut self) -> Result<Option<Received<ToViewer>>, ChannelError> {
        loop {
            if let Some(received) = self.channel.receive()? {
                return Ok(Some(received));
            }
            match self.channel.read_from(&mut self.stream) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(e) => panic!("{e}"),
            }
        }
    }

    fn says(&mut self, message: &ToNode) {
        self.channel.send(message).unwrap();
        self.flush();
    }

    /// A console opened for `request`.
    fn open(golden: &Golden, node: &ConsoleNode, request: Request) -> Self {
        let mut wire = Self::dial(node, Channel::dial_console(&golden.pair, &node.key.public).unwrap());
        assert_eq!(wire.hears().unwrap(), Some(Received::Open));
        wire.says(&ToNode::Open(Open::new("test@golden".into(), request)));
        wire
    }

    fn refused(mut self) -> String {
        loop {
            match self.hears().unwrap() {
                Some(Received::Message(ToViewer::Refused { reason })) => return reason,
                Some(_) => {}
                None => panic!("closed without a word"),
            }
        }
    }

    /// Waits for the end of the connection.
    fn ends(mut self) {
        while let Ok(Some(_)) = self.hears() {}
    }
}

/// The console still serves legitimate peers.
fn serves(golden: &Golden, node: &ConsoleNode) {
    let mut wire = Wire::open(golden, node, Request::State);
    let Some(Received::Message(ToViewer::State(state))) = wire.hears().unwrap() else { panic!("no state") };
    assert_eq!(state.step, "drivers");
}

#[test]
fn nobody_gets_in_without_the_key() {
    let golden = Golden::new();
    let node = golden.node(1);
    let other = KeyPair::generate().unwrap();
    for channel in [
        // Another controller; another node; the join key does not open a console, nor does a link's secret.
        Channel::dial_console(&other, &node.key.public).unwrap(),
        Channel::dial_console(&golden.pair, &other.public).unwrap(),
        Channel::dial_control(&golden.join, &other).unwrap(),
        Channel::dial_console_log(&other, &golden.join).unwrap(),
    ] {
        let mut wire = Wire::dial(&node, channel);
        match wire.hears() {
            Ok(None) => {}
            // With only the join key the answer arrives, but later messages are not accepted.
            Ok(Some(Received::Open)) => {
                wire.says(&ToNode::Open(Open::new("x".into(), Request::Log { last: None, follow: false })));
                assert!(!matches!(wire.hears(), Ok(Some(Received::Message(_)))), "a stranger reads the log");
            }
            Ok(Some(other)) => panic!("{other:?}"),
            Err(_) => {}
        }
    }
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 70_000], &[0, 0xff, 0xff, 0]] {
        let mut stream = TcpStream::connect(node.place()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The node may have hung up before everything is written.
        let _ = stream.write_all(noise);
        let _ = stream.read(&mut [0; 64]);
    }
    assert!(!node.log().contains("executes"), "{}", node.log());
    serves(&golden, &node);
}

#[test]
fn the_join_key_opens_no_shell() {
    let golden = Golden::new();
    let node = golden.node(1);
    for request in [
        Request::Exec { command: b"touch /tmp/owned".to_vec() },
        Request::Shell { term: "vt100".into(), size: Size { rows: 1, columns: 1 } },
    ] {
        let channel = Channel::dial_console_log(&golden.pair, &golden.join).unwrap();
        let mut wire = Wire::dial(&node, channel);
        assert_eq!(wire.hears().unwrap(), Some(Received::Open));
        wire.says(&ToNode::Open(Open::new("x".into(), request)));
        assert!(wire.refused().contains("only the log"));
    }
    node.wait_for_log("refused: only the log");
}

#[test]
fn what_makes_no_sense_ends_its_connection_alone() {
    let golden = Golden::new();
    let node = golden.node(1);
    let follow = || Request::Log { last: None, follow: true };
    let mut patient = Wire::open(&golden, &node, follow());
    let open = |request| Open::new("x".into(), request);
    for bad in [
        Open { version: 99, ..open(Request::State) },
        Open { who: "x".repeat(999), ..open(Request::State) },
        open(Request::Exec { command: b"a\0b".to_vec() }),
    ] {
        let mut wire = Wire::dial(&node, Channel::dial_console(&golden.pair, &node.key.public).unwrap());
        assert_eq!(wire.hears().unwrap(), Some(Received::Open));
        wire.says(&ToNode::Open(bad));
        wire.refused();
    }
    // Longer than the limit for any message.
    let mut wire = Wire::open(&golden, &node, follow());
    wire.says(&ToNode::Input(vec![b'x'; 1 << 20]));
    wire.ends();
    // A second open request.
    let mut wire = Wire::open(&golden, &node, follow());
    wire.says(&ToNode::Open(open(Request::State)));
    wire.ends();
    node.logs("still here\n");
    let mut seen = String::new();
    while !seen.contains("still here") {
        let Some(Received::Message(message)) = patient.hears().unwrap() else {
            panic!("the first viewer is gone")
        };
        if let ToViewer::Bytes(bytes) = message {
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn a_flood_keeps_nobody_out() {
    let golden = Golden::new();
    let node = golden.node(1);
    let mut patient = Wire::open(&golden, &node, Request::Log { last: None, follow: true });
    assert!(matches!(patient.hears().unwrap(), Some(Received::Message(ToViewer::State(_)))));
    let flood: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(node.place()).unwrap()).collect();
    for _ in 0..3 {
        serves(&golden, &node);
    }
    let threads = fs::read_dir(format!("/proc/{}/task", node.process.id())).unwrap().count();
    assert!(threads < 100, "{threads} threads");
    node.logs("still here\n");
    let mut seen = String::new();
    while !seen.contains("still here") {
        if let Some(Received::Message(ToViewer::Bytes(bytes))) = patient.hears().unwrap() {
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    drop(flood);
}

#[test]
fn there_is_an_end_to_viewers() {
    let golden = Golden::new();
    let node = golden.node(1);
    let follow = || Request::Log { last: None, follow: true };
    let mut viewers: Vec<Wire> = (0..32).map(|_| Wire::open(&golden, &node, follow())).collect();
    for viewer in &mut viewers {
        assert!(matches!(viewer.hears().unwrap(), Some(Received::Message(ToViewer::State(_)))));
    }
    let reason = Wire::open(&golden, &node, follow()).refused();
    assert!(reason.contains("32 others look at this node"), "{reason}");
    drop(viewers);
    let free = || {
        let mut wire = Wire::open(&golden, &node, Request::State);
        matches!(wire.hears(), Ok(Some(Received::Message(ToViewer::State(_)))))
    };
    wait_until("a place is free", free);
}

/// The console's memory in bytes.
fn memory(node: &ConsoleNode) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_slow_viewer_holds_up_nobody_and_is_dropped() {
    let golden = Golden::new();
    let node = golden.stranger(1, &["--silence", "2"]);
    fs::write(node.folder.path().join("key"), node.key.to_text()).unwrap();
    golden.knows(1, &node.key);
    let before = memory(&node);
    // Two peers that read nothing: one of an endless output, one of a long log.
    node.logs(&format!("{}\n", "x".repeat(99)).repeat(300_000));
    let endless = Wire::open(&golden, &node, Request::Exec { command: b"echo $$ >&2; exec yes".to_vec() });
    let long = Wire::open(&golden, &node, Request::Log { last: None, follow: true });
    let start = Instant::now();
    let output = golden.dials(&["exec", "node1", "--", "echo quick"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "node1: quick\n");
    assert!(start.elapsed() < Duration::from_secs(60));
    let grown = memory(&node).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for two viewers that take nothing");
    // Both are dropped, and the endless command with its viewer.
    wait_until("both are dropped", || node.log().matches(" for 2 s").count() >= 2);
    let command = || {
        let pid = node.process.id().to_string();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let all = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let all = all.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        children.trim().is_empty() && all.fold(String::new(), |a, b| a + &b).trim().is_empty()
    };
    wait_until("the endless command has ended", command);
    drop((endless, long));
}

#[test]
fn a_command_ends_with_its_viewer() {
    let golden = Golden::new();
    let node = golden.node(1);
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    // It ignores the hangup, as a stubborn program does.
    let script =
        format!("trap '' HUP; echo $$ >{0}.new; mv {0}.new {0}; while :; do sleep 1; done", pid.display());
    let mut wire = Wire::open(&golden, &node, Request::Exec { command: script.into_bytes() });
    assert!(matches!(wire.hears().unwrap(), Some(Received::Message(ToViewer::State(_)))));
    wait_until("the command runs", || pid.exists());
    let number = fs::read_to_string(&pid).unwrap();
    drop(wire);
    let process = format!("/proc/{}", number.trim());
    wait_until("the command has ended", || !std::path::Path::new(&process).exists());
}
