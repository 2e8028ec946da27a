//! The command line: options and subcommands.

mod hints;
mod profile;

pub use profile::{LineError, parse};

use std::path::PathBuf;

use anyhow::{Context, anyhow};

use crate::commands::options::run::RunArgs;
use crate::commands::{
    config as config_command, config::ConfigArgs, console, console::ConsoleArgs, desc, desc::DescArgs,
    doctor, doctor::DoctorArgs, exec, exec::ExecArgs, go, go::GoArgs, image, image::ImageArgs, init,
    init::InitArgs, log as node_log, log::LogArgs, machines, machines::MachinesArgs, power, power::PowerArgs,
    pxe, pxe::PxeArgs, resume, resume::ResumeArgs, run, send, send::SendArgs,
};
use crate::config::Config;
use crate::exit::{CommandResult, Exit};
use ka_host::terminal;

const GLOBAL: &str = "Everywhere";

const AFTER: &str = "\
The first clone:
  kactl init                       create the keys and /etc/ka/ka.toml
  kactl image                      build what the nodes boot
  kactl doctor --interface eth1    check this machine
  kactl pxe --interface eth1       serve the nodes' boot files, in another terminal
  kactl run -n 1 -p sda            clone the first machine that boots, after a question

Exit status:
  0  all is well
  1  nodes failed, or a warning of 'kactl doctor'
  2  an error in the command line, or on this machine before anything began
  3  this machine could not be read to the end

'kactl COMMAND --help' explains a command.";

/// Clone this machine, the golden node, onto machines that boot over the network
#[derive(Debug, clap::Parser)]
#[command(name = "kactl", version, max_term_width = 100, after_help = AFTER, next_help_heading = GLOBAL)]
pub struct Cli {
    /// Configuration file
    #[arg(
        long,
        global = true,
        display_order = 900,
        value_name = "FILE",
        env = "KA_CONFIG",
        default_value = crate::config::DEFAULT_FILE
    )]
    pub config: PathBuf,
    /// Log more; twice logs everything
    #[arg(short, long, global = true, display_order = 901, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Log only warnings and errors, and show no progress
    #[arg(short, long, global = true, display_order = 902, conflicts_with = "verbose")]
    pub quiet: bool,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Runs the requested subcommand.
    ///
    /// # Errors
    /// The cause, with the corresponding exit status.
    pub fn run(&self) -> CommandResult {
        let config = || Config::load(&self.config);
        match &self.command {
            Command::Console(args) => console::run(args, &config()?),
            Command::Exec(args) => exec::run(args, &config()?),
            Command::Log(args) => node_log::run(args, &config()?),
            Command::Config(args) => config_command::run(args, &self.config),
            Command::Doctor(args) => Ok(doctor::run(args, &config()?)),
            Command::Machines(args) => machines::run(args, &config()?),
            Command::Power(args) => power::run(args, &config()?),
            Command::Desc(args) => {
                desc::run(args, &mut terminal::data())?;
                Ok(Exit::Ok)
            }
            Command::Go(args) => go::run(args, &config()?),
            Command::Image(args) => {
                image::run(args, &image::Places::of(&config()?.directories))?;
                Ok(Exit::Ok)
            }
            Command::Init(args) => init::run(args, &self.config),
            Command::Pxe(args) => pxe::run(args, &config()?),
            Command::Resume(args) => Self::resume(args, &config()?),
            Command::Run(args) => run::run(args, &config()?, &self.config, None),
            Command::Send(args) => send::run(args, &config()?, None),
        }
    }
}

impl Cli {
    /// Parses the command line of an earlier run again, and continues that run.
    fn resume(args: &ResumeArgs, config: &Config) -> CommandResult {
        let recorded = resume::open(args, config)?;
        let words = ["kactl"].into_iter().chain(recorded.header.arguments.iter().map(String::as_str));
        let run = recorded.directory.display().to_string();
        let again = parse(words.map(Into::into).collect())
            .map_err(|error| match error {
                LineError::Words(error) => error.into(),
                LineError::Profile(error) => error,
            })
            .with_context(|| format!("{run}: this kactl no longer accepts its command line"))?;
        let config = Config::load(&again.config)?;
        log::info!("continuing {run}");
        match &again.command {
            Command::Run(args) => run::run(args, &config, &again.config, Some(recorded)),
            Command::Send(args) => send::run(args, &config, Some(recorded)),
            _ => Err(anyhow!("{run} was started by neither 'kactl run' nor 'kactl send'").into()),
        }
    }
}

