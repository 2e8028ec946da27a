//! The agent's command line on a running host.

mod disk;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ka_agent::receive::{self, Request, Sink};
use ka_agent::{booted, node};
use ka_host::sys::signals;
use ka_net::relay::window;
use simplelog::{ConfigBuilder, LevelFilter, WriteLogger};

#[derive(Parser)]
#[command(name = "ka-agent", version, about = "The part of ka that runs on the nodes")]
struct Cli {
    /// Tells more
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Receives what 'kactl send' sends, and passes it on to the next host
    Receive(Receive),
    /// What a clone's first boot starts
    #[command(hide = true)]
    Booted,
    /// Partitions a disk after a description, as a run does on a node
    Disk(disk::Args),
    /// What PID 1 of a node starts
    #[command(hide = true)]
    Work,
}

#[derive(clap::Args)]
struct Receive {
    /// The host on which kactl runs, and its port if it is not 30765
    #[arg(long, value_name = "HOST[:PORT]")]
    controller: String,
    /// The session's name
    #[arg(long, value_name = "NAME")]
    session: String,
    /// The join key, as 'kactl init' made it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    sink: SinkArgs,
    /// Memory for what others may still need: bytes, or 8M, 1G; at least 8M (default: a quarter, at most 256M)
    #[arg(long, value_name = "SIZE", value_parser = window::parse)]
    window: Option<u64>,
    /// Compares the SHA-256 of all that came with the golden node's, too, against faulty memory; costs about half
    /// a CPU second a GiB
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
    /// Unpacks a tree into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Writes the bytes to this file, or device or pipe; of a symbolic link, the file takes the place
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Gives the bytes to this shell command
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
}

/// Runs the command line: 0 done, 1 failed, 2 usage.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = signals::keep_on_large_files() {
        eprintln!("ka-agent: cannot ignore SIGXFSZ: {error}");
    }
    match cli.command {
        // A node's log goes to its consoles.
        Command::Work => node::work().map_or(ExitCode::FAILURE, ExitCode::from),
        Command::Booted => {
            log_to_stderr(cli.verbose);
            match booted::tell(Path::new("/")) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("ka-agent: {error}");
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
    // Only fails when there is a logger already.
    let _ = WriteLogger::init(level, config, std::io::stderr());
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
            eprintln!("ka-agent: {error}");
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
    }
}
