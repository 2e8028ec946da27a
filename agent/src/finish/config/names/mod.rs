//! Resolves names in the configuration to file systems.
//!
//! The copied system's files refer to the golden node's disks in any of the ways that mount(8), systemd and
//! the boot loaders know. All of them are resolved here, in one place.

use ka::plan::FileSystemPlan;

use crate::disk::MadeFileSystem;
use crate::finish::config::encoded;

/// The file systems of this node under the names that the golden node had for them.
pub(in crate::finish) struct Names<'a> {
    made: &'a [MadeFileSystem],
    /// Devices that the device mapper creates at boot from something that this node has (crypttab).
    mappings: Vec<String>,
}

/// The meaning of a word in the configuration.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::finish) enum Named<'a> {
    /// A file system that this node has.
    Made(&'a MadeFileSystem),
    /// A file system that this node has, under a name that is the same here: a label, or a logical volume's
    /// name.
    Kept,
    /// A disk of the golden node that was not cloned.
    Missing,
    /// Not a local disk: a pseudo file system, a server, a file, removable media, a keyword.
    Other,
}

/// Devices that come and go by themselves, or are not disks: their names do not refer to the golden node's
/// disks.
const NOT_DISKS: [&str; 10] = ["cdrom", "cdrw", "dvd", "fd", "loop", "nbd", "ram", "rbd", "sr", "zram"];

impl<'a> Names<'a> {
    pub(in crate::finish) fn new(made: &'a [MadeFileSystem]) -> Self {
        Self { made, mappings: Vec::new() }
    }

    /// Adds `/dev/mapper/NAME` for these names, as devices that the booted system creates itself.
    pub(in crate::finish) fn with_mappings(mut self, mappings: Vec<String>) -> Self {
        self.mappings = mappings;
        self
    }

