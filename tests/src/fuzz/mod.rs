//! The fuzz targets: every parser of bytes from the wire or from a disk, and the state machines.
//!
//! A target takes any bytes and panics on an error: a parser that panics, or a violated rule. `make fuzz`
//! runs the targets under libFuzzer (`tests/fuzz`), which needs a nightly compiler; the corpus also runs in
//! the ordinary tests (`tests/fuzz_inputs.rs`).
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

/// A fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and the name of its input directories.
    pub name: &'static str,
    /// Runs it on an input; panics on an error.
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

/// The target with this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
