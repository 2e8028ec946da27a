//! A link that is cut when everything has been received, and heals after the controller has ended: the
//! receiver reports what it waits for while it waits, and does not wait long for a controller that has gone.
//!
//! The exact times and texts are covered by a unit test of the agent's `session/outage.rs`, which has its own
//! clock. Needs root and `ip`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka_tests::fault::wire::{self, Harm, Wire};
use ka_tests::process::{Process, wait_until};
use ka_tests::site::{MIB, Site, reasons};

#[test]
fn a_receiver_says_what_it_waits_for_and_gives_up_a_controller_that_has_ended() {
    let site = Site::new();
    let wire = Wire::new("cut", 2, 1);
    let (file, gate) = (site.noise("file", MIB, 1), site.gate("gate"));
    let mut send = site.kactl();
    send.args(["send", "--json", "--session", "a", "-n", "1", "--listen", &wire::address(0)]);
    send.args(["--rounds", "1", "--dead-after", "3", "--file"]).arg(&file);
    let mut sender = Process::start(&mut wire.on(0, &send), "sender", &site.path(""));
    sender.wait_for("waits for", 1);
    let mut receive = site.agent("a", &wire::address(0));
    // It has read everything, and continues to work.
    let command =
        format!("cat > {0}; echo > {0}.all; cat {1}", site.path("out").display(), gate.path().display());
    receive.args(["--command", &command]);
    let mut receiver = Process::start(&mut wire.on(1, &receive), "receiver", &site.path(""));
    // The end of its input signals this: by then, everything is proven.
    wait_until("everything is there", || site.path("out.all").exists());

    wire.harm(1, Harm { cut: true, ..Harm::default() });
    // Its copy is complete, and no controller is reachable for the report.
    gate.open();
    assert_eq!(sender.end(), 1, "{}", sender.said());
    let reason = reasons(&sender).pop().unwrap().unwrap();
    assert!(reason.contains("silent"), "{reason}");
    let own = "all data is here and written, and it waits for the controller's goodbye";
    receiver.wait_for("the controller at 10.77.0.1", 1);
    receiver.wait_for(own, 1);
    receiver.wait_for("is unreachable; this host keeps trying for", 1);

    wire.harm(1, Harm::default());
    assert_eq!(receiver.end(), 0, "what it has is whole: {}", receiver.said());
    let said = receiver.said();
    // The host answers, so the receiver does not retry for the minute that silence allows.
    assert!(said.contains("nothing listens there"), "{said}");
    assert!(said.matches(own).count() >= 2, "{said}");
}
