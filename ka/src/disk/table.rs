//! Reads and writes the partition table of a disk, of either kind.
//!
//! Reading is lenient: it returns what a damaged table still says, with its findings, and the caller decides.
//! Tables are written in an order that makes the first sector the last: before that, the disk has no table.

use super::description::{Description, DiskId, Entry, Header, Length, Role, Size};
use super::kind::{PartitionKind, TableKind};
use super::layout::{self, Placed};
use super::mbr::{self, MbrError};
use super::problem::Problem;
use super::units::{DiskSize, Lba, SectorSize};
use std::io::{self, Read, Seek};

/// A partition table that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The disk that it is on.
    pub disk: DiskSize,
    /// Its identifier, which also determines the kind of table.
    pub id: DiskId,
    /// The number of GPT entries.
    pub length: u32,
    /// The partitions by number.
    pub partitions: Vec<Placed>,
    /// What is wrong or unusual.
    pub findings: Vec<Finding>,
}

/// Something wrong or unusual about a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The GPT's primary copy is invalid; this is the backup.
    #[error("the primary GPT is damaged ({0}); its backup at the disk's end was read")]
    PrimaryDamaged(String),
    /// The GPT's backup copy is invalid.
    #[error("the backup GPT at the disk's end is damaged ({0})")]
    BackupDamaged(String),
    /// Both copies are valid but differ.
    #[error("the primary and the backup GPT differ; the primary was read")]
    CopiesDiffer,
    /// The disk had another size when it was partitioned.
    #[error("the GPT was made for a disk of {made} sectors, and this one has {found}")]
    OtherSize {
        /// The sectors of the disk for which the table was made.
        made: u64,
        /// The sectors of this disk.
        found: u64,
    },
    /// The MBR of a GPT has partitions of its own, for systems without GPT support.
    #[error(
        "hybrid: the MBR before the GPT has entries of its own, of the types {}, which are not copied: the clones get \
         a protective MBR",
        list(.0)
    )]
    Hybrid(Vec<PartitionKind>),
    /// The protective entry is marked active.
    #[error("the protective MBR is marked active (pmbr_boot), as some BIOSes want it")]
    ProtectiveActive,
    /// A GPT that is ignored, because the MBR does not announce it.
    #[error("there is a GPT, but the MBR does not announce it, and counts alone")]
    StaleGpt,
    /// Two partitions overlap.
    #[error("partitions {0} and {1} overlap")]
    Overlap(u32, u32),
    /// A partition is outside the disk, or outside its usable area.
    #[error("partition {0} ends beyond the end of the disk")]
    BeyondDisk(u32),
    /// A GPT partition that ends before it begins. It is skipped.
    #[error("partition {0} ends before it begins")]
    Backwards(u32),
    /// A logical partition is outside the extended one.
    #[error("logical partition {0} is outside the extended one")]
    OutsideExtended(u32),
    /// A second extended partition. Linux would number its logical ones after those of the first.
    #[error("there is a second extended partition, {0}; its logical partitions were not read")]
    SecondExtended(u32),
    /// The chain of tables in an extended partition is a loop.
    #[error("the chain of logical partitions leads back to sector {at}: it was followed up to partition {last}",
        at = .at.0)]
    EbrLoop {
        /// Where the loop closes.
        at: Lba,
        /// The last partition before the loop closes; 4 if there was none.
        last: u32,
    },
    /// The chain leads to a sector without a table.
    #[error("the chain of logical partitions ends at sector {at}: {reason}", at = .at.0)]
    EbrBroken {
        /// The sector.
        at: Lba,
        /// What the sector contains.
        reason: String,
    },
    /// More logical partitions than the kernel supports.
    #[error("there are more than {0} logical partitions: the others were not read")]
    TooManyLogicals(u32),
}

fn list(kinds: &[PartitionKind]) -> String {
    kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Finding {
    /// Whether partitions may be missing or wrong, so that the table should not be copied.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::PrimaryDamaged(_)
            | Self::BackupDamaged(_)
            | Self::OtherSize { .. }
            | Self::Hybrid(_)
            | Self::ProtectiveActive
            | Self::StaleGpt => false,
            Self::CopiesDiffer
            | Self::Overlap(..)
            | Self::BeyondDisk(_)
            | Self::Backwards(_)
            | Self::OutsideExtended(_)
            | Self::SecondExtended(_)
            | Self::EbrLoop { .. }
            | Self::EbrBroken { .. }
            | Self::TooManyLogicals(_) => true,
        }
    }
}

