//! Decides when to wait briefly, so that two blocks can be handled together.
//!
//! On a fast line, waking up for a block costs about as much as moving it. So a relay that has moved
//! everything available waits until another block may have arrived, as network cards coalesce packets before
//! they interrupt. Data that arrives meanwhile stays in the socket, which has room for far more. Blocks of a
//! slow line never wait.

use std::time::Duration;

/// The bytes to gather: two of the largest blocks.
const GATHERED: u64 = 128 * 1024;
/// The longest wait: a stream that needs more time for these bytes is a slow one.
const MAX_PAUSE: Duration = Duration::from_millis(3);
/// The period over which the rate is measured.
const MEASURED: Duration = Duration::from_millis(50);

/// The rate of a node's blocks, and how long to wait for more.
#[derive(Default)]
pub(super) struct Gather {
    /// The bytes since the measurement started, and its start.
    bytes: u64,
    since: Duration,
    /// How long the gathered bytes take; `None` on a slow line, and while the rate is unknown.
    time: Option<Duration>,
    woken: Duration,
    /// The length of the latest block.
    newest: u64,
    /// Blocks have arrived since the relay woke up, and more will follow.
    flows: bool,
}

impl Gather {
    /// Records that the relay woke up at `now`.
    pub(super) fn wake(&mut self, now: Duration) {
        (self.woken, self.flows) = (now, false);
    }

    /// Records a block of `length` bytes. One that is shorter than the previous block was the last available:
    /// the stream's last, or one of a producer that is slower than the line.
    pub(super) fn block(&mut self, length: u64) {
        self.flows = length >= self.newest;
        self.newest = length;
        self.bytes += length;
    }

    /// How long the relay waits before it checks for more, having moved everything available at `now`.
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

    /// A relay that receives `rate` bytes per second in blocks of `length`, and needs 50 microseconds for
    /// each: the pause that it settles on.
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
