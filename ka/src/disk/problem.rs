//! The problems that a disk description can have, with their places.

use super::kind::TableKind;

/// A problem of a description, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {problem}")]
pub struct DescError {
    /// The file's name as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
    /// What was expected, and what was found.
    pub problem: Problem,
}

/// The kinds of problems.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No partition at all.
    #[error("expected at least one partition, such as `linux fill`, found none")]
    Empty,
    /// Not a partition type.
    #[error("expected `linux`, `swap`, `extended`, `type<hex>` (such as `type83`) or `logical`, found `{0}`")]
    Type(String),
    /// `logical` without a type after it.
    #[error("expected a type after `logical`, found the end of the line")]
    NoType,
    /// A type number with a special meaning.
    #[error("expected a partition type from 1 to ff, found `{found}`, which is {meaning}")]
    ReservedType {
        /// The word.
        found: String,
        /// The number's meaning in an MBR.
        meaning: &'static str,
    },
    /// A line that ends after the type.
    #[error("expected a size in MB or `fill`, found the end of the line")]
    NoSize,
    /// Not a size.
    #[error("expected a size in MB (a number from 1 to 4294967295) or `fill`, found `{0}`")]
    Size(String),
    /// Not a weight.
    #[error("expected a weight from 1 to 1000 after `fill*`, found `{0}`")]
    Weight(String),
    /// Too many words.
    #[error("expected the end of the line or a `#` comment, found `{0}`")]
    Trailing(String),
    /// More primary partitions than an MBR has entries.
    #[error("expected at most 4 primary partitions (the extended one counts), found a fifth")]
    TooManyPrimaries,
    /// More logical partitions than the kernel supports.
    #[error("expected at most 60 logical partitions, found one more")]
    TooManyLogicals,
    /// A second extended partition.
    #[error("expected at most one extended partition, found a second; the first is in line {0}")]
    SecondExtended(u32),
    /// `logical extended`.
    #[error("expected `linux`, `swap` or `type<hex>` after `logical`, found `extended`")]
    LogicalExtended,
    /// A logical partition without an extended one.
    #[error("expected an `extended` partition in a line before the first `logical` one")]
    NoExtended,
    /// Numbers that do not match the order.
    #[error("expected partition number {expected}, found {found}")]
    Number {
        /// The number by order.
        expected: u32,
        /// The number given.
        found: u32,
    },
    /// Two partitions with one number.
    #[error("expected each partition once, found a second {number}; the first is in line {line}")]
    Twice {
        /// The number.
        number: u32,
        /// The line of the other one.
        line: u32,
    },
    /// A number beyond the table's range.
    #[error("expected a partition number from 1 to {most}, found {found}")]
    NoSuchNumber {
        /// The highest number.
        most: u32,
        /// What was found.
        found: u32,
    },
    /// A header that sfdisk does not know either.
    #[error(
        "expected one of the headers label, label-id, device, unit, grain, first-lba, last-lba, table-length and \
         sector-size, found `{0}`"
    )]
    Header(String),
    /// An invalid value of a header.
    #[error("expected {expected} for `{header}:`, found `{found}`")]
    HeaderValue {
        /// The header's name.
        header: &'static str,
        /// What it accepts.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A header after a partition.
    #[error("expected headers before the first partition only, found `{0}:`")]
    LateHeader(String),
    /// A device name without a number.
    #[error("expected the name of a partition, such as /dev/sda1, before `:`, found `{0}`")]
    Device(String),
    /// An unknown field.
    #[error("expected start=, size=, type=, name=, uuid=, attrs= or bootable, found `{0}`")]
    Field(String),
    /// A field of the other kind of table.
    #[error("`{field}` belongs to a {}, and this is a {table}{hint}", other(*table))]
    WrongTable {
        /// The field.
        field: &'static str,
        /// The described table.
        table: TableKind,
        /// What to write instead.
        hint: &'static str,
    },
    /// Not a number of sectors.
    #[error(
        "expected a number of sectors, or one followed by KiB, MiB, GiB, TiB or PiB{or_fill}, found `{found}`"
    )]
    Number64 {
        /// What else is accepted.
        or_fill: &'static str,
        /// What was found.
        found: String,
    },
    /// A relative number, which sfdisk accepts only for existing partitions.
    #[error("`{0}` changes an existing partition: expected an absolute number")]
    Relative(String),
    /// Not a type of this table.
    #[error("expected a type of a {table}: {}, or a name of `sfdisk -T`, found `{found}`", types(*table))]
    ScriptType {
        /// The described table.
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
    /// A name that does not fit into a GPT.
    #[error("expected a name of at most 36 characters (in UTF-16), in UTF-8 and without NUL, found `{0}`")]
    Name(String),
    /// An unterminated quotation.
    #[error("expected a `\"` at the end of `{0}`")]
    Quote(String),
    /// A kind of table that is neither.
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
