//! The progress of a run: a live display on a terminal, otherwise a line per change.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ka::shown::{self, Field};
use ka::step::Step;
use ka_host::terminal;

use super::units;
use crate::logging;
use crate::status::{NodeStatus, Phase, RunStatus};

/// The interval between total lines without a live display.
const TOTAL_EVERY: Duration = Duration::from_secs(30);
/// The interval if what limits the chain has changed.
const LIMIT_EVERY: Duration = Duration::from_secs(5);

/// Shows the progress of a run.
pub enum ProgressView {
    /// On a terminal.
    Live(Live),
    /// To a file or a pipe.
    Lines(Lines),
    /// Not at all.
    Quiet,
}

impl ProgressView {
    /// Shows the progress on standard error, because standard output is reserved for the result. With `-q`,
    /// whose log has nothing below a warning, there is none.
    #[must_use]
    pub fn start() -> Self {
        if log::max_level() < log::LevelFilter::Info {
            Self::Quiet
        } else if terminal::err_is_terminal() {
            Self::Live(Live::new(ProgressDrawTarget::stderr()))
        } else {
            Self::Lines(Lines::new(Box::new(terminal::err())))
        }
    }

    /// Shows the changes.
    pub fn update(&mut self, status: &RunStatus, now: Instant) {
        match self {
            Self::Live(live) => live.update(status),
            Self::Lines(lines) => lines.update(status, now),
            Self::Quiet => {}
        }
    }
}

/// A line for the whole and one per node, drawn in place.
pub struct Live {
    display: MultiProgress,
    whole: ProgressBar,
    nodes: Vec<ProgressBar>,
    style: ProgressStyle,
}

impl Live {
    /// Takes over the terminal until the value is dropped; in the meantime, log lines appear above the
    /// display.
    #[must_use]
    pub fn new(target: ProgressDrawTarget) -> Self {
        let display = MultiProgress::with_draw_target(target);
        let style = message_only();
        let whole = display.add(ProgressBar::new_spinner());
        whole.set_style(style.clone());
        logging::set_display(Some(display.clone()));
        Self { display, whole, nodes: Vec::new(), style }
    }

    fn update(&mut self, status: &RunStatus) {
        while self.nodes.len() < status.nodes.len() {
            let bar = self.display.add(ProgressBar::new_spinner());
            bar.set_style(self.style.clone());
            self.nodes.push(bar);
        }
        self.whole.set_message(whole_line(status));
        let width = label_width(status);
        for (bar, node) in self.nodes.iter().zip(&status.nodes) {
            bar.set_message(node_line(node, status.total, width));
        }
    }
}

impl Drop for Live {
    /// The final state stays on the screen.
    fn drop(&mut self) {
        for bar in self.nodes.iter().chain([&self.whole]) {
            bar.abandon();
        }
        logging::set_display(None);
    }
}

/// The message has everything: it is the same text as without a terminal.
fn message_only() -> ProgressStyle {
    ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Plain lines.
pub struct Lines {
    out: Box<dyn Write + Send>,
    /// The last phase and step printed for each node.
    told: Vec<Option<(Phase, Option<Step>)>>,
    last_total: Option<Instant>,
    told_limit: Option<String>,
    broken: bool,
}

impl Lines {
    /// Writes to `out`.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, told: Vec::new(), last_total: None, told_limit: None, broken: false }
    }

    fn update(&mut self, status: &RunStatus, now: Instant) {
        self.told.resize(status.nodes.len().max(self.told.len()), None);
        let width = label_width(status);
        let mut lines = Vec::new();
        for (told, node) in self.told.iter_mut().zip(&status.nodes) {
            let now = (node.phase, node.doing.as_ref().map(|doing| doing.step));
            if *told != Some(now) {
                *told = Some(now);
                lines.push(node_line(node, status.total, width));
            }
        }
        // Even if nothing has changed: a silent program looks like a dead one.
        let every = if status.limit == self.told_limit { TOTAL_EVERY } else { LIMIT_EVERY };
        let due = self.last_total.is_none_or(|last| now.saturating_duration_since(last) >= every);
        if due && !status.nodes.is_empty() {
            self.last_total = Some(now);
            self.told_limit.clone_from(&status.limit);
            lines.push(whole_line(status));
        }
        self.write(&lines);
    }

    /// The reader may have gone; the run continues.
    fn write(&mut self, lines: &[String]) {
        if self.broken {
            return;
        }
        for line in lines {
            if let Err(e) = writeln!(self.out, "{line}").and_then(|()| self.out.flush()) {
                log::warn!("cannot show the progress any more: {e}");
                self.broken = true;
                return;
            }
        }
    }
}

fn whole_line(status: &RunStatus) -> String {
    let complete = status.nodes.iter().filter(|n| n.is_complete()).count();
    let failed = status.nodes.iter().filter(|n| n.failure.is_some()).count();
    let sent = units::bytes(status.sent);
    let total = status.total.map(|t| format!(" of {}", units::bytes(t))).unwrap_or_default();
    let left = left(status).map(|left| format!(", {} left", units::duration(left))).unwrap_or_default();
    let failed = if failed == 0 { String::new() } else { format!(", {failed} failed") };
    let limit = status.limit.as_deref().map(|l| format!(", limited by {}", Field(l))).unwrap_or_default();
    format!(
        "{}: {sent}{total} sent{left}, {complete} of {} nodes complete{failed}{limit}",
        Field(&status.session),
        status.nodes.len()
    )
}

