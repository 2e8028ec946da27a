//! Writes a description as a script in the format of `sfdisk -d`.

use super::super::description::{Description, Entry, GPT_LENGTH, Length, Role, Size};
use super::super::kind::TableKind;
use super::super::short_form::render_fill;
use super::value;
use std::fmt::Write;

/// The script. sfdisk accepts it too, unless partitions share the remaining space.
pub(in super::super) fn render(description: &Description) -> String {
    let header = description.header();
    let mut text = String::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text += &format!("{name}: {value}\n");
        }
    };
    let label = if header.table == TableKind::Mbr { "dos" } else { "gpt" };
    line("label", Some(label.to_owned()));
    line("label-id", header.id.map(|id| id.to_string()));
    line("device", header.device.clone());
    line("unit", Some("sectors".to_owned()));
    line("first-lba", header.first_lba.map(|lba| lba.0.to_string()));
    line("last-lba", header.last_lba.map(|lba| lba.0.to_string()));
    line("table-length", header.length.filter(|n| *n != GPT_LENGTH).map(|n| n.to_string()));
    line("grain", header.grain.map(|grain| grain.to_string()));
    line("sector-size", header.sector.map(|sector| sector.bytes().to_string()));
    text.push('\n');
    for entry in description.entries() {
        text += &entry_line(description, entry);
        text.push('\n');
    }
    text
}

fn entry_line(description: &Description, entry: &Entry) -> String {
    let device = description.header().device.as_deref().unwrap_or("disk");
    let p = if device.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    let mut text = format!("{device}{p}{} : ", entry.number);
    let mut fields = Vec::new();
    if let Some(start) = entry.start {
        fields.push(format!("start={:>12}", length(start)));
    }
    fields.push(match entry.size {
        Size::Fixed(size) => format!("size={:>12}", length(size)),
        Size::Fill { weight } if weight == 1 && is_only_fill(description, entry) => "size=+".to_owned(),
        Size::Fill { weight } => format!("size={}", render_fill(weight)),
    });
    fields.push(format!("type={}", entry.kind));
    if let Some(uuid) = entry.uuid {
        fields.push(format!("uuid={}", uuid.upper()));
    }
    if !entry.name.is_empty() {
        fields.push(format!("name=\"{}\"", value::name_text(&entry.name)));
    }
    if entry.attributes != 0 {
        fields.push(format!("attrs=\"{}\"", value::attributes_text(entry.attributes)));
    }
    if entry.bootable {
        fields.push("bootable".to_owned());
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "{}", fields.join(", "));
    text
}

fn is_only_fill(description: &Description, entry: &Entry) -> bool {
    let is_logical = |e: &Entry| e.role == Role::Logical;
    let same = description.entries().iter().filter(|e| is_logical(e) == is_logical(entry));
    same.filter(|e| e.is_fill()).count() == 1
}

/// Sectors, or a number of MiB or KiB; half a KiB is the smallest unit.
fn length(length: Length) -> String {
    match length {
        Length::Sectors(sectors) => sectors.to_string(),
        Length::Bytes(bytes) if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        Length::Bytes(bytes) if bytes.is_multiple_of(1024) => format!("{}KiB", bytes >> 10),
        Length::Bytes(bytes) => format!("{}.5KiB", bytes >> 10),
    }
}
