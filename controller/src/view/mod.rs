//! Output for people and programs: progress, tables, JSON.

pub mod dry_run;
pub mod inventory;
pub mod machines;
pub mod progress;
pub mod records;
pub mod summary;
pub mod units;

use std::str::FromStr;

/// The form of a result on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

impl Form {
    /// All forms, each with its name and its explanation.
    pub const ALL: [(&'static str, &'static str, Self); 4] = [
        ("text", "For people", Self::Text),
        ("json", "One JSON object on one line", Self::Json),
        ("jsonl", "A JSON object per node, each on one line", Self::Jsonl),
        ("csv", "Comma-separated values (RFC 4180), with a heading and a line per node", Self::Csv),
    ];
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = Self::ALL.iter().find(|(name, ..)| *name == text);
        form.map(|(.., form)| *form).ok_or_else(|| format!("'{text}' is not text, json, jsonl or csv"))
    }
}
