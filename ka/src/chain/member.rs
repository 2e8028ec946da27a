//! One member of a chain: it takes blocks from its predecessor, verifies and keeps them, passes them to its
//! writer, and forwards them to its successor.
//!
//! A state machine without I/O. Its shell reports what happened (`on_…`), carries out the queued [`Action`]s,
//! and pulls blocks for the successor and plaintext for the writer. These rules ensure that a survivor can
//! always continue from its predecessor's memory:
//!
//! - The *tail position* T of a member is the lowest verified position of all members behind it. It never
//!   falls, and is frozen while the member has no successor. It is replaced only by a new successor's hello,
//!   or dropped when an epoch makes the member the chain's tail.
//! - Blocks are forgotten only below T, and only after the member's own writer has taken them.
//! - Neighbours change only with an epoch. A member that sees trouble closes that link, complains, and waits.
//!   A hello of an older epoch is refused, and one of a newer epoch is parked.

use std::collections::VecDeque;
use std::time::Duration;

use super::ids::{Epoch, NodeId, Offset};
use super::link_keys::Secrets;
use super::outlet::{self, Outlet, Plaintext};
use super::rules::Rules;
use super::view::{Neighbour, Report, Trouble, View};
use super::window::Window;
use crate::chain::LinkMessage;
use crate::chain::LinkName;
use crate::seal::{Block, Opener, StreamId, StreamKey, Total};

/// How many connection attempts for newer epochs may wait at once. Nothing in them is proven, so the limit
/// equals that of unproven connections, and the oldest is dropped for a new one: a stranger who fills them
/// cannot keep the next successor out.
const MAX_PARKED: usize = 32;

/// A connection to a neighbour, as named between member and shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// An action for the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<A> {
    /// Dial a predecessor.
    Dial {
        /// The name of the new connection.
        link: LinkId,
        /// The predecessor and its address.
        to: Neighbour<A>,
        /// The link's name.
        name: LinkName,
    },
    /// Continue the handshake of a waiting incoming connection.
    Accept {
        /// The connection.
        link: LinkId,
        /// The link's name.
        name: LinkName,
    },
    /// Send a message.
    Send {
        /// The connection.
        link: LinkId,
        /// The message.
        message: LinkMessage,
    },
    /// Drop a connection.
    Close {
        /// The connection.
        link: LinkId,
    },
    /// Write what is queued on a connection, then close it.
    Part {
        /// The connection.
        link: LinkId,
    },
    /// Send a report to the controller.
    Complain(Report),
}

/// The link to one side.
enum Link {
    None,
    /// Dialled, or accepted and not yet greeted, since this time.
    Opening(LinkId),
    Open(LinkId),
    /// Closed in good order.
    Parted,
}

/// Tracks the neighbours' silence, and when to send a ping.
struct Clock {
    dead_after: Duration,
    heard_up: Duration,
    heard_down: Duration,
    pinged: Duration,
    complained: Duration,
}

/// A member of one stream's chain.
pub struct Member<A> {
    id: NodeId,
    stream: StreamId,
    window: Window,
    outlet: Outlet,
    view: Option<View<A>>,
    up: Link,
    down: Link,
    /// The next block for the successor.
    cursor: Offset,
    /// T: the lowest verified position of the members behind; `None` if there are none.
    tail: Option<Offset>,
    /// The tail position last sent to the predecessor.
    acked: Option<Offset>,
    /// The last member reports its verified position in steps of this many bytes.
    ack_every: u64,
    parked: Vec<(LinkId, LinkName)>,
    /// The link accepted by this epoch's handshake, and not yet greeted.
    knocked: Vec<LinkId>,
    total: Option<Total>,
    /// Which predecessor sent the kept blocks, with the offset where each began; and the offset up to which
    /// the writer has received them.
    senders: VecDeque<(Offset, NodeId)>,
    handed: Offset,
    /// Reports sent to the controller in this epoch and not yet answered.
    complaints: Vec<Report>,
    released: bool,
    clock: Clock,
    links: u64,
    actions: Vec<Action<A>>,
    rules: Rules,
}

impl<A: Clone> Member<A> {
    /// Creates a node that takes part in the stream of `opener` with a window of `window` bytes.
    #[must_use]
    pub fn node(id: NodeId, key: &StreamKey, window: u64, dead_after: Duration) -> Self {
        Self::new(id, key, window, dead_after, true)
    }

