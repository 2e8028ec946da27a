//! `kactl run --profile NAME`: options from the configuration, as if they were on the command line.
//!
//! A profile has every option of `run` under its long name. The command line takes precedence over the
//! profile, and the profile over `[defaults]`. The command line's own definition validates the values, so a
//! profile accepts exactly what the command line accepts; errors are reported with their position in the
//! file.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, Parser};

use super::{Cli, hints};
use crate::config::Config;
use crate::config::profiles::{Setting, Value};

/// Arguments that are not options of a run.
const NOT_IN_A_PROFILE: [&str; 4] = ["profile", "config", "help", "version"];
/// The parts of a disk option, in order.
const PARTS: [&str; 3] = ["disk", "desc", "file"];

/// Why a command line cannot be used.
#[derive(Debug)]
pub enum LineError {
    /// Its arguments are invalid.
    Words(clap::Error),
    /// The configuration, or a profile in it, is invalid.
    Profile(anyhow::Error),
}

/// Parses the command line, with the options of its profile.
///
/// # Errors
/// [`LineError`].
pub fn parse(words: Vec<OsString>) -> Result<Cli, LineError> {
    let alone = |words| Cli::try_parse_from(words).map_err(|error| LineError::Words(hints::sensible(error)));
    let Some(run) = Run::find(&words) else { return alone(words) };
    let added = run.settings().map_err(LineError::Profile)?;
    if added.is_empty() {
        return alone(words);
    }
    let mut extended = words;
    let words = added.iter().flat_map(|(_, _, words)| words.iter().cloned());
    extended.splice(run.behind..run.behind, words);
    Cli::try_parse_from(extended).map_err(|error| {
        let (blamed, text) = (blamed(&error), first_words(&error));
        // Disks are parsed by hand; an error in one begins with the option's letter.
        let by_letter = |arg: &Arg| arg.get_short().is_some_and(|c| text.starts_with(&format!("-{c} ")));
        let setting = added.iter().find(|(_, arg, _)| blamed.contains(&arg.to_string()) || by_letter(arg));
        match setting {
            Some((setting, ..)) => LineError::Profile(anyhow::anyhow!(fault(setting, &text))),
            None => LineError::Words(hints::sensible(error)),
        }
    })
}

/// A `kactl run` command line, as far as it can be parsed without its profile.
struct Run {
    command: Command,
    matches: ArgMatches,
    config: PathBuf,
    /// The argument after `run`.
    behind: usize,
}

impl Run {
    fn find(words: &[OsString]) -> Option<Self> {
        let is_value = |at: usize| at > 0 && words.get(at - 1).is_some_and(|word| word == "--config");
        let behind = words.iter().enumerate().position(|(at, word)| word == "run" && !is_value(at))? + 1;
        let mut whole = Cli::command();
        whole.build();
        // The profile may have options that the command line lacks; the combination is validated at the end.
        let loose = Cli::command()
            .ignore_errors(true)
            .mut_subcommand("run", |run| run.ignore_errors(true).mut_args(|arg| arg.required(false)));
        let matches = loose.try_get_matches_from(words).ok()?;
        let (name, run) = matches.subcommand()?;
        let config = matches.get_one::<PathBuf>("config")?.clone();
        let config = run.try_get_one::<PathBuf>("config").ok().flatten().cloned().unwrap_or(config);
        let command = whole.find_subcommand("run")?.clone();
        (name == "run").then(|| Self { command, matches: run.clone(), config, behind })
    }

    /// The effective settings, with their options and arguments.
    fn settings(&self) -> anyhow::Result<Vec<(Setting, Arg, Vec<OsString>)>> {
        let config = Config::load(&self.config)?;
        let profile = self.matches.try_get_one::<String>("profile").ok().flatten();
        let unknown: Vec<String> = config
            .profiles
            .all()
            .filter(|setting| self.option(&setting.name).is_none())
            .map(|s| self.unknown(s))
            .collect();
        anyhow::ensure!(unknown.is_empty(), "{}", unknown.join("\n"));
        let settings =
            config.profiles.of(profile.map(String::as_str)).map_err(|e| anyhow::anyhow!("--profile: {e}"))?;
        let mut added = Vec::new();
        for setting in settings {
            let Some(arg) = self.option(&setting.name) else { continue };
            if self.is_overruled(arg) {
                continue;
            }
            let words = words(arg, &setting.value).map_err(|why| anyhow::anyhow!(fault(&setting, &why)))?;
            added.push((setting, arg.clone(), words));
        }
        Ok(added)
    }

    /// The option that a setting names.
    fn option(&self, name: &str) -> Option<&Arg> {
        if NOT_IN_A_PROFILE.contains(&name) {
            return None;
        }
        self.command.get_arguments().find(|arg| arg.get_long() == Some(name))
    }

