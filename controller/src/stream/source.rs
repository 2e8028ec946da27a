//! The sources of a session's stream.

use std::fs::{File, Metadata};
use std::io::{self, PipeWriter, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ka::archive::Output;
use ka::notes::{NoteKind, Tally};

use super::settings::Settings;
use crate::golden::chosen::{Chosen, RawSource};
use crate::golden::pack;
use crate::golden::tree::{self, TreeError};
use crate::golden::view::{View, ViewError};

/// A stream's source, which can be read once per attempt.
pub trait Source: Send + Sync {
    /// Writes the whole uncompressed stream to `out`; returns the notes about it.
    ///
    /// # Errors
    /// [`SourceError`] if the source cannot be read to its end, or `out` accepts no more.
    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError>;

    /// The size of the stream in bytes, if known before it is read.
    fn length(&self) -> Option<u64> {
        None
    }

    /// The stream has been abandoned: a source that waits for something must end its attempt.
    fn give_up(&self) {}

    /// The settings for its stream.
    fn settings(&self) -> Settings {
        Settings::default()
    }
}

/// A source with explicit stream settings.
pub struct Tuned(pub Arc<dyn Source>, pub Settings);

impl Source for Tuned {
    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError> {
        self.0.write(out)
    }

    fn length(&self) -> Option<u64> {
        self.0.length()
    }

    fn give_up(&self) {
        self.0.give_up();
    }

    fn settings(&self) -> Settings {
        self.1
    }
}

/// Why a source could not be read to its end. The data already sent must not be taken for complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file cannot be read.
    #[error("{}: {}", path.display(), ka_host::words::of_io(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A file was truncated while it was read.
    #[error(
        "{}: it shrank from {announced} to {read} bytes while it was read; send it when no program writes \
         to it",
        path.display()
    )]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// Its initial size.
        announced: u64,
        /// Its remaining size.
        read: u64,
    },
    /// The command failed.
    #[error("the command '{command}' failed: {reason}")]
    Command {
        /// The command.
        command: String,
        /// How it failed.
        reason: String,
    },
    /// A tree cannot be packed.
    #[error(transparent)]
    Pack(#[from] pack::PackError),
    /// The golden file systems cannot be opened.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The stream was abandoned while the source was read.
    #[error("the stream was aborted: {0}")]
    Stream(io::Error),
}

/// A directory's tree, as a tar.
pub struct DirectorySource(pub PathBuf);

impl Source for DirectorySource {
    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError> {
        let summary = pack::pack_dir_to(&self.0, &pack::Options::default(), out)?;
        summary.notes.log();
        Ok(summary.notes.tally().clone())
    }
}

/// A directory's tree as a tar archive for running hosts: files that cannot be opened are noted and left out.
pub struct TreeSource {
    /// The directory.
    pub directory: PathBuf,
    /// Include other mounts and subvolumes.
    pub cross: bool,
}

impl Source for TreeSource {
    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError> {
        let options = pack::Options { cross: self.cross, tolerant: true, ..pack::Options::default() };
        let summary = pack::pack_dir_to(&self.directory, &options, out)?;
        summary.notes.log();
        Ok(summary.notes.tally().clone())
    }
}

/// The golden node's chosen file systems and partitions, as one tar archive.
pub struct GoldenSource {
    chosen: Mutex<Vec<Chosen>>,
    raw: Vec<RawSource>,
    exclude: Vec<PathBuf>,
    /// The losses that were known when the plan was made.
    lost: Tally,
    reading: Mutex<Readers>,
    idle: Condvar,
}

/// The readers of the golden node.
#[derive(Default)]
struct Readers {
    count: usize,
    /// No new reader may start.
    over: bool,
}

/// One reader.
struct Reader<'a>(&'a GoldenSource);

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.readers().count -= 1;
        self.0.idle.notify_all();
    }
}

impl GoldenSource {
    /// Reads file systems, and partitions byte by byte; directories in `exclude` are re-created empty. `lost`
    /// is included in the notes.
    #[must_use]
    pub fn new(chosen: Vec<Chosen>, raw: Vec<RawSource>, exclude: Vec<PathBuf>, lost: Tally) -> Self {
        let chosen = Mutex::new(chosen);
        Self { chosen, raw, exclude, lost, reading: Mutex::default(), idle: Condvar::new() }
    }