    /// Creates the golden node, whose blocks come from [`Member::push`].
    #[must_use]
    pub fn golden(key: &StreamKey, window: u64, dead_after: Duration) -> Self {
        Self::new(NodeId::GOLDEN, key, window, dead_after, false)
    }

    fn new(id: NodeId, key: &StreamKey, window: u64, dead_after: Duration, has_writer: bool) -> Self {
        let zero = Duration::ZERO;
        Self {
            id,
            stream: key.stream,
            window: Window::new(window),
            outlet: Outlet::new(Opener::new(key), window, has_writer),
            ack_every: 2 * outlet::batch(window),
            view: None,
            up: Link::None,
            down: Link::None,
            cursor: Offset(0),
            tail: None,
            acked: None,
            parked: Vec::new(),
            knocked: Vec::new(),
            total: None,
            senders: VecDeque::new(),
            handed: Offset(0),
            complaints: Vec::new(),
            released: false,
            clock: Clock { dead_after, heard_up: zero, heard_down: zero, pinged: zero, complained: zero },
            links: 0,
            actions: Vec::new(),
            rules: Rules::default(),
        }
    }

    /// Disables rules, for the simulator's proof.
    #[doc(hidden)]
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// Names a connection that was opened to this member.
    pub fn new_link(&mut self) -> LinkId {
        self.links += 1;
        LinkId(self.links)
    }

    /// The queued actions; call this after every event.
    pub fn take_actions(&mut self) -> Vec<Action<A>> {
        std::mem::take(&mut self.actions)
    }

    // Messages from the controller.

    /// Takes a new place in the chain. Both old links close first.
    pub fn on_view(&mut self, view: View<A>, now: Duration) {
        if self.released || self.view.as_ref().is_some_and(|old| old.epoch >= view.epoch) {
            return;
        }
        let first = self.view.is_none();
        for link in
            [std::mem::replace(&mut self.up, Link::None), std::mem::replace(&mut self.down, Link::None)]
        {
            if let Link::Opening(link) | Link::Open(link) = link {
                self.actions.push(Action::Close { link });
            }
        }
        if self.rules.old_epochs_refused {
            self.actions.extend(self.knocked.drain(..).map(|link| Action::Close { link }));
        }
        self.complaints.clear();
        // A neighbour that stays but was silent before keeps half of its time.
        let soon = now.saturating_sub(self.clock.dead_after / 2);
        let stays = |of: fn(&View<A>) -> Option<NodeId>| self.view.as_ref().and_then(of) == of(&view);
        let (up, down) = (stays(View::predecessor_id), stays(|view| view.successor));
        self.clock.heard_up = if up { self.clock.heard_up.max(soon) } else { now };
        self.clock.heard_down = if down { self.clock.heard_down.max(soon) } else { now };
        self.tail = match view.successor {
            None => None,
            Some(_) if first => Some(Offset(0)),
            Some(_) => Some(self.tail.unwrap_or(self.window.floor())),
        };
        if let Some(to) = view.predecessor.clone() {
            let link = self.new_link();
            let name = LinkName { stream: self.stream, epoch: view.epoch, from: to.id, to: self.id };
            self.up = Link::Opening(link);
            self.actions.push(Action::Dial { link, to, name });
        }
        self.view = Some(view);
        self.forget();
        for (link, name) in std::mem::take(&mut self.parked) {
            self.on_knock(link, name);
        }
    }

    /// Releases the member: all members behind have everything. The links close in good order, and the window
    /// is dropped.
    pub fn on_release(&mut self) {
        self.released = true;
        self.complaints.clear();
        for side in [&mut self.up, &mut self.down] {
            if let Link::Opening(link) | Link::Open(link) = std::mem::replace(side, Link::Parted) {
                self.actions.push(Action::Send { link, message: LinkMessage::End });
                self.actions.push(Action::Part { link });
            }
        }
        // A waiting connection has nothing left to ask for.
        let waiting = self.knocked.drain(..).chain(self.parked.drain(..).map(|(link, _)| link));
        self.actions.extend(waiting.map(|link| Action::Close { link }));
        self.tail = None;
        self.forget();
    }

    // Events on links.

