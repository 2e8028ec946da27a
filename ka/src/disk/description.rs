//! The description of a disk: its partitions with their types and sizes.
//!
//! It has two forms: the short one of [`super::short_form`], and sfdisk's script ([`super::script`]), which
//! can express more. Both give the same value, which is part of a run's plan and is checked by the same rules
//! wherever it comes from.

use super::guid::Guid;
use super::kind::{PROTECTIVE, PartitionKind, TableKind};
use super::problem::Problem;
use super::units::{Lba, MB, SectorSize};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The maximum number of logical partitions: the limit of Linux's device numbers for `sdX`.
pub const MAX_LOGICALS: u32 = 60;
/// The number of GPT entries unless the description specifies it.
pub const GPT_LENGTH: u32 = 128;
/// The maximum number of GPT entries read or written.
pub const MAX_GPT_LENGTH: u32 = 1024;
/// The highest partition number in Linux: a disk has 256 device numbers, including its own.
pub const MAX_PARTITIONS: u32 = 255;
/// The maximum weight of a [`Size::Fill`].
pub const MAX_WEIGHT: u32 = 1000;

/// A validated description: at least one partition, unique numbers, types that the table supports; in an MBR
/// at most four primary partitions of which at most one is extended, and logical ones only with an extended
/// one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Description {
    header: Header,
    entries: Vec<Entry>,
}

/// The properties of the whole table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The kind of table.
    pub table: TableKind,
    /// The disk's signature or GUID.
    pub id: Option<DiskId>,
    /// The sector size in which starts and sizes are counted; `None` means the disk's own.
    pub sector: Option<SectorSize>,
    /// The first usable sector of a GPT.
    pub first_lba: Option<Lba>,
    /// The last usable sector.
    pub last_lba: Option<Lba>,
    /// The number of GPT entries.
    pub length: Option<u32>,
    /// sfdisk's alignment in bytes. Here everything is aligned to 1 MiB.
    pub grain: Option<u64>,
    /// The described device.
    pub device: Option<String>,
}

/// A disk's identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskId {
    /// An MBR's.
    Mbr(DiskSignature),
    /// A GPT's.
    Gpt(Guid),
}

/// The disk signature of an MBR: four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSignature(pub u32);

/// One partition of a description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The partition's number: 1 to 4 in an MBR, or from 5 for a logical one.
    pub number: u32,
    /// Its type.
    pub kind: PartitionKind,
    /// Its role in an MBR; in a GPT all are primary.
    pub role: Role,
    /// Its start on the described disk.
    pub start: Option<Length>,
    /// Its size.
    pub size: Size,
    /// Its name in a GPT; empty if it has none.
    pub name: String,
    /// Its GUID in a GPT.
    pub uuid: Option<Guid>,
    /// The attribute bits in a GPT.
    pub attributes: u64,
    /// The active flag in an MBR.
    pub bootable: bool,
    /// The line of the description, from 1, for messages.
    pub line: u32,
}

/// The role of a partition in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// In the table itself.
    Primary,
    /// In the table, and containing the logical ones.
    Extended,
    /// In the extended one.
    Logical,
}

/// The size of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// A fixed size.
    Fixed(Length),
    /// A share of the remaining space, by weight.
    Fill {
        /// From 1 to [`MAX_WEIGHT`].
        weight: u32,
    },
}

/// A length on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Length {
    /// In bytes.
    Bytes(u64),
    /// In sectors, whatever their size.
    Sectors(u64),
}

/// The two forms of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `[logical] TYPE SIZE`.
    Desc,
    /// The script of sfdisk.
    Sfdisk,
}

impl Description {
    /// A description of these partitions, if they follow the rules of their table.
    ///
    /// # Errors
    /// The first violated rule.
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

    /// The properties of the whole table.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The partitions in line order.
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

    /// A length in bytes, on a disk with sectors of `own` bytes.
    #[must_use]
    pub fn bytes(&self, length: Length, own: SectorSize) -> u64 {
        length.bytes(self.header.sector.unwrap_or(own))
    }