    /// Whether the command line has this option, or one that conflicts with it.
    fn is_overruled(&self, arg: &Arg) -> bool {
        let given = |arg: &Arg| {
            let id = arg.get_id().as_str();
            self.matches.ids().any(|known| known == id)
                && self.matches.value_source(id) == Some(ValueSource::CommandLine)
        };
        let excludes = |one: &Arg, other: &Arg| {
            self.command.get_arg_conflicts_with(one).iter().any(|arg| arg.get_id() == other.get_id())
        };
        given(arg)
            || self
                .command
                .get_arguments()
                .any(|other| given(other) && (excludes(arg, other) || excludes(other, arg)))
    }

    fn unknown(&self, setting: &Setting) -> String {
        let mut names: Vec<String> = self
            .command
            .get_arguments()
            .filter_map(Arg::get_long)
            .filter(|name| !NOT_IN_A_PROFILE.contains(name))
            .map(|name| format!("`{name}`"))
            .collect();
        names.sort();
        fault(setting, &format!("unknown option `{}`, expected one of {}", setting.name, names.join(", ")))
    }
}

/// The arguments that a setting stands for.
fn words(arg: &Arg, value: &Value) -> Result<Vec<OsString>, String> {
    let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let optional = arg.get_num_args().is_some_and(|count| count.min_values() == 0);
    let name = arg.get_long().map(|long| format!("--{long}"));
    let name = name.ok_or("it has no name on the command line")?;
    match value {
        Value::Flag(false) if !takes || optional => Ok(Vec::new()),
        Value::Flag(true) if !takes || optional => Ok(vec![name.into()]),
        Value::Flag(_) => Err(format!("{name} takes a value, not true or false")),
        _ if !takes => Err(format!("{name} takes no value: write true or false")),
        Value::Text(text) => Ok(vec![format!("{name}={text}").into()]),
        Value::List(list) => {
            if !matches!(arg.get_action(), ArgAction::Append) && list.len() > 1 {
                return Err(format!("{name} is given once, not {} times", list.len()));
            }
            let words = list.iter().map(|value| words(arg, value)).collect::<Result<Vec<_>, _>>()?;
            Ok(words.concat())
        }
        Value::Parts(parts) => {
            if let Some(other) = parts.keys().find(|part| !PARTS.contains(&part.as_str())) {
                return Err(format!("unknown part `{other}`, expected disk, desc or file"));
            }
            let texts: Vec<&String> = PARTS.iter().filter_map(|part| parts.get(*part)).collect();
            if !parts.contains_key("disk")
                || texts.iter().any(|text| text.starts_with('-') || text.is_empty())
            {
                return Err("expected { disk = \"sda\", desc = \"FILE\" }".into());
            }
            Ok(std::iter::once(name.into()).chain(texts.into_iter().map(OsString::from)).collect())
        }
    }
}

/// An error in a setting, with its position.
fn fault(setting: &Setting, why: &str) -> String {
    match &setting.place {
        Some(place) => format!("{place}: {why}"),
        None => format!("{}: {why}", setting.name),
    }
}

/// The options that an error concerns.
fn blamed(error: &clap::Error) -> Vec<String> {
    [ContextKind::InvalidArg, ContextKind::PriorArg]
        .into_iter()
        .filter_map(|kind| error.get(kind))
        .flat_map(|value| match value {
            ContextValue::String(text) => vec![text.clone()],
            ContextValue::Strings(texts) => texts.clone(),
            _ => Vec::new(),
        })
        .collect()
}

