//! Runs other programs with a time limit.
//!
//! A node must not hang on a program that hangs on a bad disk, nor on a daemon that a distribution's hook
//! starts and that keeps the output open. What counts is the program itself, and it has a limit.

use std::io::{self, PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};

/// How often a silent program is checked.
const INTERVAL: Duration = Duration::from_millis(20);

/// How long a killed program may take to end. One that waits for a disk that never answers does not end.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, or by a signal from elsewhere.
    Exited(ExitStatus),
    /// It reached its time limit and was killed with its process group. If the kernel cannot end it, it still
    /// exists.
    Killed {
        /// The limit.
        limit: Duration,
    },
}

impl End {
    /// Whether it succeeded.
    #[must_use]
    pub fn success(self) -> bool {
        matches!(self, Self::Exited(status) if status.success())
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "{status}"),
            Self::Killed { limit } => write!(f, "still running after {} s, and killed", limit.as_secs()),
        }
    }
}

/// A program's output, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub end: End,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// Runs `command` for at most `limit` in its own process group, and keeps its output.
///
/// # Errors
/// It cannot be started or waited for.
pub fn output(command: &mut Command, limit: Duration) -> io::Result<Output> {
    let ((out, to_out), (err, to_err)) = (io::pipe()?, io::pipe()?);
    let child = command.stdout(to_out).stderr(to_err).process_group(0).spawn();
    release(command);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let end = follow(
        child?,
        limit,
        vec![
            (out, &mut |bytes: &[u8]| stdout.extend_from_slice(bytes)),
            (err, &mut |bytes: &[u8]| stderr.extend_from_slice(bytes)),
        ],
    )?;
    Ok(Output { end, stdout, stderr })
}

/// Runs `command` for at most `limit` in its own process group. Each line of either output is passed on at
/// once, in order.
///
/// # Errors
/// It cannot be started or waited for.
pub fn run(command: &mut Command, limit: Duration, mut hear: impl FnMut(String)) -> io::Result<End> {
    let (reader, writer) = io::pipe()?;
    let child = command.stdout(writer.try_clone()?).stderr(writer).process_group(0).spawn();
    release(command);
    let mut begun = Vec::new();
    let mut split = |bytes: &[u8]| {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                hear(text(&begun));
                begun.clear();
            }
        }
    };
    let end = follow(child?, limit, vec![(reader, &mut split)])?;
    if !begun.is_empty() {
        hear(text(&begun));
    }
    Ok(end)
}

/// Closes our copies of the pipes' write ends, which `command` keeps; otherwise the pipes never report their
/// end.
fn release(command: &mut Command) {
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}

type Listener<'a> = (PipeReader, &'a mut dyn FnMut(&[u8]));

/// Waits for the child to end and collects its output until then. Output that its own children write later is
/// not waited for.
fn follow(mut child: Child, limit: Duration, mut pipes: Vec<Listener<'_>>) -> io::Result<End> {
    let deadline = Instant::now() + limit;
    let outcome = (|| {
        for (pipe, _) in &pipes {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        loop {
            // Checked before reading: everything it wrote before it ended is then in the pipe.
            let ended = child.try_wait()?;
            hear_all(&mut pipes)?;
            if let Some(status) = ended {
                return Ok(End::Exited(status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(End::Killed { limit });
            }
            wait_for_output(&pipes, left.min(INTERVAL))?;
        }
    })();
    if !matches!(outcome, Ok(End::Exited(_))) {
        // It has not been reaped yet, so the number is still its own.
        kill_process_group(Pid::from_child(&child), Signal::KILL)?;
        reap(&mut child)?;
        hear_all(&mut pipes)?;
    }
    outcome
}

/// Waits for a killed program to end, but not for ever.
fn reap(child: &mut Child) -> io::Result<()> {
    let deadline = Instant::now() + LAST_BREATH;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            log::error!("process {} was killed but does not end: it is blocked in the kernel", child.id());
            break;
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

fn wait_for_output(pipes: &[Listener<'_>], wait: Duration) -> io::Result<()> {
    if pipes.is_empty() {
        std::thread::sleep(wait);
        return Ok(());
    }
    let mut fds: Vec<PollFd<'_>> = pipes.iter().map(|(pipe, _)| PollFd::new(pipe, PollFlags::IN)).collect();
    match poll(&mut fds, Timespec::try_from(wait).ok().as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Reads what is in the pipes now, and drops those that have no writer left.
///
/// At most 1 MiB per pipe, so that the limit also applies to a program that writes without end.
fn hear_all(pipes: &mut Vec<Listener<'_>>) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    let mut failed = Ok(());
    pipes.retain_mut(|(pipe, hear)| {
        for _ in 0..64 {
            match pipe.read(&mut buffer) {
                Ok(0) => return false,
                Ok(read) => hear(buffer.get(..read).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    failed = Err(e);
                    return false;
                }
            }
        }
        true
    });
    failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const LONG: Duration = Duration::from_secs(600);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(std::process::Stdio::null());
        command
    }

    fn kill(pid: &str) {
        assert!(shell(&format!("kill {pid}")).status().unwrap().success());
    }

    #[test]
    fn both_streams_are_kept_and_the_status_is_told() {
        let output = output(&mut shell("echo out; echo err >&2; exit 3"), LONG).unwrap();
        assert_eq!((output.stdout, output.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
        assert_eq!(output.end.to_string(), "exit status: 3");
        assert!(!output.end.success());
    }

    #[test]
    fn all_of_a_long_output_is_heard() {
        let output = output(&mut shell("head -c 3000000 /dev/zero"), LONG).unwrap();
        assert_eq!(output.stdout.len(), 3_000_000);
        assert!(output.end.success());
    }

    #[test]
    fn a_daemon_that_keeps_the_output_is_not_waited_for() {
        let mut lines = Vec::new();
        let end = run(&mut shell("sleep 600 & echo $!; printf unended"), LONG, |line| lines.push(line));
        kill(&lines[0]);
        assert!(end.unwrap().success());
        assert_eq!(lines[1..], ["unended"]);
        let output = output(&mut shell("sleep 600 & echo $!"), LONG).unwrap();
        kill(String::from_utf8(output.stdout).unwrap().trim());
        assert!(output.end.success());
    }

    #[test]
    fn a_program_without_end_is_killed_with_what_it_started() {
        for script in [
            "echo $$; sleep 600; true",
            "echo $$; exec >&- 2>&-; sleep 600; true",
            "echo $$; sleep 600 & wait",
        ] {
            let limit = Duration::from_secs(1);
            let mut lines = Vec::new();
            let end = run(&mut shell(script), limit, |line| lines.push(line)).unwrap();
            assert_eq!(end, End::Killed { limit }, "{script}");
            assert_eq!(end.to_string(), "still running after 1 s, and killed");
            assert!(!Path::new("/proc").join(&lines[0]).exists(), "{script}");
        }
        let mut count = 0u64;
        let end = run(&mut shell("exec yes"), Duration::from_millis(300), |_| count += 1).unwrap();
        assert!(!end.success() && count > 0);
    }

    #[test]
    fn a_missing_program_is_an_error() {
        assert_eq!(output(&mut Command::new("/no/such"), LONG).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
