//! When to wait a little, so that two blocks may be taken at once.
//!
//! On a fast line, waking up for a block costs about as much as moving it. So a relay that has moved all that there was
//! waits until another block may have come, as network cards gather packets before they interrupt. What comes meanwhile
//! is in the socket, which has room for far more. A slow line's blocks never wait.

use std::time::Duration;

/// So many bytes are gathered: two of the largest blocks.
const GATHERED: u64 = 128 * 1024;
/// Nothing waits for longer: a stream that needs more time for them is a slow one.
const MAX_PAUSE: Duration = Duration::from_millis(3);
/// The rate is measured over this time.
const MEASURED: Duration = Duration::from_millis(50);

/// How fast a node's blocks come, and how long to wait for more of them.
#[derive(Default)]
pub(super) struct Gather {
    /// Bytes that have come since the measurement began, and when that was.
    bytes: u64,
    since: Duration,
    /// How long the gathered bytes take; none on a slow line, and while that is not known.
    time: Option<Duration>,
    woken: Duration,
    /// The length of the newest block.
    newest: u64,
    /// Blocks have come since the relay was woken, and more of them follow.
    flows: bool,
}

impl Gather {
    /// The relay was woken at `now`.
    pub(super) fn wake(&mut self, now: Duration) {
        (self.woken, self.flows) = (now, false);
    }

    /// A block of `length` bytes has come. One that is shorter than the one before it was all that there was: the
    /// stream's last, or one of a producer that is slower than the line.
    pub(super) fn block(&mut self, length: u64) {
        self.flows = length >= self.newest;
        self.newest = length;
        self.bytes += length;
    }

    /// How long the relay waits before it looks for more, having moved all that there was at `now`.
    pub(super) fn pause(&mut self, now: Duration) -> Duration {
        let elapsed = now.saturating_sub(self.since);
        if elapsed >= MEASURED {
            let time = elapsed.as_secs_f64() * GATHERED as f64 / self.bytes as f64;
            self.time = Some(time).filter(|t| *t <= MAX_PAUSE.as_secs_f64()).map(Duration::from_secs_f64);
            (self.bytes, self.since) = (0, now);
        }
        let time = self.time.filter(|_| self.flows).unwrap_or_default();
        time.saturating_sub(now.saturating_sub(self.woken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 64 * 1024;

    /// A relay that gets `rate` bytes per second in blocks of `length`, and needs 50 microseconds for each: how long it
    /// pauses in the end.
    fn pause_at(rate: u64, length: u64) -> Duration {
        let mut gather = Gather::default();
        let (mut now, mut pause) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..1000 {
            now += Duration::from_secs_f64(length as f64 / rate as f64);
            gather.wake(now);
            gather.block(length);
            pause = gather.pause(now + Duration::from_micros(50));
        }
        pause
    }

    #[test]
    fn a_fast_line_is_given_the_time_for_another_block() {
        let pause = pause_at(50_000_000, BLOCK);
        assert!((2500..2600).contains(&pause.as_micros()), "{pause:?}");
        assert!(pause_at(1_250_000_000, BLOCK) < Duration::from_micros(60));
    }

    #[test]
    fn a_slow_line_is_not() {
        for rate in [1000, 12_500_000, 35_000_000] {
            assert_eq!(pause_at(rate, BLOCK / 4), Duration::ZERO, "{rate}");
        }
    }

    #[test]
    fn the_last_block_travels_on_at_once_and_so_do_messages() {
        let mut gather = Gather { time: Some(MAX_PAUSE), ..Gather::default() };
        let now = Duration::from_millis(10);
        gather.wake(now);
        assert_eq!(gather.pause(now), Duration::ZERO, "no block has come");
        gather.block(BLOCK);
        assert_eq!(gather.pause(now), MAX_PAUSE);
        gather.block(BLOCK / 2);
        assert_eq!(gather.pause(now), Duration::ZERO);
    }

    #[test]
    fn a_stream_that_stalls_is_measured_anew() {
        let mut gather = Gather { time: Some(MAX_PAUSE), ..Gather::default() };
        gather.block(BLOCK);
        assert_eq!(gather.pause(Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(gather.time, None);
    }
}
