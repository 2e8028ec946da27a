//! The golden machine's names that this node does not have, in all their spellings.

use std::collections::BTreeSet;

use ka::plan::FinishPlan;

use crate::finish::config::encoded;
use crate::finish::config::names::{Named, Names, disk_of};

/// What a name identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    FileSystem,
    Partition,
    Table,
    Label,
    Device,
    Subvolume,
    Mac,
    Address,
    Host,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FileSystem => "file system",
            Self::Partition => "partition",
            Self::Table => "partition table",
            Self::Label => "label",
            Self::Device => "device",
            Self::Subvolume => "number of a subvolume,",
            Self::Mac => "network card",
            Self::Address => "address",
            Self::Host => "host name",
        }
    }

    /// Whether a boot may wait for it.
    pub(super) fn is_of_disks(self) -> bool {
        !matches!(self, Self::Mac | Self::Address | Self::Host)
    }

    /// Whether it is long and unusual enough to be meaningful in a binary file.
    pub(super) fn is_telling(self) -> bool {
        matches!(self, Self::FileSystem | Self::Partition | Self::Label | Self::Device)
    }
}

/// A name to search for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) kind: Kind,
    /// The name as a person knows it.
    pub(super) text: String,
}

/// All names, each with its spellings.
#[derive(Debug, Default)]
pub(super) struct Terms {
    terms: Vec<Term>,
    /// A spelling, and the index of its name.
    spellings: Vec<(String, usize)>,
    seen: BTreeSet<String>,
}

impl Terms {
    /// The golden machine's names according to `plan` and `names`, without those that this node has: `here`
    /// decides for a path in `/dev`.
    pub(super) fn new(
        plan: &FinishPlan,
        names: &Names<'_>,
        hostname: &str,
        here: impl Fn(&str) -> bool,
    ) -> Self {
        let mut terms = Self::default();
        for fs in names.made() {
            let Some(golden) = &fs.plan.golden else { continue };
            let other = |golden: &Option<String>, own: &str| {
                golden.clone().filter(|golden| !golden.is_empty() && !golden.eq_ignore_ascii_case(own))
            };
            if let Some(uuid) = other(&golden.uuid, &fs.uuid) {
                terms.add(Kind::FileSystem, &uuid, &[]);
            }
            if let Some(partuuid) = other(&golden.partuuid, &fs.partuuid) {
                terms.add(Kind::Partition, &partuuid, &[]);
            }
            golden
                .devices
                .iter()
                .filter(|path| !here(path))
                .for_each(|path| terms.device(path, names, &here));
        }
        for path in plan.machine.devices.iter().filter(|path| !here(path)) {
            terms.device(path, names, &here);
        }
        let is_kept = |id: &String| names.made().iter().any(|fs| fs.partuuid.starts_with(id.as_str()));
        for table in plan.machine.tables.iter().filter(|id| id.len() >= 8 && !is_kept(id)) {
            terms.add(Kind::Table, table, &[]);
        }
        if names.made().iter().any(|fs| !fs.plan.subvolumes.is_empty()) {
            terms.add(Kind::Subvolume, "subvolid=", &[]);
        }
        terms.network(plan, hostname);
        terms
    }

    fn network(&mut self, plan: &FinishPlan, hostname: &str) {
        let cards = plan.golden.cards.iter().filter_map(|card| card.mac);
        for mac in cards.chain(plan.golden.mac) {
            let text = mac.to_string();
            self.add(Kind::Mac, &text, &[text.replace(':', "-"), text.replace(':', "")]);
        }
        let own = plan.name.as_ref().and_then(|name| name.address.as_ref());
        if let Some(address) =
            plan.golden.address.filter(|golden| own.is_none_or(|own| own.address != *golden))
        {
            self.add(Kind::Address, &address.to_string(), &[]);
        }
        let short = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let golden = plan.machine.hostname.as_deref().map(short).unwrap_or_default();
        if !golden.is_empty() && golden != "localhost" && golden != short(hostname) {
            self.add(Kind::Host, &golden, &[]);
        }
    }

