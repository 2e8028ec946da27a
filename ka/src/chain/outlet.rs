//! The path of a member's plaintext to its writer.
//!
//! A block is opened once, to verify it, directly where the writer wants its bytes. The writer receives the
//! bytes of many blocks each time its thread is woken. For a writer that lags, blocks are opened again from
//! the window.

use std::time::Duration;

use super::ids::{NodeId, Offset};
use super::window::Window;
use crate::seal::{Block, Bytes, Opener, Pool, SealError, Total, max_block};

/// The batch size for the writer in bytes, or a sixteenth of the window if that is smaller.
const BATCH: u64 = 512 * 1024;
/// With a slow stream, a smaller batch is handed over after this time.
const FLUSH_AFTER: Duration = Duration::from_millis(25);

/// Plaintext for the writer, from any number of blocks.
#[derive(Debug, PartialEq, Eq)]
pub struct Plaintext {
    /// The bytes.
    pub bytes: Bytes,
    /// The content of the final block, if these are the last bytes.
    pub total: Option<Total>,
    /// Pass this position to [`Member::on_written`](super::Member::on_written) when the writer has taken the
    /// bytes.
    pub end: Offset,
    /// The predecessor that sent them, if all came from the same one.
    pub from: Option<NodeId>,
}

/// A batch that is worth waking the writer's thread for.
pub(super) fn batch(window: u64) -> u64 {
    BATCH.min(window / 16)
}

pub(super) struct Outlet {
    opener: Opener,
    batch: u64,
    /// The pool for batches, and the memory that each may need.
    pool: Pool,
    room: usize,
    writer: Writer,
    fresh: Fresh,
    /// Where blocks are opened whose plaintext is not needed now.
    scratch: Vec<u8>,
    /// A block that opened on arrival and no longer does.
    spoiled: Option<u64>,
}

/// The destination of the plaintext.
enum Writer {
    /// None: the golden node, or a node whose writer has failed.
    None,
    Active {
        /// The next block to hand over.
        next: Offset,
        /// Everything before this is taken.
        written: Offset,
    },
}

/// The plaintext of the newest blocks, for a writer that keeps up.
#[derive(Default)]
struct Fresh {
    /// The blocks that they came from.
    start: Offset,
    end: Offset,
    bytes: Bytes,
    since: Duration,
    /// The bytes have waited long enough.
    due: bool,
}

impl Outlet {
    /// Creates the outlet of a member with a window of `window` bytes. The golden node has no writer.
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

    /// Verifies the block that follows all of `window`, and returns its content if it is the final one.
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
        let plaintext = if wanted { self.fresh.bytes.vec() } else { &mut self.scratch };
        let total = self.opener.open(block, window.next_number(), plaintext)?;
        if wanted {
            self.fresh.end = at.plus(block.size());
        }
        Ok(total)
    }

    /// The next plaintext, if there is enough to be worth the writer's while. `total` is known once the
    /// stream is complete.
    pub(super) fn next(&mut self, window: &Window, total: Option<Total>) -> Option<Plaintext> {
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
                // The block has verified before.
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
        Some(Plaintext { bytes, total: total.filter(|_| end == window.end()), end, from: None })
    }

    /// The number of a block that verified on arrival and no longer does.
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

    /// The writer has taken everything before this; `None` if there is nothing to write.
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
    /// For blocks of 64 KiB.
    const PLAINTEXT: usize = (64 << 10) - 17;

    struct Chain {
        window: Window,
        outlet: Outlet,
        sealer: Sealer,
        plaintext: Vec<u8>,
    }

    impl Chain {
        fn new() -> Self {
            let key = StreamKey::generate(Cipher::preferred()).unwrap();
            let outlet = Outlet::new(Opener::new(&key), WINDOW, true);
            Self { window: Window::new(WINDOW), outlet, sealer: Sealer::new(&key), plaintext: Vec::new() }
        }

        fn block(&mut self, fill: u8) {
            let plaintext = vec![fill; PLAINTEXT];
            let block = self.sealer.seal(&plaintext).unwrap();
            assert_eq!(self.outlet.verify(&block, &self.window, Duration::ZERO), Ok(None));
            self.window.push(block);
            self.plaintext.extend_from_slice(&plaintext);
        }
    }

    #[test]
    fn a_writer_that_keeps_up_gets_whole_batches() {
        let mut chain = Chain::new();
        for i in 0..8 {
            assert_eq!(chain.outlet.next(&chain.window, None), None, "{i} blocks are no batch");
            chain.block(i);
        }
        let plaintext = chain.outlet.next(&chain.window, None).unwrap();
        assert!(*plaintext.bytes == chain.plaintext && plaintext.end == chain.window.end());
        assert_eq!(chain.outlet.next(&chain.window, None), None);
    }

    #[test]
    fn less_than_a_batch_comes_after_a_while() {
        let mut chain = Chain::new();
        chain.block(1);
        chain.outlet.on_tick(FLUSH_AFTER / 2);
        assert_eq!(chain.outlet.next(&chain.window, None), None);
        chain.outlet.on_tick(FLUSH_AFTER);
        assert!(chain.outlet.next(&chain.window, None).unwrap().bytes[..] == chain.plaintext);
    }

    #[test]
    fn a_writer_that_lags_gets_every_byte_once() {
        let mut chain = Chain::new();
        (0..30).for_each(|i| chain.block(i));
        let mut got = Vec::new();
        for i in 30..40 {
            got.extend(
                chain
                    .outlet
                    .next(&chain.window, None)
                    .into_iter()
                    .flat_map(|plaintext| plaintext.bytes.to_vec()),
            );
            chain.block(i);
        }
        chain.outlet.on_tick(FLUSH_AFTER);
        while let Some(plaintext) = chain.outlet.next(&chain.window, None) {
            got.extend_from_slice(&plaintext.bytes);
        }
        assert!(got == chain.plaintext);
    }

    #[test]
    fn the_end_waits_for_nothing() {
        let mut chain = Chain::new();
        chain.block(1);
        let total = Total { length: PLAINTEXT as u64, hash: [0; 32], sha256: None };
        let last = Sealer::finish(chain.sealer, &total).unwrap();
        assert_eq!(chain.outlet.verify(&last, &chain.window, Duration::ZERO), Ok(Some(total)));
        chain.window.push(last);
        let end = chain.window.end();
        let plaintext = chain.outlet.next(&chain.window, Some(total)).unwrap();
        assert!(
            plaintext == Plaintext { bytes: chain.plaintext.into(), total: Some(total), end, from: None }
        );
    }
}
