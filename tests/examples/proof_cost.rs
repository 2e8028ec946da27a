//! What it costs a node to compare a stream with the golden node's roots: a real producer, and two real
//! relays over TCP.
//!
//! Prints the CPU seconds of the reader's thread for one GiB, with proofs and without, and the share of the
//! bytes that the proofs take on the control connections. Nothing else differs between the two.

use std::error::Error;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ka::archive::Output;
use ka::chain::{Epoch, LinkKeys, LinkName, Member, Neighbour, NodeId, Secrets, View};
use ka::keys::random;
use ka::notes::Tally;
use ka::proof::{Proof, Root};
use ka::seal::{Cipher, StreamKey};
use ka::wire::control::ToAgent;
use ka_net::relay::{BATCHES, Command, Feed, Handle, QUEUE, Relay, StreamReader};
use kactl::stream::produce::{Account, Chain, produce};
use kactl::stream::settings::Settings;
use kactl::stream::source::{Source, SourceError};
use rustix::time::{ClockId, clock_gettime};

const GIB: usize = 1 << 30;
const WINDOW: u64 = 8 << 20;
const DEAD_AFTER: Duration = Duration::from_secs(60);
const NODE: NodeId = NodeId(1);
const RUNS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut with, mut without, mut share) = (Vec::new(), Vec::new(), 0.0);
    // By turns, so that a busy moment of the machine is nobody's own.
    for _ in 0..RUNS {
        let (seconds, bytes) = transfer(true)?;
        with.push(seconds);
        #[allow(clippy::cast_precision_loss, reason = "a share for a person")]
        {
            share = bytes as f64 / GIB as f64;
        }
        without.push(transfer(false)?.0);
    }
    println!("{:.4} {:.4} {share:.7}", median(with), median(without));
    Ok(())
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Sends a GiB through a chain of one node; the CPU seconds of the thread that reads it, and the bytes of all
/// proofs.
fn transfer(proofs: bool) -> Result<(f64, usize), Box<dyn Error>> {
    let key = StreamKey::generate(Cipher::preferred())?;
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (golden_port, node_port) = (listen()?, listen()?);
    let address = golden_port.local_addr()?;
    let (blocks, from_producer) = sync_channel(QUEUE);
    let golden = Member::golden(&key, WINDOW, DEAD_AFTER);
    let golden = Relay::start(golden, golden_port, Feed::Golden(from_producer), |_| ())?;
    let (writer, plaintext) = sync_channel(BATCHES);
    let node =
        Relay::start(Member::node(NODE, &key, WINDOW, DEAD_AFTER), node_port, Feed::Node(writer), |_| ())?;
    let (of_golden, of_node) = views(&key, address)?;
    golden.handle().tell(Command::View(of_golden));
    node.handle().tell(Command::View(of_node));

    let (told, from_golden) = channel();
    let chain = Told { relay: golden.handle().clone(), proofs: Mutex::new(told.clone()) };
    let producing = thread::spawn({
        let key = key.clone();
        move || match produce(&Noise, &key, &blocks, &chain, (&Account::default(), Settings::default())) {
            // Nobody hears it if the reader has failed.
            Ok(proof) => drop(told.send(proof)),
            Err(error) => eprintln!("proof_cost: {error}"),
        }
    });
    let mut reader = StreamReader::new(plaintext, node.handle().clone(), Arc::default())?;
    let (to_reader, for_reader) = channel();
    if proofs {
        reader.expect_proofs(for_reader);
    }
    let counting = thread::spawn(move || {
        let mut bytes = 0;
        for proof in from_golden {
            let message = ToAgent::Proof { stream: key.stream, proof };
            bytes += postcard::to_stdvec(&message).map_or(0, |message| message.len());
            // Without proofs nobody takes them.
            let _ = to_reader.send(proof);
        }
        bytes
    });
    let before = cpu_seconds();
    let mut buffer = vec![0; 512 << 10];
    while reader.read(&mut buffer)? > 0 {}
    reader.finish()?;
    let seconds = cpu_seconds() - before;
    producing.join().map_err(|_| "the producer has panicked")?;
    Ok((seconds, counting.join().map_err(|_| "the counter has panicked")?))
}

/// The two members' places.
fn views(
    key: &StreamKey,
    golden: SocketAddr,
) -> Result<(View<SocketAddr>, View<SocketAddr>), Box<dyn Error>> {
    let epoch = Epoch(1);
    let name = LinkName { stream: key.stream, epoch, from: NodeId::GOLDEN, to: NODE };
    let link = LinkKeys::generate()?.secret(&name);
    let first = View {
        epoch,
        predecessor: None,
        successor: Some(NODE),
        secrets: Secrets { down: link.clone(), ..Secrets::default() },
    };
    let second = View {
        epoch,
        predecessor: Some(Neighbour { id: NodeId::GOLDEN, address: golden }),
        successor: None,
        secrets: Secrets { up: link, ..Secrets::default() },
    };
    Ok((first, second))
}

struct Told {
    relay: Handle,
    proofs: Mutex<Sender<Proof>>,
}

impl Chain for Told {
    fn wake(&self) {
        self.relay.wake();
    }

    fn prove(&self, root: Root) {
        if let Ok(proofs) = self.proofs.lock() {
            // Nobody hears it if the reader has failed.
            let _ = proofs.send(Proof { root, last: None });
        }
    }
}

/// A GiB that does not compress.
struct Noise;

impl Source for Noise {
    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError> {
        let stream = |e| SourceError::Stream(e);
        let mut noise = Vec::with_capacity(8 << 20);
        while noise.len() < 8 << 20 {
            noise.extend(random::<64>().map_err(|e| stream(io::Error::other(e)))?);
        }
        for _ in 0..GIB / noise.len() {
            out.write_all(&noise).map_err(stream)?;
        }
        Ok(Tally::default())
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)).as_secs_f64()
}
