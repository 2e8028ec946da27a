//! Shows all machines that ever joined a run.

use std::io::{self, Write};
use std::time::Duration;

use ka::shown::{Field, columns, field, reason, width};

use super::units;
use crate::machines::record::{LastRun, Record};

const HEAD: [&str; 7] = ["NAME", "MAC", "ADDRESS", "MODEL", "SERIAL", "SEEN", "LAST RUN"];

/// One line per machine.
///
/// # Errors
/// The output's error.
pub fn table(out: &mut impl Write, records: &[Record], now: u64) -> io::Result<()> {
    if records.is_empty() {
        return writeln!(out, "No machine has joined a run yet.");
    }
    let rows: Vec<[String; 7]> = records.iter().map(|record| row(record, now)).collect();
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| {
            width(
                rows.iter()
                    .filter_map(|row| row.get(column))
                    .map(String::as_str)
                    .chain(HEAD.get(column).copied()),
            )
        })
        .collect();
    let head = HEAD.map(str::to_owned);
    for row in std::iter::once(&head).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let cell = field(cell);
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(columns(&cell)) + 2));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn row(record: &Record, now: u64) -> [String; 7] {
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    [
        dash(&record.name),
        record.mac.to_string(),
        record.address.map_or_else(|| "-".into(), |address| address.to_string()),
        dash(&model(record)),
        dash(&record.serial),
        age(record.last_seen, now),
        record.last_run.as_ref().map_or_else(|| "-".into(), outcome),
    ]
}

fn model(record: &Record) -> String {
    format!("{} {}", record.maker, record.model).trim().to_owned()
}

fn outcome(last: &LastRun) -> String {
    match &last.step {
        Some(step) => format!("{}: {} ({step})", last.run, last.outcome.name()),
        None => format!("{}: {}", last.run, last.outcome.name()),
    }
}

/// The age of an event.
fn age(at: u64, now: u64) -> String {
    let seconds = now.saturating_sub(at);
    let (count, unit) = match seconds {
        0..60 => return "now".into(),
        60..3600 => (seconds / 60, "min"),
        3600..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit} ago")
}

/// Prints everything that is known about each machine.
///
/// # Errors
/// The output's error.
pub fn details(out: &mut impl Write, records: &[Record], now: u64) -> io::Result<()> {
    for (number, record) in records.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        detail(out, record, now)?;
    }
    Ok(())
}

fn detail(out: &mut impl Write, record: &Record, now: u64) -> io::Result<()> {
    let mut line = |name: &str, value: &str| {
        if value.is_empty() { Ok(()) } else { writeln!(out, "{name:<10} {}", Field(value)) }
    };
    line("name", &record.name)?;
    line("mac", &record.mac.to_string())?;
    line("address", &record.address.map(|address| address.to_string()).unwrap_or_default())?;
    line("model", &model(record))?;
    line("serial", &record.serial)?;
    line("firmware", record.firmware.as_deref().unwrap_or_default())?;
    if record.memory > 0 {
        line("memory", &units::bytes(record.memory))?;
    }
    for card in &record.cards {
        line("card", card)?;
    }
    for disk in &record.disks {
        let text = format!("{} {} {} {}", disk.name, units::bytes(disk.size), disk.model, disk.serial);
        line("disk", text.trim_end())?;
    }
    line("first seen", &age(record.first_seen, now))?;
    line("last seen", &age(record.last_seen, now))?;
    if let Some(key) = record.key() {
        line("code", &ka::keys::code(&key))?;
    }
    if let Some(pin) = &record.tpm {
        line("tpm", &format!("pinned since run {}, {}: {}", pin.run, age(pin.at, now), pin.key))?;
    }
    if let Some(last) = &record.last_run {
        let since = units::duration(Duration::from_secs(now.saturating_sub(last.at)));
        line("last run", &format!("{}, {since} ago", outcome(last)))?;
        line("reason", &reason(last.reason.as_deref().unwrap_or_default()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::record::{DiskRecord, RunOutcome};
    use ka::mac::Mac;

    fn record() -> Record {
        Record {
            name: "node07".into(),
            address: Some([10, 0, 0, 7].into()),
            maker: "Dell Inc.".into(),
            model: "R640\u{1b}[2J".into(),
            serial: "A1B2".into(),
            memory: 16_000_000_000,
            disks: vec![DiskRecord {
                name: "sda".into(),
                size: 80_026_361_856,
                model: "SSD".into(),
                serial: "S1".into(),
            }],
            last_run: Some(LastRun {
                run: "lab".into(),
                at: 940,
                outcome: RunOutcome::Failed,
                step: Some("receive".into()),
                reason: Some("no\nspace".into()),
            }),
            ..Record::new(Mac([2, 0, 0, 0, 0, 7]), 0)
        }
    }

    fn shown(show: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        show(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_machine_takes_one_line() {
        let mut record = record();
        record.last_seen = 0;
        let text = shown(|out| table(out, &[record.clone()], 7200).unwrap());
        let expected = "\
NAME    MAC                ADDRESS   MODEL               SERIAL  SEEN     LAST RUN
node07  02:00:00:00:00:07  10.0.0.7  Dell Inc. R640?[2J  A1B2    2 h ago  lab: failed (receive)
";
        assert_eq!(text, expected);
        assert_eq!(shown(|out| table(out, &[], 0).unwrap()), "No machine has joined a run yet.\n");
    }

    #[test]
    fn all_is_told_of_one() {
        let text = shown(|out| details(out, &[record()], 1000).unwrap());
        for line in [
            "name       node07",
            "memory     16.0 GB",
            "disk       sda 80.0 GB SSD S1",
            "last run   lab: failed (receive), 1 min 0 s ago",
            "reason     no; space",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing:\n{text}");
        }
    }

    #[test]
    fn ages() {
        for (seconds, text) in
            [(0, "now"), (59, "now"), (60, "1 min ago"), (7199, "1 h ago"), (172_800, "2 days ago")]
        {
            assert_eq!(age(1_000_000 - seconds, 1_000_000), text);
        }
        assert_eq!(age(9, 3), "now", "a clock that was set back");
    }
}
