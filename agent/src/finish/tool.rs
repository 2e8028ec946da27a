//! Runs the copied system's programs, with their output in the log and in errors.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::finish::error::Cause;
use crate::step;
use ka_host::tool;

/// How many of a program's last lines an error repeats.
const TAIL: usize = 40;

/// The time limit of a program. Rebuilding an initrd takes minutes on a slow or emulated machine.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// The search path, in order.
const DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The first of `programs` that this system has.
pub(in crate::finish) fn find<'a>(programs: &[&'a str]) -> Option<&'a str> {
    let installed =
        |program: &&&str| DIRECTORIES.iter().any(|directory| Path::new(directory).join(program).is_file());
    programs.iter().find(installed).copied()
}

/// Like [`find`], for a step that needs it.
pub(in crate::finish) fn need<'a>(programs: &[&'a str]) -> Result<&'a str, Cause> {
    find(programs).ok_or_else(|| Cause::MissingTool { tool: programs.join(" or ") })
}

/// Runs `program`; each line of its output goes to the log.
pub(in crate::finish) fn run(program: &str, arguments: &[&str]) -> Result<(), Cause> {
    run_with(program, arguments, &[])
}

/// Like [`run`], with additional environment variables.
pub(in crate::finish) fn run_with(
    program: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Result<(), Cause> {
    run_within(LIMIT, program, arguments, variables)
}

fn run_within(
    limit: Duration,
    program: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Result<(), Cause> {
    let shown = shown(program, arguments);
    log::info!("running {shown}");
    step::goes_on(&shown);
    let mut tail = VecDeque::new();
    let end = tool::run(command(program, arguments).envs(variables.iter().copied()), limit, |line| {
        log::info!("{program}: {line}");
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    });
    let output = |tail: VecDeque<String>| Vec::from(tail).join("\n");
    match end {
        Ok(end) if end.success() => Ok(()),
        Ok(end) => Err(Cause::Tool { tool: shown, reason: end.to_string(), output: output(tail) }),
        Err(e) => Err(Cause::Tool { tool: shown, reason: e.to_string(), output: output(tail) }),
    }
}

/// Runs `program` and returns its standard output.
pub(in crate::finish) fn output_of(program: &str, arguments: &[&str]) -> Result<String, Cause> {
    let failed =
        |reason: String, output: String| Cause::Tool { tool: shown(program, arguments), reason, output };
    step::goes_on(shown(program, arguments));
    let output = tool::output(&mut command(program, arguments), LIMIT)
        .map_err(|e| failed(e.to_string(), String::new()))?;
    if !output.end.success() {
        return Err(failed(output.end.to_string(), String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shown(program: &str, arguments: &[&str]) -> String {
    [&[program], arguments].concat().join(" ")
}

/// `program` with exactly this environment.
fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", DIRECTORIES.join(":"))
        .env("HOME", "/root")
        .env("LC_ALL", "C")
        .env("TERM", "dumb")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_the_program_its_end_and_its_last_lines() {
        let script = "for i in $(seq 50); do echo line $i; done; echo on stderr >&2; exit 3";
        let error = run("sh", &["-c", script]).unwrap_err();
        let Cause::Tool { tool, reason, output } = error else { panic!("{error}") };
        assert!(tool.starts_with("sh -c"));
        assert_eq!(reason, "exit status: 3");
        assert!(output.starts_with("line 12\n") && output.ends_with("\nline 50\non stderr"), "{output}");
    }

    #[test]
    fn a_program_without_end_is_told_with_its_output_so_far() {
        let script = "echo working; sleep 600";
        let error = run_within(Duration::from_secs(1), "sh", &["-c", script], &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("sh -c {script}: still running after 1 s, and killed\nworking")
        );
    }

    #[test]
    fn programs_see_a_clean_environment() {
        let environment = output_of("env", &[]).unwrap();
        assert!(
            environment.contains("LC_ALL=C\n") && environment.contains("DEBIAN_FRONTEND=noninteractive\n")
        );
        assert!(!environment.contains("CARGO"), "{environment}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = need(&["no-such-tool", "no-other-tool"]).unwrap_err();
        assert_eq!(error.to_string(), "the copied system has no no-such-tool or no-other-tool");
        assert_eq!(find(&["no-such-tool", "sh"]), Some("sh"));
    }
}
