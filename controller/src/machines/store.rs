//! The files of all machines.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ka::mac::Mac;
use ka_host::atomic::{self, FileError};
use ka_host::guarded;

use super::record::{Record, VERSION};

/// The maximum number of machines that are remembered. A host with the boot image can claim any address, and
/// must not fill the disk. Nor may it keep a new machine from being recorded, and so from being pinned to its TPM:
/// machines that only appeared make room.
pub const MAX_MACHINES: usize = 16_384;
/// The maximum size of a file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The directory of machines.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    most: usize,
}

/// Why a machine's file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system's error.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not such a record.
    #[error("{} is not a machine's file: remove it, and the machine is recorded again when it joins: \
        {error}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem.
        error: serde_json::Error,
    },
    /// A later version of ka has written it.
    #[error("{} has version {version}, and this kactl knows {VERSION}: it is left unchanged", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// There are too many machines.
    #[error("{} has {MAX_MACHINES} machines that took part in runs: remove the files of those that are gone", .0.display())]
    Full(PathBuf),
}

impl Store {
    /// The store below the directory of ka's state.
    #[must_use]
    pub fn of(state: &Path) -> Self {
        Self { directory: state.join("machines"), most: MAX_MACHINES }
    }

    fn path(&self, mac: Mac) -> PathBuf {
        self.directory.join(format!("{}.json", mac.to_string().replace(':', "-")))
    }

    /// The record of a machine; `None` if it is unknown.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get(&self, mac: Mac) -> Result<Option<Record>, StoreError> {
        read(&self.path(mac))
    }

    /// All machines, sorted by name and hardware address. Unreadable files are logged.
    ///
    /// # Errors
    /// [`StoreError`] for the directory.
    pub fn all(&self) -> Result<Vec<Record>, StoreError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            outcome => outcome.map_err(FileError::new("list", &self.directory))?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.map_err(FileError::new("list", &self.directory))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(record) => records.extend(record),
                Err(error) => log::warn!("{:#}", anyhow::Error::from(error)),
            }
        }
        records.sort_by(|a, b| (&a.name, a.mac).cmp(&(&b.name, b.mac)));
        Ok(records)
    }

    /// Changes a machine's record; an unreadable file is replaced.
    ///
    /// # Errors
    /// [`StoreError`]; the record is unchanged then.
    pub fn change(&self, mac: Mac, now: u64, change: impl FnOnce(&mut Record)) -> Result<(), StoreError> {
        guarded::directory(&self.directory, 0o700)?;
        let path = self.path(mac);
        let (mut record, known) = match read(&path) {
            Ok(Some(record)) => (record, true),
            Ok(None) => {
                self.make_room()?;
                (Record::new(mac, now), false)
            }
            Err(error @ StoreError::Content { .. }) => {
                log::warn!("{error}");
                (Record::new(mac, now), false)
            }
            Err(error) => return Err(error),
        };
        if record.version > VERSION {
            return Err(StoreError::Newer { path, version: record.version });
        }
        let before = record.clone();
        change(&mut record);
        if known && record == before {
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(&record)
            .map_err(|error| StoreError::Content { path: path.clone(), error })?;
        text.push(b'\n');
        Ok(atomic::write(&path, &text, 0o600)?)
    }

    /// Makes room for one more machine: of those that never took part in a run, the one that was not seen for longest is
    /// forgotten.
    fn make_room(&self) -> Result<(), StoreError> {
        let list = FileError::new("list", &self.directory);
        let entries: Vec<_> = fs::read_dir(&self.directory).and_then(Iterator::collect).map_err(list)?;
        if entries.len() < self.most {
            return Ok(());
        }
        let changed = |entry: &fs::DirEntry| entry.metadata().and_then(|is| is.modified()).ok();
        let mut files: Vec<_> = entries.iter().map(|entry| (changed(entry), entry.path())).collect();
        files.sort();
        let stranger = files
            .iter()
            .map(|(_, path)| path)
            .find(|path| read(path).is_ok_and(|record| record.is_some_and(|record| !record.took_part())));
        let path = stranger.ok_or_else(|| StoreError::Full(self.directory.clone()))?;
        log::debug!("{} makes room for another machine", path.display());
        Ok(fs::remove_file(path).map_err(FileError::new("remove", path))?)
    }
}

