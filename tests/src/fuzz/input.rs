//! A fuzzer's bytes as a source of decisions. After their end, zeros follow.

use std::time::Duration;

pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.0.len().min(N);
        let (now, later) = self.0.split_at(taken);
        array[..taken].copy_from_slice(now);
        self.0 = later;
        array
    }

    /// This many bytes, or the remaining ones.
    pub(super) fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(self.0.len().min(length));
        self.0 = later;
        now
    }

    /// Up to 255 bytes, preceded by their number.
    pub(super) fn piece(&mut self) -> &'a [u8] {
        let length = self.byte().into();
        self.bytes(length)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A number below `limit`, which is not 0.
    pub(super) fn below(&mut self, limit: u8) -> u8 {
        self.byte() % limit
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    pub(super) fn millis(&mut self) -> Duration {
        Duration::from_millis(self.u16().into())
    }
}
