//! `kactl init`: creates the keys and the configuration file, once.

use std::io;
use std::path::Path;

use ka::keys::{JoinKey, KeyPair};

use crate::config::keys::{self, KeyFileError};
use crate::config::{Config, TEMPLATE};
use crate::exit::{CommandResult, Exit};
use ka_host::atomic::{self, FileError};
use ka_host::{guarded, terminal};

/// Only root may read keys.
const KEY_MODE: u32 = 0o600;
const KEY_DIRECTORY_MODE: u32 = 0o700;

/// Options of `kactl init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The next step is 'kactl image'.")]
pub struct InitArgs {
    /// Replace existing keys; nodes with earlier boot images can no longer join
    #[arg(long)]
    pub force: bool,
}

/// Creates what is missing, and reports what already existed.
///
/// # Errors
/// A file cannot be written, or one of the keys is damaged or missing.
pub fn run(args: &InitArgs, config_file: &Path) -> CommandResult {
    write_config(config_file)?;
    let directory = Config::load(config_file)?.directories.keys;
    guarded::directory(&directory, KEY_DIRECTORY_MODE)?;
    if args.force {
        new_keys(&directory, atomic::write)?;
        terminal::say(format_args!(
            "created new keys in {}; run `kactl image`, or `kactl image --key-only` if there is an image",
            directory.display()
        ));
        return Ok(Exit::Ok);
    }
    complete_keys(&directory)
}

fn write_config(path: &Path) -> Result<(), FileError> {
    if let Some(above) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        guarded::directory(above, 0o755)?;
    }
    match atomic::create(path, TEMPLATE.as_bytes(), 0o644) {
        Ok(()) => terminal::say(format_args!("made {}", path.display())),
        Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {
            terminal::say(format_args!("{} exists, and is kept", path.display()));
        }
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Creates the keys that are missing, without the configuration.
///
/// # Errors
/// As for [`run`].
pub(super) fn keys(directory: &Path) -> CommandResult {
    guarded::directory(directory, KEY_DIRECTORY_MODE)?;
    complete_keys(directory)
}

/// Nothing existing is overwritten: a lost controller key is replaced only on request, because every existing
/// boot image becomes useless.
fn complete_keys(directory: &Path) -> CommandResult {
    let missing = |e: &KeyFileError| matches!(e, KeyFileError::Missing { .. });
    match (keys::load_controller(directory), keys::load_join(directory)) {
        (Ok(_), Ok(_)) => {
            keys::load(directory)?;
            terminal::say(format_args!(
                "the keys in {} exist, and are kept (--force creates new ones)",
                directory.display()
            ));
        }
        (Ok(controller), Err(e)) if missing(&e) => {
            let join = JoinKey::generate(&controller)?;
            atomic::create(&keys::join_file(directory), join.to_text().as_bytes(), KEY_MODE)?;
            terminal::say(format_args!(
                "created a new join key in {}; run `kactl image`, or `kactl image --key-only` if there is \
                 an image",
                directory.display()
            ));
        }
        (Err(e), Err(f)) if missing(&e) && missing(&f) => {
            new_keys(directory, atomic::create)?;
            terminal::say(format_args!("created the keys in {}", directory.display()));
            terminal::say("next: `kactl image` builds what the nodes boot");
        }
        (Err(e), Ok(_)) if missing(&e) => {
            let lost = keys::controller_file(directory);
            return Err(anyhow::anyhow!(
                "{} is lost: `kactl init --force` replaces both keys",
                lost.display()
            )
            .into());
        }
        (Err(e), _) | (_, Err(e)) => return Err(e.into()),
    }
    Ok(Exit::Ok)
}

fn new_keys(
    directory: &Path,
    put: impl Fn(&Path, &[u8], u32) -> Result<(), FileError>,
) -> Result<(), anyhow::Error> {
    let controller = KeyPair::generate()?;
    let join = JoinKey::generate(&controller)?;
    // The join key comes first: if this is interrupted, it is evident that both keys must be created again.
    put(&keys::join_file(directory), join.to_text().as_bytes(), KEY_MODE)?;
    put(&keys::controller_file(directory), controller.to_text().as_bytes(), KEY_MODE)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// A directory with a configuration that stores the keys in the same directory.
    fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (config, keys) = (dir.path().join("ka.toml"), dir.path().join("keys"));
        fs::write(&config, format!("directories.keys = {keys:?}\n")).unwrap();
        (dir, config, keys)
    }

    fn init(config: &Path, force: bool) -> Result<Exit, String> {
        run(&InitArgs { force }, config).map_err(|f| format!("{:#}", f.error))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_second_init_keeps_everything_and_force_replaces_the_keys_only() {
        let (_dir, config, keys) = place();
        let all = || {
            [keys::controller_file(&keys), keys::join_file(&keys), config.clone()]
                .map(|f| fs::read_to_string(f).unwrap())
        };
        assert_eq!(init(&config, false), Ok(Exit::Ok));
        assert_eq!(mode(&keys), 0o700);
        assert_eq!(mode(&keys::controller_file(&keys)), 0o600);
        assert_eq!(mode(&keys::join_file(&keys)), 0o600);
        keys::load(&keys).unwrap();

        let first = all();
        assert_eq!(init(&config, false), Ok(Exit::Ok));
        assert_eq!(all(), first);

        assert_eq!(init(&config, true), Ok(Exit::Ok));
        let new = all();
        assert!(new[0] != first[0] && new[1] != first[1]);
        assert_eq!(new[2], first[2]);
        keys::load(&keys).unwrap();
    }

    #[test]
    fn a_lost_join_key_is_made_again_and_a_lost_controller_key_is_not() {
        let (_dir, config, keys) = place();
        init(&config, false).unwrap();
        let controller = fs::read(keys::controller_file(&keys)).unwrap();
        fs::remove_file(keys::join_file(&keys)).unwrap();
        assert_eq!(init(&config, false), Ok(Exit::Ok));
        assert_eq!(fs::read(keys::controller_file(&keys)).unwrap(), controller);
        keys::load(&keys).unwrap();

        fs::remove_file(keys::controller_file(&keys)).unwrap();
        let error = init(&config, false).unwrap_err();
        assert!(error.contains("controller.key") && error.contains("kactl init --force"), "{error}");
    }

    #[test]
    fn keys_that_cannot_be_used_are_named_with_the_way_out() {
        let (_dir, config, keys) = place();
        let error = keys::load(&keys).unwrap_err().to_string();
        assert!(error.contains("controller.key") && error.contains("`kactl init`"), "{error}");

        init(&config, false).unwrap();
        let file = keys::controller_file(&keys);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let error = keys::load(&keys).unwrap_err().to_string();
        assert!(error.contains("controller.key") && error.contains("0640"), "{error}");

        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, KeyPair::generate().unwrap().to_text()).unwrap();
        assert!(matches!(keys::load(&keys), Err(KeyFileError::Mismatch { .. })));

        fs::write(&file, "nonsense\n").unwrap();
        assert!(matches!(keys::load(&keys), Err(KeyFileError::Content { .. })));
    }
}