/// The subcommands of kactl.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Check or show the configuration
    Config(ConfigArgs),
    /// Open a shell on a node, from the first moment of stage1 until it reboots
    Console(ConsoleArgs),
    /// Write a description of one of this machine's disks, for 'kactl run'
    Desc(DescArgs),
    /// Check this machine before a run
    Doctor(DoctorArgs),
    /// Run a command on nodes, at the same time
    Exec(ExecArgs),
    /// Start a waiting session with the nodes present
    Go(GoArgs),
    /// Build what the nodes boot, from this machine's kernel and tools
    Image(ImageArgs),
    /// Create the keys and /etc/ka/ka.toml
    Init(InitArgs),
    /// Show a node's log
    Log(LogArgs),
    /// List every machine that ever joined a run
    Machines(MachinesArgs),
    /// Switch machines on and off
    Power(PowerArgs),
    /// Serve DHCP, TFTP, HTTP and what each machine boots, until stopped
    Pxe(PxeArgs),
    /// Continue a run whose process was killed, or whose machine crashed
    Resume(ResumeArgs),
    /// Clone this machine onto N nodes
    Run(Box<RunArgs>),
    /// Send files to running hosts
    Send(Box<SendArgs>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_exits_as_usage_does() {
        for line in [
            "kactl",
            "kactl clone",
            "kactl run -p sda desc",
            "kactl run -n 0 -p sda desc",
            "kactl run -n 1",
            "kactl run -n 1 -p sda:colour=red desc",
            "kactl run -n 1 -p sda desc -n 2 desc",
            "kactl desc sda --format fdisk",
            "kactl run -n 1 -p sda desc -x relative",
            "kactl run -n 1 -p sda desc -r syslinux",
            "kactl run -n 1 -p sda desc --yes --nodes macs",
            "kactl run -n 1 -p sda desc --session ../x",
            "kactl send --session a -n 1",
            "kactl send --session a -n 1 --dir a --file b",
            "kactl send -n 1 --dir a",
            "kactl run -n 1 -p sda desc --boot halt",
            "kactl run -n 1 -p sda desc --hostname node",
            "kactl run -n 1 -p sda desc --store-log https://logs/",
            "kactl run -n 1 -p sda desc --store-log ftp://me:secret@logs/",
            "kactl run -n 1 -p sda desc --store-log-password file",
            "kactl run -n 1 -p sda desc --wait-booted=0",
            "kactl run -n 1 -p sda desc --kernel 6.1",
            "kactl run -n 1 -p sda desc --firmware uefi",
            "kactl run -n 1 -p sda desc --boot-order usb",
            "kactl run -n 1 -p sda desc --delay soon",
            "kactl pxe --range 10.0.0.9",
            "kactl pxe --proxy --range 10.0.0.9,10.0.0.10",
            "kactl pxe --proxy --no-dhcp",
            "kactl pxe config",
            "kactl pxe config bind",
            "kactl log",
            "kactl run -n 1 -p sda desc --power on",
            "kactl run -n 1 -p sda desc --at noon",
            "kactl power up node1",
            "kactl power on",
            "kactl exec node1",
            "kactl console node1 --escape x",
            "kactl go ../x",
            "kactl -q -v go",
            "kactl run -n 1 -p sda desc -o xml",
            "kactl run -n 1 -p sda desc -o csv --json",
            "kactl send --session a -n 1 --dir a --rounds 0",
            "kactl send --session a -n 1 --dir a --order port",
            "kactl send --session a -n 1 --dir a --order file:",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
    }

    #[test]
    fn every_letter_has_a_long_name() {
        let mut command = Cli::command();
        command.build();
        for command in command.get_subcommands().chain([&command]) {
            for arg in command.get_arguments().filter(|arg| arg.get_short().is_some()) {
                assert!(arg.get_long().is_some(), "{}: -{:?}", command.get_name(), arg.get_short());
            }
        }
    }

    #[test]
    fn long_names_are_the_letters() {
        let run = |line: &str| match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Run(run) => format!("{run:?}"),
            _ => panic!("not a run"),
        };
        assert_eq!(
            run("kactl run -n 3 -p sda desc -D sda3 -x /a -X sdb|sdc -m sda -M sdb c -r lilo -s lab -y"),
            run(
                "kactl run --count 3 --disk=sda=desc --raw sda3 --exclude /a --exclude-disk sdb|sdc --boot-code sda \
                 --boot-code-file sdb c --loader lilo --session lab --yes"
            )
        );
        // A list says how many, too.
        assert!(Cli::try_parse_from("kactl run -p sda --nodes macs".split(' ')).is_ok());
    }

    #[test]
    fn the_originals_command_line_is_understood() {
        let line = [
            "kactl",
            "run",
            "-n",
            "3",
            "-p",
            "/dev/sda",
            "/tmp/desc",
            "-x",
            "/scratch",
            "-x",
            "/var/tmp/",
            "-X",
            "sdb|sdc",
            "-X",
            "sdd",
            "-D",
            "/dev/sda3",
            "-D",
            "sda5",
            "-r",
            "grub --with=ata_piix --with piix",
            "--yes",
        ];
        let Command::Run(run) = Cli::try_parse_from(line).unwrap().command else { panic!("not a run") };
        assert_eq!(run.nodes_wanted.unwrap().get(), 3);
        let [disk] = run.disks.disks.as_slice() else { panic!("{run:?}") };
        assert_eq!((disk.disk.clone(), disk.desc.clone()), ("sda".into(), Some(PathBuf::from("/tmp/desc"))));
        assert_eq!(run.raw, ["sda3", "sda5"]);
        assert_eq!(run.exclude_dirs, [PathBuf::from("/scratch"), PathBuf::from("/var/tmp/")]);
        assert_eq!(run.exclude_disks, ["sdb", "sdc", "sdd"]);
        assert_eq!(run.boot.plan().initrd_modules, ["ata_piix", "piix"]);
        assert_eq!(run.session, "kainstall");
    }
}
