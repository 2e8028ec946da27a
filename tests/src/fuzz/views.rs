//! What the operator sees of machines that misreport their data.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ka::disk::description::Description;
use ka::failure::{Failure, FailureKind};
use ka::inventory::{Card, Content, Disk, Duplex, Firmware, Inventory};
use ka::notes::{NoteKind, Tally};
use ka::plan::{BootPlan, DiskPlan, FinalAction, FinishPlan, Loader, Plan, Storage};
use ka::session::{Arrival, Target};
use ka::shown::{self, is_hostile};
use ka::step::Step;
use kactl::status::{LimitStatus, LimitedBy, MemberName, NodeStatus, Phase, RunStatus, Transfer};
use kactl::view::machines::{self, Code};
use kactl::view::progress::{Lines, ProgressView};
use kactl::view::{dry_run, summary};
use kactl::workflow::select::{self, Dialogue, Permission};

use super::input::Input;

/// More lines than this before a question are an error, regardless of how many disks a machine reports.
const MAX_LINES: usize = 200;

/// Any machines and statuses in every view.
pub(super) fn any_machines(data: &[u8]) {
    let mut input = Input::new(data);
    let arrivals: Vec<Arrival> = (0..=input.below(3)).map(|number| arrival(&mut input, number)).collect();
    questions(&arrivals);
    dry_runs(&arrivals);
    ends(&mut input, &arrivals);
}

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let desc = Description::parse("linux fill\n", "desc").expect("a description");
    let plan = Plan {
        run: "r".into(),
        storage: Storage { disks: vec![DiskPlan::new("sda".into(), desc)], ..Storage::default() },
        boot: BootPlan::new(Loader::Grub, Firmware::Bios),
        finish: FinishPlan::default(),
        after: FinalAction::Reboot,
    };
    Target { plan, left_out: Vec::new(), other_firmware: None }
});

fn questions(arrivals: &[Arrival]) {
    for arrival in arrivals {
        let report = TARGET.report(&arrival.inventory);
        let text = machines::describe(arrival, &report, Code::Shown);
        are_lines(&text);
        assert!(text.lines().count() <= MAX_LINES, "{} lines for a machine", text.lines().count());
        let again = select::question_again(arrival, &arrival.inventory.hostname, &TARGET);
        are_lines(&again);
        assert!(again.ends_with("Type yes or no:"), "{again}");
        assert_eq!(
            shown::record(&again).lines().count(),
            again.lines().count(),
            "a log would cut the question"
        );
    }
    let (mut input, mut output) = ("no\n".as_bytes(), Vec::new());
    let dialogue = Dialogue { input: &mut input, output: &mut output };
    // The selection is not tested here.
    drop(select::select(&Permission::Ask, 2, arrivals, &TARGET, Code::Shown, Some(dialogue)));
    are_lines(&String::from_utf8(output).expect("text"));
}

fn dry_runs(arrivals: &[Arrival]) {
    let reports: Vec<_> = arrivals.iter().map(|a| (a.clone(), TARGET.report(&a.inventory))).collect();
    are_lines(&written(|out| dry_run::print(out, &reports)));
    let json = written(|out| dry_run::print_json(out, "r", &reports));
    is_json(&json);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    for (arrival, node) in arrivals.iter().zip(value["nodes"].as_array().expect("nodes")) {
        assert_eq!(node["hostname"], arrival.inventory.hostname, "JSON keeps what it is given");
    }
}

fn ends(input: &mut Input<'_>, arrivals: &[Arrival]) {
    let mut notes = Tally::default();
    notes.add(input.one_of(&[NoteKind::Changed, NoteKind::EntryLost, NoteKind::Finish]), &text(input));
    let node = |arrival: &Arrival, input: &mut Input<'_>| NodeStatus {
        mac: Some(arrival.mac).filter(|_| input.below(2) == 0),
        address: arrival.address,
        hostname: arrival.inventory.hostname.clone(),
        phase: input.one_of(&[
            Phase::Joined,
            Phase::Receiving,
            Phase::Complete,
            Phase::Booted,
            Phase::Failed,
        ]),
        received: input.u64(),
        rate: input.u64(),
        round: input.byte().into(),
        position: None,
        may_come_again: false,
        doing: Some(Step::WriteTable.of(text(input))),
        notes: notes.clone(),
        failure: (input.below(2) == 0)
            .then(|| Failure::own(Step::BootLoader, FailureKind::Tool { reason: text(input) })),
        tpm: None,
    };
    let nodes: Vec<_> = arrivals.iter().map(|arrival| node(arrival, input)).collect();
    let count = nodes.len();
    let status = RunStatus {
        name: text(input),
        session: text(input),
        started: SystemTime::UNIX_EPOCH,
        sent: input.u64(),
        total: Some(input.u64()),
        limit: Some(text(input)),
        limits: vec![LimitStatus {
            what: LimitedBy::Link { from: member(input), to: member(input) },
            time: Duration::from_secs(1),
            rate: 1.0,
            best: 2.0,
            busy: 0.5,
            others: 0.1,
        }],
        notes: notes.clone(),
        nodes,
    };
    let transfer =
        Transfer { uncompressed: 1, sending: Duration::from_secs(1), rounds: 1, ..Transfer::default() };
    let end = written(|out| summary::print(out, &status, &transfer));
    are_lines(&end);
    // Seven heading lines, and one line and one note per node.
    assert_eq!(end.lines().count(), 8 + 2 * count, "{end}");
    let json = written(|out| summary::print_json(out, true, &status, &transfer));
    is_json(&json);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).expect("JSON")["run"], status.name);

    let out = Shared::default();
    ProgressView::Lines(Lines::new(Box::new(out.clone()))).update(&status, Instant::now());
    let lines =
        String::from_utf8(out.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).expect("text");
    are_lines(&lines);
    assert!(lines.lines().count() <= count + 1, "{lines}");
}

