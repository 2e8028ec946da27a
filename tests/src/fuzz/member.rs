//! One member of a chain under any sequence of events that its shell can produce, sane or not.
//!
//! The shell keeps its contract: it reads no block while the member has no room, and names only existing
//! connections. All others may send anything: the neighbours, which have proved to be admitted, and the
//! controller.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use ka::chain::LinkMessage;
use ka::chain::LinkName;
use ka::chain::{Action, Epoch, LinkId, Member, Neighbour, NodeId, Offset, Secrets, Trouble, View};
use ka::seal::{Block, Cipher, Sealer, StreamId, StreamKey, Total};

use super::input::Input;

const DEAD_AFTER: Duration = Duration::from_millis(1500);
const ME: NodeId = NodeId(5);
const WINDOWS: [u64; 3] = [4096, 8192, 65_536];
/// The maximum length of the plaintext in a block: with header and tag a quarter of the smallest window.
const PLAINTEXT: usize = 1024 - 32;

/// A stream larger than the largest window, sealed once.
struct Stream {
    key: StreamKey,
    blocks: Vec<Block>,
    plaintext: Vec<u8>,
    total: Total,
    /// The offsets where each block begins, and where the last ends.
    borders: Vec<Offset>,
}

static STREAM: LazyLock<Stream> = LazyLock::new(|| {
    let key = StreamKey::generate(Cipher::preferred()).expect("randomness");
    let mut sealer = Sealer::new(&key);
    let (mut blocks, mut plaintext) = (Vec::new(), Vec::new());
    for i in 0..200_usize {
        let piece: Vec<u8> = (0..(i * 331) % (PLAINTEXT + 1)).map(|j| (i + j).to_le_bytes()[0]).collect();
        blocks.push(sealer.seal(&piece).expect("short"));
        plaintext.extend(piece);
    }
    let total = Total { length: plaintext.len() as u64, hash: [1; 32], sha256: None };
    blocks.push(sealer.finish(&total).expect("short"));
    let mut borders = vec![Offset(0)];
    for block in &blocks {
        borders.push(borders[borders.len() - 1].plus(block.size()));
    }
    Stream { key, blocks, plaintext, total, borders }
});

pub(super) fn any_events(data: &[u8]) {
    let mut input = Input::new(data);
    let window = input.one_of(&WINDOWS);
    let mut shell = match input.below(4) {
        0 => Shell::new(Member::golden(&STREAM.key, window, DEAD_AFTER), NodeId::GOLDEN, window),
        _ => Shell::new(Member::node(ME, &STREAM.key, window, DEAD_AFTER), ME, window),
    };
    while !input.is_empty() {
        shell.step(&mut input);
        shell.obey();
        shell.check();
    }
}

/// The shell's state, and the member's previous state.
struct Shell {
    member: Member<()>,
    id: NodeId,
    window: u64,
    now: Duration,
    /// The open connections.
    links: Vec<LinkId>,
    /// The data that the writer has, and the offset up to which it was accepted.
    written: Vec<u8>,
    taken: Offset,
    acked: Offset,
    released: bool,
    writes: bool,
    /// The offset up to which the successor has the stream, and its link.
    sent: Option<(LinkId, Offset)>,
    before: Before,
}

#[derive(Default)]
struct Before {
    floor: Offset,
    verified: Offset,
    epoch: Option<Epoch>,
}

impl Shell {
    fn new(member: Member<()>, id: NodeId, window: u64) -> Self {
        Self {
            member,
            id,
            window,
            now: Duration::ZERO,
            links: Vec::new(),
            written: Vec::new(),
            taken: Offset(0),
            acked: Offset(0),
            released: false,
            writes: id != NodeId::GOLDEN,
            sent: None,
            before: Before::default(),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0 => self.place(input),
            1 => {
                let link = self.member.new_link();
                self.links.push(link);
                let name = self.knock(input);
                self.member.on_knock(link, name);
            }
            2 => {
                if let Some(link) = self.link(input) {
                    self.member.on_open(link, self.now);
                }
            }
            3..=5 => self.message(input),
            6..=9 => self.block(input),
            10 => {
                if let Some(link) = self.link(input) {
                    self.links.retain(|other| *other != link);
                    let troubles = [Trouble::Reset, Trouble::Silent, Trouble::Damaged, Trouble::Impossible];
                    self.member.on_lost(link, input.one_of(&troubles));
                }
            }
            11 => self.write(),
            12 => self.send(),
            13 => {
                self.now += input.millis();
                self.member.on_tick(self.now);
            }
            14 => {
                if let Some((_, LinkMessage::Ack { tail, .. })) = self.member.next_ack() {
                    assert!(tail <= self.member.verified());
                    self.acked = tail;
                }
            }
            _ => match input.below(32) {
                0 => {
                    self.member.on_release();
                    self.released = true;
                }
                1 => {
                    self.member.on_writer_failed();
                    self.writes = false;
                }
                _ => {}
            },
        }
    }

