//! Asks the operator about machines that have booted again, while the run continues.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use ka::chain::NodeId;
use ka::inventory::identity::DiskIdentity;
use ka::session::{Question, Target};

use crate::hub::{Hub, Snapshot};
use crate::workflow::select;

/// Asks one question at a time. Only the machine in question waits for the answer.
pub(super) struct AskAgain<'a> {
    hub: &'a Hub,
    session: &'a str,
    target: &'a Target,
    open: Option<Open>,
    asked: BTreeSet<NodeId>,
}

struct Open {
    node: NodeId,
    shown: Vec<DiskIdentity>,
    answer: Receiver<bool>,
}

impl<'a> AskAgain<'a> {
    pub(super) fn new(hub: &'a Hub, session: &'a str, target: &'a Target) -> Self {
        Self { hub, session, target, open: None, asked: BTreeSet::new() }
    }

    /// Asks the pending questions, and passes on the answers.
    pub(super) fn look(&mut self, snapshot: &Snapshot) {
        if let Some(open) = &self.open {
            let yes = match open.answer.try_recv() {
                Ok(yes) => yes,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => false,
            };
            let confirmed = yes.then(|| open.shown.clone());
            self.hub.answer(self.session, open.node, confirmed);
            self.open = None;
        }
        if let Some(question) =
            snapshot.questions.iter().find(|question| !self.asked.contains(&question.node))
        {
            self.ask(question);
        }
    }

    fn ask(&mut self, question: &Question) {
        let Question { node, arrival, reason } = question;
        self.asked.insert(*node);
        let report = self.target.report(&arrival.inventory);
        let shown = report.disks.iter().filter_map(|disk| disk.disk.as_ref());
        let shown = shown.map(|disk| disk.identity.clone()).collect();
        log::warn!("{}", select::question_again(arrival, reason, self.target));
        let (answered, answer) = channel();
        // The end of the run does not wait for this thread.
        let asking = thread::Builder::new().name("question".into()).spawn(move || {
            // The run may have ended by then.
            let _ = answered.send(read());
        });
        match asking {
            Ok(_) => self.open = Some(Open { node: *node, shown, answer }),
            Err(error) => {
                log::error!("cannot ask: {error}");
                self.hub.answer(self.session, *node, None);
            }
        }
    }
}

/// Only a complete "yes" confirms; end of input counts as no.
fn read() -> bool {
    loop {
        let mut answer = String::new();
        match io::stdin().read_line(&mut answer) {
            Ok(0) | Err(_) => return false,
            Ok(_) => match answer.trim().to_ascii_lowercase().as_str() {
                "yes" => return true,
                "no" | "n" => return false,
                _ => log::warn!("Please answer yes or no."),
            },
        }
    }
}
