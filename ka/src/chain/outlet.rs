//! The way of a member's plain bytes to its writer.
//!
//! A block is opened once, to verify it, and where the writer wants its bytes. The writer gets those of many blocks
//! at once, for each time a thread is woken. One that lags has its blocks opened once more, from the window.

use std::time::Duration;

use super::ids::{NodeId, Offset};
use super::window::Window;
use crate::seal::{Block, Bytes, Opener, Pool, SealError, Total, max_block};

/// The writer gets so many bytes at once, or a sixteenth of a smaller window.
const BATCH: u64 = 512 * 1024;
/// A stream that comes slowly is handed on after this time, though it is less.
const FLUSH_AFTER: Duration = Duration::from_millis(25);

/// Plain bytes for the writer, of any number of blocks.
#[derive(Debug, PartialEq, Eq)]
pub struct Plain {
    /// The bytes.
    pub bytes: Bytes,
    /// What the final block tells, when these are the last bytes.
    pub total: Option<Total>,
    /// Tell [`Member::on_written`](super::Member::on_written) this place when the writer has taken the bytes.
    pub end: Offset,
    /// The predecessor that they came from, if they all came from one.
    pub from: Option<NodeId>,
}

/// A batch that is worth waking somebody for.
pub(super) fn batch(window: u64) -> u64 {
    BATCH.min(window / 16)
}

pub(super) struct Outlet {
    opener: Opener,
    batch: u64,
    /// Where batches have their memory from, and how much each may need.
    pool: Pool,
    room: usize,
    writer: Writer,
    fresh: Fresh,
    /// Where blocks are opened whose plain bytes nobody wants now.
    scratch: Vec<u8>,
    /// A block that opened when it came, and does not now.
    spoiled: Option<u64>,
}

/// Where the plain bytes go.
enum Writer {
    /// Nowhere: the golden node, or a writer that has failed.
    None,
    Active {
        /// The next block to hand out.
        next: Offset,
        /// All before is taken.
        written: Offset,
    },
}

/// The plain bytes of the newest blocks, for a writer that keeps up.
#[derive(Default)]
struct Fresh {
    /// Of which blocks.
    start: Offset,
    end: Offset,
    bytes: Bytes,
    since: Duration,
    /// They have waited long enough.
    due: bool,
}

impl Outlet {
    /// The outlet of a member with a window of `window` bytes. The golden node has no writer.
    pub(super) fn new(opener: Opener, window: u64, has_writer: bool) -> Self {
        let active = Writer::Active { next: Offset(0), written: Offset(0) };
        let (batch, block) = (batch(window), max_block(window) as u64);
        let room = usize::try_from(batch + block.min(batch)).unwrap_or_default();
        Self {
            opener,
            batch,
            pool: Pool::keeping(2 * room),
            room,
            writer: if has_writer { active } else { Writer::None },
            fresh: Fresh::default(),
            scratch: Vec::new(),
            spoiled: None,
        }
    }

    /// Verifies the block that is to follow all of `window`, and tells what it does if it is the final one.
    pub(super) fn verify(
        &mut self,
        block: &Block,
        window: &Window,
        now: Duration,
    ) -> Result<Option<Total>, SealError> {
        let at = window.end();
        if self.fresh.is_empty() {
            let bytes = std::mem::take(&mut self.fresh.bytes);
            self.fresh = Fresh { start: at, end: at, bytes, since: now, due: false };
        }
        let has_writer = matches!(self.writer, Writer::Active { .. });
        let wanted = has_writer && self.fresh.end == at && !self.fresh.has(self.batch);
        if wanted && self.fresh.bytes.is_empty() {
            self.fresh.bytes = self.pool.empty(self.room);
        }
        self.scratch.clear();
        let plain = if wanted { self.fresh.bytes.vec() } else { &mut self.scratch };
        let total = self.opener.open(block, window.next_number(), plain)?;
        if wanted {
            self.fresh.end = at.plus(block.size());
        }
        Ok(total)
    }

    /// The next plain bytes, if they are worth the writer's while. `total` is known when the stream is whole.
    pub(super) fn next(&mut self, window: &Window, total: Option<Total>) -> Option<Plain> {
        let Writer::Active { next, .. } = &mut self.writer else { return None };
        let (start, fresh) = (*next, &mut self.fresh);
        let (end, bytes) = if start == fresh.start && !fresh.is_empty() {
            let pressing = fresh.due || total.is_some() || !window.has_room();
            if !pressing && !fresh.has(self.batch) {
                return None;
            }
            fresh.start = fresh.end;
            (fresh.end, std::mem::take(&mut fresh.bytes))
        } else {
            let until = if start < fresh.start { fresh.start } else { window.end() };
            let (mut end, mut bytes) = (start, self.pool.empty(self.room));
            while end < until && end.since(start) < self.batch {
                let (number, block) = window.get(end)?;
                // It has verified before.
                if self.opener.open(block, number, bytes.vec()).is_err() {
                    self.spoiled = Some(number);
                    return None;
                }
                end = end.plus(block.size());
            }
            (end, bytes)
        };
        if end == start {
            return None;
        }
        *next = end;
        Some(Plain { bytes, total: total.filter(|_| end == window.end()), end, from: None })
    }

