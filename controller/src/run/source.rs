//! What a session's stream is made of.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::golden::pack;
use crate::golden::plan::{Chosen, RawSource};
use crate::golden::view::{View, ViewError};

/// A stream's source can be read as often as there are attempts.
pub trait Source: Send + Sync {
    /// Writes the whole plain stream to `out`.
    ///
    /// # Errors
    /// [`SourceError`] when it cannot be read to its end, or `out` takes no more.
    fn write(&self, out: &mut dyn Write) -> Result<(), SourceError>;
}

/// A source that could not be read to its end. Nobody may take what was sent for complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The command failed.
    #[error("the command '{command}' failed: {reason}")]
    Command {
        /// The command.
        command: String,
        /// How.
        reason: String,
    },
    /// A tree cannot be packed.
    #[error(transparent)]
    Pack(#[from] pack::PackError),
    /// The golden file systems cannot be seen.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The stream was given up while the source was read.
    #[error("the stream was given up: {0}")]
    Stream(io::Error),
}

/// A directory's tree, as a tar.
pub struct DirectorySource(pub PathBuf);

impl Source for DirectorySource {
    fn write(&self, out: &mut dyn Write) -> Result<(), SourceError> {
        let summary = pack::pack_dir(&self.0, &pack::Options::default(), out)?;
        summary.notes.log();
        Ok(())
    }
}

/// The golden node's chosen file systems and partitions, as one tar.
pub struct GoldenSource {
    chosen: Vec<Chosen>,
    raw: Vec<RawSource>,
    exclude: Vec<PathBuf>,
}

impl GoldenSource {
    /// Reads file systems, and partitions as they are; directories of `exclude` are re-created empty.
    #[must_use]
    pub fn new(chosen: Vec<Chosen>, raw: Vec<RawSource>, exclude: Vec<PathBuf>) -> Self {
        Self { chosen, raw, exclude }
    }
}

impl Source for GoldenSource {
    fn write(&self, out: &mut dyn Write) -> Result<(), SourceError> {
        let view = View::open(&self.chosen)?;
        let options = pack::Options {
            exclude: self.exclude.clone(),
            partitions: self.raw.clone(),
            ..pack::Options::default()
        };
        let summary = pack::pack(view.sources(), &options, out)?;
        summary.notes.log();
        Ok(())
    }
}

const PIECE: usize = 1024 * 1024;

/// One file's bytes.
pub struct FileSource(pub PathBuf);

impl Source for FileSource {
    fn write(&self, out: &mut dyn Write) -> Result<(), SourceError> {
        let error = |error| SourceError::Read { path: self.0.clone(), error };
        let mut file = File::open(&self.0).map_err(error)?;
        copy(&mut file, out, error)
    }
}

/// What a shell command prints.
pub struct CommandSource(pub String);

impl Source for CommandSource {
    fn write(&self, out: &mut dyn Write) -> Result<(), SourceError> {
        let failed = |reason: String| SourceError::Command { command: self.0.clone(), reason };
        let mut child = Command::new("sh")
            .args(["-c", &self.0])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let copied = match &mut child.stdout {
            Some(stdout) => copy(stdout, out, |e| failed(e.to_string())),
            None => Err(failed("it has no output".into())),
        };
        // With its output closed, a command that still writes ends as well.
        drop(child.stdout.take());
        let status = child.wait().map_err(|e| failed(e.to_string()))?;
        copied?;
        if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
    }
}

fn copy(
    from: &mut impl Read,
    out: &mut dyn Write,
    error: impl Fn(io::Error) -> SourceError,
) -> Result<(), SourceError> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(error(e)),
        };
        out.write_all(&piece[..length]).map_err(SourceError::Stream)?;
    }
}
