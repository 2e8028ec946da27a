//! `kactl send`: sends files to running hosts.

use std::fs::File;
use std::num::NonZeroU32;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};

use super::conclude;
use super::options::stream::StreamArgs;
use crate::config::Config;
use crate::exit::CommandResult;
use crate::journal::Recorded;
use crate::stream::settings::Settings;
use crate::stream::source::{CommandSource, FileSource, Source, TreeSource, Tuned};
use crate::stream::spooled::SpooledSource;
use crate::values;
use crate::workflow::distribute::{self, Request};

const AFTER: &str = "\
Each host runs: ka-agent receive --controller HOST --session NAME \\
                    --key join.key --dir DIR

Examples:
  kactl send -s data -n 8 --dir /srv/data     send a directory tree to 8 hosts
  zcat x.gz | kactl send -s x -n 2 --file -   send standard input
  kactl send -s db -n 2 --command 'pg_dump a' send a command's output

Exit status:
  0  every host is complete
  1  hosts failed; each is named with its reason
  2  an error before anything began
  3  the source could not be read to the end";

/// Options of `kactl send`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Source and hosts", after_help = AFTER)]
pub struct SendArgs {
    /// Name by which the hosts find the session
    #[arg(short, long, value_name = "NAME", value_parser = values::name)]
    pub session: String,
    /// How many hosts to wait for
    #[arg(short = 'n', long = "count", value_name = "N")]
    pub nodes_wanted: NonZeroU32,
    /// The source.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Also send other mounts and subvolumes below the directory
    #[arg(long, requires = "dir")]
    pub cross: bool,
    /// Stay on the directory's own mount; other mounts (bind mounts, too) and subvolumes arrive as empty
    /// directories, and are counted (default)
    #[arg(long, requires = "dir", conflicts_with = "cross")]
    pub one_file_system: bool,
    /// Also compute the SHA-256 of the whole stream, for receivers with --check-sum; costs about half a CPU
    /// second per GiB
    #[arg(long)]
    pub check_sum: bool,
    /// Directory of the keys (default: the configuration's)
    #[arg(long, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// The stream's settings.
    #[command(flatten)]
    pub stream: StreamArgs,
}

/// Exactly one source.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct SourceArgs {
    /// Send a directory tree
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Send one file's bytes; '-' is standard input, which is kept in TMPDIR (or /var/tmp) until the session
    /// ends
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Send the output of a shell command; if it fails, so does the session
    #[arg(long, value_name = "COMMAND")]
    pub command: Option<String>,
}

/// Executes `kactl send`, or continues a session.
///
/// # Errors
/// The cause, with the corresponding exit status.
pub fn run(args: &SendArgs, config: &Config, recorded: Option<Recorded>) -> CommandResult {
    let request = request(args, config, recorded)?;
    conclude::session(&distribute::run(&request, config)?, args.stream.output())
}

/// The request from the options. Standard input is read to its end here.
fn request(args: &SendArgs, config: &Config, recorded: Option<Recorded>) -> anyhow::Result<Request> {
    ensure!(
        recorded.is_none() || args.source.file.as_deref() != Some(Path::new("-")),
        "this session sent its standard input, which is gone: start a new one"
    );
    let stream = args.stream.streaming(config)?;
    distribute::check(config, args.keys.as_deref(), &stream, recorded.as_ref())?;
    let source = args.source.open(args.cross)?;
    Ok(Request {
        session: args.session.clone(),
        source: Arc::new(Tuned(source, Settings { check_sum: args.check_sum, ..Settings::default() })),
        wanted: usize::try_from(args.nodes_wanted.get())?,
        keys: args.keys.clone(),
        stream,
        recorded,
    })
}

impl SourceArgs {
    /// Checks everything that can be checked before the session waits.
    fn open(&self, cross: bool) -> anyhow::Result<Arc<dyn Source>> {
        match (&self.dir, &self.file, &self.command) {
            (Some(dir), ..) => {
                ensure!(dir.is_dir(), "{} is not a directory", dir.display());
                Ok(Arc::new(TreeSource { directory: dir.clone(), cross }))
            }
            (_, Some(file), _) => {
                if file.as_os_str() == "-" {
                    return Ok(Arc::new(SpooledSource::of_stdin()?));
                }
                let cannot = || format!("cannot read {}", file.display());
                // Not opened in advance: a writer at the other end of a pipe would take that for its reader.
                let kind = file.metadata().with_context(cannot)?.file_type();
                ensure!(!kind.is_dir(), "{} is a directory; send it with --dir", file.display());
                ensure!(
                    kind.is_file() || kind.is_block_device() || kind.is_char_device(),
                    "{} is a pipe or a socket, which can be read once, and hosts that join again need all of it: \
                     send it with --command, or pass it to '--file -'",
                    file.display()
                );
                File::open(file).with_context(cannot)?;
                Ok(Arc::new(FileSource(file.clone())))
            }
            (.., Some(command)) => Ok(Arc::new(CommandSource::new(command.clone()))),
            _ => bail!("nothing to send: use --dir, --file or --command"),
        }
    }
}