/// The text of an error, without usage and hints.
fn first_words(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    text.split("\n\n").next().unwrap_or_default().trim().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command as Kactl;
    use crate::commands::options::run::RunArgs;
    use std::fs;

    const PROFILES: &str = "\
[defaults]
count = 3
disk = \"sda\"
timeout = \"30m\"
exclude = [\"/scratch\", \"/var/tmp\"]
[profile.lab1]
count = 7
disk = [\"sda\", { disk = \"sdb\", desc = \"/etc/ka/sdb\" }]
hostname = \"lab%03d\"
keep-uuids = true
yes = true
wait-booted = true
min-share = 0.25
loader = \"grub --with=ahci\"
store-log = \"http://logs/\"
[profile.quiet]
timeout = false
";

    fn run(config: &str, line: &str) -> Result<RunArgs, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ka.toml");
        fs::write(&file, config).unwrap();
        let words = ["kactl", "--config"].map(OsString::from).into_iter();
        let words = words.chain([file.clone().into()]).chain(line.split(' ').map(OsString::from));
        match parse(words.collect()) {
            Ok(Cli { command: Kactl::Run(run), .. }) => Ok(*run),
            Ok(_) => Err("not a run".into()),
            Err(LineError::Words(error)) => Err(error.to_string()),
            Err(LineError::Profile(error)) => {
                Err(format!("{error:#}").replace(&file.display().to_string(), "ka.toml"))
            }
        }
    }

    #[test]
    fn the_command_line_counts_before_the_profile_and_that_before_the_defaults() {
        let defaults = run(PROFILES, "run").unwrap();
        assert_eq!((defaults.nodes_wanted.unwrap().get(), defaults.yes), (3, false));
        assert_eq!(defaults.exclude_dirs, ["/scratch", "/var/tmp"].map(PathBuf::from));
        let lab = run(PROFILES, "run --profile lab1").unwrap();
        assert_eq!((lab.nodes_wanted.unwrap().get(), lab.yes, lab.keep_uuids), (7, true, true));
        assert_eq!(lab.stream.timeout.map(|time| time.as_secs()), Some(1800));
        let disks: Vec<_> = lab.disks.disks.iter().map(|d| (d.disk.to_string(), d.desc.clone())).collect();
        assert_eq!(disks, [("sda".into(), None), ("sdb".into(), Some(PathBuf::from("/etc/ka/sdb")))]);
        assert_eq!(lab.identity.wait_booted.map(|time| time.as_secs()), Some(900));
        assert_eq!(lab.boot.plan().initrd_modules, ["ahci"]);
        let line =
            run(PROFILES, "run -n 2 --profile lab1 -p nvme0n1 desc --timeout 5 --wait-booted=1m").unwrap();
        assert_eq!((line.nodes_wanted.unwrap().get(), line.disks.disks.len()), (2, 1));
        assert_eq!(line.stream.timeout.map(|time| time.as_secs()), Some(5));
        assert_eq!(line.identity.wait_booted.map(|time| time.as_secs()), Some(60));
        // A setting that conflicts with the command line is dropped.
        let listed = run(PROFILES, "run --profile lab1 --nodes macs").unwrap();
        assert_eq!((listed.nodes, listed.yes), (Some(PathBuf::from("macs")), false));
    }

    #[test]
    fn a_line_without_profiles_is_as_it_was() {
        let alone = run("", "run -n 1 -p sda desc").unwrap();
        assert_eq!((alone.nodes_wanted.unwrap().get(), alone.session.as_str()), (1, "kainstall"));
        for line in ["run", "run -n 1", "run --help", "run -n 0 -p sda"] {
            assert!(run("", line).is_err(), "{line}");
        }
        assert!(run(PROFILES, "run --help").unwrap_err().contains("--profile"));
    }

    #[test]
    fn what_is_wrong_in_a_profile_has_its_place() {
        let base = "[defaults]\ncount = 1\ndisk = \"sda\"\n";
        for (more, line, fault) in [
            (
                "[profile.a]\nhostnam = \"x\"\n",
                "run",
                "ka.toml:5:1: unknown option `hostnam`, expected one of `after-read`",
            ),
            ("[profile.a]\nprofile = \"b\"\n", "run", "ka.toml:5:1: unknown option `profile`"),
            (
                "[profile.a]\ndelay = \"soon\"\n",
                "run --profile a",
                "ka.toml:5:1: invalid value 'soon' for '--delay <TIME>'",
            ),
            ("[profile.a]\ncount = 0\n", "run --profile a", "ka.toml:5:1: invalid value '0' for"),
            (
                "[profile.a]\ndisk = \"sda:colour=red\"\n",
                "run --profile a",
                "ka.toml:5:1: -p sda:colour=red: ",
            ),
            ("[profile.a]\nyes = \"yes\"\n", "run --profile a", "ka.toml:5:1: --yes takes no value"),
            ("[profile.a]\ntimeout = true\n", "run --profile a", "ka.toml:5:1: --timeout takes a value"),
            ("[profile.a]\ntimeout = [1, 2]\n", "run --profile a", "ka.toml:5:1: --timeout is given once"),
            ("[profile.a]\ndisk = { desk = \"x\" }\n", "run --profile a", "ka.toml:5:1: unknown part `desk`"),
            ("[profile.a]\nyes = 1979-05-27\n", "run", "ka.toml:5:7: yes: expected a text"),
            ("[profile.a]\nyes = true\nnodes = \"f\"\n", "run --profile a", "cannot be used with"),
            (
                "[profile.a]\nyes = true\n",
                "run --profile b",
                "--profile: there is no profile 'b'; the configuration has a",
            ),
            ("[profiles.a]\n", "run", "ka.toml:4:2: unknown field `profiles`"),
            ("profile = 1\n", "run", "ka.toml:4:1: unknown option `profile`"),
        ] {
            let error = run(&format!("{base}{more}"), line).unwrap_err();
            assert!(error.contains(fault), "{more}{line}: {error}");
        }
    }
}
