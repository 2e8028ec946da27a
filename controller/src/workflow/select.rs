//! Selects the waiting machines that may be erased: those on a list, the first to arrive, or those that the
//! operator confirms after seeing the contents of their disks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};

use ka::inventory::identity::DiskIdentity;
use ka::keys;
use ka::plan::report::Report;
use ka::shown;

use crate::view::machines::{self, Code};
use ka::mac::Mac;
use ka::session::target::{identities, refusal};
use ka::session::{Arrival, Target};

/// The maximum number of attempts to type a code.
const TRIES: u32 = 3;

/// The maximum number of rejected machines that are named before the question.
const MAX_REFUSED: usize = 32;

/// The largest number of machines that a "yes" erases. For more, the operator types their number: one too
/// many in the room is noticed then.
const MAX_FOR_YES: usize = 10;

/// What allows a machine to be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// `--nodes`: these machines and no others.
    Listed(BTreeSet<Mac>),
    /// `--yes`: the first to arrive.
    First,
    /// The operator is asked.
    Ask,
}

impl Permission {
    /// Whether this machine counts towards the number that a run waits for.
    #[must_use]
    pub fn admits(&self, mac: Mac) -> bool {
        match self {
            Self::Listed(macs) => macs.contains(&mac),
            Self::First | Self::Ask => true,
        }
    }
}

/// Which machines are erased, and which are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// The machines to erase.
    pub chosen: Vec<Mac>,
    /// The disks of these machines, as they were shown.
    pub confirmed: BTreeMap<Mac, Vec<DiskIdentity>>,
    /// Machines that were allowed (confirmed, listed, or first to arrive) but whose disks do not match the
    /// plan, with the reason.
    pub refused: BTreeMap<Mac, String>,
}

/// Why no machine is erased.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The operator answered no or nothing.
    #[error("not confirmed: no machine was touched")]
    Declined,
    /// There is no terminal to ask the question.
    #[error(
        "there is no terminal to ask on: name the machines with --nodes FILE, or take the first that come \
         with --yes"
    )]
    NobodyToAsk,
    /// There is no terminal to type the codes.
    #[error("--confirm-codes: there is no terminal on which to type the machines' codes")]
    NobodyToType,
    /// The terminal failed.
    #[error("cannot ask")]
    Dialogue(#[from] io::Error),
}

/// A dialogue with the operator at a terminal.
pub struct Dialogue<'a> {
    /// The source of the answers.
    pub input: &'a mut dyn BufRead,
    /// The destination of the questions.
    pub output: &'a mut dyn Write,
}

/// Picks at most `wanted` waiting machines in the order of their arrival. A machine whose disks do not match
/// `target` is rejected and takes no place. `dialogue` is `None` without a terminal.
///
/// # Errors
/// [`SelectError`]; nothing may be erased then.
pub fn select(
    permission: &Permission,
    wanted: usize,
    waiting: &[Arrival],
    target: &Target,
    code: Code,
    mut dialogue: Option<Dialogue<'_>>,
) -> Result<Selected, SelectError> {
    let mut selected = Selected::default();
    let mut chosen = Vec::new();
    for arrival in waiting.iter().filter(|a| permission.admits(a.mac)) {
        let report = target.report(&arrival.inventory);
        if let Some(reason) = arrival.doubt().or_else(|| refusal(&report)) {
            selected.refused.insert(arrival.mac, reason);
        } else if chosen.len() < wanted {
            chosen.push((arrival, report));
        }
    }
    if code == Code::Asked && !chosen.is_empty() {
        let dialogue = dialogue.as_mut().ok_or(SelectError::NobodyToType)?;
        let mut known = Vec::new();
        for (arrival, report) in chosen {
            if has_code(arrival, &report, dialogue)? {
                known.push((arrival, report));
            } else {
                let reason = "the code on its screen was not typed";
                selected.refused.insert(arrival.mac, reason.to_owned());
            }
        }
        chosen = known;
    }
    if *permission == Permission::Ask && !chosen.is_empty() {
        let dialogue = dialogue.ok_or(SelectError::NobodyToAsk)?;
        if !confirmed(&chosen, &selected.refused, target, code, dialogue)? {
            return Err(SelectError::Declined);
        }
    }
    selected.chosen = chosen.iter().map(|(arrival, _)| arrival.mac).collect();
    selected.confirmed = chosen.iter().map(|(arrival, report)| (arrival.mac, identities(report))).collect();
    Ok(selected)
}

