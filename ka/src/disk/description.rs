//! The description of a disk: what partitions it gets, of what type and size.
//!
//! It is written in one of two forms: the short one of [`super::desc`], and the script of sfdisk
//! ([`super::script`]), which says more. Both give the same value, which goes into a run's plan and is
//! checked by the same rules wherever it comes from.

use super::guid::Guid;
use super::kind::{PROTECTIVE, PartitionKind, TableKind};
use super::problem::Problem;
use super::units::{Lba, MB, SectorSize};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most logical partitions, as Linux's device numbers allow for a `sdX`.
pub const MAX_LOGICALS: u32 = 60;
/// Places in a GPT where the description doesn't say how many.
pub const GPT_LENGTH: u32 = 128;
/// The most places in a GPT that are written and read.
pub const MAX_GPT_LENGTH: u32 = 1024;
/// The highest number of a partition that Linux has: it gives a disk 256 numbers, the disk's own among them.
pub const MAX_PARTITIONS: u32 = 255;
/// The highest weight of a [`Size::Fill`].
pub const MAX_WEIGHT: u32 = 1000;

/// A checked description: at least one partition, every number once, types that the table has; in an MBR
/// at most four primaries of which at most one is extended, and logicals only with an extended one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Description {
    header: Header,
    entries: Vec<Entry>,
}

/// What a description says about the whole table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The kind of table.
    pub table: TableKind,
    /// The disk's signature or GUID.
    pub id: Option<DiskId>,
    /// The size of the sectors that starts and sizes are counted in; where it is missing, the disk's own.
    pub sector: Option<SectorSize>,
    /// The first sector that partitions of a GPT may use.
    pub first_lba: Option<Lba>,
    /// The last one.
    pub last_lba: Option<Lba>,
    /// Places in the GPT.
    pub length: Option<u32>,
    /// What sfdisk aligns partitions to, in bytes. Everything is aligned to 1 MiB here.
    pub grain: Option<u64>,
    /// The device that was described.
    pub device: Option<String>,
}

/// What tells a disk from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskId {
    /// An MBR's.
    Mbr(DiskSignature),
    /// A GPT's.
    Gpt(Guid),
}

/// The four bytes by which a disk with an MBR is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSignature(pub u32);

/// One partition of a description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The partition's number: in an MBR 1 to 4, or from 5 for a logical one.
    pub number: u32,
    /// What it is for.
    pub kind: PartitionKind,
    /// Its place in an MBR; in a GPT all are primary.
    pub role: Role,
    /// Where the described disk has it.
    pub start: Option<Length>,
    /// How large it is.
    pub size: Size,
    /// Its name in a GPT; empty if it has none.
    pub name: String,
    /// What tells it from all others, in a GPT.
    pub uuid: Option<Guid>,
    /// The attribute bits in a GPT.
    pub attributes: u64,
    /// The active flag in an MBR.
    pub bootable: bool,
    /// The line of the description, from 1, for messages.
    pub line: u32,
}

/// The place of a partition in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// In the table itself.
    Primary,
    /// There too, and holding the logical ones.
    Extended,
    /// In the extended one.
    Logical,
}

/// How large a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// So much on every disk.
    Fixed(Length),
    /// Its share, by weight, of what the others leave.
    Fill {
        /// From 1 to [`MAX_WEIGHT`].
        weight: u32,
    },
}

/// A stretch of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Length {
    /// In bytes.
    Bytes(u64),
    /// In sectors of the disk, whatever their size.
    Sectors(u64),
}

/// The two forms in which a description is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `[logical] TYPE SIZE`.
    Desc,
    /// The script of sfdisk.
    Sfdisk,
}

impl Description {
    /// A description of these partitions, by the rules of their table.
    ///
    /// # Errors
    /// The first rule that they break.
    pub fn new(header: Header, entries: Vec<Entry>) -> Result<Self, Problem> {
        let mut builder = Builder::new(header);
        for entry in entries {
            builder.push(entry)?;
        }
        builder.finish()
    }