/// No line contains terminal control sequences or is excessively long.
fn are_lines(text: &str) {
    for line in text.split('\n') {
        assert!(!line.chars().any(is_hostile), "{line:?}");
        assert!(shown::columns(line) <= 3 * shown::MAX_REASON, "{} columns", shown::columns(line));
    }
}

fn is_json(text: &str) {
    assert_eq!(text.matches('\n').count(), 1, "one object on one line");
    assert!(!text.trim_end().chars().any(is_hostile), "{text:?}");
}

fn written(print: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).expect("a vector takes everything");
    String::from_utf8(out).expect("text")
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn member(input: &mut Input<'_>) -> MemberName {
    MemberName { name: text(input), mac: None, address: None }
}

/// Some of the input as text, and text that must never reach a terminal.
fn text(input: &mut Input<'_>) -> String {
    const DECEIT: &[&str] = &[
        "",
        "\u{1b}[2J",
        "\u{9b}31m",
        "\n[INFO] all is well",
        "\r",
        "\u{202e}",
        "\u{2066}",
        "\u{2028}",
        "\u{200b}",
        "\u{feff}",
        "\u{e0041}",
        "                                    ",
        "e\u{301}\u{301}\u{301}",
        "\u{0}",
    ];
    let mut text = String::from_utf8_lossy(input.piece()).into_owned();
    let (deceit, times) = (input.one_of(DECEIT), input.byte());
    text.push_str(&deceit.repeat(usize::from(times)));
    text.push_str(&String::from_utf8_lossy(input.piece()));
    text
}

fn optional(input: &mut Input<'_>) -> Option<String> {
    (input.below(2) == 0).then(|| text(input))
}

fn arrival(input: &mut Input<'_>, number: u8) -> Arrival {
    let mut disks: Vec<Disk> = (0..input.below(4)).map(|_| disk(input)).collect();
    // Many of one kind cost the fuzzer no bytes.
    if let Some(last) = disks.last().cloned() {
        let copies = usize::from(input.byte()) * 8;
        disks.extend((0..copies).map(|copy| Disk { name: format!("{}{copy}", last.name), ..last.clone() }));
    }
    let inventory = Inventory {
        hostname: text(input),
        cards: vec![Card {
            name: text(input),
            mac: text(input),
            addresses: Vec::new(),
            speed: Some(u32::from(input.u16())),
            duplex: Some(input.one_of(&[Duplex::Half, Duplex::Full])),
        }],
        disks,
        memory: input.u64(),
        firmware: input.one_of(&[Firmware::Bios, Firmware::Uefi]),
        ..Inventory::default()
    };
    let claimed_by: BTreeSet<_> = (0..input.byte()).map(|host| [10, 0, 1, host].into()).collect();
    Arrival {
        mac: ka::mac::Mac([2, 0, 0, 0, 0, number]),
        address: [10, 0, 0, number].into(),
        key: input.array(),
        inventory: Arc::new(inventory),
        claimed_by: if input.below(4) == 0 { claimed_by } else { BTreeSet::new() },
    }
}

fn disk(input: &mut Input<'_>) -> Disk {
    let contents = |input: &mut Input<'_>| {
        let content =
            Content { device: text(input), size: input.u64(), kind: optional(input), label: optional(input) };
        vec![content; input.byte().into()]
    };
    Disk {
        name: if input.below(2) == 0 { "sda".into() } else { text(input) },
        size: input.u64(),
        sector_size: input.one_of(&[512, 4096, 0]),
        model: text(input),
        serial: text(input),
        bus: input.one_of(&["ata", "nvme", "usb", ""]).into(),
        by_id: vec![text(input)],
        removable: input.below(4) == 0,
        in_use: input.below(4) == 0,
        usage: optional(input),
        table: optional(input),
        contents: contents(input),
        ..Disk::default()
    }
}