    /// A device node or a link to one.
    fn device(&mut self, path: &str, names: &Names<'_>, here: impl Fn(&str) -> bool) {
        let value = |directory: &str| path.strip_prefix("/dev/disk/").and_then(|p| p.strip_prefix(directory));
        let is_own = |own: fn(&crate::disk::MadeFileSystem) -> &str, value: &str| {
            names.made().iter().any(|fs| own(fs).eq_ignore_ascii_case(value))
        };
        if let Some(uuid) = value("by-uuid/") {
            if !is_own(|fs| &fs.uuid, uuid) {
                self.add(Kind::FileSystem, &encoded::decode(uuid), &[]);
            }
        } else if let Some(partuuid) = value("by-partuuid/") {
            if !is_own(|fs| &fs.partuuid, partuuid) {
                self.add(Kind::Partition, partuuid, &[]);
            }
        } else if let Some(label) = value("by-label/").or(value("by-partlabel/")) {
            // A label alone is a common word.
            let tag = if path.contains("by-partlabel") { "PARTLABEL" } else { "LABEL" };
            let plain = encoded::decode(label);
            if tag == "PARTLABEL" || names.resolve(&format!("LABEL={plain}")) == Named::Missing {
                let text = format!("{tag}={plain}");
                let link = path.trim_start_matches("/dev/disk/").to_owned();
                self.add(Kind::Label, &text, &[link, format!("{tag}=\"{plain}"), format!("{tag}={label}")]);
            }
        } else if let Some(name) = value("by-id/") {
            let whole = disk_of(path).and_then(|disk| disk.strip_prefix("/dev/disk/by-id/")).unwrap_or(name);
            if !here(&format!("/dev/disk/by-id/{whole}")) {
                // Arrays and physical volumes are also known by the bare identifier.
                let bare = ["md-uuid-", "lvm-pv-uuid-"].iter().find_map(|prefix| whole.strip_prefix(prefix));
                self.add(Kind::Device, whole, &bare.map(str::to_owned).into_iter().collect::<Vec<_>>());
            }
        } else if path.starts_with("/dev/disk/by-path/") {
            let whole = disk_of(path).unwrap_or(path);
            if !here(whole) {
                self.add(Kind::Device, whole, &[]);
            }
        } else if path.starts_with("/dev/disk/") {
            // Names with a sequence number and the like, which no file contains.
        } else if names.resolve(path) != Named::Other {
            // Names in a volume group also without the directory: `rd.lvm.lv=vg/lv`.
            let volume = path.trim_start_matches("/dev/");
            let short = volume.contains('/') && !volume.starts_with("mapper/") && !volume.starts_with("md/");
            let spelling = if short { volume } else { path };
            self.add(Kind::Device, path, &[spelling.to_owned()]);
        }
    }

    /// Adds a name with its other spellings, including systemd's.
    fn add(&mut self, kind: Kind, text: &str, others: &[String]) {
        if !self.seen.insert(text.to_ascii_lowercase()) {
            return;
        }
        let number = self.terms.len();
        self.terms.push(Term { kind, text: text.to_owned() });
        let mut spellings = vec![text.to_owned()];
        spellings.extend_from_slice(others);
        if kind.is_of_disks() && kind != Kind::Subvolume {
            // `vg/lv` would become `vg-lv`, which may mean anything.
            let is_volume =
                |text: &&String| kind == Kind::Device && text.contains('/') && !text.starts_with('/');
            let escaped = spellings.iter().filter(|text| !is_volume(text)).map(|text| encoded::unit(text));
            let escaped: Vec<String> = escaped.collect();
            spellings.extend(escaped);
        }
        spellings.sort();
        spellings.dedup();
        self.spellings.extend(spellings.into_iter().map(|spelling| (spelling, number)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub(super) fn get(&self, number: usize) -> &Term {
        // Numbers come only from `spellings`.
        &self.terms[number]
    }

    pub(super) fn spellings(&self) -> &[(String, usize)] {
        &self.spellings
    }
}