    /// Handles a peer's request for a link; nothing is proven yet.
    pub fn on_knock(&mut self, link: LinkId, name: LinkName) {
        let epoch = self.view.as_ref().map_or(Epoch(0), |view| view.epoch);
        let ours = name.stream == self.stream && name.from == self.id && !self.released;
        let current = name.epoch == epoch && self.successor() == Some(name.to);
        let outdated = name.epoch < epoch && !self.rules.old_epochs_refused;
        if ours && name.epoch > epoch && self.rules.hellos_parked {
            if self.parked.len() == MAX_PARKED {
                let (link, _) = self.parked.remove(0);
                self.actions.push(Action::Close { link });
            }
            self.parked.push((link, name));
        } else if ours && (current || outdated) {
            self.knocked.push(link);
            self.actions.push(Action::Accept { link, name });
        } else {
            self.actions.push(Action::Close { link });
        }
    }

    /// Handles the predecessor's answer to the handshake.
    pub fn on_open(&mut self, link: LinkId, now: Duration) {
        if matches!(self.up, Link::Opening(up) if up == link) {
            self.up = Link::Open(link);
            self.clock.heard_up = now;
            let tail = self.tail_position();
            self.acked = Some(tail);
            let message = LinkMessage::Hello { verified: self.window.end(), tail };
            self.actions.push(Action::Send { link, message });
        }
    }

    /// Handles a message, authenticated as coming from the other end.
    pub fn on_message(&mut self, link: LinkId, message: LinkMessage, now: Duration) {
        self.on_heard(link, now);
        match message {
            LinkMessage::Hello { verified, tail } => self.on_hello(link, verified, tail, now),
            LinkMessage::Ack { epoch, from, tail } => self.on_ack(link, epoch, from, tail),
            LinkMessage::Ping => {}
            LinkMessage::End => {
                for side in [&mut self.up, &mut self.down] {
                    if matches!(side, Link::Open(open) if *open == link) {
                        *side = Link::Parted;
                        self.actions.push(Action::Close { link });
                    }
                }
            }
        }
    }

    /// Bytes have arrived on a link.
    pub fn on_heard(&mut self, link: LinkId, now: Duration) {
        if self.is_up(link) {
            self.clock.heard_up = now;
        } else if self.is_down(link) {
            self.clock.heard_down = now;
        }
    }

    fn on_hello(&mut self, link: LinkId, verified: Offset, tail: Offset, now: Duration) {
        let knocked = self.knocked.contains(&link);
        self.knocked.retain(|other| *other != link);
        if !knocked || !matches!(self.down, Link::None) {
            // An accepted peer sends one hello. A link in use that is closed for it counts as lost, not as
            // closed in good order.
            if self.is_up(link) {
                self.trouble_up(Trouble::Impossible);
            } else if self.is_down(link) {
                self.trouble_down(Trouble::Impossible);
            } else {
                self.parked.retain(|(parked, _)| *parked != link);
                self.actions.push(Action::Close { link });
            }
            return;
        }
        let possible =
            tail <= verified && self.window.is_boundary(verified) && self.tail.is_some_and(|old| old <= tail);
        self.down = Link::Open(link);
        if !possible {
            self.trouble_down(Trouble::Impossible);
            return;
        }
        self.clock.heard_down = now;
        self.cursor = verified;
        self.tail = Some(tail);
        self.forget();
    }

    fn on_ack(&mut self, link: LinkId, epoch: Epoch, from: NodeId, tail: Offset) {
        if !self.is_down(link) {
            return;
        }
        let expected =
            self.view.as_ref().is_some_and(|view| view.epoch == epoch && view.successor == Some(from))
                || !self.rules.old_epochs_refused;
        let possible = self.tail.is_some_and(|old| old <= tail) && tail <= self.cursor;
        if !expected || !possible {
            self.trouble_down(Trouble::Impossible);
            return;
        }
        self.tail = Some(tail);
        self.forget();
    }

    /// Handles a block from the predecessor.
    pub fn on_block(&mut self, link: LinkId, block: Block, now: Duration) {
        if !self.is_up(link) {
            return;
        }
        self.clock.heard_up = now;
        if self.total.is_some() {
            self.trouble_up(Trouble::Impossible);
            return;
        }
        match self.outlet.verify(&block, &self.window, now) {
            Ok(total) => {
                self.total = total;
                let sender = self.view.as_ref().and_then(View::predecessor_id);
                if let Some(sender) =
                    sender.filter(|id| self.senders.back().is_none_or(|(_, last)| last != id))
                {
                    self.senders.push_back((self.window.end(), sender));
                }
                self.window.push(block);
                // The tail of a chain keeps nothing if it has no writer.
                self.forget();
            }
            Err(_) if !self.rules.verified_positions => self.window.push(block),
            Err(_) => self.trouble_up(Trouble::Damaged),
        }
    }

