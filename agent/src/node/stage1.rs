//! Stage1: loads drivers, configures the network, finds the controller, and fetches the tree of stage2 into
//! memory.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use ka::inventory::Inventory;
use ka::keys::{self, JoinKey, Key, KeyPair};
use ka::step::Step;
use ka::wire::control::Hello;

use super::outbox::Outbox;
use super::trouble;
use crate::boot::find::Search;
use crate::boot::network::Network;
use crate::boot::{clock, randomness, stage1};
use crate::console::trace;
use crate::receive::{data_listener, unpack_into};
use crate::session::{Session, SessionOver};
use crate::step::step;
use crate::unpack::Options;
use ka::cmdline::CommandLine;
use ka_host::hardware;
use ka_net::relay::window;

/// The join key's file in the boot image.
pub const KEY_FILE: &str = "/etc/ka/join.key";
/// Where stage2 is unpacked.
pub(super) const STAGE2: &str = "/stage2";

/// A node that has found its controller.
pub(super) struct Stage1 {
    pub(super) command_line: CommandLine,
    pub(super) network: Network,
    pub(super) join: JoinKey,
    /// The agent's own key of this boot.
    pub(super) key: KeyPair,
    pub(super) controller: SocketAddr,
    /// How long this node waits for a vanished controller.
    pub(super) patience: Duration,
    pub(super) listener: TcpListener,
}

impl Stage1 {
    /// The first message of a session.
    pub(super) fn hello(&self, session: &str, inventory: Inventory) -> Result<Hello, String> {
        hello(session, &self.listener, self.key.public, self.command_line.kamethod, inventory)
    }
}

/// Connects the machine to the controller, and fetches stage2.
pub(super) fn fetch_stage2() -> Result<Stage1, String> {
    let text = fs::read_to_string(KEY_FILE).map_err(trouble(KEY_FILE))?;
    let join = JoinKey::from_text(&text).map_err(trouble(KEY_FILE))?;
    randomness::wait().map_err(trouble("wait for randomness"))?;
    let key = KeyPair::generate().map_err(|e| e.to_string())?;
    // Without the console the log can still be read.
    if let Err(error) = trace::leave_key(Path::new(trace::KEY), &key) {
        log::warn!("the golden node cannot run commands here: {error}");
    }
    log::info!("the code of this machine is {}: 'kactl run' must show the same", keys::code(&key.public));
    let listener = data_listener().map_err(trouble("listen for other nodes"))?;

    let (stage1, (controller, session)) = stage1(Path::new("/"), |line, network| {
        step(Step::FindController, || find(line, network, &join, &key, &listener))
    })
    .map_err(|e| e.to_string())?;
    // A wrong clock is not a reason to stop: it only makes the times in the log wrong.
    if let Err(error) = clock::set(session.welcome.time) {
        log::warn!("the clock cannot be set: {error}");
    }
    let crate::boot::Stage1 { command_line, network } = stage1;
    let patience = session.welcome.patience;
    let first = (controller, session);
    let search = || {
        step(Step::FindController, || find(&command_line, &network, &join, &key, &listener))
            .inspect_err(|reason| log::warn!("{reason}"))
    };
    let controller = receive_from(first, patience, search)?;
    Ok(Stage1 { command_line, network, join, key, controller, patience, listener })
}

/// Receives stage2. If the controller vanishes, the node searches for its successor: nothing on this machine
/// depends on the old one, and a reboot would take longer.
fn receive_from(
    first: (SocketAddr, Session),
    patience: Duration,
    search: impl Fn() -> Result<(SocketAddr, Session), String>,
) -> Result<SocketAddr, String> {
    let (mut controller, mut session) = first;
    loop {
        let reason = match step(Step::ReceiveStage2, || receive(&session)) {
            Ok(()) => return Ok(controller),
            Err(Trouble::Own(reason)) => return Err(reason),
            Err(Trouble::ControllerLost(reason)) => reason,
        };
        log::warn!("{reason}: searching for a controller again");
        drop(session);
        let lost_at = Instant::now();
        (controller, session) = loop {
            match search() {
                Ok(found) => break found,
                Err(_) if lost_at.elapsed() < patience => {}
                Err(reason) => return Err(reason),
            }
        };
    }
}

