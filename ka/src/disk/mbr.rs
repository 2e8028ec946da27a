//! The master boot record: the first sector of a disk, with boot code and a table of four partitions.
//!
//! Bytes of the sector, whatever the sector's size: 0–439 boot code, 440–443 the disk's signature,
//! 446–509 four entries of 16 bytes, 510 and 511 `55 aa`. All numbers are little-endian. An entry is:
//! 0 the active flag (`80` or `00`), 1–3 the first sector as cylinder, head and sector, 4 the type, 5–7
//! the last sector likewise, 8–11 the first sector's number, 12–15 the number of sectors.

pub use super::description::DiskSignature;
pub use super::kind::PROTECTIVE;
use super::kind::PartitionKind;
use super::layout::{Layout, Placed};
use super::short_form::SWAP;
use super::units::{Lba, SectorCount};
use std::fmt;

/// Bytes that an MBR takes at the start of the disk.
pub const SIZE: usize = 512;
/// Bytes of boot code before the disk's signature.
pub const BOOT_CODE: usize = 440;

const SIGNATURE_AT: usize = 440;
const TABLE_AT: usize = 446;
const ENTRY: usize = 16;
const MAGIC_AT: usize = 510;
const MAGIC: [u8; 2] = [0x55, 0xaa];
const ACTIVE: u8 = 0x80;

/// The contents of an MBR.
#[derive(Clone, PartialEq, Eq)]
pub struct Mbr {
    /// The code that a BIOS runs; zeros if there is none.
    pub boot_code: [u8; BOOT_CODE],
    /// The disk's signature; PARTUUIDs begin with it.
    pub signature: DiskSignature,
    /// The entries: partition 1 is the first.
    pub entries: [Option<Entry>; 4],
}

/// One partition of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The common BIOS boot code starts the active partition.
    pub active: bool,
    /// The type in the MBR's list.
    pub kind: u8,
    /// The first sector, in 32 bits on disk.
    pub start: Lba,
    /// The number of sectors, in 32 bits on disk.
    pub size: SectorCount,
}

/// Why a sector is not an MBR, or an MBR cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MbrError {
    /// Fewer than 512 bytes.
    #[error("expected {SIZE} bytes, found {0}")]
    Short(usize),
    /// No `55 aa` at the end.
    #[error("no partition table: expected 55 aa in bytes 510 and 511, found {:02x} {:02x}", .0[0], .0[1])]
    NoMagic([u8; 2]),
    /// An invalid active flag: most probably the boot sector of a file system.
    #[error("no partition table: entry {entry} begins with {flag:02x}, expected 00 or 80")]
    NoTable {
        /// The entry, from 1.
        entry: u32,
        /// The flag's value.
        flag: u8,
    },
    /// A partition beyond the reach of 32 bits.
    #[error("partition {entry} begins at sector {} and has {} sectors: more than an MBR can address", .start.0, .size.0)]
    TooFar {
        /// The entry, from 1.
        entry: u32,
        /// The first sector.
        start: Lba,
        /// The number of sectors.
        size: SectorCount,
    },
}

impl Mbr {
    /// A table for a layout, without boot code and active flag.
    ///
    /// Logical partitions are in tables of their own.
    #[must_use]
    pub fn of(layout: &Layout, signature: DiskSignature) -> Self {
        let entry = |number| layout.partition(number).map(Entry::from);
        Self { boot_code: [0; BOOT_CODE], signature, entries: [entry(1), entry(2), entry(3), entry(4)] }
    }

    /// The bytes to write at the start of the disk.
    ///
    /// # Errors
    /// A partition begins or ends beyond the reach of 32 bits.
    pub fn encode(&self) -> Result<[u8; SIZE], MbrError> {
        self.encode_from([Lba(0); 4])
    }

    /// The bytes of a table whose entries are counted from another sector than the start of the disk.
    /// Cylinder, head and sector are still the disk's.
    pub(super) fn encode_from(&self, origins: [Lba; 4]) -> Result<[u8; SIZE], MbrError> {
        let mut bytes = [0; SIZE];
        bytes[..BOOT_CODE].copy_from_slice(&self.boot_code);
        bytes[SIGNATURE_AT..SIGNATURE_AT + 4].copy_from_slice(&self.signature.0.to_le_bytes());
        let places = bytes[TABLE_AT..MAGIC_AT].chunks_exact_mut(ENTRY);
        for (((number, entry), origin), place) in (1..).zip(&self.entries).zip(origins).zip(places) {
            if let Some(entry) = entry {
                place.copy_from_slice(&entry.encode(number, origin)?);
            }
        }
        bytes[MAGIC_AT..].copy_from_slice(&MAGIC);
        Ok(bytes)
    }

    /// Parses the first 512 bytes of a disk.
    ///
    /// # Errors
    /// The bytes are not an MBR.
    pub fn decode(sector: &[u8]) -> Result<Self, MbrError> {
        let bytes = sector.first_chunk::<SIZE>().ok_or(MbrError::Short(sector.len()))?;
        let (_, magic) = bytes.split_at(MAGIC_AT);
        if magic != MAGIC {
            return Err(MbrError::NoMagic([bytes[MAGIC_AT], bytes[MAGIC_AT + 1]]));
        }
        let mut boot_code = [0; BOOT_CODE];
        boot_code.copy_from_slice(&bytes[..BOOT_CODE]);
        let mut entries = [None; 4];
        let places = bytes[TABLE_AT..MAGIC_AT].chunks_exact(ENTRY);
        for ((number, entry), place) in (1..).zip(&mut entries).zip(places) {
            *entry = Entry::decode(number, place)?;
        }
        Ok(Self { boot_code, signature: DiskSignature(le32(bytes, SIGNATURE_AT)), entries })
    }