    /// The number of a block that verified when it came, and is not what it was.
    pub(super) fn spoiled(&self) -> Option<u64> {
        self.spoiled
    }

    pub(super) fn on_tick(&mut self, now: Duration) {
        self.fresh.due = now.saturating_sub(self.fresh.since) >= FLUSH_AFTER;
    }

    pub(super) fn on_written(&mut self, end: Offset) {
        if let Writer::Active { written, .. } = &mut self.writer {
            *written = end.max(*written);
        }
    }

    pub(super) fn on_failed(&mut self) {
        self.writer = Writer::None;
        self.fresh = Fresh::default();
    }

    /// The writer has taken everything before; none if nothing is to be written.
    pub(super) fn written(&self) -> Option<Offset> {
        match self.writer {
            Writer::Active { written, .. } => Some(written),
            Writer::None => None,
        }
    }
}

impl Fresh {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn has(&self, size: u64) -> bool {
        self.end.since(self.start) >= size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Cipher, Sealer, StreamKey};

    const WINDOW: u64 = 8 << 20;
    /// Of a block of 64 KiB.
    const PLAIN: usize = (64 << 10) - 17;

    struct Chain {
        window: Window,
        outlet: Outlet,
        sealer: Sealer,
        plain: Vec<u8>,
    }

    impl Chain {
        fn new() -> Self {
            let key = StreamKey::generate(Cipher::preferred()).unwrap();
            let outlet = Outlet::new(Opener::new(&key), WINDOW, true);
            Self { window: Window::new(WINDOW), outlet, sealer: Sealer::new(&key), plain: Vec::new() }
        }

        fn block(&mut self, fill: u8) {
            let plain = vec![fill; PLAIN];
            let block = self.sealer.seal(&plain).unwrap();
            assert_eq!(self.outlet.verify(&block, &self.window, Duration::ZERO), Ok(None));
            self.window.push(block);
            self.plain.extend_from_slice(&plain);
        }
    }

    #[test]
    fn a_writer_that_keeps_up_gets_whole_batches() {
        let mut chain = Chain::new();
        for i in 0..8 {
            assert_eq!(chain.outlet.next(&chain.window, None), None, "{i} blocks are no batch");
            chain.block(i);
        }
        let plain = chain.outlet.next(&chain.window, None).unwrap();
        assert!(*plain.bytes == chain.plain && plain.end == chain.window.end());
        assert_eq!(chain.outlet.next(&chain.window, None), None);
    }

    #[test]
    fn less_than_a_batch_comes_after_a_while() {
        let mut chain = Chain::new();
        chain.block(1);
        chain.outlet.on_tick(FLUSH_AFTER / 2);
        assert_eq!(chain.outlet.next(&chain.window, None), None);
        chain.outlet.on_tick(FLUSH_AFTER);
        assert!(chain.outlet.next(&chain.window, None).unwrap().bytes[..] == chain.plain);
    }

    #[test]
    fn a_writer_that_lags_gets_every_byte_once() {
        let mut chain = Chain::new();
        (0..30).for_each(|i| chain.block(i));
        let mut got = Vec::new();
        for i in 30..40 {
            got.extend(
                chain.outlet.next(&chain.window, None).into_iter().flat_map(|plain| plain.bytes.to_vec()),
            );
            chain.block(i);
        }
        chain.outlet.on_tick(FLUSH_AFTER);
        while let Some(plain) = chain.outlet.next(&chain.window, None) {
            got.extend_from_slice(&plain.bytes);
        }
        assert!(got == chain.plain);
    }

    #[test]
    fn the_end_waits_for_nothing() {
        let mut chain = Chain::new();
        chain.block(1);
        let total = Total { length: PLAIN as u64, hash: [0; 32], sha256: None };
        let last = Sealer::finish(chain.sealer, &total).unwrap();
        assert_eq!(chain.outlet.verify(&last, &chain.window, Duration::ZERO), Ok(Some(total)));
        chain.window.push(last);
        let end = chain.window.end();
        let plain = chain.outlet.next(&chain.window, Some(total)).unwrap();
        assert!(plain == Plain { bytes: chain.plain.into(), total: Some(total), end, from: None });
    }
}
