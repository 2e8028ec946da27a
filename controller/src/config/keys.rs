//! The key files: `controller.key`, which stays here, and `join.key`, which goes into the boot image.

use std::io;
use std::path::{Path, PathBuf};

use ka::keys::{JoinKey, KeyError, KeyPair};
use ka_host::secrets::{self, SecretError};

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file does not exist.
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
        /// The problem.
        #[source]
        source: SecretError,
    },
    /// Other users can read it, and so could pose as the controller, or join.
    #[error(
        "others can read the key {} (mode {mode:04o}): make new keys with `kactl init --force`, or `chmod \
         600` it if you are certain that nobody has",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is not such a key.
    #[error("{}:1: make new keys with `kactl init --force`", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem.
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
    /// The controller's own key pair.
    pub controller: KeyPair,
    /// The key with which nodes join.
    pub join: JoinKey,
    /// The key with which only the nodes of this run join.
    pub run: Option<JoinKey>,
}

impl Keys {
    /// All keys with which a node may join, the long-lived one first.
    #[must_use]
    pub fn joins(&self) -> Vec<&JoinKey> {
        [&self.join].into_iter().chain(&self.run).collect()
    }

    /// The same keys, with a join secret for this process in addition to the long-lived one.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn for_a_run(self) -> Result<Self, KeyError> {
        let run = JoinKey::generate(&self.controller)?;
        Ok(Self { run: Some(run), ..self })
    }
}

/// The path of the controller's key in a directory of keys.
#[must_use]
pub fn controller_file(keys: &Path) -> PathBuf {
    keys.join("controller.key")
}

/// The path of the join key in a directory of keys.
#[must_use]
pub fn join_file(keys: &Path) -> PathBuf {
    keys.join("join.key")
}

/// Reads both keys from a directory.
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

/// Reads the controller's key; rejects one that other users can read.
///
/// # Errors
/// [`KeyFileError`] with the file and what to do about it.
pub fn load_controller(keys: &Path) -> Result<KeyPair, KeyFileError> {
    let path = controller_file(keys);
    let text = secrets::read(&path).map_err(unusable(&path))?;
    KeyPair::from_text(&text).map_err(|source| KeyFileError::Content { path, source })
}

/// Reads the join key; rejects one that other users can read.
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