/// Whether the operator reads from the machine's screen the code that its agent's key yields. An impostor has
/// a different key.
fn has_code(arrival: &Arrival, report: &Report, dialogue: &mut Dialogue<'_>) -> io::Result<bool> {
    write!(dialogue.output, "{}", machines::describe(arrival, report, Code::Asked))?;
    for _ in 0..TRIES {
        write!(dialogue.output, "The code on the screen of this machine (nothing to leave it out): ")?;
        dialogue.output.flush()?;
        let mut typed = String::new();
        if dialogue.input.read_line(&mut typed)? == 0 || typed.trim().is_empty() {
            return Ok(false);
        }
        if keys::is_code(&typed, &keys::code(&arrival.key)) {
            return Ok(true);
        }
        writeln!(dialogue.output, "That is not the code of the machine at {}.", arrival.address)?;
    }
    Ok(false)
}

/// The question about a machine that has booted again and whose disks cannot be recognised.
#[must_use]
pub fn question_again(arrival: &Arrival, reason: &str, target: &Target) -> String {
    format!(
        "{} has booted again, and {}.\n{}Erase {} of this machine? Type yes or no:",
        arrival.mac,
        shown::reason(reason),
        machines::describe(arrival, &target.report(&arrival.inventory), Code::Shown),
        target.names()
    )
}

