//! Figures in the documentation match the code. A changed constant fails here until the pages are updated.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::fs;

use clap::CommandFactory;
use ka::failure::FailureKind;
use ka::step::Step;
use ka_tests::sources;
use kactl::cli::Cli;

/// The end of a file's path and a constant in it, a page of `docs`, and its text about the constant. `{}` is
/// the number, `{,}` the same with commas, `{K}` and `{M}` are KiB and MiB, `{s}` and `{min}` are times.
const FIGURES: &[(&str, &str, &str, &str)] = &[
    ("wire/mod.rs", "PROTOCOL", "protocol.md", "Version {}. Both sides must have the same"),
    ("wire/mod.rs", "CONTROL_PORT", "protocol.md", "| {} | TCP | control: agents dial"),
    ("wire/mod.rs", "CONTROL_PORT", "operations.md", "| `[ports]` `control` | {} | TCP |"),
    ("wire/mod.rs", "CONTROL_PORT", "operations.md", "| {} | TCP | this machine | control: nodes dial"),
    ("wire/mod.rs", "DATA_PORT", "protocol.md", "| {} | TCP | data: a member dials"),
    ("wire/mod.rs", "DATA_PORT", "operations.md", "| `data` | {} | TCP, of the golden node; nodes take {} "),
    ("wire/mod.rs", "DATA_PORT", "operations.md", "| {} | TCP | this machine and nodes | data"),
    ("wire/mod.rs", "DISCOVERY_PORT", "protocol.md", "| {} | UDP | discovery"),
    ("wire/mod.rs", "DISCOVERY_PORT", "operations.md", "| {} | UDP | this machine | discovery"),
    ("src/config.rs", "HTTP_PORT", "protocol.md", "| {} | TCP | `kactl pxe`: the boot files"),
    ("src/config.rs", "HTTP_PORT", "operations.md", "| `http` | {} | TCP, of `kactl pxe`"),
    ("src/config.rs", "BOOTED_PORT", "protocol.md", "| {} | TCP | `kactl run --wait-booted`"),
    ("src/config.rs", "BOOTED_PORT", "operations.md", "| `booted` | {} | TCP, of `kactl run --wait-booted`"),
    ("wire/channel.rs", "MAX_PIECE", "protocol.md", "cut into pieces of at most\n{} bytes"),
    ("wire/channel.rs", "MAX_MESSAGE", "protocol.md", "The whole has at most {M} MiB"),
    ("wire/channel.rs", "MAX_MESSAGE", "protocol.md", "| message in all its pieces | {M} MiB |"),
    ("wire/frame.rs", "MAX_BODY", "protocol.md", "| a piece of a message that goes on | {} |"),
    ("wire/frame.rs", "MAX_BODY", "protocol.md", "| frame with a message or a piece of one | {,} bytes |"),
    ("wire/discovery.rs", "REQUEST_LENGTH", "protocol.md", "The request ({} bytes) is broadcast"),
    ("wire/discovery.rs", "REPLY_LENGTH", "protocol.md", "the reply ({} bytes) goes to the sender"),
    ("wire/discovery.rs", "REMEMBERED", "protocol.md", "(the last {} are remembered)"),
    ("wire/discovery.rs", "REMEMBERED", "protocol.md", "{,} nonces are remembered"),
    ("wire/hello.rs", "MAX_HELLO", "protocol.md", "| `Hello` | {K} KiB;"),
    ("wire/hello.rs", "MAX_TEXT", "protocol.md", "texts {} bytes"),
    ("wire/hello.rs", "MAX_CARDS", "protocol.md", "{} cards"),
    ("wire/hello.rs", "MAX_DISKS", "protocol.md", "{} disks"),
    ("wire/hello.rs", "MAX_CONTENTS", "protocol.md", "{} things on a disk"),
    ("wire/session_names.rs", "MAX_LENGTH", "protocol.md", "| session's name | {} characters"),
    (
        "seal/block.rs",
        "MAX_BLOCK",
        "protocol.md",
        "A block has at most {M} MiB, {block} bytes of them not plain",
    ),
    ("seal/block.rs", "MAX_BLOCK", "protocol.md", "| frame with a block | {M} MiB, {block} bytes at least"),
    (
        "seal/block.rs",
        "MAX_PLAINTEXT",
        "protocol.md",
        "| plaintext of a block | what its own length says, {,} | the link is dropped |",
    ),
    ("seal/chunk.rs", "MAX_CHUNK", "protocol.md", "chunks of at most {M} MiB before and\nafter compression"),
    ("seal/chunk.rs", "MAX_CHUNK", "protocol.md", "| chunk, compressed and not | {M} MiB each |"),
    ("seal/chunk.rs", "MAX_CHUNK", "architecture.md", "tar → {M} MiB chunks"),
    ("src/proof.rs", "SEGMENT", "protocol.md", "every {M} MiB of the blocks' content"),
    ("chain/window.rs", "MIN_WINDOW", "protocol.md", "a node that offers less than {M} MiB is refused"),
    ("chain/member.rs", "MAX_PARKED", "protocol.md", "| parked knocks | {} |"),
    ("chain/outlet.rs", "BATCH", "architecture.md", "in batches of {K} KiB"),
    ("hub/net.rs", "PATIENCE", "protocol.md", "| to prove oneself | {s} s;"),
    (
        "hub/connection_limits.rs",
        "MAX_UNPROVEN",
        "protocol.md",
        "at most {} unproven connections at the controller",
    ),
    ("hub/connection_limits.rs", "MAX_PROVEN", "protocol.md", "| proven connections | {},"),
    ("hub/net.rs", "MAX_MESSAGE", "protocol.md", "| other messages of an agent | {M} MiB;"),
    ("hub/net.rs", "IDLE", "protocol.md", "| silence of an agent | {s} s, then its connection is closed |"),
    ("hub/logs.rs", "MAX_LOG", "protocol.md", "| log of a node | {M} MiB on the disk"),
    ("relay/shell.rs", "MAX_UNGREETED", "protocol.md", "makes room), {} at a relay"),
    ("session/connect.rs", "MAX_REDIRECTS", "protocol.md", "at most {} redirections are followed"),
    ("archive/mod.rs", "MAX_SEGMENTS", "protocol.md", "| segments of a sparse file | {,} |"),
    ("archive/mod.rs", "MAX_NAME", "protocol.md", "all global pax headers together | {M} MiB each |"),
];

