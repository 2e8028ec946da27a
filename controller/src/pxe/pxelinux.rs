//! What a BIOS machine boots: pxelinux's configuration files.
//!
//! See <https://wiki.syslinux.org/wiki/index.php?title=PXELINUX>: a machine fetches `pxelinux.cfg/01-<its
//! hardware address>`, and then `pxelinux.cfg/default`.

use super::menu::{self, Boot, Settings};
use crate::config::pxe::{BiosLoader, Booting, LocalPxelinux};

/// The loader that every PXE ROM can run, and the files it needs, with their Debian packages.
pub const FILES: [(&str, &str); 2] = [
    ("/usr/lib/PXELINUX/pxelinux.0", "pxelinux"),
    ("/usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common"),
];

/// The loader with its own network stack, which loads over HTTP.
pub const OVER_HTTP: (&str, &str) = ("/usr/lib/PXELINUX/lpxelinux.0", "pxelinux");

/// Boots a disk by number, with the modules it is linked to.
pub const CHAIN_FILES: [(&str, &str); 3] = [
    ("/usr/lib/syslinux/modules/bios/chain.c32", "syslinux-common"),
    ("/usr/lib/syslinux/modules/bios/libcom32.c32", "syslinux-common"),
    ("/usr/lib/syslinux/modules/bios/libutil.c32", "syslinux-common"),
];

/// The DHCP boot file name.
pub const LOADER: &str = "lpxelinux.0";

/// The DHCP boot file name where HTTP is not wanted.
pub const OVER_TFTP: &str = "pxelinux.0";

/// The directory of its files.
pub const DIRECTORY: &str = "pxelinux.cfg";

/// The text of a file. It always has the labels `local` and `kamethod`, so that a person at the machine can
/// choose (hold Shift while pxelinux starts). Only the default differs.
///
/// The kernel comes over HTTP, or over TFTP if any part of that fails. A machine that should boot from its
/// disk must never take that fallback, so ONERROR is there only where `kamethod` is the default.
#[must_use]
pub fn render(boot: &Boot, settings: &Settings, booting: &Booting) -> String {
    let (default, on_error) = match boot {
        Boot::Local => ("local", ""),
        Boot::Kamethod { .. } => ("kamethod", "ONERROR kamethod-tftp\n"),
    };
    let Settings { address, http, .. } = settings;
    let local = local(booting.local_pxelinux);
    let words = menu::kernel_words(boot, settings);
    let initrd = menu::initrd(boot, settings);
    let by_tftp = by_tftp(initrd, &words);
    let head = "# Written by kactl pxe, which replaces every change.\n";
    if booting.bios == BiosLoader::Pxelinux {
        return format!("{head}{}", menu_of(default, "", &local, &[("kamethod", &by_tftp)]));
    }
    let by_http = format!(
        "\x20 KERNEL http://{address}:{http}/vmlinuz\n\
         \x20 INITRD http://{address}:{http}/{initrd}\n\
         \x20 APPEND {words}\n\
         \x20 IPAPPEND 2\n"
    );
    let labels = [("kamethod", &*by_http), ("kamethod-tftp", &*by_tftp)];
    format!("{head}{}", menu_of(default, on_error, &local, &labels))
}

/// The menu for a pxelinux served by another TFTP server.
#[must_use]
pub fn for_a_site(settings: &Settings, booting: &Booting) -> String {
    let words = menu::kernel_words(&Boot::Local, settings);
    menu_of(
        "local",
        "",
        &local(booting.local_pxelinux),
        &[("kamethod", &by_tftp(menu::initrd(&Boot::Local, settings), &words))],
    )
}

fn menu_of(default: &str, on_error: &str, local: &str, labels: &[(&str, &str)]) -> String {
    let labels: String = labels.iter().map(|(name, text)| format!("\nLABEL {name}\n{text}")).collect();
    format!(
        "DEFAULT {default}\n\
         PROMPT 0\n\
         TIMEOUT 50\n\
         {on_error}\
         \n\
         LABEL local\n\
         {local}\
         {labels}"
    )
}

fn local(how: LocalPxelinux) -> String {
    match how {
        LocalPxelinux::Unload => "\x20 LOCALBOOT 0\n".into(),
        LocalPxelinux::Error => "\x20 LOCALBOOT -1\n".into(),
        LocalPxelinux::Chain => "\x20 COM32 chain.c32\n\x20 APPEND hd0\n".into(),
    }
}

fn by_tftp(initrd: &str, words: &str) -> String {
    format!(
        "\x20 KERNEL vmlinuz\n\
         \x20 APPEND initrd={initrd} {words}\n\
         \x20 IPAPPEND 2\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pxe::menu::tests::settings;

    fn kamethod() -> Boot {
        Boot::Kamethod { session: "kainstall".into(), server: None, port: None, image: None, store_log: None }
    }

    #[test]
    fn the_text_of_a_file() {
        assert_eq!(
            render(&kamethod(), &settings(), &Booting::default()),
            "# Written by kactl pxe, which replaces every change.
DEFAULT kamethod
PROMPT 0
TIMEOUT 50
ONERROR kamethod-tftp

LABEL local
  LOCALBOOT 0

LABEL kamethod
  KERNEL http://10.0.0.1:30766/vmlinuz
  INITRD http://10.0.0.1:30766/all.rdz
  APPEND automatic=method:ka,interface:auto,network:dhcp kamethod rw console=ttyS0 ka.server=10.0.0.1 ka.session=kainstall
  IPAPPEND 2

LABEL kamethod-tftp
  KERNEL vmlinuz
  APPEND initrd=all.rdz automatic=method:ka,interface:auto,network:dhcp kamethod rw console=ttyS0 ka.server=10.0.0.1 ka.session=kainstall
  IPAPPEND 2
"
        );
    }

    #[test]
    fn what_fails_at_a_local_boot_leads_nowhere_else() {
        let local = render(&Boot::Local, &settings(), &Booting::default());
        assert!(local.contains("DEFAULT local\n") && local.contains("LABEL kamethod\n"));
        for word in ["ka.session", "ONERROR"] {
            assert!(!local.contains(word), "{local}");
        }
    }

    #[test]
    fn the_disk_is_booted_as_the_firmware_needs_it() {
        for (how, text) in [
            (LocalPxelinux::Unload, "LABEL local\n  LOCALBOOT 0\n\n"),
            (LocalPxelinux::Error, "LABEL local\n  LOCALBOOT -1\n\n"),
            (LocalPxelinux::Chain, "LABEL local\n  COM32 chain.c32\n  APPEND hd0\n\n"),
        ] {
            let booting = Booting { local_pxelinux: how, ..Booting::default() };
            for boot in [Boot::Local, kamethod()] {
                assert!(render(&boot, &settings(), &booting).contains(text), "{how:?}");
            }
            assert!(for_a_site(&settings(), &booting).contains(text), "{how:?}");
        }
    }

    #[test]
    fn http_is_left_alone_where_nobody_wants_it() {
        let booting = Booting { bios: BiosLoader::Pxelinux, ..Booting::default() };
        let text = render(&kamethod(), &settings(), &booting);
        assert!(!text.contains("http://") && text.contains("LABEL kamethod\n  KERNEL vmlinuz\n"), "{text}");
    }
}
