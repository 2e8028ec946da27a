//! What can be wrong with a description of a disk, and where.

use super::kind::TableKind;

/// What is wrong with a description, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {problem}")]
pub struct DescError {
    /// The file's name as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
    /// What was expected there, and what was found.
    pub problem: Problem,
}

/// What a description can have wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No partition at all.
    #[error("expected at least one partition, such as `linux fill`, found none")]
    Empty,
    /// Not a partition type.
    #[error("expected `linux`, `swap`, `extended`, `type<hex>` (such as `type83`) or `logical`, found `{0}`")]
    Type(String),
    /// `logical` without a type behind it.
    #[error("expected a type after `logical`, found the end of the line")]
    NoType,
    /// A type number that stands for something else.
    #[error("expected a partition type from 1 to ff, found `{found}`, which is {meaning}")]
    ReservedType {
        /// The word that was found.
        found: String,
        /// What the number means in an MBR.
        meaning: &'static str,
    },
    /// A line that ends behind the type.
    #[error("expected a size in MB or `fill`, found the end of the line")]
    NoSize,
    /// Not a size.
    #[error("expected a size in MB (a number from 1 to 4294967295) or `fill`, found `{0}`")]
    Size(String),
    /// A weight that is none.
    #[error("expected a weight from 1 to 1000 behind `fill*`, found `{0}`")]
    Weight(String),
    /// More words than a partition has.
    #[error("expected the end of the line or a `#` comment, found `{0}`")]
    Trailing(String),
    /// More primaries than an MBR has places.
    #[error("expected at most 4 primary partitions (the extended one counts), found a fifth")]
    TooManyPrimaries,
    /// More logical partitions than the kernel takes.
    #[error("expected at most 60 logical partitions, found one more")]
    TooManyLogicals,
    /// A second extended partition.
    #[error("expected at most one extended partition, found a second; the first is in line {0}")]
    SecondExtended(u32),
    /// `logical extended`.
    #[error("expected `linux`, `swap` or `type<hex>` after `logical`, found `extended`")]
    LogicalExtended,
    /// A logical partition, but nothing to hold it.
    #[error("expected an `extended` partition in a line before the first `logical` one")]
    NoExtended,
    /// Numbers that don't follow from the order.
    #[error("expected partition number {expected}, found {found}")]
    Number {
        /// What the order of the entries gives.
        expected: u32,
        /// What the entry says.
        found: u32,
    },
    /// Two partitions with one number.
    #[error("expected each partition once, found a second {number}; the first is in line {line}")]
    Twice {
        /// The number.
        number: u32,
        /// The other's line.
        line: u32,
    },
    /// A number that the table has no place for.
    #[error("expected a partition number from 1 to {most}, found {found}")]
    NoSuchNumber {
        /// The highest number.
        most: u32,
        /// What was found.
        found: u32,
    },
    /// A header of a script that sfdisk has not either.
    #[error(
        "expected one of the headers label, label-id, device, unit, grain, first-lba, last-lba, table-length and \
         sector-size, found `{0}`"
    )]
    Header(String),
    /// A header's value.
    #[error("expected {expected} for `{header}:`, found `{found}`")]
    HeaderValue {
        /// The header's name.
        header: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A header behind partitions.
    #[error("expected headers before the first partition only, found `{0}:`")]
    LateHeader(String),
    /// A device without a number.
    #[error("expected the name of a partition, such as /dev/sda1, before `:`, found `{0}`")]
    Device(String),
    /// A field that a partition has not.
    #[error("expected start=, size=, type=, name=, uuid=, attrs= or bootable, found `{0}`")]
    Field(String),
    /// A field that belongs to the other kind of table.
    #[error("`{field}` belongs to a {}, and this is a {table}{hint}", other(*table))]
    WrongTable {
        /// The field.
        field: &'static str,
        /// The table that is described.
        table: TableKind,
        /// What to write instead.
        hint: &'static str,
    },
    /// Not a number of sectors.
    #[error(
        "expected a number of sectors, or one with KiB, MiB, GiB, TiB or PiB behind it{or_fill}, found `{found}`"
    )]
    Number64 {
        /// What else is taken.
        or_fill: &'static str,
        /// What was found.
        found: String,
    },
    /// A relative number, which sfdisk takes for existing partitions only.
    #[error("`{0}` changes a partition that is there already: expected the whole number")]
    Relative(String),
    /// Not a type of this table.
    #[error("expected a type of a {table}: {}, or a name of `sfdisk -T`, found `{found}`", types(*table))]
    ScriptType {
        /// The table that is described.
        table: TableKind,
        /// What was found.
        found: String,
    },
    /// Not a GUID.
    #[error(transparent)]
    Guid(#[from] super::guid::BadGuid),
    /// Not an attribute.
    #[error(
        "expected RequiredPartition, NoBlockIOProtocol, LegacyBIOSBootable or bits from 0 to 63 (GUID: before \
         those from 48), found `{0}`"
    )]
    Attribute(String),
    /// Not `*` or `-`.
    #[error("expected `*` (bootable), `-` or nothing, found `{0}`")]
    Bootable(String),
    /// A name that a GPT has no room for.
    #[error("expected a name of at most 36 characters (in UTF-16), in UTF-8 and without NUL, found `{0}`")]
    Name(String),
    /// A quotation mark without its like.
    #[error("expected a `\"` at the end of `{0}`")]
    Quote(String),
    /// A table that is neither.
    #[error("expected `label: dos` or `label: gpt`, found `{0}`")]
    Label(String),
}

fn other(table: TableKind) -> TableKind {
    match table {
        TableKind::Mbr => TableKind::Gpt,
        TableKind::Gpt => TableKind::Mbr,
    }
}

fn types(table: TableKind) -> &'static str {
    match table {
        TableKind::Mbr => "two hex digits, an alias such as `linux`, `swap` or `extended`",
        TableKind::Gpt => "a GUID, an alias such as `linux`, `swap` or `uefi`",
    }
}