    /// Prevents new readers, and waits at most for `time` until all have ended; returns whether they have. An
    /// abandoned stream ends only when its producer next hands over data.
    pub fn end(&self, time: Duration) -> bool {
        let mut readers = self.readers();
        readers.over = true;
        let waited = self.idle.wait_timeout_while(readers, time, |readers| readers.count > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.count == 0
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Result<Reader<'_>, SourceError> {
        let mut readers = self.readers();
        if readers.over {
            return Err(SourceError::Stream(io::Error::other("nothing reads the stream any more")));
        }
        readers.count += 1;
        Ok(Reader(self))
    }

    /// Reads the files from this tree from now on, as far as it has them.
    ///
    /// # Errors
    /// [`TreeError`]; nothing is changed.
    pub fn read_in(&self, tree: &Path) -> Result<(), TreeError> {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        *chosen = tree::within(tree, &chosen)?;
        Ok(())
    }
}

impl Source for GoldenSource {
    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError> {
        let _reader = self.begin()?;
        let chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let view = View::open(&chosen)?;
        let options = pack::Options {
            exclude: self.exclude.clone(),
            partitions: self.raw.clone(),
            ..pack::Options::default()
        };
        let summary = pack::pack_to(view.sources(), &options, out)?;
        summary.notes.log();
        let mut noted = self.lost.clone();
        noted.merge(summary.notes.tally());
        Ok(noted)
    }
}

/// The bytes of one file.
pub struct FileSource(pub PathBuf);

impl Source for FileSource {
    /// Unknown for a file of size zero, which may be one of the kernel's.
    fn length(&self) -> Option<u64> {
        let file = File::open(&self.0).ok()?;
        size(&file, &file.metadata().ok()?).ok().filter(|size| *size > 0)
    }

    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError> {
        let error = |error| SourceError::Read { path: self.0.clone(), error };
        let mut file = File::open(&self.0).map_err(error)?;
        let before = file.metadata().map_err(error)?;
        let announced = size(&file, &before).map_err(error)?;
        // A file that grows faster than it is sent would never end. A file of size zero may be one of the
        // kernel's, and has an end of its own.
        let most = if before.is_file() && announced > 0 { announced } else { u64::MAX };
        let sent = copy(&mut (&mut file).take(most), out, error)?;
        let now = file.metadata().map_err(error)?;
        // After a truncation, the lost data cannot be sent again, even if they had been read before.
        let read = if now.is_file() { sent.min(now.len()) } else { sent };
        if read < announced {
            return Err(SourceError::Shrunk { path: self.0.clone(), announced, read });
        }
        let changed = changed(&before, &now);
        let mut notes = Tally::default();
        if let Some(what) = changed {
            let note = format!("{}: {what}", self.0.display());
            log::warn!("{note}");
            notes.add(NoteKind::Changed, &note);
        }
        Ok(notes)
    }
}

/// The size of a file or block device; not known for other devices.
fn size(mut file: &File, metadata: &Metadata) -> io::Result<u64> {
    if !metadata.file_type().is_block_device() {
        return Ok(metadata.len());
    }
    let size = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    Ok(size)
}

/// How a file has changed since `before`. Writing to a device changes nothing visible.
fn changed(before: &Metadata, now: &Metadata) -> Option<&'static str> {
    let written = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec());
    if !before.is_file() {
        None
    } else if now.len() > before.len() {
        Some("it grew while it was read; its copy has the original length, and may be inconsistent")
    } else if written(now) != written(before) {
        Some("it was written to while it was read; its copy may be inconsistent")
    } else if (now.ctime(), now.ctime_nsec()) != (before.ctime(), before.ctime_nsec()) {
        // A writer can set the modification time back, but not this one.
        Some("its times or other attributes were set while it was read; its copy may be inconsistent")
    } else {
        None
    }
}

/// The output of a shell command.
pub struct CommandSource {
    command: String,
    /// Closing this ends the command and all processes that it started; so does the end of this process.
    running: Mutex<Vec<PipeWriter>>,
}

/// Runs `$1`, and kills everything in the process group once standard input is closed.
const UNTIL_CLOSED: &str = r#"exec 3<&0 0</dev/null
{ read -r _ <&3; kill -KILL 0; } & watch=$!
exec 3<&-
sh -c "$1"; status=$?
kill -KILL $watch
exit $status"#;