    /// The kind of table.
    #[must_use]
    pub fn table(&self) -> TableKind {
        self.header.table
    }

    /// What is said about the whole table.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The partitions in the order of their lines.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The partition with this number.
    #[must_use]
    pub fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.iter().find(|e| e.number == number)
    }

    /// The extended partition.
    #[must_use]
    pub fn extended(&self) -> Option<&Entry> {
        self.entries.iter().find(|e| e.role == Role::Extended)
    }

    /// A length in bytes, for a disk with sectors of `own` bytes.
    #[must_use]
    pub fn bytes(&self, length: Length, own: SectorSize) -> u64 {
        length.bytes(self.header.sector.unwrap_or(own))
    }

    /// Counts starts and sizes in sectors of this size, unless the description says of which size they are.
    pub fn assume_sector(&mut self, sector: SectorSize) {
        self.header.sector.get_or_insert(sector);
    }

    /// Gives a partition another type. One that its table doesn't have, or that would make it hold others or no
    /// longer do so, is not taken.
    pub fn set_kind(&mut self, number: u32, kind: PartitionKind) {
        let is_plain = kind.table() == self.table() && !kind.is_extended();
        let entry = self.entries.iter_mut().find(|e| e.number == number && e.role != Role::Extended);
        if let (true, Some(entry)) = (is_plain, entry) {
            entry.kind = kind;
        }
    }

    /// Lets a partition take what is left, as the last for files does in the description of a running
    /// machine; a logical one's extended partition too. Starts go, unless the order on the disk is not that of
    /// the numbers.
    pub fn set_fill(&mut self, number: u32) {
        let is_logical = self.entry(number).is_some_and(|e| e.role == Role::Logical);
        let in_order = self.is_in_order();
        let inside = Length::Bytes(self.extended_needs(SectorSize::B512));
        for entry in &mut self.entries {
            if entry.number == number || is_logical && entry.role == Role::Extended {
                entry.size = Size::Fill { weight: 1 };
            }
            if in_order {
                entry.start = None;
                // Aligned to whole MB, the logical partitions may need more than they have.
                if let (Role::Extended, Size::Fixed(size)) = (entry.role, entry.size)
                    && self.header.sector.is_some_and(|s| size.bytes(s) < inside.bytes(s))
                {
                    entry.size = Size::Fixed(inside);
                }
            }
        }
    }

    /// Bytes that an extended partition needs for the logical ones of fixed size: each in whole MB, with one
    /// before it for its table.
    pub(super) fn extended_needs(&self, own: SectorSize) -> u64 {
        let logicals = self.entries.iter().filter(|e| e.role == Role::Logical);
        let mb = logicals.map(|e| match e.size {
            Size::Fixed(length) => 1 + self.bytes(length, own).div_ceil(MB),
            Size::Fill { .. } => 2,
        });
        mb.sum::<u64>().saturating_mul(MB)
    }

    /// Whether the partitions lie on the described disk in the order of their numbers.
    fn is_in_order(&self) -> bool {
        let mut outer: Vec<_> = self.entries.iter().filter(|e| e.role != Role::Logical).collect();
        outer.sort_by_key(|e| e.number);
        outer.is_sorted_by_key(|e| e.start.map_or(0, |start| self.bytes(start, SectorSize::B512)))
    }
}

/// A description's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// What it does not say, a sentence each.
    pub missing: Vec<String>,
}

impl Header {
    /// Nothing but the kind of table.
    #[must_use]
    pub fn new(table: TableKind) -> Self {
        Self {
            table,
            id: None,
            sector: None,
            first_lba: None,
            last_lba: None,
            length: None,
            grain: None,
            device: None,
        }
    }

    /// The highest number that a partition can have.
    #[must_use]
    pub fn most(&self) -> u32 {
        match self.table {
            TableKind::Mbr => 4 + MAX_LOGICALS,
            TableKind::Gpt => self.length.unwrap_or(GPT_LENGTH).min(MAX_PARTITIONS),
        }
    }
}

