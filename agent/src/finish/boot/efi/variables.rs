//! The firmware's variables, as the kernel shows them in efivarfs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::finish::error::Cause;

/// The vendor GUID of all variables defined by the specification.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Non-volatile, accessible to boot services and at run time.
const ATTRIBUTES: u32 = 7;

/// A directory with one variable per file: four bytes of attributes, then the value.
pub(in crate::finish) struct Variables(PathBuf);

impl Variables {
    pub(in crate::finish) fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}-{GLOBAL}"))
    }

    /// The value of an existing variable.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Cause> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(bytes.get(4..).map(<[u8]>::to_vec)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Cause::file("read", &path, e)),
        }
    }

    /// Sets a variable and reads it back: firmware storage may be full, or lose values immediately.
    pub(super) fn write(&self, name: &str, value: &[u8]) -> Result<(), Cause> {
        let path = self.path(name);
        if self.read(name)?.as_deref() == Some(value) {
            return Ok(());
        }
        let mut bytes = ATTRIBUTES.to_le_bytes().to_vec();
        bytes.extend(value);
        // The kernel takes a variable in one write, which replaces the old value.
        let written =
            File::options().write(true).create(true).truncate(false).open(&path).and_then(|mut file| {
                let length = file.write(&bytes)?;
                if length == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
            });
        written.map_err(|e| Cause::file("write", &path, e))?;
        match self.read(name)? {
            Some(found) if found == value => Ok(()),
            _ => {
                let wrong = "is not what was written: the firmware did not keep it".to_owned();
                Err(Cause::NotBootable { path, wrong })
            }
        }
    }

    /// The numbers of all `Boot####` variables, sorted.
    pub(super) fn boot_numbers(&self) -> Result<Vec<u16>, Cause> {
        let failed = |e| Cause::file("list", &self.0, e);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let number = name.to_str().and_then(|name| {
                let digits = name.strip_prefix("Boot")?.strip_suffix(GLOBAL)?.strip_suffix('-')?;
                if digits.len() == 4 { u16::from_str_radix(digits, 16).ok() } else { None }
            });
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}
