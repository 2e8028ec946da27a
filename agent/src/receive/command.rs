//! A shell command that reads the stream as its input, and everything that it starts.
//!
//! The end of its input means to a command that the stream is complete. So the end must come only in that
//! case, and not when the stream was abandoned or this process died. In those two cases the command and
//! everything that it has started are killed before they see an end, even processes that have left the
//! process group or outlived the shell: all are found by a mark in their environment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::OFlags;

use super::error::SinkError;
use super::pipe;
use ka_net::relay::StreamReader;

/// How often to check whether a command that reads no more has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// The word that the watch waits for.
const WORD: &[u8] = b"all\n";

/// Runs `$1` with this shell's input, whose writing end is descriptor 4. The watch holds that open, so that
/// the input has no end until it reads the word from descriptor 3, even if the shell is long gone. If
/// descriptor 3 ends without the word, the watch kills the process group and every process with the mark `$2`
/// in its environment. Marked processes come first, because killing the group also kills the watch and ends
/// the input. All are stopped before any is killed: the end of one is the end of another's input.
const UNTIL_ALL_IS_THERE: &str = r#"exec 5<&0 0</dev/null
{
  read -r word <&3
  [ "$word" = all ] && exit
  stopped=" " found=1
  while [ -n "$found" ]; do
    found=
    for process in /proc/[0-9]*; do
      pid=${process#/proc/}
      case $stopped in *" $pid "*) continue ;; esac
      if grep -qsF "KA_INPUT=$2" "$process/environ" && kill -STOP $pid; then stopped="$stopped$pid " found=1; fi
    done
  done 2>/dev/null
  kill -KILL $stopped 2>/dev/null
  kill -KILL 0
} 5<&- &
KA_INPUT=$2 sh -c "$1" <&5 3<&- 4>&- 5<&- & command=$!
exec 3<&- 4>&- 5<&-
wait $command"#;

/// Sends the whole stream to `command`, and waits until the command has ended.
///
/// # Errors
/// The stream's error; or the command's, if it failed or did not read everything.
pub(super) fn run(command: &str, stream: &mut StreamReader) -> Result<(), SinkError> {
    let failed = |reason: String| SinkError::Command { command: command.to_owned(), reason };
    let (mut child, mut watch, input) = start(command).map_err(|e| failed(e.to_string()))?;
    let no_more = |e: io::Error| failed(format!("it accepts no more data: {e}"));
    let copied = pipe::copy(stream, &input, no_more)
        .and_then(|()| pipe::drained(stream, &input, no_more, || Ok(child.try_wait()?.is_some())))
        .and_then(|()| Ok(stream.prove().map(drop)?));
    match &copied {
        // A watch that is already gone holds nothing back.
        Ok(()) => watch.write_all(WORD).or_else(not_if_gone).map_err(|e| failed(e.to_string()))?,
        Err(SinkError::Stream(_)) => {}
        // It has closed its input, and may still run for a while.
        Err(_) => wait_while(&mut child, || stream.aborted().is_none()).map_err(|e| failed(e.to_string()))?,
    }
    drop((watch, input));
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    // The command's exit status is more informative than a closed input.
    match copied {
        Err(error @ SinkError::Stream(_)) => Err(error),
        _ if !status.success() => Err(failed(status.to_string())),
        outcome => outcome,
    }
}

/// The shell, the pipe to its watch, and the writing end of the command's input.
fn start(command: &str) -> io::Result<(Child, PipeWriter, PipeWriter)> {
    let (watched, watch) = io::pipe()?;
    let (output, input) = io::pipe()?;
    rustix::fs::fcntl_setfl(&input, OFlags::NONBLOCK)?;
    let given = vec![
        FdMapping { parent_fd: watched.into(), child_fd: 3 },
        FdMapping { parent_fd: input.try_clone()?.into(), child_fd: 4 },
    ];
    let mut shell = Command::new("sh");
    let mark = format!("{:016x}", RandomState::new().build_hasher().finish());
    shell.args(["-c", UNTIL_ALL_IS_THERE, "sh", command, &mark]).process_group(0).stdin(output);
    shell.fd_mappings(given).map_err(io::Error::other)?;
    Ok((shell.spawn()?, watch, input))
}

/// Waits until `child` has ended, as long as `wanted` holds.
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
    use std::fs;
    use std::path::Path;
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use ka::chain::{Offset, Plaintext};
    use ka::seal::Total;
    use ka::seal::chunk::{Chunk, Kind};

    /// A stream, and the means to feed and abandon it.
    fn stream() -> (StreamReader, Sender<Plaintext>, Arc<Mutex<Option<String>>>) {
        let (to, plaintext) = channel();
        let aborted = Arc::new(Mutex::new(None));
        (StreamReader::without_relay(plaintext, |_| (), Arc::clone(&aborted)).unwrap(), to, aborted)
    }

    fn batch(length: usize, last: bool) -> Plaintext {
        let mut bytes = Vec::new();
        Chunk { kind: Kind::Uncompressed, uncompressed_length: length, bytes: vec![7; length] }
            .append_to(&mut bytes);
        let total = Total { length: length as u64, hash: [0; 32], sha256: None };
        let end = Offset(bytes.len() as u64);
        Plaintext { end, bytes: bytes.into(), total: last.then_some(total), from: None }
    }

    fn until(done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done() {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A pipeline that renames its output once it is complete.
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
            ("head -c 10 >/dev/null", "it accepts no more data"),
            ("head -c 1990000 >/dev/null", "it accepts no more data"),
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

    /// All of it is in the pipe and still unread.
    #[test]
    fn a_command_must_read_to_the_end() {
        for command in ["true", "exec </dev/null; sleep 0.2", "head -c 1 >/dev/null"] {
            let (mut reader, to, _) = stream();
            to.send(batch(1000, true)).unwrap();
            let error = run(command, &mut reader).unwrap_err().to_string();
            // It may have closed its input even before the bytes were in it.
            assert!(error.contains("it accepts no more data"), "{command}: {error}");
        }
    }

    /// The shell ends at once. The process that it has started has left the group, and takes the end of its
    /// input for the end of the stream.
    #[test]
    fn what_outlives_its_shell_sees_no_false_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let command = format!("exec 7<&0; setsid sh -c '{}' <&7 & exit 0", keeping(&file));
        let (mut reader, to, _) = stream();
        to.send(batch(2_000_000, true)).unwrap();
        run(&command, &mut reader).unwrap();
        until(|| file.exists());
        fs::remove_file(&file).unwrap();

        let (mut reader, to, aborted) = stream();
        to.send(batch(2_000_000, false)).unwrap();
        let running = thread::spawn(move || run(&command, &mut reader));
        until(|| file.with_extension("new").exists());
        *aborted.lock().unwrap() = Some("too slow".into());
        drop(to);
        assert!(running.join().unwrap().unwrap_err().is_transient());
        let name = file.to_str().unwrap();
        until(|| {
            !fs::read_dir("/proc").unwrap().any(|process| {
                let command = fs::read(process.unwrap().path().join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&command).contains(name)
            })
        });
        assert!(!file.exists(), "half a stream was taken for a whole one");
    }

    /// Covers both a pipeline that would take the end of its input for the stream's end, and a command that
    /// reads nothing.
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
            assert!(error.is_transient() && error.to_string().contains("too slow"), "{error}");
            assert!(!file.exists());
            std::fs::remove_file(file.with_extension("new")).unwrap();
        }
    }
}
