//! Output for people and programs: progress, tables, JSON.

pub mod dry_run;
pub mod inventory;
pub mod machines;
pub mod progress;
pub mod records;
pub mod summary;
pub mod units;

/// The form of a result on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people
    #[default]
    Text,
    /// One JSON object on one line
    Json,
    /// A JSON object per node, each on one line
    Jsonl,
    /// Comma-separated values (RFC 4180), with a heading and a line per node
    Csv,
}
