//! Hosts on one switch, which is this process: it forwards every frame, and can drop, delay, reorder,
//! duplicate and damage the frames from and to a host. Needs root and `ip`.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::collections::{BinaryHeap, HashMap};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket};

use super::frame;
use crate::netns::NetNs;
use crate::sim::random::Random;

/// The treatment of one host's frames, in both directions. Shares are per 1000 frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harm {
    /// No frame passes.
    pub cut: bool,
    /// The delay of all frames.
    pub delay: Duration,
    /// The share that others overtake.
    pub reorder: u64,
    /// The share that is duplicated.
    pub double: u64,
    /// The share in which a bit is flipped that TCP does not notice.
    pub flip: u64,
}

/// How long a frame is held back for others to overtake it.
const HELD: Duration = Duration::from_millis(3);

/// The switch and its hosts; 10.77.0.1 is the first.
pub struct Wire {
    hosts: Vec<NetNs>,
    shared: Arc<Shared>,
    switch: Option<JoinHandle<()>>,
    _hub: NetNs,
}

struct Shared {
    harms: Mutex<Vec<Harm>>,
    over: AtomicBool,
    harmed: AtomicU64,
}

impl Wire {
    /// Creates this many hosts. The name must be unique, and the seed decides which frames are harmed.
    ///
    /// # Panics
    /// Without root or `ip`.
    #[must_use]
    pub fn new(name: &str, count: usize, seed: u64) -> Self {
        let hub = NetNs::new(&format!("{name}-hub"));
        let hosts: Vec<NetNs> = (0..count).map(|i| NetNs::new(&format!("{name}-{i}"))).collect();
        for (i, host) in hosts.iter().enumerate() {
            let port = port(i);
            host.cable("eth0", &hub, &port);
            host.ip(&["link", "set", "lo", "up"]);
            host.ip(&["addr", "add", &format!("{}/24", address(i)), "dev", "eth0"]);
            // One segment per frame.
            host.ip(&["link", "set", "eth0", "mtu", "9000", "gso_max_segs", "1", "up"]);
            hub.ip(&["link", "set", &port, "mtu", "9000", "addrgenmode", "none", "up"]);
        }
        let harms = Mutex::new(vec![Harm::default(); count]);
        let shared = Arc::new(Shared { harms, over: AtomicBool::new(false), harmed: AtomicU64::new(0) });
        let ports = hub.enter(|| (0..count).map(open).collect::<Vec<_>>());
        let switch = thread::spawn({
            let shared = Arc::clone(&shared);
            move || Switch::new(ports, shared, seed).run()
        });
        Self { hosts, shared, switch: Some(switch), _hub: hub }
    }

    /// The same command on a host.
    #[must_use]
    pub fn on(&self, host: usize, command: &Command) -> Command {
        let mut there = self.hosts[host].command(command.get_program().to_str().unwrap());
        there.args(command.get_args());
        there
    }

    /// Runs `work` in a thread on a host.
    ///
    /// # Panics
    /// When `work` panics.
    pub fn enter<T: Send>(&self, host: usize, work: impl FnOnce() -> T + Send) -> T {
        self.hosts[host].enter(work)
    }

    /// Applies this treatment to a host's frames from now on.
    pub fn harm(&self, host: usize, harm: Harm) {
        self.shared.harms.lock().unwrap_or_else(PoisonError::into_inner)[host] = harm;
    }

    /// The number of frames that were lost, held back, duplicated or damaged so far.
    #[must_use]
    pub fn harmed(&self) -> u64 {
        self.shared.harmed.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(switch) = self.switch.take() {
            let _ = switch.join();
        }
    }
}

/// A host's address.
#[must_use]
pub fn address(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

fn port(host: usize) -> String {
    format!("port{host}")
}

/// A socket that receives and sends whole frames on a port.
fn open(host: usize) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
    let of_port = |interface: &nix::ifaddrs::InterfaceAddress| {
        let address = interface.address.filter(|_| interface.interface_name == port(host))?;
        address.as_link_addr().copied()
    };
    let address = getifaddrs().unwrap().find_map(|interface| of_port(&interface)).unwrap();
    bind(socket.as_raw_fd(), &address).unwrap();
    socket
}