/// The options of `kactl run` whose defaults `docs/operations.md` names, and the text there.
const DEFAULTS: &[(&str, &str)] = &[
    ("dead_after", "counts as dead once a neighbour complains; default {} s"),
    ("rounds", "rounds in all, default {};"),
    ("min_share", "of the best rate that the stream has reached; default {},"),
    ("slow_after", "between two that are taken out; default {} s"),
    ("session", "| `--session NAME` | default `{}` |"),
    ("hostname", "who the table does not name: `{}` (default;"),
    ("order", "the chain's order: `{}` (default);"),
];

#[test]
fn the_pages_say_the_codes_figures() {
    let mut wrong = Vec::new();
    for (file, name, page, template) in FIGURES {
        let value = Constant::find(file, name).value();
        let said = fill(template, value);
        if !page_of(page).contains(&said) {
            wrong.push(format!("{name} of {file} is {value}; docs/{page} should say '{said}'"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_pages_say_the_options_defaults() {
    let mut command = Cli::command();
    command.build();
    let run = command.find_subcommand("run").unwrap();
    for (option, template) in DEFAULTS {
        let argument = run.get_arguments().find(|argument| argument.get_id() == option).unwrap();
        let default = argument.get_default_values()[0].to_str().unwrap();
        let said = template.replace("{}", default);
        assert!(page_of("operations.md").contains(&said), "docs/operations.md should say '{said}'");
    }
}

#[test]
fn every_step_and_every_kind_of_failure_is_listed() {
    let page = page_of("operations.md");
    let (_, rest) = page.split_once("### How a node fails\n").unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let (kinds, steps) = section.split_once("\nThe steps, about in their order:\n").unwrap();
    let names =
        |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = kinds.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<&str> = rows.collect();
    assert_eq!(listed, FailureKind::NAMES.into_iter().collect::<BTreeSet<_>>());
    assert_eq!(names(steps), Step::ALL.iter().map(|step| step.name().to_owned()).collect::<Vec<_>>());
}

#[test]
fn expressions_are_understood() {
    let value = |text: &str| Constant { text: text.to_owned(), file: String::new() }.value();
    assert_eq!(value("16 << 20"), 16 << 20);
    assert_eq!(value("4 * 1024 * 1024"), 4 << 20);
    assert_eq!(value("65_535 - 16 - 1"), 65_518);
    assert_eq!(value("Duration::from_secs(35 * 60)"), 2_100_000);
    assert_eq!(value("Duration::from_millis(1500)"), 1500);
    assert_eq!(fill("{,} {K} {M} {s}", 1 << 20), "1,048,576 1024 1 1048");
}

/// A constant's expression, and the file that contains it.
struct Constant {
    text: String,
    file: String,
}

impl Constant {
    fn find(file: &str, name: &str) -> Self {
        let paths = sources::of_crates().into_iter().filter(|path| path.ends_with(file));
        let found: Vec<Self> = paths
            .filter_map(|path| {
                let file = fs::read_to_string(&path).unwrap();
                let (_, rest) = file.split_once(&format!("const {name}: "))?;
                let text = rest.split_once(" = ")?.1.split(';').next()?.trim().to_owned();
                Some(Self { text, file })
            })
            .collect();
        let count = found.len();
        found.into_iter().next().filter(|_| count == 1).unwrap_or_else(|| {
            panic!("{count} constants {name} in files that end with {file}: name the one that is meant")
        })
    }

    /// Times are in milliseconds.
    fn value(&self) -> u64 {
        let seconds = self.text.strip_prefix("Duration::from_secs(").map(|rest| (rest, 1000));
        let millis = self.text.strip_prefix("Duration::from_millis(").map(|rest| (rest, 1));
        match seconds.or(millis) {
            Some((rest, scale)) => self.sum(rest.trim_end_matches(')')) * scale,
            None => self.sum(&self.text),
        }
    }

    fn sum(&self, text: &str) -> u64 {
        let mut parts = text.split(" - ");
        let first = self.product(parts.next().unwrap());
        parts.fold(first, |sum, part| sum - self.product(part))
    }

    fn product(&self, text: &str) -> u64 {
        if let Some((number, bits)) = text.split_once(" << ") {
            return self.number(number) << self.number(bits);
        }
        text.split(" * ").map(|factor| self.number(factor)).product()
    }

    /// A number, or a constant from the same file.
    fn number(&self, text: &str) -> u64 {
        let text = text.trim();
        text.replace('_', "").parse().unwrap_or_else(|_| {
            let rest = self.file.split_once(&format!("const {text}: ")).map(|(_, rest)| rest);
            let rest = rest.unwrap_or_else(|| panic!("'{text}' is not a number"));
            let other = rest.split_once(" = ").unwrap().1.split(';').next().unwrap();
            Self { text: other.to_owned(), file: self.file.clone() }.value()
        })
    }
}

fn fill(template: &str, value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    // The smallest block consists of its kind and its tag.
    let smallest = || {
        let block = |name| Constant::find("seal/block.rs", name).value();
        (block("HEADER") + block("TAG")).to_string()
    };
    let filled = template
        .replace("{}", &digits)
        .replace("{,}", &groups.join(","))
        .replace("{K}", &(value >> 10).to_string())
        .replace("{M}", &(value >> 20).to_string())
        .replace("{s}", &(value / 1000).to_string());
    if filled.contains("{block}") { filled.replace("{block}", &smallest()) } else { filled }
}

fn page_of(name: &str) -> String {
    fs::read_to_string(ka_tests::root().join("docs").join(name)).unwrap()
}