    /// Handles a connection that has ended, could not be opened, or delivered something impossible.
    pub fn on_lost(&mut self, link: LinkId, trouble: Trouble) {
        self.parked.retain(|(parked, _)| *parked != link);
        self.knocked.retain(|knocked| *knocked != link);
        if self.is_up(link) || matches!(self.up, Link::Opening(up) if up == link) {
            self.trouble_up(trouble);
        } else if self.is_down(link) {
            self.trouble_down(trouble);
        }
    }

    // Events on the machine itself.

    /// Adds the golden node's next block.
    pub fn push(&mut self, block: Block, total: Option<Total>) {
        self.window.push(block);
        self.total = total;
        self.forget();
    }

    /// Records that the writer has taken everything before `end`.
    pub fn on_written(&mut self, end: Offset) {
        self.outlet.on_written(end);
        self.forget();
        if self.total.is_some() && end == self.window.end() && !self.rules.hold_until_released {
            self.on_release();
        }
    }

    /// Records that the writer has failed: the member only relays from now on.
    pub fn on_writer_failed(&mut self) {
        self.outlet.on_failed();
        self.forget();
    }

    /// Handles the passing of time: pings, silence, and complaints without an answer.
    pub fn on_tick(&mut self, now: Duration) {
        self.outlet.on_tick(now);
        if self.released || self.view.is_none() {
            return;
        }
        let dead_after = self.clock.dead_after;
        if now.saturating_sub(self.clock.pinged) >= dead_after / 4 {
            self.clock.pinged = now;
            for side in [&self.up, &self.down] {
                if let Link::Open(link) = *side {
                    self.actions.push(Action::Send { link, message: LinkMessage::Ping });
                }
            }
        }
        if !self.wants_block() {
            // Nothing is read while the window is full, so silence proves nothing.
            self.clock.heard_up = now;
        }
        let (up, down) = (now.saturating_sub(self.clock.heard_up), now.saturating_sub(self.clock.heard_down));
        match self.up {
            Link::Opening(_) | Link::Open(_) if up > dead_after => self.trouble_up(Trouble::Silent),
            _ => {}
        }
        match self.down {
            Link::Open(_) if down > dead_after => self.trouble_down(Trouble::Silent),
            Link::None if self.successor().is_some() && down > dead_after => {
                self.clock.heard_down = now;
                self.trouble_down(Trouble::Silent);
            }
            _ => {}
        }
        if now.saturating_sub(self.clock.complained) > dead_after {
            self.clock.complained = now;
            self.actions.extend(self.complaints.iter().copied().map(Action::Complain));
        }
    }

    // Data that the shell pulls.

    /// Whether a block may be read from the predecessor, or pushed by the golden node's producer.
    #[must_use]
    pub fn wants_block(&self) -> bool {
        self.total.is_none() && self.window.has_room()
    }

    /// Whether the window is full because of the member's own writer, and not because of the members behind.
    #[must_use]
    pub fn is_held_by_writer(&self) -> bool {
        !self.window.has_room() && self.written() < self.tail.unwrap_or(self.window.end())
    }

    /// Whether `link` is the open link to the predecessor.
    #[must_use]
    pub fn is_predecessor(&self, link: LinkId) -> bool {
        self.is_up(link)
    }

    /// The open link to the successor.
    #[must_use]
    pub fn successor_link(&self) -> Option<LinkId> {
        if let Link::Open(link) = self.down { Some(link) } else { None }
    }

    /// The next block for the successor, with its link.
    pub fn next_block(&mut self) -> Option<(LinkId, Block)> {
        let link = self.successor_link()?;
        let (_, block) = self.window.get(self.cursor)?;
        let block = block.clone();
        self.cursor = self.cursor.plus(block.size());
        Some((link, block))
    }

    /// How far the newest block is ahead of what was sent to the successor.
    #[must_use]
    pub fn lead(&self) -> u64 {
        self.window.end().since(self.cursor)
    }

