//! What `kactl doctor` finds on this machine. Nothing is changed.

mod checks;

use std::fmt::{self, Display, Formatter};

use crate::config::Config;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// A run may be less than is hoped for.
    Warn,
    /// A run would stop.
    Fail,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What was checked.
    pub subject: &'static str,
    /// What was found.
    pub what: String,
    /// The command or the action that corrects it; empty if `what` names it.
    pub remedy: String,
}

impl Finding {
    /// All is well.
    pub fn ok(subject: &'static str, what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, subject, what: what.into(), remedy: String::new() }
    }

    /// A run may be less than is hoped for.
    pub fn warn(subject: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, subject, what: what.into(), remedy: remedy.into() }
    }

    /// A run would stop.
    pub fn fail(subject: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, subject, what: what.into(), remedy: remedy.into() }
    }
}

impl Display for Finding {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        write!(out, "{verdict:<5} {}: {}", self.subject, self.what.replace('\n', "\n      "))?;
        if !self.remedy.is_empty() {
            write!(out, "\n      -> {}", self.remedy)?;
        }
        Ok(())
    }
}

/// The last line.
#[must_use]
pub fn total(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    match (count(Verdict::Fail), count(Verdict::Warn)) {
        (0, 0) => "all is well".to_owned(),
        (fails, warnings) => format!("{}, {}", plural(fails, "failure"), plural(warnings, "warning")),
    }
}

fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Checks this machine, but not its networks.
#[must_use]
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![checks::root(), checks::kernel(), checks::firmware()];
    findings.extend(checks::tools(config));
    findings.push(checks::keys(config));
    findings.push(checks::image(config));
    findings.extend(checks::ports(config));
    findings.extend(checks::disks());
    findings.push(checks::memory());
    findings.push(checks::boot_loader());
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_its_remedy_below_it() {
        let found = [
            Finding::ok("root", "yes"),
            Finding::fail("keys", "there are none", "kactl init"),
            Finding::warn("disks", "sdb", ""),
        ];
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["ok    root: yes", "FAIL  keys: there are none\n      -> kactl init", "WARN  disks: sdb"]
        );
        assert_eq!(total(&found), "1 failure, 1 warning");
        assert_eq!(total(&found[..1]), "all is well");
    }
}
