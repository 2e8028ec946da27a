//! Shows waiting machines and the contents of their disks.

use ka::inventory::{Card, Content, Disk, Duplex, Firmware};
use ka::plan::report::{DiskAction, DiskReport, Report};
use ka::shown::{self, Field, Page};

use ka::keys;

use super::units;
use ka::session::Arrival;
use ka::session::target::refusal;

/// Whether a machine's code is shown, or must be read from the machine's own screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The code is shown.
    Shown,
    /// The operator will be asked for the code.
    Asked,
}

impl Code {
    /// Selects one of the two.
    #[must_use]
    pub fn of(confirm: bool) -> Self {
        if confirm { Self::Asked } else { Self::Shown }
    }
}

/// The maximum number of lines per machine: no machine may scroll the question out of the terminal's buffer.
pub(super) const MAX_LINES: usize = 120;
/// The maximum number of disks that are shown but not erased, and of items on one of them. A disk to be
/// erased is shown completely.
const MAX_OTHERS: usize = 16;
const MAX_ON_OTHERS: usize = 8;

/// A machine as the operator must see it before it is erased: its identity, and the contents of each disk.
///
/// What a machine reports about itself is not trusted with the terminal ([`ka::shown`]).
#[must_use]
pub fn describe(arrival: &Arrival, report: &Report, code: Code) -> String {
    let mut page = Page::default();
    page.line(format_args!("{}", headline(arrival, code)));
    let is_erased = |disk: &&Disk| {
        let is_this = |of: &&DiskReport| of.disk.as_ref().is_some_and(|d| d.name == disk.name);
        report.disks.iter().find(is_this).is_some_and(|of| matches!(of.outcome, DiskAction::Erase(_)))
    };
    let (erased, others): (Vec<_>, Vec<_>) = arrival.inventory.disks.iter().partition(is_erased);
    erased.iter().for_each(|disk| describe_disk(&mut page, disk, true));
    others.iter().take(MAX_OTHERS).for_each(|disk| describe_disk(&mut page, disk, false));
    page.more("  ", others.len().saturating_sub(MAX_OTHERS), "disks");
    page.cut(MAX_LINES);
    if let Some(reason) = arrival.doubt().or_else(|| refusal(report)) {
        page.line(format_args!("  REFUSED: {}", shown::reason(&reason)));
    }
    page.into_text()
}

/// The machine's identity.
pub(super) fn headline(arrival: &Arrival, code: Code) -> String {
    let Arrival { mac, address, inventory, key, .. } = arrival;
    let firmware = match inventory.firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "UEFI",
    };
    let name = if inventory.hostname.is_empty() { "" } else { "  " };
    let card = inventory.cards.first().and_then(speed).map(|speed| format!("  {speed}")).unwrap_or_default();
    format!(
        "{mac}  {address}{name}{}  {} memory  {firmware}{card}{}",
        Field(&inventory.hostname),
        units::bytes(inventory.memory),
        match code {
            Code::Shown => format!("  code {}", keys::code(key)),
            Code::Asked => String::new(),
        }
    )
}

/// The link mode that the boot card has negotiated.
fn speed(card: &Card) -> Option<String> {
    let speed = card.speed?;
    let half = if card.duplex == Some(Duplex::Half) { " HALF DUPLEX" } else { "" };
    Some(format!("{speed} Mbit/s{half}"))
}

fn describe_disk(page: &mut Page, disk: &Disk, erased: bool) {
    let model = if disk.model.is_empty() { "no model told" } else { &disk.model };
    let serial =
        if disk.serial.is_empty() { String::new() } else { format!(", serial {}", Field(&disk.serial)) };
    let marks = [("REMOVABLE", disk.removable), ("IN USE", disk.in_use), ("WILL BE ERASED", erased)];
    let marks: String = marks.iter().filter(|(_, is)| *is).map(|(mark, _)| format!("  {mark}")).collect();
    page.line(format_args!(
        "  {}: {}, {}{serial}, table {}{marks}",
        Field(&disk.name),
        units::bytes(disk.size),
        Field(model),
        Field(disk.table.as_deref().unwrap_or("none")),
    ));
    let most = if erased { disk.contents.len() } else { MAX_ON_OTHERS };
    let width = shown::width(disk.contents.iter().take(most).map(|content| &content.device));
    for Content { device, size, kind, label } in disk.contents.iter().take(most) {
        let (device, size) = (Field(device), units::bytes(*size));
        let kind = Field(kind.as_deref().unwrap_or("nothing known"));
        let label = label.as_deref().map(|l| format!("  \"{}\"", Field(l))).unwrap_or_default();
        page.line(format_args!("    {device:width$}  {size:>8}  {kind}{label}"));
    }
    page.more("    ", disk.contents.len().saturating_sub(most), "things on it");
    if disk.contents.is_empty() {
        page.line(format_args!("    {}", disk.nothing()));
    }
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
        let storage = ka::plan::Storage { disks: vec![plan], ..ka::plan::Storage::default() };
        let report = Report::new(&storage, &disks);
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
            (Some(100), Some(Duplex::Half), "BIOS  100 Mbit/s HALF DUPLEX"),
            (Some(1000), Some(Duplex::Full), "BIOS  1000 Mbit/s"),
            (None, None, "BIOS"),
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
        let mirrored = Disk { serial: "\u{202e}DESARE EB LLIW\u{200b}\u{2028}".into(), ..disk("sda") };
        assert!(described(vec![mirrored]).contains("serial ?DESARE EB LLIW??, table"));
    }

    #[test]
    fn many_disks_bury_nothing() {
        let mut disks: Vec<Disk> = (0..20_001).map(|number| disk(&format!("nbd{number}"))).collect();
        disks.push(disk("sda"));
        let shown = described(disks);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.len() <= MAX_LINES + 2, "{} lines", lines.len());
        assert!(lines[1].starts_with("  sda: ") && lines[1].ends_with("WILL BE ERASED"), "{shown}");
        assert!(lines.contains(&"  and 19985 more disks"), "{shown}");
        let crowded = Disk { contents: vec![Content::default(); 100], ..disk("sdb") };
        let shown = described(vec![disk("sda"), crowded]);
        assert!(shown.contains("    and 92 more things on it\n"), "{shown}");
    }
}