impl Entry {
    /// A partition with nothing but number, type, place and size.
    #[must_use]
    pub fn new(number: u32, kind: PartitionKind, role: Role, size: Size, line: u32) -> Self {
        Self {
            number,
            kind,
            role,
            start: None,
            size,
            name: String::new(),
            uuid: None,
            attributes: 0,
            bootable: false,
            line,
        }
    }

    /// Whether it takes its share of what is left.
    #[must_use]
    pub fn is_fill(&self) -> bool {
        matches!(self.size, Size::Fill { .. })
    }
}

impl Size {
    /// So many MB of 2^20 bytes.
    #[must_use]
    pub fn mb(mb: u32) -> Self {
        Self::Fixed(Length::Bytes(u64::from(mb) * MB))
    }
}

impl Length {
    /// In bytes, if sectors have so many; saturates far beyond any disk.
    #[must_use]
    pub fn bytes(self, sector: SectorSize) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Sectors(sectors) => sectors.saturating_mul(sector.bytes()),
        }
    }
}

impl DiskId {
    /// The kind of table that has it.
    #[must_use]
    pub fn table(self) -> TableKind {
        match self {
            Self::Mbr(_) => TableKind::Mbr,
            Self::Gpt(_) => TableKind::Gpt,
        }
    }
}

/// As sfdisk's `label-id:`.
impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(DiskSignature(number)) => write!(f, "0x{number:08x}"),
            Self::Gpt(guid) => f.write_str(&guid.upper()),
        }
    }
}

impl DiskSignature {
    /// The PARTUUID of a partition, as the kernel and blkid print it: `1a2b3c4d-01`.
    #[must_use]
    pub fn partuuid(self, partition: u32) -> String {
        format!("{:08x}-{partition:02x}", self.0)
    }
}

/// A description as it travels. One that came from somewhere else than a file is checked like that.
#[derive(Serialize, Deserialize)]
struct Unchecked {
    header: Header,
    entries: Vec<Entry>,
}

impl TryFrom<Unchecked> for Description {
    type Error = Problem;

    fn try_from(unchecked: Unchecked) -> Result<Self, Problem> {
        Self::new(unchecked.header, unchecked.entries)
    }
}

impl From<Description> for Unchecked {
    fn from(description: Description) -> Self {
        Self { header: description.header, entries: description.entries }
    }
}

/// Collects entries, numbers them, and keeps the rules that concern several of them.
pub(super) struct Builder {
    header: Header,
    entries: Vec<Entry>,
}

impl Builder {
    pub(super) fn new(header: Header) -> Self {
        Self { header, entries: Vec::new() }
    }

    /// The lowest number that is free for a partition of this role.
    pub(super) fn next_number(&self, role: Role) -> u32 {
        let first = if role == Role::Logical { 5 } else { 1 };
        (first..=u32::MAX).find(|n| self.entries.iter().all(|e| e.number != *n)).unwrap_or(u32::MAX)
    }

    pub(super) fn push(&mut self, entry: Entry) -> Result<(), Problem> {
        if let Some(other) = self.entries.iter().find(|e| e.number == entry.number) {
            return Err(Problem::Twice { number: entry.number, line: other.line });
        }
        self.check_one(&entry)?;
        match self.header.table {
            TableKind::Mbr => self.check_mbr(&entry)?,
            TableKind::Gpt => self.check_gpt(&entry)?,
        }
        self.entries.push(entry);
        Ok(())
    }

    fn check_one(&self, entry: &Entry) -> Result<(), Problem> {
        match entry.size {
            Size::Fixed(Length::Bytes(0) | Length::Sectors(0)) => return Err(Problem::Size("0".to_owned())),
            Size::Fill { weight } if !(1..=MAX_WEIGHT).contains(&weight) => {
                return Err(Problem::Weight(weight.to_string()));
            }
            Size::Fixed(_) | Size::Fill { .. } => {}
        }
        if entry.kind.table() != self.header.table {
            let found = entry.kind.to_string();
            return Err(Problem::ScriptType { table: self.header.table, found });
        }
        Ok(())
    }

