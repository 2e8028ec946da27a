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
    let wire = Wire::new("cut", 3, 1);
    let file = site.noise("file", MIB, 1);
    let gates = ["gate1", "gate2"].map(|name| site.gate(name));
    let mut send = site.kactl();
    send.args(["send", "--json", "--session", "a", "-n", "2", "--listen", &wire::address(0)]);
    send.args(["--rounds", "1", "--dead-after", "3", "--file"]).arg(&file);
    let mut sender = Process::start(&mut wire.on(0, &send), "sender", &site.path(""));
    sender.wait_for("waits for", 1);
    let receiver = |host: usize| {
        let (out, gate) = (site.path(&format!("out{host}")), gates[host - 1].path());
        // It has read everything, and continues to work.
        let command = format!("cat > {0}; echo > {0}.all; cat {1}", out.display(), gate.display());
        let mut receive = site.agent("a", &wire::address(0));
        receive.args(["--command", &command]);
        Process::start(&mut wire.on(host, &receive), &format!("receiver{host}"), &site.path(""))
    };
    let (mut receiver, mut other) = (receiver(1), receiver(2));
    // The end of their input signals this: by then, everything is proven.
    wait_until("everything is there", || [1, 2].iter().all(|n| site.path(&format!("out{n}.all")).exists()));

    wire.harm(1, Harm { cut: true, ..Harm::default() });
    // Its copy is complete, and no controller is reachable for the report. The controller hears the other
    // one; otherwise, it would be cut off itself.
    let [gate, other_gate] = gates;
    gate.open();
    sender.wait_for("silent", 1);
    other_gate.open();
    assert_eq!((other.end(), sender.end()), (0, 1), "{}", sender.said());
    let reason = reasons(&sender).into_iter().flatten().next().unwrap();
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