    /// A place in the chain, in an epoch that may be outdated.
    fn place(&mut self, input: &mut Input<'_>) {
        let now = self.member.epoch().map_or(0, |epoch| epoch.0);
        let epoch = Epoch((now + u64::from(input.below(4))).saturating_sub(1));
        let neighbour = |n: u8| (n != 0).then_some(NodeId(n.into()));
        let predecessor =
            (self.id != NodeId::GOLDEN).then(|| Neighbour { id: NodeId(input.below(4).into()), address: () });
        let successor = neighbour(input.below(4)).map(|id| NodeId(id.0 + ME.0));
        let old = self.member.epoch();
        self.member.on_view(View { epoch, predecessor, successor, secrets: Secrets::default() }, self.now);
        if self.member.epoch() != old {
            self.sent = None;
        }
    }

    fn knock(&self, input: &mut Input<'_>) -> LinkName {
        let now = self.member.epoch().map_or(0, |epoch| epoch.0);
        LinkName {
            stream: if input.below(8) == 0 { StreamId([0; 16]) } else { STREAM.key.stream },
            epoch: Epoch((now + u64::from(input.below(4))).saturating_sub(1)),
            from: if input.below(8) == 0 { NodeId(1) } else { self.id },
            to: NodeId(u32::from(input.below(4)) + ME.0),
        }
    }

    fn link(&self, input: &mut Input<'_>) -> Option<LinkId> {
        let choice = usize::from(input.byte());
        // The newest one is the most important.
        self.links.iter().rev().nth(choice % self.links.len().max(1)).copied()
    }

    fn offset(&self, input: &mut Input<'_>) -> Offset {
        match input.below(6) {
            0 => self.member.floor(),
            1 => self.member.verified(),
            2 => self.member.tail_position(),
            3 => STREAM.borders[usize::from(input.byte()) % STREAM.borders.len()],
            4 => self.sent.map_or(Offset(0), |(_, sent)| sent),
            _ => Offset(input.u64()),
        }
    }

    fn message(&mut self, input: &mut Input<'_>) {
        let Some(link) = self.link(input) else { return };
        let message = match input.below(4) {
            0 => LinkMessage::Hello { verified: self.offset(input), tail: self.offset(input) },
            1 => {
                let now = self.member.epoch().map_or(0, |epoch| epoch.0);
                LinkMessage::Ack {
                    epoch: Epoch((now + u64::from(input.below(3))).saturating_sub(1)),
                    from: NodeId(u32::from(input.below(4)) + ME.0),
                    tail: self.offset(input),
                }
            }
            2 => LinkMessage::Ping,
            _ => LinkMessage::End,
        };
        if let LinkMessage::Hello { verified, .. } = message {
            let before = self.member.successor_link();
            self.member.on_message(link, message, self.now);
            if before.is_none() && self.member.successor_link() == Some(link) {
                self.sent = Some((link, verified));
            }
        } else {
            self.member.on_message(link, message, self.now);
        }
    }

