//! Boot Loader Specification entries (type 1), which systemd-boot reads, and GRUB on Fedora and its
//! relatives; and the node's own command line, which they contain.
//!
//! See <https://uapi-group.org/specifications/specs/boot_loader_specification/>.

use std::fs;
use std::path::{Path, PathBuf};

use ka::menu::bls::{TOPS, default_of, options, values};

use super::roots::{is_systems, roots};
use super::words;
use crate::finish::config::names::Names;
use crate::finish::error::Cause;
use ka_host::system::glob;

/// An entry's text for this node. Its machine ID would be the golden node's, and an entry needs none.
pub(super) fn rewrite(text: &str, names: &Names<'_>) -> String {
    let lines = text.split_inclusive('\n');
    let rest: String = lines.filter(|line| line.split_whitespace().next() != Some("machine-id")).collect();
    words::rewrite(&rest, names)
}

/// The command line with which this node starts its kernel, from the current entries below `root`: that of
/// the default entry among those that start this node, or of the newest. Without entries, the minimum that
/// every kernel needs.
pub(in crate::finish) fn command_line(root: &Path, names: &Names<'_>) -> Result<String, Cause> {
    let (mut naming, mut silent) = (Vec::new(), Vec::new());
    for path in of_loaders(root, "entries/*.conf")? {
        let text = read(&path)?;
        // Variables that only GRUB can expand, such as `$tuned_params`.
        let (known, unknown): (Vec<_>, Vec<_>) =
            options(&text).split_whitespace().map(str::to_owned).partition(|word| !word.contains('$'));
        let line = known.join(" ");
        let has = |key| values(&text, key).next().is_some();
        if has("linux") && roots(&line).any(|value| is_systems(value, names)) {
            naming.push((path, line));
        } else if has("linux") && has("initrd") && unknown.is_empty() && roots(&line).next().is_none() {
            // The initrd finds the root by its partition type (systemd-gpt-auto-generator(8)).
            silent.push((path, line));
        }
    }
    let entries = if naming.is_empty() { silent } else { naming };
    let mut defaults = Vec::new();
    for path in of_loaders(root, "loader.conf")? {
        defaults.extend(values(&read(&path)?, "default").map(str::to_owned));
    }
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let files: Vec<String> = entries.iter().map(|(path, _)| name(path).unwrap_or_default()).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let default = default_of(&files, &defaults).and_then(|index| entries.get(index));
    Ok(default.map_or_else(|| plain(names), |(_, line)| line.clone()))
}

fn of_loaders(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, Cause> {
    let found: Result<Vec<_>, _> =
        TOPS.iter().map(|top| glob::files(root, &format!("{top}/loader/{pattern}"))).collect();
    Ok(found?.concat())
}

fn plain(names: &Names<'_>) -> String {
    let Some(fs) = names.at("/") else { return "ro".to_owned() };
    let line = format!("root=UUID={} ro", fs.uuid);
    let subvolume = fs.plan.subvolumes.iter().find(|subvolume| subvolume.mount_point.as_deref() == Some("/"));
    match subvolume {
        Some(subvolume) if !subvolume.path.is_empty() => {
            format!("{line} rootflags=subvol={}", subvolume.path)
        }
        _ => line,
    }
}

fn read(path: &Path) -> Result<String, Cause> {
    let bytes = fs::read(path).map_err(|e| Cause::file("read", path, e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::{BTRFS, ROOT, made, made_btrfs};

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn an_entry_is_of_no_certain_machine() {
        let made = made();
        let text = format!(
            "title Linux\nmachine-id {ID}\noptions root=/dev/sda1 systemd.machine_id={ID}\nlinux /{ID}/6/linux\n"
        );
        let expected = format!("title Linux\noptions root=UUID={ROOT}\nlinux /{ID}/6/linux\n");
        assert_eq!(rewrite(&text, &Names::new(&made)), expected);
    }

    #[test]
    fn the_nodes_own_command_line_is_the_default_entrys() {
        let made = made();
        let names = Names::new(&made);
        let root = tempfile::tempdir().unwrap();
        let line = || command_line(root.path(), &names).unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let plain = format!("root=UUID={ROOT} ro");
        assert_eq!(line(), plain);
        put("boot/loader/entries/d.conf", "linux /d\ninitrd /i\noptions $kernelopts\n");
        put("boot/loader/entries/e.conf", "linux /e\noptions console=ttyS0\n");
        put("boot/loader/entries/f.conf", "linux /f\noptions root=/dev/sdz9\n");
        assert_eq!(line(), plain, "of another loader, a memory test, of another disk");
        put("boot/efi/loader/entries/c.conf", "linux /c\ninitrd /i\noptions rw\n");
        assert_eq!(line(), "rw", "by the partition's type");
        put(
            "boot/efi/loader/entries/a.conf",
            "linux /a\noptions root=LABEL=system\noptions a $tuned_params\n",
        );
        put("boot/efi/loader/entries/b.conf", "linux /b\noptions\troot=PARTUUID=cafe0000-01 b\n");
        assert_eq!(line(), "root=PARTUUID=cafe0000-01 b");
        for default in ["a", "a.conf", "a*"] {
            put("boot/efi/loader/loader.conf", &format!("timeout 3\ndefault {default}\n"));
            assert_eq!(line(), "root=LABEL=system a", "{default}");
        }
    }

    #[test]
    fn a_root_in_a_subvolume_is_found() {
        let (made, root) = (made_btrfs(), tempfile::tempdir().unwrap());
        let line = command_line(root.path(), &Names::new(&made)).unwrap();
        assert_eq!(line, format!("root=UUID={BTRFS} ro rootflags=subvol=@"));
    }
}
