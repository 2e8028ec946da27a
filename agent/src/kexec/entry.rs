//! What a boot loader would start: kernel, initrd and command line from its configuration.
//!
//! Two forms are read: GRUB's `grub.cfg` as grub-mkconfig writes it, whose first entry is the default unless a
//! person has changed that, and the entries of the Boot Loader Specification (systemd-boot, and GRUB on Fedora and
//! its relatives), of which the one with the newest version is the default. See
//! <https://uapi-group.org/specifications/specs/boot_loader_specification/>.

use std::fs;
use std::path::{Path, PathBuf};

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

/// Finds what the system below `root` boots by default.
///
/// # Errors
/// [`KexecError::NoEntry`] if nothing is found whose files are there.
pub fn default_entry(root: &Path) -> Result<Entry, KexecError> {
    let configured = GRUB.iter().filter_map(|path| fs::read_to_string(root.join(path)).ok());
    let found = configured.flat_map(|text| grub_entries(&text)).chain(specified(root));
    let mut places = found.filter_map(|words| resolve(root, &words));
    places.next().ok_or_else(|| {
        KexecError::NoEntry(
            GRUB.iter().chain(&ENTRIES).map(|path| root.join(path)).filter(|p| p.exists()).collect(),
        )
    })
}

/// An entry with the paths that the boot loader knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Words {
    kernel: String,
    initrd: Option<String>,
    command_line: String,
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

/// The `linux` lines of a grub.cfg, each with the `initrd` line that follows it.
fn grub_entries(text: &str) -> Vec<Words> {
    let mut entries: Vec<Words> = Vec::new();
    for line in text.lines() {
        let words = grub_words(line);
        match words.split_first().map(|(command, rest)| (command.as_str(), rest)) {
            Some(("linux" | "linux16" | "linuxefi", [kernel, arguments @ ..])) => entries.push(Words {
                kernel: kernel.clone(),
                initrd: None,
                command_line: arguments.join(" "),
            }),
            // Of several files the last is the distribution's own; those before it are microcode, which the running
            // kernel has loaded or not.
            Some(("initrd" | "initrd16" | "initrdefi", files)) => {
                if let (Some(entry), Some(last)) = (entries.last_mut(), files.last()) {
                    entry.initrd = Some(last.clone());
                }
            }
            _ => {}
        }
    }
    // What only GRUB can tell is no word of a command line.
    entries.retain(|entry| !entry.command_line.contains('$') && !entry.kernel.contains('$'));
    entries
}

/// A line of GRUB's language as words: quotes are taken off, and comments left out.
fn grub_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, '#') if word.is_none() => break,
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The entries of the Boot Loader Specification, the newest first.
fn specified(root: &Path) -> Vec<Words> {
    let mut files: Vec<PathBuf> = ENTRIES
        .iter()
        .filter_map(|path| fs::read_dir(root.join(path)).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    files.sort_by_key(|path| std::cmp::Reverse(version_key(path)));
    files.iter().filter_map(|path| specified_entry(&fs::read_to_string(path).ok()?)).collect()
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
    let mut words = Words::default();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once(char::is_whitespace) else { continue };
        let value = value.trim();
        match key {
            "linux" => value.clone_into(&mut words.kernel),
            "initrd" => words.initrd = value.split_whitespace().next_back().map(str::to_owned),
            "options" if words.command_line.is_empty() => value.clone_into(&mut words.command_line),
            "options" => words.command_line = format!("{} {value}", words.command_line),
            _ => {}
        }
    }
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
menuentry 'older' {
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
    fn the_first_entry_of_grub_whose_files_are_there() {
        let boot = &[("boot/grub/grub.cfg", CFG), ("boot/vmlinuz-6.1.0", ""), ("boot/initrd.img-6.1.0", "")];
        let dir = tree(boot);
        let at = |name: &str| dir.path().join(name);
        let first = Entry {
            kernel: at("boot/vmlinuz-6.1.0"),
            initrd: Some(at("boot/initrd.img-6.1.0")),
            command_line: "root=UUID=2222 ro console=tty 0 a\\b".into(),
        };
        assert_eq!(default_entry(dir.path()).unwrap(), first);

        fs::remove_file(at("boot/initrd.img-6.1.0")).unwrap();
        let error = default_entry(dir.path()).unwrap_err().to_string();
        assert!(error.contains("grub.cfg"), "an initrd that is missing is not left out: {error}");
        fs::write(at("boot/vmlinuz-5.10"), "").unwrap();
        assert_eq!(default_entry(dir.path()).unwrap().kernel, at("boot/vmlinuz-5.10"));
    }

    #[test]
    fn the_newest_entry_of_the_specification() {
        let entry = |version: &str| {
            format!(
                "title Linux\nversion {version}\nlinux /linux-{version}\ninitrd /i\noptions root=a\noptions rw\n"
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
    }

    #[test]
    fn what_only_grub_knows_is_not_guessed() {
        for line in ["linux $kernel root=a", "linux /vmlinuz-6.1.0 root=$root", "# linux /vmlinuz-6.1.0"] {
            assert_eq!(grub_entries(line), [], "{line}");
        }
    }
}
