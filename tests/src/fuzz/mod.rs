//! What a fuzzer drives: every parser of bytes that come from the wire or from a disk, and the state machines.
//!
//! A target takes any bytes and panics when something is wrong: a parser that panics, a rule that does not hold.
//! `make fuzz` runs them under libFuzzer (`tests/fuzz`), which needs a nightly compiler; the inputs that it found
//! worth keeping run in the ordinary tests as well (`tests/fuzz_inputs.rs`).
#![allow(clippy::missing_panics_doc, reason = "to panic is how a target says that something is wrong")]

mod archive;
mod boot;
mod channel;
mod disks;
mod input;
mod member;
mod membership;
mod messages;
mod seal;
mod slowness;
mod texts;
mod unpack;
mod views;

/// Something to drive with bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of the folders with its inputs.
    pub name: &'static str,
    /// Feeds it; panics when it finds a fault.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "archive", run: archive::any_stream },
    Target { name: "block", run: seal::blocks },
    Target { name: "channel", run: channel::tampered },
    Target { name: "chunk", run: seal::chunks },
    Target { name: "cmdline", run: boot::command_line },
    Target { name: "console", run: messages::console },
    Target { name: "control", run: messages::any_message },
    Target { name: "desc", run: disks::short },
    Target { name: "dhcp", run: boot::dhcp_answer },
    Target { name: "discovery", run: messages::discovery },
    Target { name: "frames", run: channel::stranger },
    Target { name: "mbr", run: disks::mbr },
    Target { name: "member", run: member::any_events },
    Target { name: "membership", run: membership::any_events },
    Target { name: "script", run: disks::sfdisk },
    Target { name: "slowness", run: slowness::any_reports },
    Target { name: "table", run: disks::table },
    Target { name: "texts", run: texts::any_text },
    Target { name: "unpack", run: unpack::any_archive },
    Target { name: "views", run: views::any_machines },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
