//! A member of a real chain that forges: `kactl send`, receivers, and between them a host with the key that
//! relays a forged block.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use ka::keys::JoinKey;
use ka::wire::CONTROL_PORT;
use ka_tests::hostile::relay::{Lie, Told, relay};
use ka_tests::site::{MIB, Site, reasons};

const LIAR: &str = "52:54:00:00:00:66";

/// The sender, and two receivers behind a liar that forges a block, if one is given. The liar is first in the
/// chain.
fn behind_a_liar(
    site: &Site,
    file: &Path,
    rounds: &str,
    lie: Lie,
) -> (ka_tests::process::Process, Vec<ka_tests::process::Process>, Told) {
    let order = site.path("order");
    std::fs::write(&order, LIAR).unwrap();
    let mut sender = site.send(
        "a",
        3,
        [
            "--file".into(),
            file.to_owned(),
            // No node must be declared dead, even on a busy machine.
            "--dead-after".into(),
            "30".into(),
            "--rounds".into(),
            rounds.into(),
            "--order".into(),
            format!("file:{}", order.display()).into(),
        ],
    );
    let join = JoinKey::from_text(&std::fs::read_to_string(site.path("keys/join.key")).unwrap()).unwrap();
    let controller = SocketAddr::from((site.address, CONTROL_PORT));
    let liar = thread::spawn(move || relay(controller, &join, ("a", "liar", LIAR), lie));
    sender.wait_for("has joined", 1);
    let receivers = (0..2)
        .map(|i| site.receiver(&mut sender, "a", i + 1, ["--file".into(), site.path(&format!("out-{i}"))]))
        .collect();
    let told = liar.join().unwrap().unwrap();
    (sender, receivers, told)
}

#[test]
fn a_forged_block_gets_no_name_and_the_liar_gets_one() {
    let site = Site::new();
    let file = site.noise("file", 20 * MIB, 1);
    let (mut sender, mut receivers, told) = behind_a_liar(&site, &file, "1", Lie::Forge(100));
    assert_eq!(told.forged, 1);
    assert_ne!(sender.end(), 0, "{}", sender.said());
    for (i, receiver) in receivers.iter_mut().enumerate() {
        assert_ne!(receiver.end(), 0, "{}", receiver.said());
        assert!(receiver.said().contains("is not the golden node's"), "{}", receiver.said());
        assert!(!site.path(&format!("out-{i}")).exists(), "a forged file has its name");
        assert!(site.partial(&format!("out-{i}")).is_none(), "what was forged is left behind");
    }
    // The first receiver behind it names the liar; the other one names its own predecessor, which was itself
    // deceived.
    let said = sender.said();
    assert!(said.contains("received from liar (127."), "{said}");
    let blamed = reasons(&sender).into_iter().flatten().filter(|r| r.contains("it came from liar")).count();
    assert_eq!(blamed, 1, "{said}");
}

#[test]
fn who_was_deceived_gets_a_true_copy_in_the_next_round() {
    let site = Site::new();
    let file = site.noise("file", 60 * MIB, 2);
    let (mut sender, mut receivers, told) = behind_a_liar(&site, &file, "2", Lie::Forge(100));
    assert!(told.forged >= 1);
    // Both were deceived long before the stream's end, and nothing waits for that.
    assert!(sender.said().contains("have received forged data: the round begins again"), "{}", sender.said());
    let said = sender.end();
    for (i, receiver) in receivers.iter_mut().enumerate() {
        assert_eq!(receiver.end(), 0, "{}\n{}", receiver.said(), sender.said());
        assert!(site.holds(&format!("out-{i}"), &[&file]), "node {i}");
    }
    assert_eq!(said, 0, "{}", sender.said());
}

/// The cost of the proofs on the wire: at most a thousandth of what they prove.
#[test]
fn proofs_take_less_than_a_thousandth_of_the_bytes() {
    let site = Site::new();
    let file = site.noise("file", 40 * MIB, 3);
    let (mut sender, mut receivers, told) = behind_a_liar(&site, &file, "1", Lie::None);
    assert_eq!(sender.end(), 0, "{}", sender.said());
    receivers.iter_mut().for_each(|receiver| assert_eq!(receiver.end(), 0, "{}", receiver.said()));
    println!("{told:?}");
    // Two whole segments of 16 MiB, and the end.
    assert!(told.count >= 3 && told.stream > 40 * MIB as u64, "{told:?}");
    assert!(told.proofs * 1000 < told.stream, "{told:?}");
}