fn read(path: &Path) -> Result<Option<Record>, StoreError> {
    let text = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(is) if is.len() > MAX_FILE => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
        _ => fs::read(path),
    };
    let text = text.map_err(FileError::new("read", path))?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| StoreError::Content { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::record::{LastRun, RunOutcome};
    use std::os::unix::fs::PermissionsExt;

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn what_is_changed_is_there_for_root_alone() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::of(state.path());
        assert_eq!((store.get(mac(1)).unwrap(), store.all().unwrap()), (None, Vec::new()));
        store.change(mac(1), 5, |record| record.name = "b".into()).unwrap();
        store.change(mac(2), 5, |record| record.name = "a".into()).unwrap();
        store.change(mac(1), 6, |record| record.last_seen = 6).unwrap();
        let record = store.get(mac(1)).unwrap().unwrap();
        assert_eq!((record.name.as_str(), record.first_seen, record.last_seen), ("b", 5, 6));
        let names: Vec<_> = store.all().unwrap().into_iter().map(|record| record.name).collect();
        assert_eq!(names, ["a", "b"]);
        for (path, mode) in [(store.path(mac(1)), 0o600), (store.directory.clone(), 0o700)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn what_is_no_machine_is_told_and_hides_no_other() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::of(state.path());
        store.change(mac(1), 5, |_| ()).unwrap();
        fs::write(store.path(mac(2)), "{").unwrap();
        fs::write(store.directory.join("notes"), "mine").unwrap();
        assert_eq!(store.all().unwrap().len(), 1);
        let error = store.get(mac(2)).unwrap_err().to_string();
        assert!(error.contains("02-00-00-00-00-02.json is not a machine's file"), "{error}");
        store.change(mac(2), 5, |_| ()).unwrap();
        assert_eq!(store.all().unwrap().len(), 2);
    }

    #[test]
    fn machines_that_only_appeared_make_room() {
        let state = tempfile::tempdir().unwrap();
        let store = Store { most: 3, ..Store::of(state.path()) };
        let last = |outcome| LastRun { run: "lab".into(), at: 5, outcome, step: None, reason: None };
        store.change(mac(1), 5, |record| record.last_run = Some(last(RunOutcome::Complete))).unwrap();
        for stranger in 10..30 {
            store
                .change(mac(stranger), 6, |record| record.last_run = Some(last(RunOutcome::Waiting)))
                .unwrap();
        }
        store.change(mac(2), 7, |record| record.last_run = Some(last(RunOutcome::Failed))).unwrap();
        store.change(mac(3), 7, |record| record.last_run = Some(last(RunOutcome::Running))).unwrap();
        let macs: Vec<_> = store.all().unwrap().into_iter().map(|record| record.mac).collect();
        assert_eq!(macs, [mac(1), mac(2), mac(3)]);
        assert!(matches!(store.change(mac(4), 8, |_| ()), Err(StoreError::Full(_))));
    }

    #[test]
    fn a_newer_file_is_read_and_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::of(state.path());
        store.change(mac(1), 5, |record| record.version = VERSION).unwrap();
        let newer =
            fs::read_to_string(store.path(mac(1))).unwrap().replace("\"version\": 1", "\"version\": 2");
        fs::write(store.path(mac(1)), &newer).unwrap();
        assert_eq!(store.all().unwrap().len(), 1);
        let error = store.change(mac(1), 6, |record| record.last_seen = 6).unwrap_err();
        assert!(matches!(error, StoreError::Newer { version: 2, .. }), "{error}");
        assert_eq!(fs::read_to_string(store.path(mac(1))).unwrap(), newer);
    }
}