/// A frame that is sent later; the earliest first.
struct Later {
    due: Instant,
    count: u64,
    to: usize,
    frame: Vec<u8>,
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.count).cmp(&(self.due, self.count))
    }
}

struct Switch {
    ports: Vec<OwnedFd>,
    shared: Arc<Shared>,
    random: Random,
    known: HashMap<[u8; 6], usize>,
    later: BinaryHeap<Later>,
    count: u64,
}

impl Switch {
    fn new(ports: Vec<OwnedFd>, shared: Arc<Shared>, seed: u64) -> Self {
        let random = Random::new(seed);
        Self { ports, shared, random, known: HashMap::new(), later: BinaryHeap::new(), count: 0 }
    }

    fn run(mut self) {
        let mut room = vec![0; 1 << 17];
        while !self.shared.over.load(Ordering::Relaxed) {
            self.wait();
            for from in 0..self.ports.len() {
                // The ports take turns.
                for _ in 0..64 {
                    let Ok(length) = recv(self.ports[from].as_raw_fd(), &mut room, MsgFlags::empty()) else {
                        break;
                    };
                    self.take(from, &mut room[..length]);
                }
            }
            while self.later.peek().is_some_and(|later| later.due <= Instant::now()) {
                if let Some(later) = self.later.pop() {
                    self.put(later.to, &later.frame);
                }
            }
        }
    }

    fn wait(&self) {
        let next = self.later.peek().map(|later| later.due.saturating_duration_since(Instant::now()));
        // Rounded up: a zero timeout would busy-wait.
        let time = next.map_or(20, |next| next.as_millis().min(19) + 1);
        let mut waits: Vec<PollFd> =
            self.ports.iter().map(|port| PollFd::new(port.as_fd(), PollFlags::POLLIN)).collect();
        let _ = poll(&mut waits, PollTimeout::from(u16::try_from(time).unwrap_or(20)));
    }

    fn take(&mut self, from: usize, frame: &mut [u8]) {
        let (Some(to), Some(source)) = (mac(frame, 0), mac(frame, 6)) else { return };
        self.known.insert(source, from);
        frame::seal(frame);
        let others: Vec<usize> = match self.known.get(&to) {
            Some(port) => vec![*port],
            None => (0..self.ports.len()).collect(),
        };
        for to in others.into_iter().filter(|to| *to != from) {
            self.carry(from, to, frame);
        }
    }

    /// Forwards a frame, with the faults of both hosts' links.
    fn carry(&mut self, from: usize, to: usize, frame: &[u8]) {
        let (a, b) = {
            let harms = self.shared.harms.lock().unwrap_or_else(PoisonError::into_inner);
            (harms[from], harms[to])
        };
        if a.cut || b.cut {
            self.note();
            return;
        }
        let mut frame = frame.to_vec();
        let mut delay = a.delay + b.delay;
        if self.random.between(1, 1000) <= a.flip + b.flip {
            let choice = self.random.bits();
            if frame::flip(&mut frame, choice) {
                frame::seal(&mut frame);
                self.note();
            }
        }
        if self.random.between(1, 1000) <= a.reorder + b.reorder {
            delay += HELD;
            self.note();
        }
        let copies = 1 + usize::from(self.random.between(1, 1000) <= a.double + b.double);
        for _ in 0..copies {
            if delay.is_zero() {
                self.put(to, &frame);
            } else {
                self.count += 1;
                let due = Instant::now() + delay;
                self.later.push(Later { due, count: self.count, to, frame: frame.clone() });
            }
        }
        if copies > 1 {
            self.note();
        }
    }

    fn put(&self, to: usize, frame: &[u8]) {
        // A full queue drops it, as a switch's does; TCP sends it again.
        let _ = send(self.ports[to].as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT);
    }

    fn note(&self) {
        self.shared.harmed.fetch_add(1, Ordering::Relaxed);
    }
}

fn mac(frame: &[u8], at: usize) -> Option<[u8; 6]> {
    frame.get(at..at + 6)?.try_into().ok()
}
