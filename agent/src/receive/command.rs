//! A shell command that takes the stream as its input, and everything that it starts.
//!
//! The end of its input tells a command that it has everything. So it must come only when that is true: not when the
//! stream was given up, and not when this process dies. In both cases the command and all that it has started end
//! without having seen an end.

use std::io::{self, BufRead, PipeWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::sink::SinkError;
use crate::relay::{StreamError, StreamReader};

/// How often it is looked at whether the stream goes on while the command takes nothing.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How often it is looked at whether a command that takes no more has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// What the watch waits for.
const WORD: &[u8] = b"all\n";

/// Runs `$1` with this shell's input, the writing end of which is descriptor 4. The watch holds that open, so that the
/// input has no end, until it reads the word from descriptor 3; if that ends without it, so does the process group.
const UNTIL_ALL_IS_THERE: &str = r#"exec 5<&0 0</dev/null
{ read -r word <&3; [ "$word" = all ] || kill -KILL 0; } 5<&- & watch=$!
sh -c "$1" <&5 3<&- 4>&- 5<&- & command=$!
exec 3<&- 4>&- 5<&-
wait $command; status=$?
kill -KILL $watch 2>/dev/null
exit $status"#;

/// Gives the whole stream to `command`, and waits until that has ended.
///
/// # Errors
/// The stream's own; or the command's, if it failed or did not take everything.
pub(super) fn run(command: &str, stream: &mut StreamReader) -> Result<(), SinkError> {
    let failed = |reason: String| SinkError::Command { command: command.to_owned(), reason };
    let (mut child, mut watch, input) = start(command).map_err(|e| failed(e.to_string()))?;
    let copied = copy(stream, &input, |e| failed(format!("it takes no more: {e}")));
    match &copied {
        // A watch that is gone already has nothing to hold.
        Ok(()) => watch.write_all(WORD).or_else(not_if_gone).map_err(|e| failed(e.to_string()))?,
        Err(SinkError::Stream(_)) => {}
        // It has closed its input, and may go on for a while.
        Err(_) => wait_while(&mut child, || stream.aborted().is_none()).map_err(|e| failed(e.to_string()))?,
    }
    drop((watch, input));
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    // How the command ended tells more than that its input was closed.
    match copied {
        Err(error @ SinkError::Stream(_)) => Err(error),
        _ if !status.success() => Err(failed(status.to_string())),
        outcome => outcome,
    }
}

/// The shell, what its watch listens to, and the writing end of the command's input.
fn start(command: &str) -> io::Result<(Child, PipeWriter, PipeWriter)> {
    let (watched, watch) = io::pipe()?;
    let (output, input) = io::pipe()?;
    rustix::fs::fcntl_setfl(&input, OFlags::NONBLOCK)?;
    let given = vec![
        FdMapping { parent_fd: watched.into(), child_fd: 3 },
        FdMapping { parent_fd: input.try_clone()?.into(), child_fd: 4 },
    ];
    let mut shell = Command::new("sh");
    shell.args(["-c", UNTIL_ALL_IS_THERE, "sh", command]).process_group(0).stdin(output);
    shell.fd_mappings(given).map_err(io::Error::other)?;
    Ok((shell.spawn()?, watch, input))
}

/// Copies all; the stream's errors stay the stream's. A stream that is given up is noticed also while the command takes
/// nothing.
fn copy(
    stream: &mut StreamReader,
    mut to: &PipeWriter,
    error: impl Fn(io::Error) -> SinkError,
) -> Result<(), SinkError> {
    loop {
        let written = match stream.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(bytes) => to.write(bytes),
            Err(e) => {
                return Err(match e.downcast::<StreamError>() {
                    Ok(stream) => stream.into(),
                    Err(e) => error(e),
                });
            }
        };
        match written {
            Ok(length) => stream.consume(length),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if let Some(aborted) = stream.aborted() {
                    return Err(aborted.into());
                }
                let mut waits = [PollFd::from_borrowed_fd(to.as_fd(), PollFlags::OUT)];
                match poll(&mut waits, Some(&LOOK)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(error(e.into())),
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(error(e)),
        }
    }
}

/// Waits until `child` has ended, as long as `wanted`.
fn wait_while(child: &mut Child, wanted: impl Fn() -> bool) -> io::Result<()> {
    while child.try_wait()?.is_none() && wanted() {
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn not_if_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use ka::chain::{Offset, Plain};
    use ka::seal::Total;
    use ka::seal::chunk::{Chunk, Kind};

    /// A stream, and how to feed it and give it up.
    fn stream() -> (StreamReader, Sender<Plain>, Arc<Mutex<Option<String>>>) {
        let (to, plain) = channel();
        let aborted = Arc::new(Mutex::new(None));
        (StreamReader::without_relay(plain, |_| (), Arc::clone(&aborted)).unwrap(), to, aborted)
    }

    fn batch(length: usize, last: bool) -> Plain {
        let mut bytes = Vec::new();
        Chunk { kind: Kind::Plain, plain_length: length, bytes: vec![7; length] }.append_to(&mut bytes);
        let total = last.then_some(Total { length: length as u64, sha256: [0; 32] });
        Plain { end: Offset(bytes.len() as u64), bytes, total }
    }

    fn until(done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done() {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A pipeline that keeps what it gets under another name once it has all of it.
    fn keeping(file: &Path) -> String {
        format!("cat | (cat > {0}.new && mv {0}.new {0})", file.display())
    }

    #[test]
    fn a_command_gets_everything_and_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        for length in [0, 2_000_000] {
            let (mut reader, to, _) = stream();
            to.send(batch(length, true)).unwrap();
            run(&keeping(&file), &mut reader).unwrap();
            assert_eq!(std::fs::metadata(&file).unwrap().len(), length as u64);
        }
    }

    #[test]
    fn how_a_command_ends_is_told() {
        for (command, said) in [
            ("cat >/dev/null; exit 3", "exit status: 3"),
            ("exit 4", "exit status: 4"),
            ("kill -TERM $$", "143"),
            ("head -c 10 >/dev/null", "it takes no more"),
            ("no-such-program", "exit status: 127"),
        ] {
            let (mut reader, to, _) = stream();
            to.send(batch(2_000_000, true)).unwrap();
            let error = run(command, &mut reader).unwrap_err();
            assert!(
                matches!(error, SinkError::Command { .. }) && error.to_string().contains(said),
                "{error}"
            );
        }
    }

    /// Neither a pipeline that would take its end for the stream's, nor a command that takes nothing.
    #[test]
    fn a_stream_that_is_given_up_has_no_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let busy = format!("echo > {}.new; sleep 1000", file.display());
        for command in [keeping(&file), busy] {
            let (mut reader, to, aborted) = stream();
            to.send(batch(2_000_000, false)).unwrap();
            let running = thread::spawn({
                let command = command.clone();
                move || run(&command, &mut reader)
            });
            until(|| file.with_extension("new").exists());
            *aborted.lock().unwrap() = Some("too slow".into());
            drop(to);
            let error = running.join().unwrap().unwrap_err();
            assert!(error.is_passing() && error.to_string().contains("too slow"), "{error}");
            assert!(!file.exists());
            std::fs::remove_file(file.with_extension("new")).unwrap();
        }
    }
}
