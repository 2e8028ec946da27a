//! What a boot loader would start: kernel, initrd and command line from its configuration.
//!
//! Two forms are read: GRUB's `grub.cfg` as grub-mkconfig writes it ([`super::grub`]), and the entries of the Boot Loader
//! Specification (systemd-boot, and GRUB on Fedora and its relatives), of which the one with the newest version is the
//! default, unless `loader.conf` or GRUB's environment names another. See
//! <https://uapi-group.org/specifications/specs/boot_loader_specification/> and loader.conf(5).

use std::fs;
use std::path::{Path, PathBuf};

use ka::glob;

use super::grub::is_dispensable;
use super::{KexecError, Words, grub};

const GRUB: [&str; 3] = ["boot/grub/grub.cfg", "boot/grub2/grub.cfg", "boot/efi/EFI/grub.cfg"];
const ENTRIES: [&str; 3] = ["boot/loader/entries", "boot/efi/loader/entries", "efi/loader/entries"];

/// A system to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The initrd's file.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub command_line: String,
}

/// Finds what the system below `root` boots by default.
///
/// # Errors
/// [`KexecError::NoEntry`] if nothing is configured, and [`KexecError::NotThere`] if the default's files are not there:
/// then the boot loader itself has to find out.
pub fn default_entry(root: &Path) -> Result<Entry, KexecError> {
    let words = configured(root).ok_or_else(|| {
        let places = GRUB.iter().chain(&ENTRIES).map(|path| root.join(path));
        KexecError::NoEntry(places.filter(|path| path.exists()).collect())
    })?;
    resolve(root, &words).ok_or(KexecError::NotThere { kernel: words.kernel, initrd: words.initrd })
}

fn configured(root: &Path) -> Option<Words> {
    for path in GRUB.map(|path| root.join(path)) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let environment = fs::read_to_string(path.with_file_name("grubenv")).unwrap_or_default();
        match grub::default_entry(&text, &environment) {
            grub::Start::Entry(words) => return Some(words),
            grub::Start::Specified(saved) => return specified(root, saved.as_deref()),
            grub::Start::None => {}
        }
    }
    let default = ["boot/loader/loader.conf", "boot/efi/loader/loader.conf", "efi/loader/loader.conf"]
        .iter()
        .filter_map(|path| fs::read_to_string(root.join(path)).ok())
        .find_map(|text| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix("default"))?;
            Some(line.trim().to_owned())
                .filter(|name| line.starts_with(char::is_whitespace) && !name.is_empty())
        });
    specified(root, default.as_deref())
}

/// A boot loader's paths begin at a partition's root: of the system's, of /boot, or of the ESP.
fn resolve(root: &Path, words: &Words) -> Option<Entry> {
    let find = |path: &str| {
        let path = path.trim_start_matches('/');
        ["", "boot", "boot/efi", "efi"]
            .iter()
            .map(|top| root.join(top).join(path))
            .find(|file| file.is_file())
    };
    let initrd = match &words.initrd {
        Some(path) => Some(find(path)?),
        None => None,
    };
    Some(Entry { kernel: find(&words.kernel)?, initrd, command_line: words.command_line.clone() })
}

/// The default among the entries of the Boot Loader Specification: the newest of those that `default` names, by the
/// file's name or a pattern for it, or else of all.
fn specified(root: &Path, default: Option<&str>) -> Option<Words> {
    let mut files: Vec<PathBuf> = ENTRIES
        .iter()
        .filter_map(|path| fs::read_dir(root.join(path)).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    files.sort_by_key(|path| std::cmp::Reverse(version_key(path)));
    let is_meant = |path: &&PathBuf| {
        let named = |name: Option<&std::ffi::OsStr>| {
            let name = name.and_then(|name| name.to_str());
            name.zip(default).is_some_and(|(name, pattern)| glob::fits_exactly(pattern, name))
        };
        named(path.file_name()) || named(path.file_stem())
    };
    let meant: Vec<&PathBuf> = files.iter().filter(is_meant).collect();
    if let Some(default) = default.filter(|_| meant.is_empty() && !files.is_empty()) {
        log::warn!(
            "the boot loader's default is '{default}', and no entry has that name: the newest is taken"
        );
    }
    let candidates = if meant.is_empty() { files.iter().collect() } else { meant };
    candidates.into_iter().find_map(|path| specified_entry(&fs::read_to_string(path).ok()?))
}

/// Numbers in a name compare as numbers: 6.10 is newer than 6.9.
fn version_key(path: &Path) -> Vec<(u64, String)> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let pieces = name.split(|c: char| !c.is_ascii_alphanumeric());
    pieces
        .map(|piece| piece.parse().map_or((0, piece.to_owned()), |number| (number, String::new())))
        .collect()
}

