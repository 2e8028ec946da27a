//! Lines for programs: JSON and comma-separated values.

use std::io::{self, Write};

use ka::shown::{self, Field};
use serde::Serialize;

/// One JSON object on one line.
///
/// # Errors
/// The output's error.
pub fn json_line(out: &mut dyn Write, record: &impl Serialize) -> io::Result<()> {
    writeln!(out, "{}", shown::json(&serde_json::to_string(record)?))
}

/// One line of comma-separated values (RFC 4180). Control characters are replaced, so a record is one line.
///
/// # Errors
/// The output's error.
pub fn csv_line(out: &mut dyn Write, fields: &[&str]) -> io::Result<()> {
    let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
    write!(out, "{}\r\n", fields.join(","))
}

fn quoted(field: &str) -> String {
    let field = Field(field).to_string();
    // A blank at an end is kept only by quotes.
    let plain = !field.contains([',', '"', '\n', '\r']) && field.trim() == field;
    if plain { field } else { format!("\"{}\"", field.replace('"', "\"\"")) }
}