    fn check_mbr(&self, entry: &Entry) -> Result<(), Problem> {
        if let PartitionKind::Mbr(byte) = entry.kind {
            check_type(byte, &format!("type{byte:x}"))?;
        }
        let wrong = |field| Problem::WrongTable { field, table: TableKind::Mbr, hint: "" };
        if !entry.name.is_empty() {
            return Err(wrong("name="));
        }
        if entry.uuid.is_some() {
            return Err(wrong("uuid="));
        }
        if entry.attributes != 0 {
            return Err(wrong("attrs="));
        }
        let extended = self.entries.iter().find(|e| e.role == Role::Extended);
        let logicals = self.entries.iter().filter(|e| e.role == Role::Logical).count();
        let logicals = u32::try_from(logicals).unwrap_or(u32::MAX);
        match entry.role {
            Role::Logical => {
                if entry.kind.is_extended() {
                    return Err(Problem::LogicalExtended);
                }
                if extended.is_none() {
                    return Err(Problem::NoExtended);
                }
                if logicals == MAX_LOGICALS {
                    return Err(Problem::TooManyLogicals);
                }
                // The chain of logical partitions numbers them: there are no gaps.
                if entry.number != 5 + logicals {
                    return Err(Problem::Number { expected: 5 + logicals, found: entry.number });
                }
                Ok(())
            }
            Role::Primary | Role::Extended => {
                if self.entries.len() - usize::try_from(logicals).unwrap_or_default() == 4 {
                    return Err(Problem::TooManyPrimaries);
                }
                if !(1..=4).contains(&entry.number) {
                    return Err(Problem::NoSuchNumber { most: 4, found: entry.number });
                }
                if (entry.role == Role::Extended) != entry.kind.is_extended() {
                    return Err(Problem::ReservedType {
                        found: format!("type{}", entry.kind),
                        meaning: "an extended partition: write `extended`",
                    });
                }
                match extended {
                    Some(first) if entry.role == Role::Extended => Err(Problem::SecondExtended(first.line)),
                    _ => Ok(()),
                }
            }
        }
    }

    fn check_gpt(&self, entry: &Entry) -> Result<(), Problem> {
        let wrong = |field, hint| Problem::WrongTable { field, table: TableKind::Gpt, hint };
        if entry.bootable {
            return Err(wrong("bootable", ": write attrs=LegacyBIOSBootable"));
        }
        if entry.role != Role::Primary {
            return Err(wrong("logical", ""));
        }
        if entry.kind == PartitionKind::Gpt(Guid::NIL) {
            let meaning = "an unused place in the table";
            return Err(Problem::ReservedType { found: entry.kind.to_string(), meaning });
        }
        let most = self.header.most();
        if entry.number == 0 || entry.number > most {
            return Err(Problem::NoSuchNumber { most, found: entry.number });
        }
        // A name ends at the first NUL.
        if entry.name.encode_utf16().count() > 36 || entry.name.contains('\0') {
            return Err(Problem::Name(entry.name.clone()));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Description, Problem> {
        if self.entries.is_empty() {
            return Err(Problem::Empty);
        }
        if self.header.id.is_some_and(|id| id.table() != self.header.table) {
            let field = "label-id:";
            return Err(Problem::WrongTable { field, table: self.header.table, hint: "" });
        }
        if let Some(length) = self.header.length
            && !(1..=MAX_GPT_LENGTH).contains(&length)
        {
            let found = length.to_string();
            let expected = "a number from 1 to 1024";
            return Err(Problem::HeaderValue { header: "table-length", expected, found });
        }
        Ok(Description { header: self.header, entries: self.entries })
    }
}

/// Refuses the numbers that are no type of a partition.
pub(super) fn check_type(byte: u8, word: &str) -> Result<(), Problem> {
    let meaning = match byte {
        0x00 => "an unused place in the table",
        PROTECTIVE => "the mark of a GPT",
        _ => return Ok(()),
    };
    Err(Problem::ReservedType { found: word.to_owned(), meaning })
}