/// The time until the stream is through the chain, at the rate of the slowest node that receives.
fn left(status: &RunStatus) -> Option<Duration> {
    let receiving = status.nodes.iter().filter(|node| node.phase == Phase::Receiving);
    let slowest = receiving.min_by_key(|node| node.received)?;
    let bytes = status.total?.checked_sub(slowest.received)?;
    Some(Duration::from_secs(bytes.checked_div(slowest.rate)?))
}

fn node_line(node: &NodeStatus, total: Option<u64>, width: usize) -> String {
    let label = node.label();
    let mut line = format!("  {:width$}  {:9}", Field(&label), node.phase.name());
    if node.phase == Phase::Receiving {
        let percent = total
            .and_then(|t| node.received.min(t).checked_mul(100)?.checked_div(t))
            .map(|p| format!("{p:3} %  "));
        line += &format!(
            "  {}{}  {}",
            percent.unwrap_or_default(),
            units::bytes(node.received),
            units::rate(node.rate)
        );
    }
    let note = match &node.failure {
        Some(failure) => failure.to_string(),
        None => node.doing.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    if !note.is_empty() {
        line += "  ";
        line += &shown::reason(&note);
    }
    line.truncate(line.trim_end().len());
    line
}

fn label_width(status: &RunStatus) -> usize {
    shown::width(status.nodes.iter().map(NodeStatus::label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::failure::{Failure, FailureKind};
    use ka::notes::Tally;
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn node(last: u8) -> NodeStatus {
        NodeStatus {
            mac: None,
            address: [10, 0, 0, last].into(),
            hostname: String::new(),
            phase: Phase::Joined,
            received: 0,
            rate: 0,
            round: 1,
            position: Some(1),
            may_come_again: false,
            doing: None,
            notes: Tally::default(),
            failure: None,
            tpm: None,
        }
    }

    #[test]
    fn without_a_terminal_each_change_is_a_line() {
        let out = Shared::default();
        let mut lines = Lines::new(Box::new(out.clone()));
        let start = Instant::now();
        let mut status = RunStatus {
            total: Some(200_000_000),
            nodes: vec![node(1)],
            ..RunStatus::new("monday", "kainstall", SystemTime::UNIX_EPOCH)
        };
        lines.update(&status, start);
        lines.update(&status, start);
        status.nodes.push(node(20));
        lines.update(&status, start);
        status.sent = 50_000_000;
        for n in &mut status.nodes {
            (n.phase, n.received, n.rate) = (Phase::Receiving, 50_000_000, 11_340_000);
        }
        lines.update(&status, start);
        // Each step is a line of its own, within a phase, too.
        status.nodes[0].doing = Some(Step::WriteOut.into());
        lines.update(&status, start);
        // A total is printed only after a while, and then even if nothing has changed.
        status.sent = 60_000_000;
        lines.update(&status, start + TOTAL_EVERY / 2);
        lines.update(&status, start + TOTAL_EVERY);
        (status.nodes[0].phase, status.nodes[0].doing) = (Phase::Complete, None);
        status.nodes[1].phase = Phase::Failed;
        status.nodes[1].failure =
            Some(Failure::own(Step::WriteOut, FailureKind::Disk { reason: "I/O error\n".into() }));
        lines.update(&status, start + TOTAL_EVERY);
        assert_eq!(
            String::from_utf8(out.0.lock().unwrap().clone()).unwrap(),
            "  10.0.0.1  joined
kainstall: 0 B of 200.0 MB sent, 0 of 1 nodes complete
  10.0.0.20  joined
  10.0.0.1   receiving   25 %  50.0 MB  11.3 MB/s
  10.0.0.20  receiving   25 %  50.0 MB  11.3 MB/s
  10.0.0.1   receiving   25 %  50.0 MB  11.3 MB/s  write everything out
kainstall: 60.0 MB of 200.0 MB sent, 13.0 s left, 0 of 2 nodes complete
  10.0.0.1   complete
  10.0.0.20  failed     write everything out: I/O error
"
        );
    }

    #[test]
    fn the_live_display_follows_nodes_that_come() {
        let mut live = Live::new(ProgressDrawTarget::hidden());
        let mut status = RunStatus {
            sent: 5,
            nodes: vec![node(1)],
            ..RunStatus::new("monday", "kainstall", SystemTime::UNIX_EPOCH)
        };
        live.update(&status);
        status.nodes.push(node(2));
        status.limit = Some("the link from the golden node to pc2, 11 MB/s".into());
        status.nodes[1].doing = Some(Step::WriteOut.of("waits\u{1b}[2J"));
        live.update(&status);
        assert_eq!(
            live.whole.message(),
            "kainstall: 5 B sent, 0 of 2 nodes complete, limited by the link from the golden node to pc2, 11 MB/s"
        );
        assert_eq!(live.nodes[1].message(), "  10.0.0.2  joined     write everything out: waits?[2J");
    }
}
