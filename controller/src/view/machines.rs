//! Machines that wait, and what is on their disks.

use std::fmt::Write;

use ka::inventory::{Card, Content, Disk, Duplex, Firmware};
use ka::plan::report::{DiskReport, Outcome, Report};

use ka::keys;

use super::units;
use crate::hub::{Arrival, refusal};

/// Whether a machine's code is shown, or a person is to read it from the machine's own screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It is.
    Shown,
    /// A person will be asked for it.
    Asked,
}

impl Code {
    /// The one or the other.
    #[must_use]
    pub fn of(confirm: bool) -> Self {
        if confirm { Self::Asked } else { Self::Shown }
    }
}

/// A machine as a person must see it before it is erased: which it is, and for each disk what is on it.
///
/// What a machine says of itself is shown without control characters: it is not trusted with the terminal.
#[must_use]
pub fn describe(arrival: &Arrival, report: &Report, code: Code) -> String {
    let mut text = headline(arrival, code);
    for disk in &arrival.inventory.disks {
        let is_this = |of: &&DiskReport| of.disk.as_ref().is_some_and(|d| d.name == disk.name);
        let outcome = report.disks.iter().find(is_this).map(|of| &of.outcome);
        describe_disk(&mut text, disk, matches!(outcome, Some(Outcome::Erase(_))));
    }
    if let Some(reason) = arrival.doubt().or_else(|| refusal(report)) {
        line(&mut text, format_args!("  REFUSED: {}", printable(&reason)));
    }
    text
}

/// Which machine it is.
pub(super) fn headline(arrival: &Arrival, code: Code) -> String {
    let Arrival { mac, address, inventory, key, .. } = arrival;
    let firmware = match inventory.firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "UEFI",
    };
    let name = if inventory.hostname.is_empty() { "" } else { "  " };
    let card = inventory.cards.first().and_then(speed).map(|speed| format!("  {speed}")).unwrap_or_default();
    format!(
        "{mac}  {address}{name}{}  {} memory  {firmware}{card}{}\n",
        printable(&inventory.hostname),
        units::bytes(inventory.memory),
        match code {
            Code::Shown => format!("  code {}", keys::code(key)),
            Code::Asked => String::new(),
        }
    )
}

/// What the card that the machine booted from has negotiated.
fn speed(card: &Card) -> Option<String> {
    let speed = card.speed?;
    let half = if card.duplex == Some(Duplex::Half) { " HALF DUPLEX" } else { "" };
    Some(format!("{speed} Mbit/s{half}"))
}

