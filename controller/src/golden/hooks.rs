//! A site's own commands before and after reading the golden node: for example to create a snapshot or to
//! stop a database, and to undo that afterwards.
//!
//! Both commands are run by a shell in a separate process: it waits for a message from this process or for
//! its end, and then undoes. So that also happens after Ctrl-C and after `kill -9`, when this process no
//! longer has any file system open.

use std::io::{self, PipeWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Runs before anything is read; its output names the tree to read.
    pub before_read: Option<String>,
    /// Runs once reading has ended.
    pub after_read: Option<String>,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// The shell cannot be run.
    #[error("cannot run {option}")]
    Shell {
        /// The command's option.
        option: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The command failed.
    #[error("{option} '{command}' failed: exit status {status}")]
    Failed {
        /// The command's option.
        option: &'static str,
        /// The command.
        command: String,
        /// How it failed.
        status: String,
    },
    /// The command's output is not a directory.
    #[error("--before-read '{command}' printed '{answer}': expected nothing, or the path of one directory")]
    Answer {
        /// The command.
        command: String,
        /// Its output.
        answer: String,
    },
}

const BEFORE: &str = "--before-read";
const AFTER: &str = "--after-read";

/// Runs `$1`, reports its status and output, waits, and runs `$2`, which gets the output as `KA_TREE`.
///
/// Prints into the file `$3`: a pipe has no end while a daemon that the command started keeps it open.
///
/// The end of our process closes the pipe. A message on it means that reading has ended. Without one, our
/// process has died, and its files are closed once it is gone completely.
const SHELL: &str = r#"exec 3<&0 0</dev/null 4>&1 1>&2
trap '' HUP INT TERM PIPE
(trap - HUP INT TERM PIPE; exec 3<&- 4>&-; exec sh -c "$1") >"$3"
status=$?
answer=$(cat "$3")
rm -f "$3"
printf '%s\n%s' "$status" "$answer" >&4
exec 4>&-
read -r done <&3 || while kill -0 "$PPID" 2>/dev/null && [ "${n:=0}" -lt 100 ]; do
    n=$((n + 1)); sleep 0.1
done
[ -n "$2" ] || exit 0
(trap - HUP INT TERM PIPE; KA_TREE=$answer; export KA_TREE; exec 3<&-; exec sh -c "$2")
status=$?
[ -n "$done" ] || [ $status = 0 ] || echo "kactl: --after-read '$2' failed: exit status $status" >&2
exit $status"#;

/// The golden node is read, or will be. Once this is dropped, nothing may be read any more.
#[derive(Debug)]
pub struct Reading {
    after: Option<String>,
    /// The shell, and the pipe whose end it waits for.
    shell: Option<(Child, PipeWriter)>,
}

impl Reading {
    /// Runs `--before-read` if it is given, and returns the tree to read if the command names one. `run` is
    /// the run's name, which the commands get as `KA_RUN`.
    ///
    /// # Errors
    /// [`HookError`]; anything begun has been undone.
    pub fn begin(args: &Hooks, run: &str) -> Result<(Self, Option<PathBuf>), HookError> {
        let mut reading = Self { after: args.after_read.clone(), shell: None };
        if args.before_read.is_none() && args.after_read.is_none() {
            return Ok((reading, None));
        }
        let before = args.before_read.as_deref().unwrap_or("true");
        if args.before_read.is_some() {
            log::info!("{BEFORE}: {before}");
        }
        let failed = |source| HookError::Shell { option: BEFORE, source };
        let (stdin, open) = io::pipe().map_err(failed)?;
        let printed = tempfile::NamedTempFile::new().map_err(failed)?;
        // A separate process group: Ctrl-C at the terminal is for us only.
        let mut shell = Command::new("sh")
            .args(["-c", SHELL, "sh", before, args.after_read.as_deref().unwrap_or_default()])
            .arg(printed.path())
            .env("KA_RUN", run)
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdout = shell.stdout.take();
        reading.shell = Some((shell, open));
        let (status, answer) = told(stdout).map_err(failed)?;
        if status != "0" {
            return Err(HookError::Failed { option: BEFORE, command: before.to_owned(), status });
        }
        Ok((reading, tree(before, &answer)?))
    }

    /// Reading has ended: runs `--after-read` if it is given.
    ///
    /// # Errors
    /// [`HookError`]: the command failed.
    pub fn end(mut self) -> Result<(), HookError> {
        self.undo()
    }

    fn undo(&mut self) -> Result<(), HookError> {
        let Some((mut shell, mut open)) = self.shell.take() else { return Ok(()) };
        if let Some(after) = &self.after {
            log::info!("{AFTER}: {after}");
        }
        let failed = |source| HookError::Shell { option: AFTER, source };
        let told = open.write_all(b"done\n");
        drop(open);
        let status = shell.wait().map_err(failed)?;
        told.map_err(failed)?;
        match &self.after {
            Some(command) if !status.success() => {
                let status = status.code().map_or_else(|| status.to_string(), |code| code.to_string());
                Err(HookError::Failed { option: AFTER, command: command.clone(), status })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            log::error!("{:#}", anyhow::Error::from(error));
        }
    }
}

/// The status and the output.
fn told(stdout: Option<ChildStdout>) -> io::Result<(String, String)> {
    let mut bytes = Vec::new();
    if let Some(mut stdout) = stdout {
        stdout.read_to_end(&mut bytes)?;
    }
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    let (status, answer) = text.split_once('\n').unwrap_or((&text, ""));
    Ok((status.to_owned(), answer.to_owned()))
}

fn tree(command: &str, answer: &str) -> Result<Option<PathBuf>, HookError> {
    let path = Path::new(answer);
    match answer {
        "" => Ok(None),
        _ if path.is_absolute() && path.is_dir() => Ok(Some(path.to_owned())),
        _ => Err(HookError::Answer { command: command.to_owned(), answer: answer.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn hooks(before: &str, after: &str) -> Hooks {
        let command = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Hooks { before_read: command(before), after_read: command(after) }
    }

    #[test]
    fn the_answer_is_the_tree_and_all_is_undone() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("log");
        let (said, path) = (log.display(), place.path().display());
        let args = hooks(
            &format!("echo before $KA_RUN >> {said}; echo {path}"),
            &format!("echo after $KA_RUN $KA_TREE >> {said}"),
        );
        let (reading, tree) = Reading::begin(&args, "r1").unwrap();
        assert_eq!(tree.as_deref(), Some(place.path()));
        assert_eq!(fs::read_to_string(&log).unwrap(), "before r1\n");
        reading.end().unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), format!("before r1\nafter r1 {path}\n"));
        // However it ends.
        drop(Reading::begin(&args, "r2").unwrap());
        assert!(fs::read_to_string(&log).unwrap().ends_with(&format!("after r2 {path}\n")));
    }

    #[test]
    fn a_daemon_that_is_left_behind_is_not_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let (path, pid) = (place.path().display(), place.path().join("pid"));
        let args = hooks(&format!("sleep 600 & echo $! > {}; echo {path}", pid.display()), "true");
        let (reading, tree) = Reading::begin(&args, "r").unwrap();
        assert_eq!(tree.as_deref(), Some(place.path()));
        reading.end().unwrap();
        let kill = Command::new("kill").arg(fs::read_to_string(pid).unwrap().trim()).status().unwrap();
        assert!(kill.success(), "it still runs");
    }

    #[test]
    fn what_fails_is_named_and_undone() {
        let place = tempfile::tempdir().unwrap();
        let undone = place.path().join("undone");
        let after = format!("echo >> {}", undone.display());
        for (before, part) in [
            ("exit 7", "--before-read 'exit 7' failed: exit status 7"),
            ("kill -9 $$", "exit status 137"),
            ("echo here", "printed 'here': expected nothing, or the path of one directory"),
            ("echo /; echo /tmp", "expected nothing"),
        ] {
            let error = Reading::begin(&hooks(before, &after), "r").unwrap_err().to_string();
            assert!(error.contains(part), "{before}: {error}");
        }
        assert_eq!(fs::read_to_string(undone).unwrap(), "\n".repeat(4));
        let (reading, tree) = Reading::begin(&hooks("", "exit 3"), "r").unwrap();
        assert_eq!(tree, None);
        assert_eq!(reading.end().unwrap_err().to_string(), "--after-read 'exit 3' failed: exit status 3");
        Reading::begin(&hooks("true", ""), "r").unwrap().0.end().unwrap();
        Reading::begin(&hooks("", ""), "r").unwrap().0.end().unwrap();
    }
}
