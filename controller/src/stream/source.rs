//! What a session's stream is made of.

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

use super::produce::Settings;
use crate::golden::chosen::{Chosen, RawSource};
use crate::golden::pack;
use crate::golden::tree::{self, TreeError};
use crate::golden::view::{View, ViewError};

/// A stream's source can be read as often as there are attempts.
pub trait Source: Send + Sync {
    /// Writes the whole plain stream to `out`; returns what a person must know of it.
    ///
    /// # Errors
    /// [`SourceError`] when it cannot be read to its end, or `out` takes no more.
    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError>;

    /// Nobody wants what it writes any more: a source that waits for something ends its attempt.
    fn give_up(&self) {}

    /// How its stream is to be made.
    fn settings(&self) -> Settings {
        Settings::default()
    }
}

/// A source whose stream is made as somebody wishes.
pub struct Tuned(pub Arc<dyn Source>, pub Settings);

impl Source for Tuned {
    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError> {
        self.0.write(out)
    }

    fn give_up(&self) {
        self.0.give_up();
    }

    fn settings(&self) -> Settings {
        self.1
    }
}

/// A source that could not be read to its end. Nobody may take what was sent for complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file cannot be read.
    #[error("{}: {}", path.display(), ka_host::words::of_io(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file lost its end while it was read.
    #[error(
        "{}: it had {announced} bytes and has {read}: it was cut while it was read; send it when nobody writes to it",
        path.display()
    )]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// Its size at the beginning.
        announced: u64,
        /// What was left of it.
        read: u64,
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
    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError> {
        let summary = pack::pack_dir_to(&self.0, &pack::Options::default(), out)?;
        summary.notes.log();
        Ok(summary.notes.tally().clone())
    }
}

/// A directory's tree as a tar for hosts that run already: what cannot be opened is noted and left out.
pub struct TreeSource {
    /// The directory.
    pub directory: PathBuf,
    /// Other mounts and subvolumes too.
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

/// The golden node's chosen file systems and partitions, as one tar.
pub struct GoldenSource {
    chosen: Mutex<Vec<Chosen>>,
    raw: Vec<RawSource>,
    exclude: Vec<PathBuf>,
    /// What was known to be lost when the plan was made.
    lost: Tally,
    reading: Mutex<Readers>,
    idle: Condvar,
}

/// Who reads the golden node.
#[derive(Default)]
struct Readers {
    count: usize,
    /// Nobody may begin to.
    over: bool,
}

/// One of them.
struct Reader<'a>(&'a GoldenSource);

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.readers().count -= 1;
        self.0.idle.notify_all();
    }
}

impl GoldenSource {
    /// Reads file systems, and partitions as they are; directories of `exclude` are re-created empty. `lost` is a part
    /// of what is noted.
    #[must_use]
    pub fn new(chosen: Vec<Chosen>, raw: Vec<RawSource>, exclude: Vec<PathBuf>, lost: Tally) -> Self {
        let chosen = Mutex::new(chosen);
        Self { chosen, raw, exclude, lost, reading: Mutex::default(), idle: Condvar::new() }
    }

    /// From now on nobody begins to read; waits at most for `time` until nobody reads, and tells whether that is so. A
    /// stream that was given up ends only when its producer has more to hand over.
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
            return Err(SourceError::Stream(io::Error::other("nothing is read any more")));
        }
        readers.count += 1;
        Ok(Reader(self))
    }

    /// Reads the files in this tree from now on, as far as it has them.
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

/// One file's bytes.
pub struct FileSource(pub PathBuf);

impl Source for FileSource {
    fn write(&self, out: &mut dyn Output) -> Result<Tally, SourceError> {
        let error = |error| SourceError::Read { path: self.0.clone(), error };
        let mut file = File::open(&self.0).map_err(error)?;
        let before = file.metadata().map_err(error)?;
        let announced = size(&file, &before).map_err(error)?;
        // A file that grows faster than it is sent would have no end. What says that it is empty may be one of the
        // kernel's, and has an end of its own.
        let most = if before.is_file() && announced > 0 { announced } else { u64::MAX };
        let sent = copy(&mut (&mut file).take(most), out, error)?;
        let now = file.metadata().map_err(error)?;
        // What it has lost can be sent by nobody any more, even if it had been read before.
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

/// How much a file or block device has; nobody knows it of another device.
fn size(mut file: &File, metadata: &Metadata) -> io::Result<u64> {
    if !metadata.file_type().is_block_device() {
        return Ok(metadata.len());
    }
    let size = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    Ok(size)
}

/// What has become of a file since it was looked at `before`. Writing to a device changes nothing that could be seen.
fn changed(before: &Metadata, now: &Metadata) -> Option<&'static str> {
    let written = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec());
    if !before.is_file() {
        None
    } else if now.len() > before.len() {
        Some(
            "it grew while it was read; its copy has as much as it had at first, and may be of no single moment",
        )
    } else if written(now) != written(before) {
        Some("it was written to while it was read; its copy may be of no single moment")
    } else if (now.ctime(), now.ctime_nsec()) != (before.ctime(), before.ctime_nsec()) {
        // Whoever writes can set the time of that back; this one nobody can.
        Some("its times or other attributes were set while it was read; its copy may be of no single moment")
    } else {
        None
    }
}

/// What a shell command prints.
pub struct CommandSource {
    command: String,
    /// The command and all that it has started end when this is closed, and so with this process.
    running: Mutex<Vec<PipeWriter>>,
}

/// Runs `$1`, and ends everything in the process group once the standard input is closed.
const UNTIL_CLOSED: &str = r#"exec 3<&0 0</dev/null
{ read -r _ <&3; kill -KILL 0; } & watch=$!
exec 3<&-
sh -c "$1"; status=$?
kill -KILL $watch
exit $status"#;

impl CommandSource {
    /// What `command` prints, run by `sh`.
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
        // With its output closed, a command that still writes ends as well.
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
        /// Takes the stream's first bytes, and then hangs until it is let go.
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
