//! Standard input as a source. It can be read only once, and a host that comes again needs all of it, so it
//! is kept in a file without a name, which goes with the process.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use ka::archive::Output;
use ka::notes::Tally;

use super::source::{FileSource, Source, SourceError};
use crate::view::units;

/// The bytes of a pipe, kept.
pub struct SpooledSource(File);

impl SpooledSource {
    /// Reads standard input to its end.
    ///
    /// # Errors
    /// Standard input is a terminal or cannot be read, or there is no room for it.
    pub fn of_stdin() -> anyhow::Result<Self> {
        let mut input = io::stdin().lock();
        ensure!(
            !input.is_terminal(),
            "--file -: standard input is a terminal; pipe into it what is to be sent"
        );
        Self::of(&mut input)
    }

    fn of(input: &mut impl Read) -> anyhow::Result<Self> {
        let place = env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let cannot = || {
            format!(
                "--file -: cannot keep standard input in {}; TMPDIR names another directory",
                place.display()
            )
        };
        let mut file = tempfile::tempfile_in(&place).with_context(cannot)?;
        log::info!("reading standard input");
        let bytes = io::copy(input, &mut file).with_context(cannot)?;
        log::info!(
            "standard input: {}, kept in {} until the session ends",
            units::bytes(bytes),
            place.display()
        );
        Ok(Self(file))
    }
}

impl Source for SpooledSource {
    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError> {
        // Opened again for each attempt, so that each has a position of its own (proc(5)).
        let file = FileSource(PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd())));
        file.write(out).map_err(|error| match error {
            SourceError::Read { error, .. } => SourceError::Read { path: "standard input".into(), error },
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::archive::Roomy;
    use std::io::Write;

    #[test]
    fn every_attempt_reads_all_of_it() {
        let text = b"all of it".repeat(1000);
        let source = SpooledSource::of(&mut text.as_slice()).unwrap();
        for _ in 0..2 {
            let mut out = Vec::new();
            let mut roomy = Roomy::new(&mut out, 1 << 16);
            source.write(&mut roomy).unwrap();
            roomy.flush().unwrap();
            drop(roomy);
            assert_eq!(out, text);
        }
    }
}