    /// The next plaintext for the writer, if there is enough to be worth its while.
    pub fn next_plaintext(&mut self) -> Option<Plaintext> {
        let mut plaintext = self.outlet.next(&self.window, self.total)?;
        let start = std::mem::replace(&mut self.handed, plaintext.end);
        while self.senders.get(1).is_some_and(|(next, _)| *next <= start) {
            self.senders.pop_front();
        }
        let alone = self.senders.get(1).is_none_or(|(next, _)| *next >= plaintext.end);
        plaintext.from = self.senders.front().filter(|_| alone).map(|(_, sender)| *sender);
        Some(plaintext)
    }

    /// The number of a kept block that verified on arrival and no longer does: the machine's memory is bad.
    /// The member can neither write nor forward its blocks.
    #[must_use]
    pub fn spoiled(&self) -> Option<u64> {
        self.outlet.spoiled()
    }

    /// The ack that the predecessor has not received yet.
    pub fn next_ack(&mut self) -> Option<(LinkId, LinkMessage)> {
        let Link::Open(link) = self.up else { return None };
        let tail = self.tail_position();
        let news = tail.since(self.acked.unwrap_or_default());
        // Only the last member counts its own steps: all others forward its acks at once.
        let last = self.successor().is_none();
        if news == 0 || last && news < self.ack_every && self.total.is_none() {
            return None;
        }
        self.acked = Some(tail);
        let epoch = self.view.as_ref()?.epoch;
        Some((link, LinkMessage::Ack { epoch, from: self.id, tail }))
    }

    /// The secrets of this member's links in its current epoch.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        self.view.as_ref().map(|view| view.secrets.clone()).unwrap_or_default()
    }

    /// Everything before this offset is verified.
    #[must_use]
    pub fn verified(&self) -> Offset {
        self.window.end()
    }

    /// The writer has taken everything before this offset, or there is nothing to write.
    #[must_use]
    pub fn written(&self) -> Offset {
        self.outlet.written().unwrap_or(self.window.end())
    }

    /// The lowest verified position of this member and all behind it. Before the first view the members
    /// behind are unknown, and none of them has anything: a short stream may be produced completely by then.
    #[must_use]
    pub fn tail_position(&self) -> Offset {
        if self.view.is_none() && !self.released {
            return self.window.floor();
        }
        self.tail.map_or(self.window.end(), |tail| tail.min(self.window.end()))
    }

    /// The oldest kept byte.
    #[must_use]
    pub fn floor(&self) -> Offset {
        self.window.floor()
    }

    /// The stream's summary, once its final block is verified.
    #[must_use]
    pub fn total(&self) -> Option<Total> {
        self.total
    }

    /// The epoch of the member's place, if it has one.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.view.as_ref().map(|view| view.epoch)
    }

    // Details.

    fn successor(&self) -> Option<NodeId> {
        self.view.as_ref().and_then(|view| view.successor)
    }

    fn is_up(&self, link: LinkId) -> bool {
        matches!(self.up, Link::Open(up) if up == link)
    }

    fn is_down(&self, link: LinkId) -> bool {
        matches!(self.down, Link::Open(down) if down == link)
    }

    fn trouble_up(&mut self, trouble: Trouble) {
        let link = std::mem::replace(&mut self.up, Link::None);
        let about = self.view.as_ref().and_then(|view| view.predecessor.as_ref()).map(|up| up.id);
        self.trouble(link, about, trouble);
    }

    fn trouble_down(&mut self, trouble: Trouble) {
        let link = std::mem::replace(&mut self.down, Link::None);
        if !self.rules.frozen_tail {
            self.tail = None;
            self.forget();
        }
        self.trouble(link, self.successor(), trouble);
    }

    fn trouble(&mut self, link: Link, about: Option<NodeId>, trouble: Trouble) {
        if let Link::Opening(link) | Link::Open(link) = link {
            self.actions.push(Action::Close { link });
        }
        if self.released {
            return;
        }
        if let (Some(view), Some(about)) = (&self.view, about) {
            let report = Report { epoch: view.epoch, about, trouble };
            self.complaints.retain(|earlier| earlier.about != about);
            self.complaints.push(report);
            self.actions.push(Action::Complain(report));
        }
    }

    /// Forgets the blocks that neither a survivor behind nor the member's own writer can need.
    fn forget(&mut self) {
        if self.view.is_none() && !self.released {
            // The producer may be ahead of the first view: the members behind are not known yet.
            return;
        }
        let tail = self.tail.unwrap_or(self.window.end());
        self.window.forget_before(tail.min(self.written()));
    }
}
