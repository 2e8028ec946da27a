//! The options that name disks: `-p DISK[=DESC]` or `-p DISK [DESC]`, `-m DISK` and `-M DISK FILE`, each
//! repeatable.
//!
//! Parsed by hand: clap's derive cannot express an option with one or two values whose occurrences count
//! separately.

use crate::golden::plan::{WantedBootCode, WantedDisk};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use ka::disk::choice::DiskChoice;
use std::path::PathBuf;

/// The disks to erase and copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskArgs {
    /// The `-p` options, in order.
    pub disks: Vec<WantedDisk>,
    /// The `-m` and `-M` options.
    pub boot_code: Vec<WantedBootCode>,
}

/// The heading of the options for disks and what is copied.
pub(super) const DISKS: &str = "Disks";

const DISK: &str = "disk";
const DESC: &str = "desc";
const BOOT_CODE: &str = "boot_code";
const BOOT_CODE_FILE: &str = "boot_code_file";

impl Args for DiskArgs {
    fn augment_args(command: Command) -> Command {
        command
            .arg(
                Arg::new(DISK)
                    .short('p')
                    .long("disk")
                    .help_heading(DISKS)
                    .num_args(1..=2)
                    .value_names(["DISK[=DESC]", "DESC"])
                    .required(true)
                    .action(ArgAction::Append)
                    .help(
                        "The nodes' disk to erase: sda, sda:size=480G,model=TEXT,serial=TEXT, auto, or \
                         by-id:PATTERN; and how to partition it: a file as 'kactl desc' writes it, after '=' or as a \
                         word of its own, without one as this machine's (repeatable)",
                    ),
            )
            // The help of -p says it.
            .arg(Arg::new(DESC).value_name("DESC").hide(true).help("How to partition the first -p's disk, if not said there"))
            .arg(
                Arg::new(BOOT_CODE)
                    .short('m')
                    .long("boot-code")
                    .help_heading(DISKS)
                    .value_name("DISK")
                    .action(ArgAction::Append)
                    .help("Write this machine's boot code (446 bytes) to this disk; with '-r none' (repeatable)"),
            )
            .arg(
                Arg::new(BOOT_CODE_FILE)
                    .short('M')
                    .long("boot-code-file")
                    .help_heading(DISKS)
                    .num_args(2)
                    .value_names(["DISK", "FILE"])
                    .action(ArgAction::Append)
                    .help("The same, from a file"),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DiskArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut disks = Vec::new();
        for values in occurrences(matches, DISK) {
            let [given, desc @ ..] = values.as_slice() else { continue };
            let (disk, joined) = apart(given);
            let disk = disk.parse::<DiskChoice>().map_err(|e| wrong(&format!("-p {disk}: {e}")))?;
            let desc = match (joined, desc.first()) {
                (Some(one), Some(other)) => return Err(two_descriptions(&disk, one, other)),
                (one, other) => one.or(other.map(String::as_str)).map(PathBuf::from),
            };
            disks.push(WantedDisk { disk, desc });
        }
        if let (Some(desc), Some(first)) = (matches.get_one::<String>(DESC), disks.first_mut())
            && let Some(other) = first.desc.replace(desc.into())
        {
            return Err(two_descriptions(&first.disk, &other.display().to_string(), desc));
        }
        let mut boot_code = Vec::new();
        for values in occurrences(matches, BOOT_CODE).into_iter().chain(occurrences(matches, BOOT_CODE_FILE))
        {
            let [disk, file @ ..] = values.as_slice() else { continue };
            let disk = disk.strip_prefix("/dev/").unwrap_or(disk).to_owned();
            boot_code.push(WantedBootCode { disk, file: file.first().map(PathBuf::from) });
        }
        Ok(Self { disks, boot_code })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn occurrences(matches: &ArgMatches, id: &str) -> Vec<Vec<String>> {
    let occurrences = matches.get_occurrences::<String>(id).into_iter().flatten();
    occurrences.map(|values| values.cloned().collect()).collect()
}

/// A disk and the description after its `=`. In what selects a disk (`sda:size=480G`), `=` has a meaning of
/// its own, so it separates only if the whole is no disk.
fn apart(given: &str) -> (&str, Option<&str>) {
    let split = match given.split_once('=') {
        Some((disk, desc)) if !disk.contains(':') => Some((disk, desc)),
        _ if given.parse::<DiskChoice>().is_ok() => None,
        _ => given.rsplit_once('=').filter(|(disk, _)| disk.parse::<DiskChoice>().is_ok()),
    };
    split.map_or((given, None), |(disk, desc)| (disk, Some(desc)))
}

fn two_descriptions(disk: &DiskChoice, one: &str, other: &str) -> Error {
    wrong(&format!("-p {disk}: two descriptions: {one} and {other}"))
}

fn wrong(what: &str) -> Error {
    Error::raw(ErrorKind::ValueValidation, format!("{what}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<DiskArgs, Error> {
        let command = DiskArgs::augment_args(Command::new("run").arg(Arg::new("n").short('n')));
        DiskArgs::from_arg_matches(&command.try_get_matches_from(line.split(' '))?)
    }

    #[test]
    fn every_disk_has_its_own_description() {
        for (line, expected) in [
            ("run -p sda", vec![("sda", None)]),
            ("run -p sda desc", vec![("sda", Some("desc"))]),
            ("run -p /dev/sda -n 3 desc", vec![("sda", Some("desc"))]),
            ("run -p sda=desc", vec![("sda", Some("desc"))]),
            ("run --disk sda=a=b --disk auto=/d/e", vec![("sda", Some("a=b")), ("auto", Some("/d/e"))]),
            ("run --disk=/dev/sda --disk sdb b", vec![("sda", None), ("sdb", Some("b"))]),
            ("run -p sda:size=480G=desc", vec![("sda:size=480000000000", Some("desc"))]),
            ("run -p sda:size=480G", vec![("sda:size=480000000000", None)]),
            ("run -p sda -p sdb b", vec![("sda", None), ("sdb", Some("b"))]),
            ("run -p sda a -p by-id:ata-* b", vec![("sda", Some("a")), ("by-id:ata-*", Some("b"))]),
            (
                "run -p auto -p sdb:size=2T b -n 1 a",
                vec![("auto", Some("a")), ("sdb:size=2000000000000", Some("b"))],
            ),
        ] {
            let found = parse(line).unwrap();
            let found: Vec<_> = found
                .disks
                .iter()
                .map(|d| (d.disk.to_string(), d.desc.as_ref().map(|p| p.display().to_string())))
                .collect();
            let expected: Vec<_> =
                expected.into_iter().map(|(disk, desc)| (disk.to_owned(), desc.map(str::to_owned))).collect();
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn boot_code_comes_from_the_disk_or_a_file() {
        let found = parse("run -p sda -m /dev/sda -M sdb code").unwrap().boot_code;
        let wanted = |disk: &str, file: Option<&str>| WantedBootCode {
            disk: disk.into(),
            file: file.map(PathBuf::from),
        };
        assert_eq!(found, [wanted("sda", None), wanted("sdb", Some("code"))]);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_option() {
        for (line, part) in [
            ("run", "--disk <DISK[=DESC]> [DESC]"),
            ("run -p sda a -n 1 b", "two descriptions"),
            ("run -p sda=a b", "two descriptions: a and b"),
            ("run -p sda=a -n 1 b", "two descriptions: a and b"),
            ("run -p sda:colour=red", "-p sda:colour=red"),
            ("run -p sda -M sda", "--boot-code-file <DISK> <FILE>"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(part), "{line}: {error}");
        }
    }
}