    /// All of this node's file systems.
    pub(in crate::finish) fn made(&self) -> &'a [MadeFileSystem] {
        self.made
    }

    /// The file system mounted at `point`.
    pub(in crate::finish) fn at(&self, point: &str) -> Option<&'a MadeFileSystem> {
        self.made.iter().find(|fs| fs.mount_points().any(|at| at == point))
    }

    /// Whether `path` is a whole disk of the golden node that contained one of these file systems:
    /// `/dev/sda`.
    pub(in crate::finish) fn is_golden_disk(&self, path: &str) -> bool {
        self.on_golden_disk(path).is_some()
    }

    /// The file system on the golden node's whole disk `path`.
    pub(in crate::finish) fn on_golden_disk(&self, path: &str) -> Option<&'a MadeFileSystem> {
        self.find(|fs| {
            let golden = fs.plan.golden.as_ref();
            golden.is_some_and(|golden| golden.devices.iter().any(|device| disk_of(device) == Some(path)))
        })
    }

    /// The meaning of `word`: `UUID=…`, `/dev/sda1`, `none`.
    pub(in crate::finish) fn resolve(&self, word: &str) -> Named<'a> {
        let Some((tag, value)) = tag_and_value(word) else {
            return self.resolve_path(word);
        };
        let found = match tag {
            "UUID" => self.find(|fs| is(golden_uuid(&fs.plan), value) || is(Some(&fs.uuid), value)),
            "PARTUUID" => {
                self.find(|fs| is(golden_partuuid(&fs.plan), value) || is(Some(&fs.partuuid), value))
            }
            "LABEL" => {
                let plain = encoded::decode(value);
                let is_it = |label: &str| label == value || label == plain;
                return if self.made.iter().any(|fs| fs.plan.label.as_deref().is_some_and(is_it)) {
                    Named::Kept
                } else {
                    Named::Missing
                };
            }
            "PARTLABEL" => self.device(&format!("/dev/disk/by-partlabel/{value}")),
            "ID" => self.device(&format!("/dev/disk/by-id/{value}")),
            "PATH" => self.device(&format!("/dev/disk/by-path/{value}")),
            _ => return Named::Other,
        };
        found.map_or(Named::Missing, Named::Made)
    }

    fn resolve_path(&self, path: &str) -> Named<'a> {
        let Some(name) = path.strip_prefix("/dev/") else {
            return Named::Other;
        };
        if self.made.iter().any(|fs| fs.on.keeps(path)) {
            return Named::Kept;
        }
        if let Some(fs) = self.device(path) {
            return Named::Made(fs);
        }
        for (directory, tag) in
            [("disk/by-uuid/", "UUID"), ("disk/by-partuuid/", "PARTUUID"), ("disk/by-label/", "LABEL")]
        {
            if let Some(value) = name.strip_prefix(directory) {
                return self.resolve(&format!("{tag}={value}"));
            }
        }
        let numbered = |stem: &str| {
            name.strip_prefix(stem).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'p'))
        };
        let mapped = |name: &str| self.mappings.iter().any(|mapping| mapping == name);
        if name == "shm"
            || name.strip_prefix("mapper/").is_some_and(mapped)
            || name.starts_with("shm/")
            || NOT_DISKS.iter().any(|stem| numbered(stem))
        {
            Named::Other
        } else {
            Named::Missing
        }
    }

    /// Looks up a path in udev's encoding, or with its escapes resolved.
    fn device(&self, path: &str) -> Option<&'a MadeFileSystem> {
        let plain = encoded::decode(path);
        let is_it = |device: &String| device == path || *device == plain || encoded::decode(device) == plain;
        self.find(|fs| fs.plan.golden.as_ref().is_some_and(|golden| golden.devices.iter().any(is_it)))
    }

    /// The file system that `LABEL=…` refers to, in any spelling of the label.
    pub(in crate::finish) fn labelled(&self, word: &str) -> Option<&'a MadeFileSystem> {
        let word = word.strip_prefix("/dev/disk/by-label/").or_else(|| word.strip_prefix("LABEL="))?;
        let word = encoded::decode(word.trim_matches(['"', '\'']));
        self.find(|fs| fs.plan.label.as_deref() == Some(&word))
    }

    /// The path of `fs` that replaces the name `old`: by PARTUUID if `old` was one, or if the contents have
    /// no UUID.
    pub(in crate::finish) fn new_path(&self, old: &str, fs: &MadeFileSystem) -> String {
        if fs.uuid.is_empty() && fs.partuuid.is_empty() {
            return fs.device.display().to_string();
        }
        if fs.uuid.is_empty() || old.starts_with("/dev/disk/by-partuuid/") || old.starts_with("PARTUUID=") {
            format!("/dev/disk/by-partuuid/{}", fs.partuuid)
        } else {
            format!("/dev/disk/by-uuid/{}", fs.uuid)
        }
    }

    /// The device that the unit `name` is named after: `dev-sda2.swap`, `systemd-fsck@dev-sda1.service`.
    pub(in crate::finish) fn unit(&self, name: &str) -> Named<'a> {
        device_in_unit(name).map_or(Named::Other, |(_, device, _)| self.resolve(&device))
    }

    /// The name of the unit `name` on this node, if it is named after a device that has another name here.
    pub(in crate::finish) fn rename_unit(&self, name: &str) -> Option<String> {
        let (before, device, behind) = device_in_unit(name)?;
        let Named::Made(fs) = self.resolve(&device) else { return None };
        let new = format!("{before}{}{behind}", encoded::unit(&self.new_path(&device, fs)));
        (new != name).then_some(new)
    }

    /// The file systems of this kind, by blkid's name for it.
    pub(in crate::finish) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &'a MadeFileSystem> {
        let is_it = move |fs: &&MadeFileSystem| {
            fs.plan.golden.as_ref().and_then(|golden| golden.kind.as_deref()) == Some(kind)
        };
        self.made.iter().filter(is_it)
    }

    /// Whether a partition that was copied byte by byte is of this kind, by blkid's name, and has the UUID,
    /// if one is given, in any spelling.
    pub(in crate::finish) fn has_raw(&self, kind: &str, uuid: Option<&str>) -> bool {
        let digits = |text: &str| -> String {
            text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
        };
        self.made.iter().any(|fs| {
            let golden = fs.plan.golden.as_ref();
            let same = |wanted: &str| {
                let own = golden.and_then(|golden| golden.uuid.as_deref()).unwrap_or_default();
                !own.is_empty() && digits(own).starts_with(&digits(wanted))
            };
            golden.and_then(|golden| golden.kind.as_deref()) == Some(kind) && uuid.is_none_or(same)
        })
    }

    fn find(&self, matches: impl Fn(&MadeFileSystem) -> bool) -> Option<&'a MadeFileSystem> {
        self.made.iter().find(|fs| matches(fs))
    }

    /// `text` with every golden UUID and PARTUUID that is a word of its own replaced by the new one.
    pub(in crate::finish) fn rename_uuids(&self, text: &str) -> String {
        let mut renamed = text.to_owned();
        for fs in self.made {
            for (golden, new) in
                [(golden_uuid(&fs.plan), &fs.uuid), (golden_partuuid(&fs.plan), &fs.partuuid)]
            {
                if let Some(golden) = golden {
                    renamed = replace_word(&renamed, golden, new);
                }
            }
        }
        renamed
    }

    /// A golden UUID or PARTUUID that is still in `text`, if any.
    pub(in crate::finish) fn golden_in(&self, text: &str) -> Option<&'a str> {
        self.made.iter().find_map(|fs| {
            let uuid = golden_uuid(&fs.plan).filter(|golden| *golden != fs.uuid);
            let partuuid = golden_partuuid(&fs.plan).filter(|golden| *golden != fs.partuuid);
            [uuid, partuuid].into_iter().flatten().find(|golden| word_at(text, golden).is_some())
        })
    }
}

