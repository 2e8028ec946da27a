//! A partition table of either kind on a disk: reads it, and prepares the bytes of a new one.

use std::io::{Read, Seek};

use super::description::DiskId;
use super::layout::Layout;
use super::mbr::{self, Mbr};
use super::table::{EncodeError, Table, TableError, Write, read_at};
use super::units::DiskSize;
use super::{ebr, gpt};

impl Table {
    /// Reads the table of a disk.
    ///
    /// # Errors
    /// There is no readable table.
    pub fn read<R: Read + Seek>(reader: &mut R, disk: DiskSize) -> Result<Self, TableError> {
        let first = read_at(reader, 0, mbr::SIZE)?;
        let mbr = Mbr::decode(&first).map_err(TableError::None)?;
        let mut table =
            if mbr.is_protective() { gpt::read(reader, disk, &mbr)? } else { ebr::read(reader, disk, &mbr)? };
        table.partitions.sort_by_key(|p| p.number);
        table.check_places();
        Ok(table)
    }
}

impl Layout {
    /// The writes for this table, in order: the first sector is the last. There is no boot code and no active
    /// flag; they are written when the node is finished ([`mbr::set_active`]).
    ///
    /// # Errors
    /// A partition overlaps another, or is beyond the table's range.
    pub fn writes(&self) -> Result<Vec<Write>, EncodeError> {
        match self.id {
            DiskId::Mbr(signature) => {
                let mut writes = ebr::encode(self)?;
                let bytes = Mbr::of(self, signature).encode()?.to_vec();
                writes.push(Write { offset: 0, bytes });
                Ok(writes)
            }
            DiskId::Gpt(guid) => gpt::encode(self, guid),
        }
    }
}
