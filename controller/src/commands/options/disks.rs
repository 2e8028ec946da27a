//! The options that name disks: `-p DISK [DESC]`, `-m DISK` and `-M DISK FILE`, each repeatable.
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
                    .num_args(1..=2)
                    .value_names(["DISK", "DESC"])
                    .required(true)
                    .action(ArgAction::Append)
                    .help(
                        "The nodes' disk to erase: sda, sda:size=480G,model=TEXT,serial=TEXT, auto, or \
                         by-id:PATTERN; and how to partition it: a file as 'kactl desc' writes it, without one as \
                         this machine's (repeatable)",
                    ),
            )
            .arg(Arg::new(DESC).value_name("DESC").help("How to partition the first -p's disk, if not given \
                there"))
            .arg(
                Arg::new(BOOT_CODE)
                    .short('m')
                    .value_name("DISK")
                    .action(ArgAction::Append)
                    .help("Writes this machine's boot code (446 bytes) to this disk; with '-r none' (repeatable)"),
            )
            .arg(
                Arg::new(BOOT_CODE_FILE)
                    .short('M')
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
            let [disk, desc @ ..] = values.as_slice() else { continue };
            let disk = disk.parse::<DiskChoice>().map_err(|e| wrong(&format!("-p {disk}: {e}")))?;
            disks.push(WantedDisk { disk, desc: desc.first().map(PathBuf::from) });
        }
        if let (Some(desc), Some(first)) = (matches.get_one::<String>(DESC), disks.first_mut())
            && let Some(other) = first.desc.replace(desc.into())
        {
            return Err(wrong(&format!(
                "-p {}: two descriptions: {} and {desc}",
                first.disk,
                other.display()
            )));
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
            ("run", "-p <DISK> [DESC]"),
            ("run -p sda a -n 1 b", "two descriptions"),
            ("run -p sda:colour=red", "-p sda:colour=red"),
            ("run -p sda -M sda", "-M <DISK> <FILE>"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(part), "{line}: {error}");
        }
    }
}
