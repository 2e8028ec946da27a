//! What a BIOS machine boots: pxelinux's configuration files.
//!
//! See <https://wiki.syslinux.org/wiki/index.php?title=PXELINUX>: a machine asks for
//! `pxelinux.cfg/01-<its hardware address>`, and then for `pxelinux.cfg/default`.

use super::menu::{self, Boot, Settings};

/// The loader, and what it needs beside it, with the Debian packages that have them.
pub const FILES: [(&str, &str); 2] = [
    ("/usr/lib/PXELINUX/pxelinux.0", "pxelinux"),
    ("/usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common"),
];

/// What DHCP names.
pub const LOADER: &str = "pxelinux.0";

/// The directory of its files.
pub const DIRECTORY: &str = "pxelinux.cfg";

/// The text of a file. It has both labels always, so that a person at the machine can choose (hold
/// Shift while pxelinux starts); only what happens by itself differs.
#[must_use]
pub fn render(boot: &Boot, settings: &Settings) -> String {
    let default = match boot {
        Boot::Local => "local",
        Boot::Kamethod { .. } => "kamethod",
    };
    let append = menu::kernel_words(boot, settings);
    format!(
        "# Written by kactl pxe, which replaces every change.\n\
         DEFAULT {default}\n\
         PROMPT 0\n\
         TIMEOUT 50\n\
         \n\
         LABEL local\n\
         \x20 LOCALBOOT 0\n\
         \n\
         LABEL kamethod\n\
         \x20 KERNEL vmlinuz\n\
         \x20 APPEND {append}\n\
         \x20 IPAPPEND 2\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_text_of_a_file() {
        let settings = Settings {
            address: Ipv4Addr::new(10, 0, 0, 1),
            port: None,
            http: 30766,
            console: "console=tty0 console=ttyS0,115200".into(),
            vlan: None,
            by_hand: None,
        };
        let boot = Boot::Kamethod {
            session: "kainstall".into(),
            server: None,
            port: None,
            image: None,
            store_log: None,
        };
        assert_eq!(
            render(&boot, &settings),
            "# Written by kactl pxe, which replaces every change.
DEFAULT kamethod
PROMPT 0
TIMEOUT 50

LABEL local
  LOCALBOOT 0

LABEL kamethod
  KERNEL vmlinuz
  APPEND initrd=all.rdz automatic=method:ka,interface:auto,network:dhcp kamethod rw console=tty0 console=ttyS0,115200 ka.server=10.0.0.1 ka.session=kainstall
  IPAPPEND 2
"
        );
        let local = render(&Boot::Local, &settings);
        assert!(local.contains("DEFAULT local\n") && local.contains("LABEL kamethod\n"));
        assert!(!local.contains("ka.session"));
    }
}
