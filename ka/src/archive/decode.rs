//! Reads entries from an archive.

use std::io::{BufRead, ErrorKind};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::entry::{Entry, Kind, Time};
use super::error::ArchiveError;
use super::pax::Attributes;
use super::sparse::{Map, TextMap};
use super::{BLOCK, MAX_NAME, MAX_PAX, MAX_SIZE, block, shown};

/// The read size for extended headers.
const PIECE: usize = 1 << 20;

/// Reads an archive entry by entry.
///
/// Whatever the input, it uses bounded memory and never panics. After an error it cannot be used any more.
#[derive(Debug)]
pub struct Decoder<R> {
    input: R,
    offset: u64,
    /// The values of the global pax headers so far.
    globals: Attributes,
    /// The path of the entry whose data is being read.
    name: Vec<u8>,
    /// The unread data bytes of the current entry, and the padding after them.
    remaining: u64,
    padding: u64,
    ended: bool,
}

impl<R: BufRead> Decoder<R> {
    /// An archive that begins at the current position of `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            offset: 0,
            globals: Attributes::default(),
            name: Vec::new(),
            remaining: 0,
            padding: 0,
            ended: false,
        }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next entry. Unread data of the last one is skipped. `None` is the end: the archive was complete,
    /// and only zeros followed it.
    ///
    /// # Errors
    /// [`ArchiveError`], depending on the stream.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        self.skip_rest()?;
        let mut extra = Extra::default();
        loop {
            let start = self.offset;
            let Some(header) = self.header()? else {
                if extra.any() {
                    return Err(malformed(start, "its end", "an extended header without an entry"));
                }
                self.drain()?;
                self.ended = true;
                return Ok(None);
            };
            match header.entry_type() {
                EntryType::XGlobalHeader => {
                    let records = self.payload(&header, start, MAX_NAME)?;
                    let wrong = |problem: String| malformed(start, "a global header", problem);
                    self.globals.apply(&records).map_err(wrong)?;
                    if self.globals.held() > MAX_NAME {
                        return Err(wrong("the global headers say more than a mebibyte".to_owned()));
                    }
                }
                EntryType::XHeader => extra.pax = Some(self.payload(&header, start, MAX_PAX)?),
                EntryType::GNULongName => {
                    extra.path = Some(block::text(&self.payload(&header, start, MAX_NAME)?));
                }
                EntryType::GNULongLink => {
                    extra.link = Some(block::text(&self.payload(&header, start, MAX_NAME)?));
                }
                // The label of a volume.
                other if other.as_byte() == b'V' => drop(self.payload(&header, start, MAX_NAME)?),
                _ => return self.entry(&header, extra, start).map(Some),
            }
        }
    }

    /// Reads data of the current entry; for a sparse file, its segments' data without the holes. 0 is the
    /// end.
    ///
    /// # Errors
    /// [`ArchiveError::Truncated`] or [`ArchiveError::Read`].
    pub fn read_data(&mut self, buf: &mut [u8]) -> Result<usize, ArchiveError> {
        let want = usize::try_from(self.remaining).map_or(buf.len(), |left| left.min(buf.len()));
        let Some(buf) = buf.get_mut(..want).filter(|b| !b.is_empty()) else { return Ok(0) };
        let got = self.read(buf)?;
        if got == 0 {
            return Err(self.truncated());
        }
        self.remaining -= got as u64;
        Ok(got)
    }

    /// The next header block; `None` at the two zero blocks that end an archive.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let start = self.offset;
        self.name.clear();
        let block = self.block()?;
        if block == [0; BLOCK] {
            return if self.block()? == [0; BLOCK] {
                Ok(None)
            } else {
                Err(malformed(start, "its end", "one zero block where an archive ends with two"))
            };
        }
        if !block::is_sound(&block) {
            return Err(malformed(start, "a header", "the checksum is wrong"));
        }
        Ok(Some(Header::from_byte_slice(&block).clone()))
    }

    /// The data of an extended header.
    fn payload(&mut self, header: &Header, start: u64, most: usize) -> Result<Vec<u8>, ArchiveError> {
        let wrong = |problem: String| malformed(start, "an extended header", problem);
        let size =
            block::unsigned(&header.as_old().size).ok_or_else(|| wrong("its size is not a number".into()))?;
        let size = usize::try_from(size)
            .ok()
            .filter(|&size| size <= most)
            .ok_or_else(|| wrong(format!("it is larger than {} MiB", most >> 20)))?;
        let padded = size.next_multiple_of(BLOCK);
        let mut payload = Vec::new();
        while payload.len() < padded {
            // Memory is used only for data that arrives, not for sizes that are announced.
            let have = payload.len();
            payload.resize(padded.min(have + PIECE), 0);
            self.read_exact(payload.get_mut(have..).unwrap_or_default())?;
        }
        payload.truncate(size);
        Ok(payload)
    }

    fn entry(&mut self, header: &Header, extra: Extra, start: u64) -> Result<Entry, ArchiveError> {
        let mut attributes = self.globals.clone();
        let given = extra.path.clone().unwrap_or_else(|| block::path(header));
        let at = |problem: String| malformed(start, &shown(&given), problem);
        attributes.apply(&extra.pax.unwrap_or_default()).map_err(at)?;
        let path = attributes.sparse.name.take().or(attributes.path.take()).unwrap_or(given);
        let at = |problem: String| malformed(start, &shown(&path), problem);
        if path.is_empty() || path.contains(&0) {
            return Err(at("its path is empty or has a NUL byte".to_owned()));
        }
        self.name.clone_from(&path);

        let old = header.as_old();
        let field = |value: Option<u64>, field: &[u8], what: &str| {
            value.or_else(|| block::unsigned(field)).ok_or_else(|| at(format!("its {what} is not a number")))
        };
        let id = |value, bytes: &[u8], what| {
            let id = field(value, bytes, what)?;
            let known = u32::try_from(id).ok().filter(|&id| id <= super::MAX_ID);
            known.ok_or_else(|| at(format!("its {what}, {id}, is not valid on Linux")))
        };
        let mode = field(None, &old.mode, "mode")? & 0o7777;
        let uid = id(attributes.uid, &old.uid, "owner")?;
        let gid = id(attributes.gid, &old.gid, "group")?;
        let mtime = match attributes.mtime {
            Some(time) => time,
            None => Time {
                sec: block::numeric(&old.mtime).ok_or_else(|| at("its time is not a number".to_owned()))?,
                nsec: 0,
            },
        };
        let xattrs = attributes.take_xattrs().map_err(at)?;
        let traits = attributes.take_traits();
        let partition = attributes.take_partition().map_err(at)?;
        let size = field(attributes.size, &old.size, "size")?;

        let link = attributes.link.take().or(extra.link).unwrap_or_else(|| block::text(&old.linkname));
        let kind = match header.entry_type() {
            // Version 7 tar marked directories only by a trailing slash.
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(header, &attributes, size, start)?
            }
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink | EntryType::Link if link.is_empty() || link.contains(&0) => {
                return Err(at("its link target is empty or has a NUL byte".to_owned()));
            }
            EntryType::Symlink => Kind::Symlink { target: link },
            EntryType::Link => Kind::HardLink { target: link },
            EntryType::Fifo => Kind::Fifo,
            device @ (EntryType::Char | EntryType::Block) => {
                let number = |n: std::io::Result<Option<u32>>| {
                    n.ok().flatten().ok_or_else(|| at("its device number is not a number".to_owned()))
                };
                let (major, minor) = (number(header.device_major())?, number(header.device_minor())?);
                match device {
                    EntryType::Char => Kind::CharDevice { major, minor },
                    _ => Kind::BlockDevice { major, minor },
                }
            }
            other => {
                let kind = shown(&[other.as_byte()]);
                return Err(at(format!("entries of type '{kind}' are not known")));
            }
        };
        let trimmed = path.iter().rposition(|&b| b != b'/').map_or(1, |last| last + 1);
        let path = path.get(..trimmed).unwrap_or_default().to_vec();
        let mode = u32::try_from(mode).unwrap_or_default();
        if partition.is_some() && !matches!(kind, Kind::File { .. }) {
            return Err(malformed(
                start,
                &shown(&path),
                "it claims to hold a partition, but is not a regular file",
            ));
        }
        Ok(Entry { path, kind, mode, uid, gid, mtime, xattrs, traits, partition })
    }

    /// A regular file: reads its map, if it is sparse, and finds how much data it has in the archive.
    fn file(
        &mut self,
        header: &Header,
        attributes: &Attributes,
        archived: u64,
        start: u64,
    ) -> Result<Kind, ArchiveError> {
        let name = shown(&self.name);
        let at = |problem: String| malformed(start, &name, problem);
        let sparse = &attributes.sparse;
        let mut data = archived;
        let (size, map) = if sparse.map_in_data().map_err(at)? {
            let (map, taken) = self.text_map(archived, start)?;
            data -= taken;
            let size = sparse.size.ok_or_else(|| at("it is sparse and has no size".to_owned()))?;
            (size, Some(map))
        } else if let Some(map) = sparse.map.clone() {
            let size = sparse.size.ok_or_else(|| at("it is sparse and has no size".to_owned()))?;
            (size, Some(map))
        } else if header.entry_type() == EntryType::GNUSparse {
            let (size, map) = self.gnu_map(header, start)?;
            (size, Some(map))
        } else {
            (archived, None)
        };
        if size > MAX_SIZE || archived > MAX_SIZE {
            return Err(at(format!("its size, {} bytes, is beyond any file's", size.max(archived))));
        }
        let segments = map.map(|map| map.check(size)).transpose().map_err(at)?;
        if let Some(segments) = &segments
            && segments.iter().map(|s| s.len).sum::<u64>() != data
        {
            return Err(at(format!("its sparse map does not fit {data} bytes of data")));
        }
        self.remaining = data;
        let block = BLOCK as u64;
        self.padding = (block - data % block) % block;
        Ok(Kind::File { size, segments })
    }

    /// The map of sparse format 1.0, and its size in bytes.
    fn text_map(&mut self, archived: u64, start: u64) -> Result<(Map, u64), ArchiveError> {
        let name = shown(&self.name);
        let mut map = TextMap::default();
        let mut taken = 0;
        loop {
            taken += BLOCK as u64;
            if taken > archived {
                return Err(malformed(start, &name, "its sparse map is longer than its data"));
            }
            let block = self.block()?;
            if map.block(&block).map_err(|p| malformed(start, &name, p))? {
                return Ok((map.finish(), taken));
            }
        }
    }

    /// The size and map of GNU's old sparse format: in the header, and in the blocks after it.
    fn gnu_map(&mut self, header: &Header, start: u64) -> Result<(u64, Map), ArchiveError> {
        let name = shown(&self.name);
        let at = |problem: &str| malformed(start, &name, problem);
        let gnu = header.as_gnu().ok_or_else(|| at("it is sparse in a header that is not GNU's"))?;
        let mut map = Map::default();
        let mut push = |fields: &[tar::GnuSparseHeader]| {
            for field in fields.iter().filter(|f| !f.is_empty()) {
                let pair = block::unsigned(&field.offset).zip(block::unsigned(&field.numbytes));
                let (offset, len) = pair.ok_or_else(|| at("its sparse map is damaged"))?;
                map.push(offset, len).map_err(|p| at(&p))?;
            }
            Ok(())
        };
        push(&gnu.sparse)?;
        let mut more = gnu.isextended != [0];
        while more {
            let mut extension = GnuExtSparseHeader::new();
            *extension.as_mut_bytes() = self.block()?;
            push(extension.sparse())?;
            more = extension.isextended != [0];
        }
        let size = block::unsigned(&gnu.realsize).ok_or_else(|| at("its size is not a number"))?;
        Ok((size, map))
    }

    fn skip_rest(&mut self) -> Result<(), ArchiveError> {
        let mut left = self.remaining.saturating_add(self.padding);
        while left > 0 {
            let got = self.fill()?.len();
            if got == 0 {
                return Err(self.truncated());
            }
            let step = usize::try_from(left).map_or(got, |left| left.min(got));
            self.consume(step);
            left -= step as u64;
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    /// Reads everything after the archive, so that the writer of the stream is not left blocked.
    fn drain(&mut self) -> Result<(), ArchiveError> {
        loop {
            let rest = self.fill()?;
            if rest.is_empty() {
                return Ok(());
            }
            let (len, stray) = (rest.len(), rest.iter().position(|&b| b != 0));
            if let Some(stray) = stray {
                return Err(ArchiveError::Trailing { offset: self.offset + stray as u64 });
            }
            self.consume(len);
        }
    }

    fn block(&mut self) -> Result<[u8; BLOCK], ArchiveError> {
        let mut block = [0; BLOCK];
        self.read_exact(&mut block)?;
        Ok(block)
    }

    fn read_exact(&mut self, mut buf: &mut [u8]) -> Result<(), ArchiveError> {
        while !buf.is_empty() {
            let got = self.read(buf)?;
            if got == 0 {
                return Err(self.truncated());
            }
            buf = buf.get_mut(got..).unwrap_or_default();
        }
        Ok(())
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            match self.input.read(buf) {
                Ok(got) => {
                    self.offset += got as u64;
                    return Ok(got);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(ArchiveError::Read { offset: self.offset, source }),
            }
        }
    }

    fn fill(&mut self) -> Result<&[u8], ArchiveError> {
        let failed = |source| ArchiveError::Read { offset: self.offset, source };
        // Returns the peeked bytes on the second read.
        while let Err(error) = self.input.fill_buf() {
            if error.kind() != ErrorKind::Interrupted {
                return Err(failed(error));
            }
        }
        self.input.fill_buf().map_err(failed)
    }

    fn consume(&mut self, len: usize) {
        self.input.consume(len);
        self.offset += len as u64;
    }

    fn truncated(&self) -> ArchiveError {
        let inside = if self.name.is_empty() { "a header".to_owned() } else { shown(&self.name) };
        ArchiveError::Truncated { offset: self.offset, inside }
    }
}

/// What precedes an entry's own header.
#[derive(Default)]
struct Extra {
    pax: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Extra {
    fn any(&self) -> bool {
        self.pax.is_some() || self.path.is_some() || self.link.is_some()
    }
}

fn malformed(offset: u64, entry: &str, problem: impl Into<String>) -> ArchiveError {
    ArchiveError::Malformed { offset, entry: entry.to_owned(), problem: problem.into() }
}
