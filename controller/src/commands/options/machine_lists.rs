//! The machines that `--nodes` and `--hosts` name: in a file, on standard input, or as a list.

use std::io;
use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use ka::hostname;
use ka::mac::Mac;
use ka::shown;

use crate::config::Config;
use crate::lists::hosts::Hosts;
use crate::lists::macs;
use crate::lists::node_set::{self, Groups};
use crate::machines::find::find;
use crate::machines::record::Record;
use crate::machines::store::Store;

/// How errors name what was read from standard input.
const STDIN: &str = "standard input";

/// What the argument of such an option is.
enum Source<'a> {
    Stdin,
    File(&'a Path),
    List(&'a str),
}

impl<'a> Source<'a> {
    /// `-` is standard input. A word with a '/', or one that is a file here, is a file.
    fn of(argument: &'a Path) -> Self {
        match argument.to_str() {
            Some("-") => Self::Stdin,
            Some(word) if !word.contains('/') && !argument.exists() => Self::List(word),
            _ => Self::File(argument),
        }
    }
}

/// The machines that may be erased. `hosts` has names that were given for this run.
///
/// # Errors
/// The file is invalid, or the list names a machine that is not known; all of those are named.
pub fn nodes(argument: &Path, hosts: &Hosts, config: &Config) -> anyhow::Result<Vec<Mac>> {
    Ok(match Source::of(argument) {
        Source::Stdin => macs::parse(Path::new(STDIN), &stdin("--nodes")?)?,
        Source::File(path) => macs::read(path)?,
        Source::List(list) => {
            listed(list, hosts, &known(config)?, &config.groups).with_context(|| format!("--nodes {list}"))?
        }
    })
}

/// The names of the machines.
///
/// # Errors
/// As for [`nodes`]; also if a known machine has no name.
pub fn hosts(argument: &Path, config: &Config) -> anyhow::Result<Hosts> {
    Ok(match Source::of(argument) {
        Source::Stdin => Hosts::parse(Path::new(STDIN), &stdin("--hosts")?)?,
        Source::File(path) => Hosts::read(path)?,
        Source::List(list) => {
            named(list, &known(config)?, &config.groups).with_context(|| format!("--hosts {list}"))?
        }
    })
}

fn stdin(option: &str) -> anyhow::Result<String> {
    io::read_to_string(io::stdin()).with_context(|| format!("{option} -: cannot read standard input"))
}

fn known(config: &Config) -> anyhow::Result<Vec<Record>> {
    Store::of(&config.directories.state).all().context("cannot read the machines")
}

/// The machines of a list: by hardware address, by a name of this run, or as known from earlier runs.
fn listed(list: &str, hosts: &Hosts, records: &[Record], groups: &Groups) -> anyhow::Result<Vec<Mac>> {
    let (mut macs, mut faults) = (Vec::new(), Vec::new());
    for word in node_set::expand(list, groups)? {
        let here =
            hosts.iter().find(|(_, name)| name.hostname.eq_ignore_ascii_case(&word)).map(|(mac, _)| mac);
        let mac = word.parse().ok().or(here).map_or_else(|| mac_of(&word, records), Ok);
        match mac {
            Ok(mac) if macs.contains(&mac) => {
                faults.push(format!("{}: {mac} is in the list twice", shown::field(&word)))
            }
            Ok(mac) => macs.push(mac),
            Err(fault) => faults.push(fault),
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(macs)
}

/// The hardware address of a machine that has joined a run before.
fn mac_of(word: &str, records: &[Record]) -> Result<Mac, String> {
    let found = find(word, records)?;
    let unknown = || format!("{}: no machine with this address was seen", shown::field(word));
    found.record.map(|record| record.mac).ok_or_else(unknown)
}

/// The machines of a list, each with the name that it had in its last run.
fn named(list: &str, records: &[Record], groups: &Groups) -> anyhow::Result<Hosts> {
    let mut names = Vec::new();
    for mac in listed(list, &Hosts::default(), records, groups)? {
        let record = records.iter().find(|record| record.mac == mac);
        let name = record.map(|record| record.name.as_str()).unwrap_or_default();
        if !hostname::is_valid(name) {
            bail!("{mac}: no name of this machine is known");
        }
        names.push((mac, name));
    }
    Hosts::of(names).map_err(|(mac, name)| anyhow!("{mac}: another machine has the name {name} too"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    fn records() -> Vec<Record> {
        let record = |last, name: &str| Record {
            name: name.into(),
            address: Some([10, 0, 0, last].into()),
            ..Record::new(mac(last), 1)
        };
        vec![record(1, "node001"), record(2, "node002"), record(3, ""), record(4, "twin"), record(5, "twin")]
    }

    fn groups() -> Groups {
        [("rack".to_owned(), "node[001-002]".to_owned())].into()
    }

    fn list(text: &str) -> Result<Vec<u8>, String> {
        let hosts = Hosts::parse(Path::new("hosts"), "020000000009 new\n020000000002 node001\n").unwrap();
        let macs = listed(text, &hosts, &records(), &groups()).map_err(|error| error.to_string())?;
        Ok(macs.into_iter().map(|mac| mac.0[5]).collect())
    }

    #[test]
    fn a_list_names_known_machines_and_those_of_the_table() {
        for (text, macs) in [
            ("node002,02:00:00:00:00:07", vec![2, 7]),
            // The table of this run counts before what was seen.
            ("NODE001", vec![2]),
            ("10.0.0.[1,3]", vec![1, 3]),
            ("new", vec![9]),
            ("020000000001", vec![1]),
        ] {
            assert_eq!(list(text), Ok(macs), "{text}");
        }
        assert_eq!(listed("@rack", &Hosts::default(), &records(), &groups()).unwrap(), [mac(1), mac(2)]);
    }

    #[test]
    fn everything_that_is_wrong_with_a_list_is_named() {
        for (text, parts) in [
            ("node[7-8],new", vec!["node7: no machine", "node8: no machine"]),
            ("node[1", vec!["column 5", "not closed"]),
            ("@none", vec!["no group 'none'"]),
            ("twin", vec!["2 machines have this name"]),
            ("10.0.0.9", vec!["10.0.0.9: no machine with this address"]),
            ("node002,02:00:00:00:00:02", vec!["02:00:00:00:00:02 is in the list twice"]),
        ] {
            let error = list(text).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }

    #[test]
    fn known_machines_keep_their_names() {
        let hosts = named("@rack", &records(), &groups()).unwrap();
        assert_eq!(hosts.get(mac(2)).unwrap().hostname, "node002");
        for (text, part) in [
            ("02:00:00:00:00:03", "no name"),
            ("02:00:00:00:00:04,02:00:00:00:00:05", "another machine has the name"),
        ] {
            let error = named(text, &records(), &groups()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_is_a_file_and_anything_else_a_list() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("macs");
        std::fs::write(&file, "020000000001\n").unwrap();
        for (argument, expected) in [
            (file.as_path(), "file"),
            (Path::new("/nonexistent/macs"), "file"),
            (Path::new("./node1"), "file"),
            (Path::new("node[001-120]"), "list"),
            (Path::new("-"), "stdin"),
        ] {
            let found = match Source::of(argument) {
                Source::Stdin => "stdin",
                Source::File(_) => "file",
                Source::List(_) => "list",
            };
            assert_eq!(found, expected, "{}", argument.display());
        }
    }
}
