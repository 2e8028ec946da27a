//! Writes entries to an archive.

use std::io::Write;

use super::entry::{Entry, Kind, RawPartition, Time};
use super::error::ArchiveError;
use super::output::Output;
use super::{BLOCK, MAX_PAX, block, pax, shown, sparse};

/// Writes a pax archive. Exactly the announced data must follow each entry; the encoder pads it.
///
/// The same entries and data give the same bytes. It writes in small pieces, so `out` should be buffered.
#[derive(Debug)]
pub struct Encoder<W> {
    out: W,
    offset: u64,
    /// The name of the entry whose data is being written.
    name: Vec<u8>,
    /// Data bytes that the entry still needs.
    owed: u64,
    /// Padding bytes after its data.
    padding: usize,
    /// The entry's pax records; kept to reuse the memory.
    records: Vec<u8>,
}

impl<W: Write> Encoder<W> {
    /// An archive that begins at the current position of `out`.
    pub fn new(out: W) -> Self {
        Self { out, offset: 0, name: Vec::new(), owed: 0, padding: 0, records: Vec::new() }
    }

    /// Bytes written so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Writes an entry's headers, with the map of a sparse file.
    ///
    /// # Errors
    /// [`ArchiveError::Unfit`] if the entry's names or attributes cannot be represented, or if data of the
    /// previous entry is missing; [`ArchiveError::Write`].
    pub fn entry(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        self.close_entry()?;
        let unfit = |problem: String| ArchiveError::Unfit { entry: shown(&entry.path), problem };
        let map = check(entry).map_err(unfit)?;
        let data = entry.data_len();
        let size = data + map.len() as u64;

        let mut path = entry.path.clone();
        if entry.kind == Kind::Directory {
            path.push(b'/');
        }
        self.records.clear();
        collect(&mut self.records, entry, &path, size);
        if self.records.len() > MAX_PAX {
            return Err(unfit(format!("its names and attributes take more than {MAX_PAX} bytes")));
        }
        if !self.records.is_empty() {
            let name = block::stand_in("PaxHeaders", &entry.path);
            let header = block::of_pax(&name, self.records.len() as u64);
            let records = std::mem::take(&mut self.records);
            self.write(header.as_bytes())?;
            self.write(&records)?;
            self.zeros(padding(records.len() as u64))?;
            self.records = records;
        }
        if !map.is_empty() {
            path = block::stand_in("GNUSparseFile.0", &entry.path);
        }
        self.write(block::of_entry(entry, &path, size).as_bytes())?;
        self.write(&map)?;
        self.name.clone_from(&entry.path);
        self.owed = data;
        self.padding = padding(data);
        Ok(())
    }

    /// Writes data of the current entry.
    ///
    /// # Errors
    /// [`ArchiveError::Unfit`] for more data than announced; [`ArchiveError::Write`].
    pub fn data(&mut self, data: &[u8]) -> Result<(), ArchiveError> {
        let length = data.len() as u64;
        let owed = self.owed.checked_sub(length).ok_or_else(|| self.too_much(length))?;
        self.write(data)?;
        self.owed = owed;
        Ok(())
    }

    /// Where the next data of the last entry may be read to, no more than it still owes; then call
    /// [`Self::fill`].
    pub fn room(&mut self) -> &mut [u8]
    where
        W: Output,
    {
        let owed = usize::try_from(self.owed).unwrap_or(usize::MAX);
        let room = self.out.room();
        let length = room.len().min(owed);
        room.get_mut(..length).unwrap_or_default()
    }

    /// So many bytes of the room are data of the last entry.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub fn fill(&mut self, count: usize) -> Result<(), ArchiveError>
    where
        W: Output,
    {
        self.owed = self.owed.checked_sub(count as u64).ok_or_else(|| self.too_much(count as u64))?;
        self.out.fill(count).map_err(|source| ArchiveError::Write { offset: self.offset, source })?;
        self.offset += count as u64;
        Ok(())
    }

    fn too_much(&self, count: u64) -> ArchiveError {
        let problem = format!("{} bytes of data more than it announced", count - self.owed);
        ArchiveError::Unfit { entry: shown(&self.name), problem }
    }

    /// Ends the archive and flushes the output.
    ///
    /// # Errors
    /// [`ArchiveError::Unfit`] if data of the last entry is missing; [`ArchiveError::Write`].
    pub fn finish(&mut self) -> Result<(), ArchiveError> {
        self.close_entry()?;
        self.zeros(2 * BLOCK)?;
        self.out.flush().map_err(|source| ArchiveError::Write { offset: self.offset, source })
    }

