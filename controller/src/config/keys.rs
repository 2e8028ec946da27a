//! The keys' files: `controller.key`, which stays here, and `join.key`, which goes into the boot image.

use std::io;
use std::path::{Path, PathBuf};

use ka::keys::{JoinKey, KeyError, KeyPair};
use ka_host::secrets::{self, SecretError};

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is none.
    #[error("there is no key {}: make the keys with `kactl init`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read the key {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: SecretError,
    },
    /// Others can read it, and so could pose as the controller, or join.
    #[error(
        "others can read the key {} (mode {mode:04o}): make new keys with `kactl init --force`, or `chmod 600` it if surely nobody has",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no such key.
    #[error("{}:1: make new keys with `kactl init --force`", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// The two files do not belong together.
    #[error("{} was made for another controller key than {}: make new keys with `kactl init --force`", join.display(), controller.display())]
    Mismatch {
        /// The controller's key file.
        controller: PathBuf,
        /// The join key file.
        join: PathBuf,
    },
}

/// Both keys of a controller.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The controller's own pair.
    pub controller: KeyPair,
    /// What a node joins with.
    pub join: JoinKey,
    /// What the nodes of this run alone join with.
    pub run: Option<JoinKey>,
}

impl Keys {
    /// All that a node may join with, the long-lived one first.
    #[must_use]
    pub fn joins(&self) -> Vec<&JoinKey> {
        [&self.join].into_iter().chain(&self.run).collect()
    }

    /// The same, with a join secret of this process' own beside the long-lived one.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn for_a_run(self) -> Result<Self, KeyError> {
        let run = JoinKey::generate(&self.controller)?;
        Ok(Self { run: Some(run), ..self })
    }
}

/// Where the controller's key is in a directory of keys.
#[must_use]
pub fn controller_file(keys: &Path) -> PathBuf {
    keys.join("controller.key")
}

/// Where the join key is in a directory of keys.
#[must_use]
pub fn join_file(keys: &Path) -> PathBuf {
    keys.join("join.key")
}

/// Reads both keys of a directory.
///
/// # Errors
/// [`KeyFileError`] with the file and what to do about it.
pub fn load(keys: &Path) -> Result<Keys, KeyFileError> {
    let both = Keys { controller: load_controller(keys)?, join: load_join(keys)?, run: None };
    if both.join.controller != both.controller.public {
        return Err(KeyFileError::Mismatch { controller: controller_file(keys), join: join_file(keys) });
    }
    Ok(both)
}

/// Reads the controller's key, and refuses one that others can read.
///
/// # Errors
/// [`KeyFileError`] with the file and what to do about it.
pub fn load_controller(keys: &Path) -> Result<KeyPair, KeyFileError> {
    let path = controller_file(keys);
    let text = secrets::read(&path).map_err(unusable(&path))?;
    KeyPair::from_text(&text).map_err(|source| KeyFileError::Content { path, source })
}

/// Reads the join key, and refuses one that others can read.
///
/// # Errors
/// [`KeyFileError`] with the file and what to do about it.
pub fn load_join(keys: &Path) -> Result<JoinKey, KeyFileError> {
    let path = join_file(keys);
    let text = secrets::read(&path).map_err(unusable(&path))?;
    JoinKey::from_text(&text).map_err(|source| KeyFileError::Content { path, source })
}

fn unusable(path: &Path) -> impl FnOnce(SecretError) -> KeyFileError {
    let path = path.to_owned();
    |error| match error {
        SecretError::Read(e) if e.kind() == io::ErrorKind::NotFound => KeyFileError::Missing { path },
        SecretError::Exposed { mode } => KeyFileError::Exposed { path, mode },
        source => KeyFileError::Read { path, source },
    }
}