fn specified_entry(text: &str) -> Option<Words> {
    let (mut words, mut options) = (Words::default(), Vec::new());
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once(char::is_whitespace) else { continue };
        let value = value.trim();
        match key {
            "linux" => value.clone_into(&mut words.kernel),
            "initrd" => {
                let mut files = value.split_whitespace().filter(|file| !is_dispensable(file));
                words.initrd = files.next_back().map(str::to_owned).or(words.initrd);
            }
            "options" => options.extend(value.split_whitespace().filter(|word| !is_dispensable(word))),
            _ => {}
        }
    }
    words.command_line = options.join(" ");
    (!words.kernel.is_empty() && !words.command_line.contains('$')).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CFG: &str = "\
if [ x$feature_default_font_path = xy ] ; then
   font=unicode
fi
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
	insmod gzio
	search --no-floppy --fs-uuid --set=root 1111
	echo	'Loading Linux 6.1.0 ...'
	linux	/vmlinuz-6.1.0 root=UUID=2222 ro  console=\"tty 0\" a\\\\b # not this
	echo	'Loading initial ramdisk ...'
	initrd	/early.img /initrd.img-6.1.0
}
menuentry 'older' --id older {
	linux	/vmlinuz-5.10 root=UUID=2222 ro
}
";

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn grubs_default_with_its_files() {
        let boot = &[("boot/grub/grub.cfg", CFG), ("boot/vmlinuz-6.1.0", ""), ("boot/initrd.img-6.1.0", "")];
        let dir = tree(boot);
        let at = |name: &str| dir.path().join(name);
        let first = Entry {
            kernel: at("boot/vmlinuz-6.1.0"),
            initrd: Some(at("boot/initrd.img-6.1.0")),
            command_line: "root=UUID=2222 ro console=tty 0 a\\b".into(),
        };
        assert_eq!(default_entry(dir.path()).unwrap(), first);

        fs::write(at("boot/vmlinuz-5.10"), "").unwrap();
        fs::write(at("boot/grub/grubenv"), "# GRUB Environment Block\nnext_entry=older\n#####").unwrap();
        assert_eq!(default_entry(dir.path()).unwrap(), first, "this menu does not ask for it");

        fs::remove_file(at("boot/initrd.img-6.1.0")).unwrap();
        let error = default_entry(dir.path()).unwrap_err().to_string();
        assert!(error.contains("/vmlinuz-6.1.0") && error.contains("/initrd.img-6.1.0"), "{error}");
    }

    #[test]
    fn the_newest_entry_of_the_specification() {
        let entry = |version: &str| {
            format!(
                "title Linux\nversion {version}\nlinux /linux-{version}\ninitrd /i $tuned_initrd\noptions root=a $tuned_params\noptions rw\n"
            )
        };
        let (old, new) = (entry("6.9"), entry("6.10"));
        let dir = tree(&[
            ("boot/grub2/grub.cfg", "set default=0\nblscfg\n"),
            ("boot/loader/entries/a-6.9.conf", &old),
            ("boot/loader/entries/a-6.10.conf", &new),
            ("boot/loader/entries/notes.txt", "linux /linux-7"),
            ("boot/linux-6.9", ""),
            ("boot/linux-6.10", ""),
            ("boot/i", ""),
        ]);
        let entry = default_entry(dir.path()).unwrap();
        assert_eq!(entry.kernel, dir.path().join("boot/linux-6.10"));
        assert_eq!(entry.command_line, "root=a rw");

        let kernel = || default_entry(dir.path()).unwrap().kernel;
        fs::write(dir.path().join("boot/grub2/grub.cfg"), "set default=\"${saved_entry}\"\nblscfg\n")
            .unwrap();
        fs::write(dir.path().join("boot/grub2/grubenv"), "saved_entry=a-6.9\n").unwrap();
        assert_eq!(kernel(), dir.path().join("boot/linux-6.9"));
        fs::remove_file(dir.path().join("boot/grub2/grub.cfg")).unwrap();
        for (default, version) in
            [("a-6.9*", "6.9"), ("a-6.10.conf", "6.10"), ("b-*", "6.10"), ("a-*", "6.10")]
        {
            let text = format!("timeout 3\ndefault {default}\n");
            fs::write(dir.path().join("boot/loader/loader.conf"), text).unwrap();
            assert_eq!(kernel(), dir.path().join(format!("boot/linux-{version}")), "{default}");
        }
    }
}