    fn close_entry(&mut self) -> Result<(), ArchiveError> {
        if self.owed > 0 {
            let problem = format!("{} bytes of its data are missing", self.owed);
            return Err(ArchiveError::Unfit { entry: shown(&self.name), problem });
        }
        let padding = std::mem::take(&mut self.padding);
        self.zeros(padding)
    }

    fn zeros(&mut self, len: usize) -> Result<(), ArchiveError> {
        let zeros = [0; 2 * BLOCK];
        self.write(zeros.get(..len).unwrap_or(&zeros))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.out.write_all(bytes).map_err(|source| ArchiveError::Write { offset: self.offset, source })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// The padding of `len` bytes to whole blocks.
fn padding(len: u64) -> usize {
    let block = BLOCK as u64;
    usize::try_from((block - len % block) % block).unwrap_or(0)
}

/// Checks that the entry can be archived, and returns a sparse file's map as bytes.
fn check(entry: &Entry) -> Result<Vec<u8>, String> {
    let whole = |what: &str, bytes: &[u8]| match bytes {
        [] => Err(format!("its {what} is empty")),
        _ if bytes.contains(&0) => Err(format!("its {what} has a NUL byte")),
        _ => Ok(()),
    };
    whole("path", &entry.path)?;
    if entry.path.ends_with(b"/") {
        return Err("its path ends with a slash".to_owned());
    }
    if entry.mtime.nsec >= 1_000_000_000 {
        return Err("its time has a second or more of nanoseconds".to_owned());
    }
    if entry.uid.max(entry.gid) > super::MAX_ID {
        return Err("its owner or group number is not valid".to_owned());
    }
    for xattr in &entry.xattrs {
        whole("attribute's name", &xattr.name)?;
    }
    if let Some(partition) = &entry.partition {
        if !RawPartition::is_name(partition.name.as_bytes()) {
            return Err(format!("'{}' is not a partition's name", partition.name));
        }
        if !matches!(entry.kind, Kind::File { .. }) {
            return Err("a partition travels as a regular file".to_owned());
        }
    }
    match &entry.kind {
        Kind::Symlink { target } | Kind::HardLink { target } => {
            whole("link target", target).map(|()| Vec::new())
        }
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor }
            if u64::from(*major.max(minor)) > block::MAX_ID =>
        {
            Err(format!("its device number {major}:{minor} is too large"))
        }
        Kind::File { size, segments } => {
            sparse::check(*size, segments.as_deref().unwrap_or_default())?;
            Ok(segments.as_ref().map(|s| sparse::to_text(*size, s)).unwrap_or_default())
        }
        _ => Ok(Vec::new()),
    }
}

/// The pax records of `entry`: everything that its ustar header cannot hold.
fn collect(records: &mut Vec<u8>, entry: &Entry, path: &[u8], size: u64) {
    let number = |records: &mut Vec<u8>, keyword: &str, n: u64, max: u64| {
        if n > max {
            pax::push(records, keyword.as_bytes(), n.to_string().as_bytes());
        }
    };
    if let Kind::File { size, segments: Some(_) } = &entry.kind {
        pax::push(records, b"GNU.sparse.major", b"1");
        pax::push(records, b"GNU.sparse.minor", b"0");
        pax::push(records, b"GNU.sparse.name", path);
        pax::push(records, b"GNU.sparse.realsize", size.to_string().as_bytes());
    } else if path.len() > block::NAME {
        pax::push(records, b"path", path);
    }
    if let Kind::Symlink { target } | Kind::HardLink { target } = &entry.kind
        && target.len() > block::NAME
    {
        pax::push(records, b"linkpath", target);
    }
    number(records, "size", size, block::MAX_LONG);
    number(records, "uid", entry.uid.into(), block::MAX_ID);
    number(records, "gid", entry.gid.into(), block::MAX_ID);
    let Time { sec, nsec } = entry.mtime;
    if nsec != 0 || u64::try_from(sec).map_or(true, |sec| sec > block::MAX_LONG) {
        pax::push(records, b"mtime", pax::time_text(entry.mtime).as_bytes());
    }
    if let Some(RawPartition { name, holes }) = &entry.partition {
        pax::push(records, pax::PARTITION, name.as_bytes());
        pax::push(records, pax::HOLES, holes.name().as_bytes());
    }
    pax::push_traits(records, &entry.traits);
    pax::push_xattrs(records, &entry.xattrs);
}
