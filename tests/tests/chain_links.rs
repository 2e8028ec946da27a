//! Real relays on loopback with a proxy on one of their links that flips bits: the damage is detected at that
//! hop and healed; a link that keeps damaging data is bypassed and named.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ka::chain::{Decision, Member, Membership, NodeId, Report};
use ka::seal::{Cipher, StreamKey};
use ka_net::relay::{BATCHES, Command, Feed, Notice, QUEUE, Relay, StreamReader};
use ka_tests::proxy::{Proxy, Way};
use ka_tests::site::{MIB, Site};
use kactl::stream::produce;
use kactl::stream::source::FileSource;

const WINDOW: u64 = 8 << 20;
const DEAD_AFTER: Duration = Duration::from_secs(2);
const NODES: u32 = 3;
/// The damaged link: between two nodes, with one node behind them.
const LINK: (NodeId, NodeId) = (NodeId(1), NodeId(2));

enum Event {
    Complaint(NodeId, Report),
    TailComplete,
    /// A node's stream has ended; the bytes if they are complete.
    Ended(NodeId, Option<Vec<u8>>),
}

/// A chain whose controller is the test itself.
struct Chain {
    membership: Membership,
    relays: BTreeMap<NodeId, Relay>,
    addresses: BTreeMap<NodeId, SocketAddr>,
    proxy: Option<Proxy>,
    events: Receiver<Event>,
    start: Instant,
}

/// The result of a stream.
struct LinkResult {
    /// The data of each node that has everything.
    got: BTreeMap<NodeId, Option<Vec<u8>>>,
    expelled: Vec<(NodeId, String)>,
    epochs: u64,
}

impl Chain {
    fn start(file: &Path, damage: impl Fn(Way, usize, &mut [u8]) + Send + Sync + 'static) -> Self {
        let key = StreamKey::generate(Cipher::preferred()).unwrap();
        let (to_test, events) = channel();
        let (mut relays, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        for id in (0..=NODES).map(NodeId) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            addresses.insert(id, listener.local_addr().unwrap());
            let relay = if id == NodeId::GOLDEN {
                golden(&key, listener, file, to_test.clone())
            } else {
                node(id, &key, listener, to_test.clone())
            };
            relays.insert(id, relay);
        }
        let order: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
        let membership = Membership::new(&order, DEAD_AFTER, Duration::ZERO);
        let proxy = Some(Proxy::new(addresses[&LINK.0], damage));
        let chain = Self { membership, relays, addresses, proxy, events, start: Instant::now() };
        chain.send_views();
        chain
    }

    fn send_views(&self) {
        for (id, relay) in &self.relays {
            let address = |from| match &self.proxy {
                Some(proxy) if (from, *id) == LINK => Some(proxy.address),
                _ => self.addresses.get(&from).copied(),
            };
            if let Some(view) = self.membership.view(*id, address) {
                relay.handle().tell(Command::View(view));
            }
        }
    }

    /// Plays the controller until all nodes have ended.
    fn run(mut self) -> LinkResult {
        let mut outcome = LinkResult { got: BTreeMap::new(), expelled: Vec::new(), epochs: 0 };
        while outcome.got.len() < NODES as usize {
            assert!(self.start.elapsed() < Duration::from_secs(60), "the chain hangs");
            let event = self.events.recv_timeout(DEAD_AFTER / 10).ok();
            let now = self.start.elapsed();
            match event {
                Some(Event::Complaint(from, report)) => {
                    // The nodes answer the probes requested here with the heartbeats below.
                    let _ = self.membership.on_complaint(from, report, now);
                }
                Some(Event::TailComplete) => {
                    self.relays.values().for_each(|relay| relay.handle().tell(Command::Release));
                }
                Some(Event::Ended(id, bytes)) => {
                    outcome.got.insert(id, bytes);
                }
                None => {}
            }
            for id in (1..=NODES).map(NodeId) {
                self.membership.on_heartbeat(id, self.start.elapsed() + Duration::from_nanos(1));
            }
            for decision in self.membership.judge(self.start.elapsed()) {
                match decision {
                    Decision::Probe(_) => {}
                    Decision::Expelled { node, reason, .. } => {
                        self.relays.remove(&node);
                        outcome.expelled.push((node, reason.to_string()));
                    }
                    Decision::NewEpoch(_) => {
                        outcome.epochs += 1;
                        self.send_views();
                    }
                }
            }
        }
        outcome
    }
}

fn complain(id: NodeId, to_test: Sender<Event>) -> impl Fn(Notice) + Send {
    move |notice| {
        let event = match notice {
            Notice::Complaint(report) => Event::Complaint(id, report),
            Notice::TailComplete if id == NodeId::GOLDEN => Event::TailComplete,
            Notice::TailComplete => return,
            Notice::Failed(reason) => panic!("the relay of {id} has failed: {reason}"),
        };
        // The test may have ended.
        let _ = to_test.send(event);
    }
}

