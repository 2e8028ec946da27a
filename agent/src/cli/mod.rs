//! The agent's command line on a running host.

mod console;
mod disk;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::receive::{self, Request, Sink};
use crate::{booted, node};
use clap::{CommandFactory, Parser};
use ka_host::sys::signals;
use ka_host::terminal;
use ka_net::relay::window;
use simplelog::{ConfigBuilder, LevelFilter, WriteLogger};

/// The prefix of an error message.
const NAME: &str = "ka-agent";

#[derive(Parser)]
#[command(name = NAME, version, about = "The part of ka that runs on the nodes")]
struct Cli {
    /// Log more
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Receive what 'kactl send' sends, and pass it on to the next host
    Receive(Receive),
    /// What a clone's first boot starts
    #[command(hide = true)]
    Booted,
    /// Partition a disk by a description, as a run does on a node
    Disk(disk::Args),
    /// What PID 1 of a node starts
    #[command(hide = true)]
    Work,
    /// What PID 1 of a node starts beside its work
    #[command(hide = true)]
    Console(console::Args),
}

#[derive(clap::Args)]
struct Receive {
    /// The host on which kactl runs, and its port if it is not 30765
    #[arg(long, value_name = "HOST[:PORT]")]
    controller: String,
    /// The session's name
    #[arg(long, value_name = "NAME")]
    session: String,
    /// The join key that 'kactl init' created
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    sink: SinkArgs,
    /// Memory for data that others may still need: bytes, or 8M, 1G; at least 8M (default: a quarter, at most
    /// 256M)
    #[arg(long, value_name = "SIZE", value_parser = window::parse)]
    window: Option<u64>,
    /// Also compare the SHA-256 of the whole stream, against faulty memory; costs about half a CPU second per
    /// GiB
    #[arg(long)]
    check_sum: bool,
    /// How long to wait for the session to begin, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

/// Exactly one sink.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct SinkArgs {
    /// Unpack a tree into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write the bytes to this file, device or pipe; a symbolic link is replaced by the file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Feed the bytes to this shell command
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
}

/// The definition of the command line, for its man page.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line: 0 done, 1 failed, 2 usage.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        terminal::usage(&error.render().to_string(), error.use_stderr(), error.exit_code())
    });
    if let Err(error) = signals::keep_on_large_files() {
        terminal::complain(NAME, format_args!("cannot ignore SIGXFSZ: {error}"));
    }
    match cli.command {
        // A node's log goes to its consoles.
        Command::Work => node::work().map_or(ExitCode::FAILURE, ExitCode::from),
        Command::Console(args) => console::run(&args),
        Command::Booted => {
            log_to_stderr(cli.verbose);
            match booted::tell(Path::new("/")) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    terminal::complain(NAME, error);
                    ExitCode::FAILURE
                }
            }
        }
        Command::Receive(args) => {
            log_to_stderr(cli.verbose);
            receive(args)
        }
        Command::Disk(args) => {
            log_to_stderr(cli.verbose);
            disk::run(&args)
        }
    }
}

fn log_to_stderr(verbose: bool) {
    let level = if verbose { LevelFilter::Debug } else { LevelFilter::Info };
    let config = ConfigBuilder::new().set_time_level(LevelFilter::Off).build();
    terminal::log_with(*WriteLogger::new(level, config, terminal::err()), level);
}

fn receive(args: Receive) -> ExitCode {
    let sink = match args.sink {
        SinkArgs { dir: Some(dir), .. } => Sink::Dir(dir),
        SinkArgs { file: Some(file), .. } => Sink::File(file),
        SinkArgs { command, .. } => Sink::Command(command.unwrap_or_default()),
    };
    let request = Request {
        controller: args.controller,
        session: args.session,
        key: args.key,
        sink,
        window: args.window.unwrap_or_else(window::default_size),
        check_sum: args.check_sum,
        patience: Duration::from_secs(args.wait),
    };
    match receive::receive(&request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::complain(NAME, &error);
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
    }
}