/// Splits a unit's name into the prefix, the device, and the suffix.
fn device_in_unit(name: &str) -> Option<(&str, String, &str)> {
    let (stem, behind) = name.split_at(name.rfind('.')?);
    let (before, instance) = match stem.split_once('@') {
        Some((template, instance)) => (stem.get(..=template.len())?, instance),
        None => ("", stem),
    };
    let is_of_devices = !before.is_empty() || matches!(behind, ".device" | ".swap");
    Some((before, encoded::device_of_unit(instance)?, behind)).filter(|_| is_of_devices)
}

/// The disk of a partition's device node, by the naming rules of the kernel and udev: `/dev/sda` for
/// `/dev/sda1`, `/dev/nvme0n1` for `/dev/nvme0n1p2`, `…/by-id/ata-X` for `…/by-id/ata-X-part1`.
pub(in crate::finish) fn disk_of(partition: &str) -> Option<&str> {
    let stem = partition.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == partition.len() {
        return None;
    }
    let linked = partition.starts_with("/dev/disk/");
    let disk = if linked { stem.strip_suffix("-part") } else { None };
    let numbered =
        |stem: &str| stem.strip_suffix('p').is_some_and(|d| d.ends_with(|c: char| c.is_ascii_digit()));
    match disk {
        None if linked => None,
        None if numbered(stem) => stem.strip_suffix('p'),
        None => Some(stem),
        disk => disk,
    }
}

/// Splits `UUID="…"` into the tag and the value. The quotes are removed, as libmount does.
fn tag_and_value(word: &str) -> Option<(&str, &str)> {
    let (tag, value) = word.split_once('=')?;
    let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    tag.bytes().all(|b| b.is_ascii_uppercase()).then_some((tag, bare.unwrap_or(value)))
}

fn golden_uuid(plan: &FileSystemPlan) -> Option<&str> {
    plan.golden.as_ref()?.uuid.as_deref()
}

fn golden_partuuid(plan: &FileSystemPlan) -> Option<&str> {
    plan.golden.as_ref()?.partuuid.as_deref()
}

fn is(name: Option<&str>, value: &str) -> bool {
    name.is_some_and(|name| name.eq_ignore_ascii_case(value))
}

/// Finds `word` in `text`, ignoring case, where it is not part of a longer identifier. The kernel and all
/// tools accept a UUID in either case.
fn word_at(text: &str, word: &str) -> Option<usize> {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let (bytes, word) = (text.as_bytes(), word.as_bytes());
    let last = bytes.len().checked_sub(word.len()).filter(|_| !word.is_empty())?;
    let found = |at: &usize| bytes.get(*at..at + word.len()).is_some_and(|b| b.eq_ignore_ascii_case(word));
    (0..=last).filter(found).find(|at| {
        let before = text.get(..*at).and_then(|t| t.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|t| t.chars().next());
        !before.is_some_and(inner) && !after.is_some_and(inner)
    })
}

fn replace_word(text: &str, word: &str, new: &str) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while !word.is_empty()
        && let Some(at) = word_at(rest, word)
        && let Some((before, after)) = rest.split_at_checked(at)
    {
        done.push_str(before);
        done.push_str(new);
        rest = after.get(word.len()..).unwrap_or_default();
    }
    done + rest
}

#[cfg(test)]
pub(in crate::finish) mod tests;
