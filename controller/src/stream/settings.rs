//! How a stream is made: its compression and its check sum.

/// How a stream is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The level of compression.
    pub level: Choice,
    /// The uncompressed stream's SHA-256 is computed, for receivers that compare it.
    pub check_sum: bool,
}

/// Who chooses the level of compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// It follows what the chain takes.
    #[default]
    Auto,
    /// It is always this one of zstd's; 0 does not compress at all.
    Fixed(i32),
}
