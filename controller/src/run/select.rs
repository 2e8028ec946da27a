//! Which of the waiting machines may be erased: those that a list names, the first that came, or
//! those that a person says yes to after having seen what is on their disks.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::net::IpAddr;

use ka::inventory::Inventory;

use crate::view::machines;
use ka::mac::Mac;

/// A machine that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The card that it booted from.
    pub mac: Mac,
    /// Its address.
    pub address: IpAddr,
    /// What it is, and what is on its disks.
    pub inventory: Inventory,
}

/// What allows a machine to be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// `--nodes`: these, and no other.
    Listed(BTreeSet<Mac>),
    /// `--yes`: the first that come.
    First,
    /// A person is asked.
    Ask,
}

impl Permission {
    /// Whether this machine may count towards the number that a run waits for.
    #[must_use]
    pub fn admits(&self, mac: Mac) -> bool {
        match self {
            Self::Listed(macs) => macs.contains(&mac),
            Self::First | Self::Ask => true,
        }
    }
}

/// Why no machine is erased.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The person said no, or nothing.
    #[error("nobody said yes: no machine was touched")]
    Declined,
    /// Nobody can be asked.
    #[error(
        "nobody can be asked: name the machines with --nodes FILE, or take the first that come with --yes"
    )]
    NobodyToAsk,
    /// The terminal failed.
    #[error("cannot ask")]
    Dialogue(#[from] io::Error),
}

/// A conversation with a person at a terminal.
pub struct Dialogue<'a> {
    /// Where answers come from.
    pub input: &'a mut dyn BufRead,
    /// Where questions go.
    pub output: &'a mut dyn Write,
}

/// Picks at most `wanted` machines out of those that wait, in the order in which they came. `disk` is what
/// will be erased; `dialogue` is none if there is no terminal.
///
/// # Errors
/// [`SelectError`]; then nothing may be erased.
pub fn select(
    permission: &Permission,
    wanted: usize,
    waiting: &[Arrival],
    disk: &str,
    dialogue: Option<Dialogue<'_>>,
) -> Result<Vec<Mac>, SelectError> {
    let chosen: Vec<&Arrival> = waiting.iter().filter(|a| permission.admits(a.mac)).take(wanted).collect();
    if *permission == Permission::Ask && !chosen.is_empty() {
        let dialogue = dialogue.ok_or(SelectError::NobodyToAsk)?;
        if !confirmed(&chosen, disk, dialogue)? {
            return Err(SelectError::Declined);
        }
    }
    Ok(chosen.into_iter().map(|a| a.mac).collect())
}

/// Only a whole yes is one; what is neither yes nor no is asked again.
fn confirmed(chosen: &[&Arrival], disk: &str, dialogue: Dialogue<'_>) -> io::Result<bool> {
    let Dialogue { input, output } = dialogue;
    for arrival in chosen {
        writeln!(output, "{}", machines::describe(arrival, disk))?;
    }
    let machines = if chosen.len() == 1 { "this machine" } else { "each of these machines" };
    loop {
        write!(output, "Erase {disk} of {machines} ({})? [yes/no] ", chosen.len())?;
        output.flush()?;
        let mut answer = String::new();
        if input.read_line(&mut answer)? == 0 {
            return Ok(false);
        }
        match answer.trim().to_ascii_lowercase().as_str() {
            "yes" => return Ok(true),
            "no" | "n" => return Ok(false),
            _ => writeln!(output, "Please answer yes or no.")?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> Mac {
        format!("52:54:00:00:00:{last:02x}").parse().unwrap()
    }

    fn waiting(macs: &[u8]) -> Vec<Arrival> {
        macs.iter()
            .map(|&m| Arrival {
                mac: mac(m),
                address: [10, 0, 0, m].into(),
                inventory: Inventory { hostname: format!("node{m}"), ..Inventory::default() },
            })
            .collect()
    }

    fn ask(answers: &str) -> (Result<Vec<Mac>, SelectError>, String) {
        let (mut input, mut output) = (answers.as_bytes(), Vec::new());
        let dialogue = Dialogue { input: &mut input, output: &mut output };
        let chosen = select(&Permission::Ask, 2, &waiting(&[3, 1, 2]), "sda", Some(dialogue));
        (chosen, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_list_admits_its_machines_and_no_other() {
        let listed = Permission::Listed([mac(1), mac(2), mac(9)].into());
        let chosen = select(&listed, 3, &waiting(&[3, 2, 1]), "sda", None).unwrap();
        assert_eq!(chosen, [mac(2), mac(1)]);
        assert!(select(&listed, 3, &waiting(&[3, 4]), "sda", None).unwrap().is_empty());
    }

    #[test]
    fn yes_takes_the_first_that_came() {
        let chosen = select(&Permission::First, 2, &waiting(&[3, 1, 2]), "sda", None).unwrap();
        assert_eq!(chosen, [mac(3), mac(1)]);
    }

    #[test]
    fn a_person_sees_the_machines_and_must_say_a_whole_yes() {
        for answers in ["yes\n", "YES\n", "y\nsure\nyes\n", "yes"] {
            let (chosen, shown) = ask(answers);
            assert_eq!(chosen.unwrap(), [mac(3), mac(1)], "{answers:?}");
            assert!(
                shown.contains("node3") && shown.contains("node1") && !shown.contains("node2"),
                "{shown}"
            );
            assert!(shown.contains("Erase sda of each of these machines (2)?"), "{shown}");
        }
        for answers in ["", "no\n", "y\n", "\n\n", "n\nyes\n", "yes please\nno\n"] {
            assert!(matches!(ask(answers).0, Err(SelectError::Declined)), "{answers:?}");
        }
    }

    #[test]
    fn without_a_terminal_nobody_has_agreed() {
        let chosen = select(&Permission::Ask, 2, &waiting(&[1]), "sda", None);
        assert!(matches!(chosen, Err(SelectError::NobodyToAsk)));
    }
}