    /// A block, usually the next one in order, and never while there is no room.
    fn block(&mut self, input: &mut Input<'_>) {
        if !self.member.wants_block() {
            return;
        }
        let due = STREAM.borders.iter().position(|at| *at == self.member.verified()).expect("a border");
        if self.id == NodeId::GOLDEN {
            if let Some(block) = STREAM.blocks.get(due) {
                let total = (due + 1 == STREAM.blocks.len()).then_some(STREAM.total);
                self.member.push(block.clone(), total);
            }
            return;
        }
        let Some(link) = self.link(input) else { return };
        let block = match input.below(8) {
            0 => STREAM.blocks[usize::from(input.byte()) % STREAM.blocks.len()].clone(),
            1 => {
                let mut bytes = STREAM.blocks[due.min(STREAM.blocks.len() - 1)].bytes().to_vec();
                let at = usize::from(input.u16()) % bytes.len();
                bytes[at] ^= input.byte() | 1;
                Block::from_wire(&bytes).expect("as long as before")
            }
            _ => STREAM.blocks[due.min(STREAM.blocks.len() - 1)].clone(),
        };
        // Several, as from a full socket buffer.
        self.member.on_block(link, block, self.now);
        let more = usize::from(input.below(64));
        for block in STREAM.blocks.iter().skip(due + 1).take(more) {
            if self.member.wants_block() {
                self.member.on_block(link, block.clone(), self.now);
            }
        }
    }

    /// The writer accepts what it is given, and it is the correct stream.
    fn write(&mut self) {
        while let Some(plaintext) = self.member.next_plaintext() {
            assert!(self.writes, "a writer that has failed is given more");
            assert!(plaintext.end > self.taken && plaintext.end <= self.member.verified());
            self.written.extend_from_slice(&plaintext.bytes);
            if let Some(total) = plaintext.total {
                assert_eq!((total, self.written.len()), (STREAM.total, STREAM.plaintext.len()));
            }
            self.taken = plaintext.end;
            self.member.on_written(plaintext.end);
        }
        assert!(STREAM.plaintext.starts_with(&self.written));
    }

    /// The successor is sent the data that follow what it has.
    fn send(&mut self) {
        while let Some((link, block)) = self.member.next_block() {
            let (to, at) = self.sent.expect("somebody has asked");
            assert_eq!(link, to, "a block for somebody who has not said where it is");
            let index = STREAM.borders.iter().position(|border| *border == at).expect("a border");
            assert!(block == STREAM.blocks[index]);
            self.sent = Some((link, at.plus(block.size())));
        }
    }

    /// Carries out the member's requests; everything that they name exists.
    fn obey(&mut self) {
        for action in self.member.take_actions() {
            match action {
                Action::Dial { link, name, .. } => {
                    assert_eq!((name.to, Some(name.epoch)), (self.id, self.member.epoch()));
                    self.links.push(link);
                }
                Action::Accept { link, name } => {
                    assert_eq!((name.from, Some(name.epoch)), (self.id, self.member.epoch()));
                    assert!(self.links.contains(&link), "{link:?} has ended");
                }
                // A connection may end before the member is notified.
                Action::Send { .. } => {}
                Action::Close { link } | Action::Part { link } => {
                    self.links.retain(|other| *other != link);
                }
                Action::Complain(report) => {
                    assert!(!self.released, "{report:?} after the release");
                    assert_eq!(Some(report.epoch), self.member.epoch());
                    assert_ne!(report.about, self.id);
                }
            }
        }
        let unique: BTreeSet<_> = self.links.iter().collect();
        assert_eq!(unique.len(), self.links.len(), "a name for two connections");
    }

    fn check(&mut self) {
        let member = &self.member;
        let (floor, verified, tail) = (member.floor(), member.verified(), member.tail_position());
        assert!(floor <= tail && tail <= verified, "{floor:?} {tail:?} {verified:?}");
        assert!(floor <= member.written() && member.written() <= verified);
        assert!(verified.since(floor) <= self.window, "{} bytes are kept", verified.since(floor));
        assert!(
            floor >= self.before.floor
                && verified >= self.before.verified
                && member.epoch() >= self.before.epoch
        );
        assert!(
            STREAM.borders.binary_search(&verified).is_ok() && STREAM.borders.binary_search(&floor).is_ok()
        );
        assert_eq!(member.total().is_some(), STREAM.borders.last() == Some(&verified));
        if let Some(link) = member.successor_link() {
            assert!(self.links.contains(&link));
        }
        self.before = Before { floor, verified, epoch: member.epoch() };
    }
}
