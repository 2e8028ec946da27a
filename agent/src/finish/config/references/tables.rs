//! crypttab(5) and mdadm.conf(5).

use crate::finish::config::names::{Named, Names};

/// Options with which the system boots without the device.
const SPARED: [&str; 3] = ["noauto", "nofail", "_netdev"];

/// `NAME DEVICE KEY OPTIONS`. A device encrypted with a new key at each boot has no permanent UUID, so a
/// partition is named by PARTUUID. The boot would wait for an entry of a disk that was not cloned.
pub(super) fn rewrite_crypttab(text: &str, names: &Names<'_>) -> String {
    each_line(text, |line| {
        let mut words = line.split_whitespace();
        let (Some(name), Some(device)) = (words.next(), words.next()) else { return None };
        if name.starts_with('#') {
            return None;
        }
        let options = words.nth(1).unwrap_or_default();
        match names.resolve(device) {
            Named::Made(fs) => Some(line.replacen(device, &format!("PARTUUID={}", fs.partuuid), 1)),
            Named::Missing if !options.split(',').any(|option| SPARED.contains(&option)) => {
                warning!("crypttab: left out, this node has no such disk: {}", line.trim());
                Some(left_out(line))
            }
            Named::Kept | Named::Missing | Named::Other => None,
        }
    })
}

/// The names in `/dev/mapper` that a crypttab, after [`rewrite_crypttab`], creates at boot.
pub(in crate::finish) fn mappings(crypttab: &str, names: &Names<'_>) -> Vec<String> {
    let rewritten = rewrite_crypttab(crypttab, names);
    let lines = rewritten.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

/// Arrays are not cloned, so this node has none of the golden node's, and an initrd that lists them would
/// wait for them. A line that starts with a blank continues the previous one.
pub(super) fn rewrite_mdadm(text: &str, _: &Names<'_>) -> String {
    let mut in_array = false;
    each_line(text, |line| {
        if !line.starts_with([' ', '\t']) {
            let first = line.split_whitespace().next().unwrap_or_default();
            // mdadm.conf(5): keywords may be abbreviated to three letters, in either case.
            let keyword = first.to_ascii_lowercase();
            in_array = keyword.len() >= 3 && "array".starts_with(&keyword) && !line.contains("<ignore>");
        }
        in_array.then(|| left_out(line))
    })
}

fn left_out(line: &str) -> String {
    format!("# ka: no such disk on this node: {line}")
}

fn each_line(text: &str, mut change: impl FnMut(&str) -> Option<String>) -> String {
    text.split_inclusive('\n').map(|line| change(line).unwrap_or_else(|| line.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::made;

    #[test]
    fn encrypted_devices_follow() {
        let made = made();
        let names = Names::new(&made);
        let old = "# a comment\n\
                   swap0 /dev/sda2 /dev/urandom swap,cipher=aes-xts-plain64\n\
                   home\tUUID=99999999-0000-4000-8000-000000000000 none luks\n\
                   usb UUID=99999999-0000-4000-8000-000000000000 none luks,noauto\n\
                   file /srv/container none luks\n";
        let new = rewrite_crypttab(old, &names);
        assert_eq!(
            new,
            "# a comment\n\
             swap0 PARTUUID=cafe0000-02 /dev/urandom swap,cipher=aes-xts-plain64\n\
             # ka: no such disk on this node: home\tUUID=99999999-0000-4000-8000-000000000000 none luks\n\
             usb UUID=99999999-0000-4000-8000-000000000000 none luks,noauto\n\
             file /srv/container none luks\n"
        );
        assert_eq!(mappings(old, &names), ["swap0", "usb", "file"]);
        assert_eq!(rewrite_crypttab(&new, &names), new);
    }

    #[test]
    fn arrays_are_left_out() {
        let made = made();
        let text = "MAILADDR root\nDEVICE partitions\nARRAY /dev/md0 UUID=1:2:3:4\n   devices=/dev/sda1\nARRAY <ignore> UUID=5:6\n";
        let new = rewrite_mdadm(text, &Names::new(&made));
        let comment = "# ka: no such disk on this node: ";
        assert_eq!(
            new,
            format!(
                "MAILADDR root\nDEVICE partitions\n{comment}ARRAY /dev/md0 UUID=1:2:3:4\n{comment}   devices=/dev/sda1\nARRAY <ignore> UUID=5:6\n"
            )
        );
    }
}