    /// Sets the sector size of starts and sizes, unless the description specifies it.
    pub fn assume_sector(&mut self, sector: SectorSize) {
        self.header.sector.get_or_insert(sector);
    }

    /// Changes a partition's type. The change is refused if the table does not support the type, or if it
    /// would turn a container into a normal partition or vice versa.
    pub fn set_kind(&mut self, number: u32, kind: PartitionKind) {
        let is_plain = kind.table() == self.table() && !kind.is_extended();
        let entry = self.entries.iter_mut().find(|e| e.number == number && e.role != Role::Extended);
        if let (true, Some(entry)) = (is_plain, entry) {
            entry.kind = kind;
        }
    }

    /// Makes a partition take the remaining space, like the last partition with files in the description of a
    /// running machine; for a logical one, also its extended partition. Starts are dropped, unless the order
    /// on the disk differs from that of the numbers.
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
                // Aligned to whole MB, the logical partitions may need more space.
                if let (Role::Extended, Size::Fixed(size)) = (entry.role, entry.size)
                    && self.header.sector.is_some_and(|s| size.bytes(s) < inside.bytes(s))
                {
                    entry.size = Size::Fixed(inside);
                }
            }
        }
    }

    /// The bytes that an extended partition needs for its logical ones of fixed size: each in whole MB, with
    /// one MB before it for its table.
    pub(super) fn extended_needs(&self, own: SectorSize) -> u64 {
        let logicals = self.entries.iter().filter(|e| e.role == Role::Logical);
        let mb = logicals.map(|e| match e.size {
            Size::Fixed(length) => 1 + self.bytes(length, own).div_ceil(MB),
            Size::Fill { .. } => 2,
        });
        mb.sum::<u64>().saturating_mul(MB)
    }

    /// Whether the partitions are in number order on the described disk.
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
    /// What it cannot express, one sentence each.
    pub missing: Vec<String>,
}

impl Header {
    /// Only the kind of table.
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

    /// The highest partition number.
    #[must_use]
    pub fn most(&self) -> u32 {
        match self.table {
            TableKind::Mbr => 4 + MAX_LOGICALS,
            TableKind::Gpt => self.length.unwrap_or(GPT_LENGTH).min(MAX_PARTITIONS),
        }
    }
}

impl Entry {
    /// A partition with only a number, type, role and size.
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

    /// Whether it takes a share of the remaining space.
    #[must_use]
    pub fn is_fill(&self) -> bool {
        matches!(self.size, Size::Fill { .. })
    }
}

impl Size {
    /// A number of MB (2^20 bytes).
    #[must_use]
    pub fn mb(mb: u32) -> Self {
        Self::Fixed(Length::Bytes(u64::from(mb) * MB))
    }
}

impl Length {
    /// In bytes, for this sector size; saturates far beyond any disk.
    #[must_use]
    pub fn bytes(self, sector: SectorSize) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Sectors(sectors) => sectors.saturating_mul(sector.bytes()),
        }
    }
}

impl DiskId {
    /// The kind of table with this kind of identifier.
    #[must_use]
    pub fn table(self) -> TableKind {
        match self {
            Self::Mbr(_) => TableKind::Mbr,
            Self::Gpt(_) => TableKind::Gpt,
        }
    }
}

/// As in sfdisk's `label-id:`.
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

/// A description as it travels. It is validated again on arrival.
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

/// Collects entries, numbers them, and checks the rules that concern several of them.
pub(super) struct Builder {
    header: Header,
    entries: Vec<Entry>,
}

impl Builder {
    pub(super) fn new(header: Header) -> Self {
        Self { header, entries: Vec::new() }
    }

    /// The lowest free number for a partition of this role.
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
                // Logical partitions are numbered by their chain: there are no gaps.
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

/// Refuses numbers that are not partition types.
pub(super) fn check_type(byte: u8, word: &str) -> Result<(), Problem> {
    let meaning = match byte {
        0x00 => "an unused place in the table",
        PROTECTIVE => "the mark of a GPT",
        _ => return Ok(()),
    };
    Err(Problem::ReservedType { found: word.to_owned(), meaning })
}