/// Why a disk has no readable table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The disk cannot be read.
    #[error("cannot read the partition table: {0}")]
    Io(io::Error),
    /// Neither an MBR nor a GPT: most probably an empty disk, or a file system on the whole disk.
    #[error(transparent)]
    None(MbrError),
    /// The MBR announces a GPT, and neither copy is valid.
    #[error("the MBR announces a GPT, but neither copy is valid: primary: {primary}; backup: {backup}")]
    Gpt {
        /// What is wrong with the primary copy.
        primary: String,
        /// What is wrong with the backup copy.
        backup: String,
    },
}

impl From<io::Error> for TableError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Bytes to write at an offset of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// From the start of the disk.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Table {
    /// The kind of table.
    #[must_use]
    pub fn kind(&self) -> TableKind {
        self.id.table()
    }

    /// The partition with this number.
    #[must_use]
    pub fn partition(&self, number: u32) -> Option<&Placed> {
        layout::numbered(&self.partitions, number)
    }

    /// The description of this table, with starts and identifiers, as `sfdisk -d` would write it.
    ///
    /// # Errors
    /// The table is empty, or cannot be described.
    pub fn describe(&self) -> Result<Description, Problem> {
        let mut header = Header::new(self.kind());
        header.id = Some(self.id);
        header.sector = Some(self.disk.sector);
        if self.kind() == TableKind::Gpt {
            header.length = Some(self.length);
        }
        let entries = (1..).zip(&self.partitions).map(|(line, placed)| Entry {
            number: placed.number,
            kind: placed.kind,
            role: placed.role,
            start: Some(Length::Sectors(placed.start.0)),
            size: Size::Fixed(Length::Sectors(placed.size.0)),
            name: placed.name.clone(),
            uuid: placed.uuid,
            attributes: placed.attributes,
            bootable: placed.bootable,
            line,
        });
        Description::new(header, entries.collect())
    }

    /// Finds partitions that overlap, or end beyond the end of the disk.
    pub(super) fn check_places(&mut self) {
        let mut findings = Vec::new();
        for (i, one) in self.partitions.iter().enumerate() {
            if one.end().0 > self.disk.sectors.0 {
                findings.push(Finding::BeyondDisk(one.number));
            }
            let is_logical = one.role == Role::Logical;
            let others = self.partitions.iter().take(i).filter(|o| (o.role == Role::Logical) == is_logical);
            let overlapping = others.filter(|o| one.start.0 < o.end().0 && o.start.0 < one.end().0);
            findings.extend(overlapping.map(|o| Finding::Overlap(o.number, one.number)));
        }
        self.findings.extend(findings);
    }
}

/// Why a table cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// As an MBR.
    #[error(transparent)]
    Mbr(#[from] MbrError),
    /// As a GPT.
    #[error("the GPT cannot be written: {0}")]
    Gpt(gptman::Error),
    /// The disk is too small for a GPT.
    #[error("the disk has {0} sectors, too few for a GPT")]
    TooFewSectors(u64),
}

impl From<gptman::Error> for EncodeError {
    fn from(error: gptman::Error) -> Self {
        Self::Gpt(error)
    }
}

/// Up to this many bytes from an offset; fewer at the end of the disk.
pub(super) fn read_at<R: Read + Seek>(reader: &mut R, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.seek(io::SeekFrom::Start(offset))?;
    reader.by_ref().take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The offset of a sector, if it is on the disk.
pub(super) fn offset(at: Lba, disk: DiskSize) -> Option<u64> {
    (at.0 < disk.sectors.0).then(|| at.bytes(disk.sector))
}

/// Pads with zeros to a whole sector.
pub(super) fn padded(mut bytes: Vec<u8>, sector: SectorSize) -> Vec<u8> {
    let size = usize::try_from(sector.bytes()).unwrap_or(mbr::SIZE);
    bytes.resize(bytes.len().next_multiple_of(size), 0);
    bytes
}