fn golden(key: &StreamKey, listener: TcpListener, file: &Path, to_test: Sender<Event>) -> Relay {
    let (blocks, from_producer) = sync_channel(QUEUE);
    let member = Member::golden(key, WINDOW, DEAD_AFTER);
    let feed = Feed::Golden(from_producer);
    let relay = Relay::start(member, listener, feed, complain(NodeId::GOLDEN, to_test)).unwrap();
    let (key, source, handle) =
        (key.clone(), FileSource(file.to_owned()), Mutex::new(relay.handle().clone()));
    thread::spawn(move || {
        let wake = || handle.lock().unwrap().wake();
        produce::produce(
            &source,
            &key,
            &blocks,
            &wake,
            (&produce::Account::default(), kactl::stream::settings::Settings::default()),
        )
        .unwrap();
    });
    relay
}

fn node(id: NodeId, key: &StreamKey, listener: TcpListener, to_test: Sender<Event>) -> Relay {
    let (writer, plaintext) = sync_channel(BATCHES);
    let member = Member::node(id, key, WINDOW, DEAD_AFTER);
    let feed = Feed::Node(writer);
    let relay = Relay::start(member, listener, feed, complain(id, to_test.clone())).unwrap();
    let mut reader = StreamReader::new(plaintext, relay.handle().clone(), Arc::default()).unwrap();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let whole = std::io::Read::read_to_end(&mut reader, &mut bytes).is_ok() && reader.finish().is_ok();
        let _ = to_test.send(Event::Ended(id, whole.then_some(bytes)));
    });
    relay
}

/// Flips a bit of the byte at `at` of the flow `way`, of the first connection that gets that far.
fn once(way: Way, at: usize) -> impl Fn(Way, usize, &mut [u8]) + Send + Sync {
    let done = AtomicBool::new(false);
    move |flow, position, bytes| {
        if flow == way
            && let Some(byte) = at.checked_sub(position).and_then(|at| bytes.get_mut(at))
            && !done.swap(true, Ordering::SeqCst)
        {
            *byte ^= 0x10;
        }
    }
}

#[test]
fn one_flipped_bit_is_noticed_and_healed() {
    let site = Site::new();
    let file = site.noise("file", 10 * MIB, 1);
    let sent = fs::read(&file).unwrap();
    // The receiver's data: handshake (4 + 37 + 48 bytes with its header), hello, acks.
    let forth = [0, 3, 20, 60, 89, 92, 100, 116, 130].map(|at| (Way::Forth, at));
    // The sender's data: handshake (4 + 48 bytes), then blocks with their headers.
    let back = [0, 2, 30, 52, 53, 54, 56, 70, 5_000_000, 9_999_999].map(|at| (Way::Back, at));
    for (way, at) in forth.into_iter().chain(back) {
        let outcome = Chain::start(&file, once(way, at)).run();
        assert_eq!(outcome.expelled, [], "{way:?} {at}");
        assert!(outcome.epochs > 0, "{way:?} {at}: nobody noticed");
        assert!(outcome.got.values().all(|got| got.as_ref() == Some(&sent)), "{way:?} {at}");
    }
}

/// The last message may be damaged, too: nothing follows that would reveal it.
#[test]
fn a_damaged_length_of_the_final_block_is_noticed() {
    let site = Site::new();
    let file = site.noise("file", MIB, 1);
    let sent = fs::read(&file).unwrap();
    let length = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&length);
    Chain::start(&file, move |way, position, bytes| {
        if way == Way::Back {
            seen.fetch_max((position + bytes.len()) as u64, Ordering::SeqCst);
        }
    })
    .run();
    // After the final block's 4 + 16 + 40 + 16 bytes only pings and the end may follow.
    let end = usize::try_from(length.load(Ordering::SeqCst)).unwrap();
    for back in [73, 74, 93, 94, 95, 96] {
        let Some(at) = end.checked_sub(back) else { continue };
        let outcome = Chain::start(&file, once(Way::Back, at)).run();
        assert_eq!(outcome.expelled, [], "{back}");
        assert!(outcome.got.values().all(|got| got.as_ref() == Some(&sent)), "{back}");
    }
}

#[test]
fn a_link_that_keeps_damaging_is_bypassed_and_named() {
    let site = Site::new();
    let file = site.noise("file", 10 * MIB, 1);
    let sent = fs::read(&file).unwrap();
    // A block, a header, the hello.
    for (way, at) in [(Way::Back, 1_000_000_usize), (Way::Back, 53), (Way::Forth, 100)] {
        let damage = move |flow: Way, position: usize, bytes: &mut [u8]| {
            if flow == way
                && let Some(byte) = at.checked_sub(position).and_then(|at| bytes.get_mut(at))
            {
                *byte ^= 0x10;
            }
        };
        let outcome = Chain::start(&file, damage).run();
        let [(node, reason)] = outcome.expelled.as_slice() else {
            panic!("{way:?} {at}: {:?} are expelled", outcome.expelled);
        };
        assert_eq!(*node, LINK.1, "{way:?} {at}");
        assert!(reason.contains("the link from node 1 to node 2 is bad"), "{reason}");
        for (id, got) in &outcome.got {
            if id != node {
                assert_eq!(got.as_ref(), Some(&sent), "{way:?} {at}: {id}");
            }
        }
    }
}