/// Only a complete "yes", or for many machines their number, confirms. The question is repeated for anything
/// other than that or no.
fn confirmed(
    chosen: &[(&Arrival, Report)],
    refused: &BTreeMap<Mac, String>,
    target: &Target,
    code: Code,
    dialogue: Dialogue<'_>,
) -> io::Result<bool> {
    let Dialogue { input, output } = dialogue;
    for (arrival, report) in chosen {
        writeln!(output, "{}", machines::describe(arrival, report, code))?;
    }
    for (mac, reason) in refused.iter().take(MAX_REFUSED) {
        writeln!(output, "{mac} is rejected, and left unchanged: {}", shown::reason(reason))?;
    }
    if let Some(more) = refused.len().checked_sub(MAX_REFUSED).filter(|more| *more > 0) {
        writeln!(output, "and {more} more machines are rejected, and left unchanged")?;
    }
    let count = chosen.len();
    let machines = if count == 1 { "this machine" } else { "each of these machines" };
    let (yes, question, again) = if count > MAX_FOR_YES {
        (
            count.to_string(),
            format!("Erase {} of each of these {count} machines? Type their number, or no: ", target.names()),
            format!("Please type the number of machines ({count}) or no."),
        )
    } else {
        (
            "yes".to_owned(),
            format!("Erase {} of {machines} ({count})? [yes/no] ", target.names()),
            "Please answer yes or no.".to_owned(),
        )
    };
    loop {
        write!(output, "{question}")?;
        output.flush()?;
        let mut answer = String::new();
        if input.read_line(&mut answer)? == 0 {
            return Ok(false);
        }
        match answer.trim().to_ascii_lowercase().as_str() {
            answer if answer == yes => return Ok(true),
            "no" | "n" => return Ok(false),
            _ => writeln!(output, "{again}")?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::inventory::{Firmware, Inventory};
    use ka::plan::{BootPlan, DiskPlan, FinalAction, FinishPlan, Loader, Plan, Storage};
    use std::sync::Arc;

    fn mac(last: u8) -> Mac {
        format!("52:54:00:00:00:{last:02x}").parse().unwrap()
    }

    fn target() -> Target {
        let desc = ka::disk::description::Description::parse("linux fill\n", "desc").unwrap();
        let fs = ka::plan::FileSystemPlan {
            used: 500_000_000,
            ..ka::plan::FileSystemPlan::new(ka::plan::FileSystemKind::Ext4)
        };
        let disk = DiskPlan::new("sda:size=1G".parse().unwrap(), desc);
        let plan = Plan {
            run: "r".into(),
            storage: Storage::of(disk, [(1, fs)]),
            boot: BootPlan::new(Loader::Grub, Firmware::Bios),
            finish: FinishPlan::default(),
            after: FinalAction::Reboot,
        };
        Target { plan, left_out: Vec::new(), other_firmware: None }
    }

    fn disk(size: u64) -> ka::inventory::Disk {
        ka::inventory::Disk {
            name: "sda".into(),
            size,
            sector_size: 512,
            bus: "ata".into(),
            ..Default::default()
        }
    }

    fn waiting(macs: &[u8]) -> Vec<Arrival> {
        macs.iter()
            .map(|&m| Arrival {
                mac: mac(m),
                address: [10, 0, 0, m].into(),
                key: [m; 32],
                claimed_by: BTreeSet::new(),
                inventory: Arc::new(Inventory {
                    hostname: format!("node{m}"),
                    disks: vec![disk(1_000_000_000)],
                    ..Inventory::default()
                }),
            })
            .collect()
    }

    fn ask(waiting: &[Arrival], answers: &str) -> (Result<Vec<Mac>, SelectError>, String) {
        let (mut input, mut output) = (answers.as_bytes(), Vec::new());
        let dialogue = Dialogue { input: &mut input, output: &mut output };
        let selected = select(&Permission::Ask, 2, waiting, &target(), Code::Shown, Some(dialogue));
        (selected.map(|s| s.chosen), String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_list_admits_its_machines_and_no_other() {
        let listed = Permission::Listed([mac(1), mac(2), mac(9)].into());
        let chosen = select(&listed, 3, &waiting(&[3, 2, 1]), &target(), Code::Shown, None).unwrap().chosen;
        assert_eq!(chosen, [mac(2), mac(1)]);
        assert!(
            select(&listed, 3, &waiting(&[3, 4]), &target(), Code::Shown, None).unwrap().chosen.is_empty()
        );
    }

    #[test]
    fn yes_takes_the_first_that_came() {
        let chosen =
            select(&Permission::First, 2, &waiting(&[3, 1, 2]), &target(), Code::Shown, None).unwrap().chosen;
        assert_eq!(chosen, [mac(3), mac(1)]);
    }

    #[test]
    fn a_person_sees_the_machines_and_must_say_a_whole_yes() {
        for answers in ["yes\n", "YES\n", "y\nsure\nyes\n", "yes"] {
            let (chosen, shown) = ask(&waiting(&[3, 1, 2]), answers);
            assert_eq!(chosen.unwrap(), [mac(3), mac(1)], "{answers:?}");
            assert!(
                shown.contains("node3") && shown.contains("node1") && !shown.contains("node2"),
                "{shown}"
            );
            assert!(shown.contains("Erase sda:size=1000000000 of each of these machines (2)?"), "{shown}");
        }
        for answers in ["", "no\n", "y\n", "\n\n", "n\nyes\n", "yes please\nno\n"] {
            assert!(
                matches!(ask(&waiting(&[3, 1, 2]), answers).0, Err(SelectError::Declined)),
                "{answers:?}"
            );
        }
    }

    #[test]
    fn many_machines_are_erased_by_their_number_only() {
        let ask = |machines: u8, answers: &str| {
            let (mut input, mut output) = (answers.as_bytes(), Vec::new());
            let dialogue = Dialogue { input: &mut input, output: &mut output };
            let waiting = waiting(&(1..=machines).collect::<Vec<_>>());
            let chosen = select(&Permission::Ask, 99, &waiting, &target(), Code::Shown, Some(dialogue));
            (chosen.map(|s| s.chosen.len()).ok(), String::from_utf8(output).unwrap())
        };
        assert_eq!(ask(10, "yes\n").0, Some(10));
        assert_eq!(ask(10, "10\n").0, None);
        for (answers, erased) in [
            ("yes\n", None),
            ("10\n12\n", None),
            ("no\n11\n", None),
            ("11\n", Some(11)),
            ("yes\n11\n", Some(11)),
        ] {
            let (chosen, shown) = ask(11, answers);
            assert_eq!(chosen, erased, "{answers}");
            assert!(shown.contains("each of these 11 machines? Type their number, or no:"), "{shown}");
        }
    }

    #[test]
    fn codes_are_typed_from_the_screens_and_a_machine_with_another_is_left_out() {
        let typed = |text: String| {
            let (mut input, mut output) = (text.as_bytes(), Vec::new());
            let dialogue = Dialogue { input: &mut input, output: &mut output };
            let listed = Permission::Listed([mac(1), mac(2)].into());
            let selected = select(&listed, 2, &waiting(&[1, 2]), &target(), Code::Asked, Some(dialogue));
            (selected.unwrap(), String::from_utf8(output).unwrap())
        };
        let code = |m: u8| keys::code(&[m; 32]);
        let (selected, shown) = typed(format!("{}\n{}\n", code(1), code(2).to_lowercase()));
        assert_eq!((selected.chosen, selected.refused.len()), (vec![mac(1), mac(2)], 0));
        assert!(!shown.contains(&code(1)), "it must be read from the machine: {shown}");
        let (selected, shown) = typed(format!("{}\n\n{}\n", code(2), code(2)));
        assert_eq!(selected.chosen, [mac(2)]);
        assert!(
            selected.refused[&mac(1)].contains("the code") && shown.contains("not the code of"),
            "{shown}"
        );
        let none = select(&Permission::Ask, 1, &waiting(&[1]), &target(), Code::Asked, None);
        assert!(matches!(none, Err(SelectError::NobodyToType)));
    }

    #[test]
    fn a_machine_whose_address_another_claims_is_shown_and_refused() {
        let mut waiting = waiting(&[1, 2]);
        waiting[0].claimed_by.insert([10, 0, 0, 66].into());
        for permission in [Permission::First, Permission::Listed([mac(1), mac(2)].into())] {
            let selected = select(&permission, 2, &waiting, &target(), Code::Shown, None).unwrap();
            assert_eq!(selected.chosen, [mac(2)]);
            assert!(selected.refused[&mac(1)].contains("10.0.0.66"), "{selected:?}");
        }
        let (chosen, shown) = ask(&waiting, "yes\n");
        assert_eq!(chosen.unwrap(), [mac(2)]);
        assert!(shown.contains("10.0.0.1 and 10.0.0.66 both claim"), "{shown}");
        assert!(shown.contains(&keys::code(&[2; 32])), "{shown}");
    }

    #[test]
    fn without_a_terminal_nobody_has_agreed() {
        let chosen = select(&Permission::Ask, 2, &waiting(&[1]), &target(), Code::Shown, None);
        assert!(matches!(chosen, Err(SelectError::NobodyToAsk)));
    }

    #[test]
    fn a_machine_with_another_disk_is_refused_and_the_others_go_on() {
        let mut waiting = waiting(&[1, 2, 3, 4]);
        Arc::make_mut(&mut waiting[0].inventory).disks = vec![disk(2_000_000_000)];
        Arc::make_mut(&mut waiting[1].inventory).disks.clear();
        let selected = select(&Permission::First, 2, &waiting, &target(), Code::Shown, None).unwrap();
        assert_eq!(selected.chosen, [mac(3), mac(4)]);
        let reasons: Vec<&str> = selected.refused.values().map(String::as_str).collect();
        assert!(reasons[0].contains("expected size `1.0 GB`, found `2.0 GB`"), "{reasons:?}");
        assert!(reasons[1].contains("this machine has no such disk"), "{reasons:?}");
        let (chosen, shown) = ask(&waiting, "yes\n");
        assert_eq!(chosen.unwrap(), [mac(3), mac(4)]);
        assert!(shown.contains("52:54:00:00:00:02 is rejected, and left unchanged: sda"), "{shown}");
    }

    #[test]
    fn a_disk_that_is_left_out_is_left_out_on_the_nodes_too() {
        let target = Target { left_out: vec!["sda".into()], ..target() };
        let selected = select(&Permission::First, 1, &waiting(&[1]), &target, Code::Shown, None).unwrap();
        assert!(selected.chosen.is_empty());
        assert!(selected.refused[&mac(1)].contains("(-X)"));
    }

    #[test]
    fn where_all_are_refused_nobody_is_asked() {
        let mut waiting = waiting(&[1]);
        Arc::make_mut(&mut waiting[0].inventory).disks[0].size = 400_000_000;
        let mut small = target();
        small.plan.storage.disks[0].disk = "sda".into();
        let selected = select(&Permission::Ask, 1, &waiting, &small, Code::Shown, None).unwrap();
        assert!(selected.refused[&mac(1)].contains(" MB"), "{selected:?}");
    }

    #[test]
    fn a_machine_that_would_not_start_is_refused_with_the_reason() {
        let mut waiting = waiting(&[1]);
        Arc::make_mut(&mut waiting[0].inventory).firmware = Firmware::Uefi;
        let mut target = target();
        let refused = |target: &Target| {
            let selected = select(&Permission::First, 1, &waiting, target, Code::Shown, None).unwrap();
            selected.refused.get(&mac(1)).cloned()
        };
        assert!(refused(&target).unwrap().contains("--firmware auto"), "{:?}", refused(&target));
        target.plan.boot.convert_firmware = true;
        assert!(refused(&target).unwrap().contains("no EFI system partition"));
        let desc = "label: gpt\ntype=L\nsize=100M, type=U\n";
        target.plan.storage.disks[0].desc = ka::disk::description::Description::parse(desc, "desc").unwrap();
        let esp = ka::plan::FileSystemPlan {
            mount_point: Some("/boot/efi".into()),
            ..ka::plan::FileSystemPlan::new(ka::plan::FileSystemKind::Vfat)
        };
        target.plan.storage.add(ka::plan::Backing::Partition { disk: 0, number: 2 }, esp.into());
        target.other_firmware = Some("no GRUB for UEFI".into());
        assert_eq!(refused(&target).unwrap(), "no GRUB for UEFI");
        target.other_firmware = None;
        assert_eq!(refused(&target), None);
    }
}