    /// The partition with this number, 1 to 4.
    #[must_use]
    pub fn entry(&self, number: u32) -> Option<&Entry> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.entries.get(index)?.as_ref()
    }

    /// Whether the table only announces a GPT.
    #[must_use]
    pub fn is_protective(&self) -> bool {
        self.entries.iter().flatten().any(|e| e.kind == PROTECTIVE)
    }
}

impl Entry {
    /// The first sector behind the partition.
    #[must_use]
    pub fn end(&self) -> Lba {
        Lba(self.start.0.saturating_add(self.size.0))
    }

    /// Whether the partition contains logical ones.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    /// Whether the partition has the swap type.
    #[must_use]
    pub fn is_swap(&self) -> bool {
        self.kind == SWAP
    }

    fn encode(&self, number: u32, origin: Lba) -> Result<[u8; ENTRY], MbrError> {
        let too_far = || MbrError::TooFar { entry: number, start: self.start, size: self.size };
        let start = u32::try_from(self.start.0).map_err(|_| too_far())?;
        let size = u32::try_from(self.size.0).map_err(|_| too_far())?;
        let absolute = |sector: u64| u32::try_from(origin.0.saturating_add(sector)).map_err(|_| too_far());
        let first = absolute(self.start.0)?;
        let last = absolute(self.end().0.saturating_sub(1).max(self.start.0))?;
        let mut bytes = [0; ENTRY];
        bytes[0] = if self.active { ACTIVE } else { 0 };
        bytes[1..4].copy_from_slice(&chs(first));
        bytes[4] = self.kind;
        bytes[5..8].copy_from_slice(&chs(last));
        bytes[8..12].copy_from_slice(&start.to_le_bytes());
        bytes[12..].copy_from_slice(&size.to_le_bytes());
        Ok(bytes)
    }

    /// Parses an entry of the table. One with type or size 0 is unused.
    fn decode(number: u32, bytes: &[u8]) -> Result<Option<Self>, MbrError> {
        let flag = bytes[0];
        if flag & !ACTIVE != 0 {
            return Err(MbrError::NoTable { entry: number, flag });
        }
        let (kind, start, size) = (bytes[4], le32(bytes, 8), le32(bytes, 12));
        let used = kind != 0 && size != 0;
        Ok(used.then_some(Self {
            active: flag == ACTIVE,
            kind,
            start: Lba(start.into()),
            size: SectorCount(size.into()),
        }))
    }
}

impl From<&Placed> for Entry {
    fn from(placed: &Placed) -> Self {
        let kind = if let PartitionKind::Mbr(kind) = placed.kind { kind } else { PROTECTIVE };
        Self { active: false, kind, start: placed.start, size: placed.size }
    }
}

/// Sets the active flag of one partition in the bytes of an MBR and clears the others. The boot code, which a
/// boot loader may have written since, stays as it is.
///
/// # Errors
/// The bytes are not an MBR, or the partition does not exist.
pub fn set_active(sector: &mut [u8; SIZE], number: u32) -> Result<(), SetActiveError> {
    let table = Mbr::decode(sector)?;
    table.entry(number).ok_or(SetActiveError::NoPartition(number))?;
    for (n, place) in (1..).zip(sector[TABLE_AT..MAGIC_AT].chunks_exact_mut(ENTRY)) {
        place[0] = if n == number { ACTIVE } else { 0 };
    }
    Ok(())
}

/// Why a partition cannot be made active.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetActiveError {
    /// There is no table.
    #[error(transparent)]
    Mbr(#[from] MbrError),
    /// The partition does not exist.
    #[error("the table has no partition {0}")]
    NoPartition(u32),
}

impl fmt::Debug for Mbr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbr")
            .field("has_boot_code", &self.boot_code.iter().any(|b| *b != 0))
            .field("signature", &format_args!("{:08x}", self.signature.0))
            .field("entries", &self.entries)
            .finish()
    }
}

/// A sector as cylinder, head and sector of a disk with 255 heads and 63 sectors per track, as is customary;
/// the maximum values if the sector is out of their range.
fn chs(sector: u32) -> [u8; 3] {
    const HEADS: u32 = 255;
    const SECTORS: u32 = 63;
    let cylinder = sector / (HEADS * SECTORS);
    let Ok(cylinder) = u16::try_from(cylinder).map(u16::to_le_bytes) else { return CHS_BEYOND };
    if cylinder[1] > 3 {
        return CHS_BEYOND;
    }
    let head = sector / SECTORS % HEADS;
    let in_track = sector % SECTORS + 1;
    match (u8::try_from(head), u8::try_from(in_track)) {
        (Ok(head), Ok(in_track)) => [head, in_track | cylinder[1] << 6, cylinder[0]],
        _ => CHS_BEYOND,
    }
}

/// Head 254, sector 63, cylinder 1023.
const CHS_BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];

/// The number at an offset that the callers keep within `bytes`.
fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}
