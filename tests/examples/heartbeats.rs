//! What waiting nodes cost the hub: `heartbeats NODES SECONDS` joins that many simulated nodes over real
//! sockets, each of which sends a heartbeat per second, and prints the share of a processor that the hub's
//! thread takes.
//!
//! Every node has a connection of its own, so the open files must be allowed: `ulimit -n 4096`.

use std::error::Error;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ka::chain::Offset;
use ka::inventory::{Card, Inventory};
use ka::keys::{JoinKey, KeyPair};
use ka::session::SessionSpec;
use ka::wire::channel::{Channel, Received};
use ka::wire::control::{Hello, Progress, ToAgent, ToController};
use ka_net::listen::Side;
use kactl::config::keys::Keys;
use kactl::hub::entry::Entry;
use kactl::hub::{Hub, HubSetup, SessionSetup};
use kactl::machines::pins::Pins;
use kactl::stream::source::DirectorySource;

const SESSION: &str = "heartbeats";
/// Nodes beat in this many groups, which are spread over the second as those of real nodes are.
const GROUPS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(300);
/// The kernel counts processor time in hundredths of a second (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [nodes, seconds] = arguments.as_slice() else { return Err("heartbeats NODES SECONDS".into()) };
    let (count, seconds): (usize, u64) = (nodes.parse()?, seconds.parse()?);
    let folder = tempfile::tempdir()?;
    let controller = KeyPair::generate()?;
    let join = JoinKey::generate(&controller)?;
    let keys = Keys { controller, join: join.clone(), run: None };
    let place = HubSetup {
        side: Side { address: Some(Ipv4Addr::LOCALHOST.into()), interface: None },
        control: 0,
        data: 0,
        per_address: count,
        sessions: folder.path().join("sessions"),
        entry: Entry::default(),
        machines: None,
        pins: Pins::default(),
    };
    let setup = SessionSetup {
        // It never begins: nodes that wait, prepare or receive beat alike.
        spec: SessionSpec::new(SESSION, count + 1),
        source: Arc::new(DirectorySource(folder.path().to_owned())),
        log: None,
        booted: None,
        journal: None,
        resume: None,
    };
    let hub = Hub::start(&place, keys, vec![setup])?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, hub.port));
    let mut nodes =
        (0..count).map(|number| Node::join(address, &join, number)).collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    while hub.snapshot(SESSION).is_none_or(|snapshot| snapshot.status.nodes.len() < count) {
        if start.elapsed() > PATIENCE {
            return Err("not all nodes have joined".into());
        }
        beat(&mut nodes, 1)?;
    }
    beat(&mut nodes, 2)?;
    let (before, start) = (hub_seconds()?, Instant::now());
    beat(&mut nodes, seconds)?;
    let (used, passed) = (hub_seconds()? - before, start.elapsed().as_secs_f64());
    println!(
        "{count} nodes, {passed:.1} s: the hub took {used:.2} s, {:.2} % of a core",
        100.0 * used / passed
    );
    Ok(())
}

/// All nodes beat for so many seconds, and read what the controller sends.
fn beat(nodes: &mut [Node], seconds: u64) -> io::Result<()> {
    let pause = Duration::from_secs(1) / u32::try_from(GROUPS).unwrap_or(u32::MAX);
    let start = Instant::now();
    for turn in 0..usize::try_from(seconds).unwrap_or(1) * GROUPS {
        for node in nodes.iter_mut().skip(turn % GROUPS).step_by(GROUPS) {
            node.beat()?;
        }
        let due = pause * u32::try_from(turn + 1).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    Ok(())
}

/// The processor time of the hub's thread.
fn hub_seconds() -> Result<f64, Box<dyn Error>> {
    for task in fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        if fs::read_to_string(path.join("comm"))?.trim() == "hub" {
            let stat = fs::read_to_string(path.join("stat"))?;
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let ticks = |index: usize| fields.get(index).map_or(Ok(0.0), |field| field.parse::<f64>());
            // utime and stime of proc(5), counted from the state.
            return Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND);
        }
    }
    Err("there is no thread of the hub".into())
}

struct Node {
    stream: TcpStream,
    channel: Channel,
    beats: u64,
}

impl Node {
    fn join(address: SocketAddr, join: &JoinKey, number: usize) -> Result<Self, Box<dyn Error>> {
        let own = KeyPair::generate()?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut channel = Channel::dial_control(join, &own)?;
        channel.write_to(&mut stream)?;
        loop {
            match channel.receive::<ToAgent>()? {
                Some(Received::Open) => break,
                _ => drop(channel.read_from(&mut stream)?),
            }
        }
        let [.., high, low] = number.to_be_bytes();
        let card =
            Card { name: "eth0".into(), mac: format!("52:54:00:00:{high:02x}:{low:02x}"), ..Card::default() };
        let hello = Hello {
            session: SESSION.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            key: own.public,
            data_port: 1,
            window: 64 << 20,
            inventory: Inventory {
                hostname: format!("node{number}"),
                cards: vec![card],
                ..Inventory::default()
            },
            erasable: true,
            place: 0,
            resume: None,
        };
        channel.send(&ToController::Hello(Box::new(hello)))?;
        channel.write_to(&mut stream)?;
        loop {
            match channel.receive::<ToAgent>()? {
                Some(Received::Message(ToAgent::Welcome { .. })) => break,
                Some(Received::Message(ToAgent::Refused { reason })) => return Err(reason.into()),
                _ => drop(channel.read_from(&mut stream)?),
            }
        }
        stream.set_nonblocking(true)?;
        Ok(Self { stream, channel, beats: 0 })
    }

    fn beat(&mut self) -> io::Result<()> {
        self.beats += 1;
        let verified = Offset(self.beats << 20);
        let progress = Progress { verified, written: verified, ..Progress::default() };
        self.channel.send(&ToController::Heartbeat(progress)).map_err(io::Error::other)?;
        self.channel.write_to(&mut self.stream)?;
        while self.channel.receive::<ToAgent>().map_err(io::Error::other)?.is_some() {}
        match self.channel.read_from(&mut self.stream) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}