impl CommandSource {
    /// The output of `command`, run by `sh`.
    #[must_use]
    pub fn new(command: String) -> Self {
        Self { command, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, Vec<PipeWriter>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> io::Result<Child> {
        let (stdin, open) = io::pipe()?;
        self.running().push(open);
        let arguments = ["-c", UNTIL_CLOSED, "sh", &self.command];
        Command::new("sh").args(arguments).process_group(0).stdin(stdin).stdout(Stdio::piped()).spawn()
    }
}

impl Source for CommandSource {
    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError> {
        let failed = |reason: String| SourceError::Command { command: self.command.clone(), reason };
        let mut child = self.start().map_err(|e| failed(e.to_string()))?;
        let copied = match &mut child.stdout {
            Some(stdout) => copy(stdout, out, |e| failed(e.to_string())),
            None => Err(failed("it has no output".into())),
        };
        // With its output closed, a command that is still writing ends as well.
        drop(child.stdout.take());
        if copied.is_err() {
            self.give_up();
        }
        let status = child.wait().map_err(|e| failed(e.to_string()))?;
        self.running().clear();
        copied?;
        if status.success() { Ok(Tally::default()) } else { Err(failed(status.to_string())) }
    }

    fn give_up(&self) {
        self.running().clear();
    }
}

fn copy(
    from: &mut impl Read,
    out: &mut dyn Output,
    error: impl Fn(io::Error) -> SourceError,
) -> Result<u64, SourceError> {
    let mut copied = 0;
    loop {
        let length = match from.read(out.room()) {
            Ok(0) => return Ok(copied),
            Ok(length) => length,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(error(e)),
        };
        out.fill(length).map_err(SourceError::Stream)?;
        copied += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use ka::archive::Roomy;
    use std::thread;
    use std::time::Instant;

    #[test]
    fn the_end_of_the_reading_is_waited_for() {
        /// Takes the stream's first bytes, and then blocks until it is released.
        struct Slow(std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>);
        impl Write for Slow {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                let _ = self.0.send(());
                let _ = self.1.recv();
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let source = Arc::new(GoldenSource::new(Vec::new(), Vec::new(), Vec::new(), Tally::default()));
        let ((begun, has_begun), (let_go, is_let_go)) =
            (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let reader = thread::spawn({
            let source = Arc::clone(&source);
            move || source.write(&mut Roomy::new(Slow(begun, is_let_go), 1))
        });
        has_begun.recv().unwrap();
        assert!(!source.end(Duration::from_millis(10)), "it is still being read");
        drop(let_go);
        assert!(source.end(Duration::from_secs(60)));
        assert!(reader.join().unwrap().is_err());
        assert!(
            matches!(source.write(&mut Roomy::new(Vec::new(), 1 << 16)), Err(SourceError::Stream(_))),
            "it is over"
        );
    }

    /// Changes the file once its first bytes have been taken.
    struct Changes<F>(usize, F);

    impl<F: FnMut()> Write for Changes<F> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                self.1();
            }
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_file_that_grows_has_an_end_and_one_whose_time_is_set_back_is_noted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let open = || File::options().write(true).open(&path).unwrap();
        let append = || open().set_len(5 << 20).unwrap();
        let rewrite = || {
            let time = path.metadata().unwrap().modified().unwrap();
            open().write_all(&[1; 100]).unwrap();
            open().set_modified(time).unwrap();
        };
        let changes: [(&str, &dyn Fn()); 3] = [("it grew", &append), ("its times", &rewrite), ("", &|| ())];
        for (said, change) in changes {
            std::fs::write(&path, vec![7; 3 << 20]).unwrap();
            let mut out = Changes(0, change);
            let notes = FileSource(path.clone()).write(&mut Roomy::new(&mut out, 1 << 16)).unwrap();
            assert_eq!(out.0, 3 << 20, "{said}");
            let example = notes.iter().next().map(|(_, counted)| counted.example.clone());
            assert_eq!(example.is_some(), !said.is_empty(), "{example:?}");
            assert!(example.unwrap_or_default().contains(said));
        }
    }

    #[test]
    fn a_command_is_what_it_prints_and_how_it_ends() {
        let mut out = Vec::new();
        let mut roomy = Roomy::new(&mut out, 1 << 16);
        CommandSource::new("echo a; echo b | cat".into()).write(&mut roomy).unwrap();
        roomy.flush().unwrap();
        drop(roomy);
        assert_eq!(out, b"a\nb\n");
        let error = CommandSource::new("echo a; exit 7".into())
            .write(&mut Roomy::new(Vec::new(), 1 << 16))
            .unwrap_err();
        assert!(error.to_string().contains("exit status: 7"), "{error}");
    }

    #[test]
    fn a_command_that_waits_ends_with_all_that_it_has_started() {
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let command = format!("sleep 1000 & echo $! $$ > {}; sleep 1000 | cat", pids.display());
        let source = Arc::new(CommandSource::new(command));
        let writer = thread::spawn({
            let source = Arc::clone(&source);
            move || source.write(&mut Roomy::new(Vec::new(), 1 << 16))
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        let until = |done: &dyn Fn() -> bool| {
            while !done() {
                assert!(Instant::now() < deadline);
                thread::sleep(Duration::from_millis(5));
            }
        };
        let started = || std::fs::read_to_string(&pids).unwrap_or_default();
        until(&|| started().split_whitespace().count() == 2);
        source.give_up();
        assert!(writer.join().unwrap().is_err());
        for pid in started().split_whitespace() {
            let ended =
                || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| s.contains(") Z "));
            until(&ended);
        }
    }
}