fn describe_disk(text: &mut String, disk: &Disk, erased: bool) {
    let model = if disk.model.is_empty() { "no model told".into() } else { printable(&disk.model) };
    let serial =
        if disk.serial.is_empty() { String::new() } else { format!(", serial {}", printable(&disk.serial)) };
    let table = printable(disk.table.as_deref().unwrap_or("none"));
    let mut marks = String::new();
    for (mark, is) in [("REMOVABLE", disk.removable), ("IN USE", disk.in_use), ("WILL BE ERASED", erased)] {
        if is {
            marks.push_str("  ");
            marks.push_str(mark);
        }
    }
    line(
        text,
        format_args!(
            "  {}: {}, {model}{serial}, table {table}{marks}",
            printable(&disk.name),
            units::bytes(disk.size)
        ),
    );
    let width = disk.contents.iter().map(|c| c.device.chars().count()).max().unwrap_or(0);
    for Content { device, size, kind, label } in &disk.contents {
        let (device, size) = (printable(device), units::bytes(*size));
        let kind = printable(kind.as_deref().unwrap_or("nothing known"));
        let label = label.as_deref().map(|l| format!("  \"{}\"", printable(l))).unwrap_or_default();
        line(text, format_args!("    {device:width$}  {size:>8}  {kind}{label}"));
    }
    if disk.contents.is_empty() {
        line(text, format_args!("    {}", disk.nothing()));
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String never fails.
    let _ = writeln!(text, "{content}");
}

/// Text that a machine told, without what could move the cursor, hide text, or forge a line.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::inventory::Inventory;

    fn disk(name: &str) -> Disk {
        Disk {
            name: name.into(),
            size: 80_026_361_856,
            sector_size: 512,
            model: "ST380011A".into(),
            serial: "3JV7".into(),
            table: Some("dos".into()),
            contents: vec![
                Content {
                    device: format!("{name}1"),
                    size: 500_000_000,
                    kind: Some("ext4".into()),
                    label: Some("home".into()),
                },
                Content { device: format!("{name}10"), size: 1000, kind: None, label: None },
            ],
            ..Disk::default()
        }
    }

    fn described(disks: Vec<Disk>) -> String {
        let desc = ka::disk::description::Description::parse("linux fill\n", "desc").unwrap();
        let plan = ka::plan::DiskPlan::new("sda".into(), desc);
        let report = Report::new(&[plan], &disks);
        describe(&arrival(disks), &report, Code::Shown)
    }

    fn arrival(disks: Vec<Disk>) -> Arrival {
        Arrival {
            mac: "52:54:00:00:00:01".parse().unwrap(),
            address: [10, 0, 0, 7].into(),
            key: [7; 32],
            claimed_by: Default::default(),
            inventory: std::sync::Arc::new(Inventory {
                hostname: "node7".into(),
                memory: 1_000_000_000,
                disks,
                ..Inventory::default()
            }),
        }
    }

    #[test]
    fn a_machine_with_two_disks() {
        let blank = Disk { removable: true, in_use: true, table: None, contents: vec![], ..disk("sdb") };
        assert_eq!(
            described(vec![disk("sda"), blank]),
            format!(
                "\
52:54:00:00:00:01  10.0.0.7  node7  1.0 GB memory  BIOS  code {}
  sda: 80.0 GB, ST380011A, serial 3JV7, table dos  WILL BE ERASED
    sda1   500.0 MB  ext4  \"home\"
    sda10    1.0 kB  nothing known
  sdb: 80.0 GB, ST380011A, serial 3JV7, table none  REMOVABLE  IN USE
    nothing found on it
",
                keys::code(&[7; 32])
            )
        );
    }

    #[test]
    fn a_slow_card_is_seen_before_the_run() {
        for (speed, duplex, shown) in [
            (Some(100), Some(Duplex::Half), "BIOS  100 Mbit/s HALF DUPLEX\n"),
            (Some(1000), Some(Duplex::Full), "BIOS  1000 Mbit/s\n"),
            (None, None, "BIOS\n"),
        ] {
            let mut arrival = arrival(vec![]);
            std::sync::Arc::make_mut(&mut arrival.inventory).cards =
                vec![Card { speed, duplex, ..Card::default() }];
            assert!(headline(&arrival, Code::Asked).ends_with(shown), "{}", headline(&arrival, Code::Asked));
        }
    }

    #[test]
    fn a_machine_without_the_disk() {
        let shown = described(vec![]);
        assert!(shown.contains("  REFUSED: sda: this machine has no such disk"), "{shown}");
    }

    #[test]
    fn a_machine_whose_disk_is_in_use() {
        let shown =
            described(vec![Disk { in_use: true, usage: Some("sda1 is mounted at /".into()), ..disk("sda") }]);
        assert!(shown.contains("REFUSED: ") && shown.contains("sda1 is mounted at /"), "{shown}");
        assert!(!shown.contains("WILL BE ERASED"), "{shown}");
    }

    #[test]
    fn a_machine_cannot_write_to_the_terminal() {
        let evil = Disk { model: "x\u{1b}[2K\rgood\n\u{9b}A".into(), ..disk("sda") };
        let shown = described(vec![evil]);
        assert!(shown.contains("x?[2K?good??A"), "{shown}");
    }
}
