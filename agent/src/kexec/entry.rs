//! What a boot loader would start: kernel, initrd and command line from its configuration, as parsed by
//! [`ka::menu`].

use std::fs;
use std::path::{Path, PathBuf};

use ka::menu::{MenuEntry, bls, grub};

use super::KexecError;

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

/// Finds what the system below `root` boots by default. Uncertainties are added to `doubts`, as sentences for
/// a person.
///
/// # Errors
/// [`KexecError::NoEntry`] if nothing is configured, and [`KexecError::NotThere`] if the default entry's
/// files are missing: in both cases only the boot loader itself can decide.
pub fn default_entry(root: &Path, doubts: &mut Vec<String>) -> Result<Entry, KexecError> {
    let entry = configured(root, doubts).ok_or_else(|| {
        let places = GRUB.iter().chain(&ENTRIES).map(|path| root.join(path));
        KexecError::NoEntry(places.filter(|path| path.exists()).collect())
    })?;
    resolve(root, &entry).ok_or(KexecError::NotThere { kernel: entry.kernel, initrd: entry.initrd })
}

fn configured(root: &Path, doubts: &mut Vec<String>) -> Option<MenuEntry> {
    for path in GRUB.map(|path| root.join(path)) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let environment = fs::read_to_string(path.with_file_name("grubenv")).unwrap_or_default();
        match grub::default_entry(&text, &environment, doubts) {
            grub::Start::Entry(entry) => return Some(entry),
            grub::Start::Specified(saved) => {
                return specified(root, &saved.into_iter().collect::<Vec<_>>(), doubts);
            }
            grub::Start::None => {}
        }
    }
    let texts =
        bls::TOPS.iter().filter_map(|top| fs::read_to_string(root.join(top).join("loader/loader.conf")).ok());
    let defaults: Vec<String> =
        texts.flat_map(|text| bls::values(&text, "default").map(str::to_owned).collect::<Vec<_>>()).collect();
    specified(root, &defaults, doubts)
}

/// A boot loader's paths are relative to the root of a partition: the system's, /boot's, or the ESP's.
fn resolve(root: &Path, entry: &MenuEntry) -> Option<Entry> {
    let find = |path: &str| {
        let path = path.trim_start_matches('/');
        ["", "boot", "boot/efi", "efi"]
            .iter()
            .map(|top| root.join(top).join(path))
            .find(|file| file.is_file())
    };
    let initrd = match &entry.initrd {
        Some(path) => Some(find(path)?),
        None => None,
    };
    Some(Entry { kernel: find(&entry.kernel)?, initrd, command_line: entry.command_line.clone() })
}

/// The default among the Boot Loader Specification entries that start a kernel.
fn specified(root: &Path, defaults: &[String], doubts: &mut Vec<String>) -> Option<MenuEntry> {
    let files = bls::TOPS.iter().filter_map(|top| fs::read_dir(root.join(top).join("loader/entries")).ok());
    let entries: Vec<(String, MenuEntry)> = files
        .flatten()
        .filter_map(|file| {
            let file = file.ok()?;
            let name = file.file_name().into_string().ok().filter(|name| name.ends_with(".conf"))?;
            Some((name, bls::parse(&fs::read_to_string(file.path()).ok()?)?))
        })
        .collect();
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    if !defaults.is_empty() && !names.is_empty() && !names.iter().any(|name| bls::is_named(name, defaults)) {
        let defaults = defaults.join("' or '");
        doubts.push(format!(
            "the boot loader's default is '{defaults}', and no entry has that name: the newest is taken"
        ));
    }
    bls::default_of(&names, defaults).map(|index| entries[index].1.clone())
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

    fn found(dir: &tempfile::TempDir) -> (Entry, Vec<String>) {
        let mut doubts = Vec::new();
        (default_entry(dir.path(), &mut doubts).unwrap(), doubts)
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
        assert_eq!(found(&dir), (first.clone(), vec![]));

        fs::write(at("boot/vmlinuz-5.10"), "").unwrap();
        fs::write(at("boot/grub/grubenv"), "# GRUB Environment Block\nnext_entry=older\n#####").unwrap();
        assert_eq!(found(&dir).0, first, "this menu does not ask for it");

        fs::remove_file(at("boot/initrd.img-6.1.0")).unwrap();
        let error = default_entry(dir.path(), &mut Vec::new()).unwrap_err().to_string();
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
        let (entry, _) = found(&dir);
        assert_eq!(entry.kernel, dir.path().join("boot/linux-6.10"));
        assert_eq!(entry.command_line, "root=a rw");

        let kernel = || found(&dir).0.kernel;
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

    /// The node starts another kernel than its boot loader would, which belongs in the run's result.
    #[test]
    fn a_default_that_is_not_found_is_noted() {
        let menu = CFG.replacen("if [", "set default=\"no such title\"\nif [", 1);
        let grub = [
            ("boot/grub/grub.cfg", menu.as_str()),
            ("boot/vmlinuz-6.1.0", ""),
            ("boot/initrd.img-6.1.0", ""),
        ];
        let (_, doubts) = found(&tree(&grub));
        assert!(doubts.len() == 1 && doubts[0].contains("no such title"), "{doubts:?}");
        let entries = [
            ("boot/loader/loader.conf", "default gone-*\n"),
            ("boot/loader/entries/a.conf", "title a\nlinux /linux\noptions root=a\n"),
            ("boot/linux", ""),
        ];
        let (_, doubts) = found(&tree(&entries));
        assert!(doubts.len() == 1 && doubts[0].contains("gone-*"), "{doubts:?}");
    }
}