/// Why stage2 was not received.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// The fault is this machine's or the stream's, or the controller does not want this machine.
    #[error("{0}")]
    Own(String),
    /// The controller has vanished.
    #[error("{0}")]
    ControllerLost(String),
}

fn find(
    line: &CommandLine,
    network: &Network,
    join: &JoinKey,
    key: &KeyPair,
    listener: &TcpListener,
) -> Result<(SocketAddr, Session), String> {
    let search = Search {
        server: line.server.as_ref(),
        next_server: network.next_server,
        ..Search::new(&line.session, join, &network.interface)
    };
    let card = hardware::card_in_use(&network.uplink());
    let hostname = network.hostname.clone().unwrap_or_default();
    let product = hardware::product();
    let inventory = Inventory { hostname, cards: vec![card], product, ..Inventory::default() };
    let hello = hello(&line.session, listener, key.public, line.kamethod, inventory)?;
    search
        .find(|address| {
            let listener = listener.try_clone().map_err(|e| e.to_string())?;
            let session =
                Session::join(address, (join, key), hello.clone(), listener).map_err(|e| e.to_string())?;
            Ok::<_, String>((address, session))
        })
        .map_err(|e| e.to_string())
}

fn hello(
    session: &str,
    listener: &TcpListener,
    key: Key,
    erasable: bool,
    inventory: Inventory,
) -> Result<Hello, String> {
    Ok(Hello {
        session: session.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        key,
        data_port: listener.local_addr().map_err(|e| e.to_string())?.port(),
        window: window::default_size(),
        inventory,
        erasable,
        place: 0,
        resume: None,
    })
}

impl Trouble {
    /// After the end of the session, and what happened on this machine before.
    fn of(over: SessionOver, before: Option<String>) -> Self {
        let with = |reason: String| before.map(|before| format!("{before}; {reason}")).unwrap_or(reason);
        match over {
            SessionOver::Lost(reason) => Self::ControllerLost(with(reason)),
            SessionOver::Ended(reason) => Self::Own(with(reason)),
        }
    }
}

/// Unpacks stage2 into memory; only a verified tree is used.
fn receive(session: &Session) -> Result<(), Trouble> {
    fs::create_dir_all(STAGE2).map_err(trouble(STAGE2)).map_err(Trouble::Own)?;
    rustix::mount::mount("stage2", STAGE2, "tmpfs", rustix::mount::MountFlags::empty(), c"mode=755")
        .map_err(trouble(STAGE2))
        .map_err(Trouble::Own)?;
    receive_into(session).inspect_err(|_| {
        // Another attempt begins with an empty tree.
        if let Err(error) = rustix::mount::unmount(STAGE2, rustix::mount::UnmountFlags::DETACH) {
            log::warn!("{}", trouble(STAGE2)(error));
        }
    })
}

fn receive_into(session: &Session) -> Result<(), Trouble> {
    let (stream, mut reader) = session.wait_for_stream().map_err(|over| Trouble::of(over, None))?;
    let received =
        unpack_into(&mut reader, Path::new(STAGE2), &Options::default()).and_then(|_| Ok(reader.finish()?));
    match received {
        Ok(total) => session.complete(stream, total),
        Err(error) => {
            session.accuse(stream, error.forged());
            session.fail(error.failure(Step::ReceiveStage2, stream));
            Outbox::new(session.sender()).hand_over_log();
            let reason = error.to_string();
            // A controller that is still there has said goodbye.
            return Err(match session.leave() {
                Ok(()) => Trouble::Own(reason),
                Err(over) => Trouble::of(over, Some(reason)),
            });
        }
    }
    // The tree is verified; the next session will show whether the controller is still there.
    if let Err(error) = session.leave() {
        log::warn!("{error}");
    }
    Ok(())
}
