//! iPXE scripts: what a UEFI machine boots, or a BIOS machine that is given iPXE.
//!
//! The firmware loads iPXE by TFTP or HTTP. iPXE asks DHCP again and gets [`ENTRY`], which fetches the
//! machine's own script, and then `default`. See <https://ipxe.org/scripting>.
//!
//! A machine that should boot from its disk leaves iPXE with an error, unless it has a setting of its own:
//! only then does most UEFI firmware continue with its boot order; after a success it stops at its menu. So
//! the decision to boot locally must never look like a script that could not be fetched, or `default` would
//! decide instead. That is why a script is fetched first, and run separately.

use super::menu::{self, Boot, Settings};
use crate::config::pxe::{Booting, LocalIpxe};

/// iPXE for BIOS machines, using the PXE driver in the card's ROM.
pub const BIOS_FILE: (&str, &str) = ("/usr/lib/ipxe/undionly.kpxe", "ipxe");

/// The DHCP boot file name for a BIOS machine that is given iPXE.
pub const UNDIONLY: &str = "undionly.kpxe";

/// The DHCP boot file name for iPXE.
pub const ENTRY: &str = "boot.ipxe";

/// The directory of its scripts.
pub const DIRECTORY: &str = "ipxe";

/// The text of the entry script.
pub const ENTRY_TEXT: &str = "\
#!ipxe
# Written by kactl pxe, which replaces every change.
imgfetch --name menu ipxe/01-${netX/mac:hexhyp} || imgfetch --name menu ipxe/default || exit 1
imgexec menu || exit 1
";

/// The text of a machine's script. Kernel and initrd come over HTTP, which is several times as fast as TFTP,
/// or over TFTP if a firewall blocks HTTP.
#[must_use]
pub fn render(boot: &Boot, settings: &Settings, booting: &Booting) -> String {
    let head = "#!ipxe\n# Written by kactl pxe, which replaces every change.\n";
    let Boot::Kamethod { .. } = boot else { return format!("{head}{}\n", local(booting.local_ipxe)) };
    let words = menu::kernel_words(boot, settings);
    let initrd = menu::initrd(boot, settings);
    let Settings { address, http, .. } = settings;
    let words = format!("initrd={initrd} {words} BOOTIF=01-${{netX/mac:hexhyp}}");
    format!(
        "{head}\
         kernel http://{address}:{http}/vmlinuz {words} || kernel tftp://{address}/vmlinuz {words} || exit 1\n\
         initrd http://{address}:{http}/{initrd} || initrd tftp://{address}/{initrd} || exit 1\n\
         boot || exit 1\n"
    )
}

fn local(how: LocalIpxe) -> &'static str {
    match how {
        LocalIpxe::Error => "exit 1",
        LocalIpxe::Success => "exit 0",
        LocalIpxe::Sanboot => "sanboot --no-describe --drive 0x80 || exit 1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pxe::menu::tests::settings;

    #[test]
    fn to_the_disk_is_an_error_that_the_firmware_sees() {
        for (how, line) in [
            (LocalIpxe::Error, "exit 1"),
            (LocalIpxe::Success, "exit 0"),
            (LocalIpxe::Sanboot, "sanboot --no-describe --drive 0x80 || exit 1"),
        ] {
            let text = render(&Boot::Local, &settings(), &Booting { local_ipxe: how, ..Booting::default() });
            assert_eq!(
                text,
                format!("#!ipxe\n# Written by kactl pxe, which replaces every change.\n{line}\n")
            );
        }
        let last = ENTRY_TEXT.lines().last();
        assert_eq!(last, Some("imgexec menu || exit 1"), "what a script says must not lead to another one");
    }

    #[test]
    fn kernel_and_initrd_by_http_then_by_tftp() {
        let boot =
            Boot::Kamethod { session: "s".into(), server: None, port: None, image: None, store_log: None };
        let text = render(&boot, &settings(), &Booting::default());
        let words = "initrd=all.rdz automatic=method:ka,interface:auto,network:dhcp kamethod rw console=ttyS0 \
                     ka.server=10.0.0.1 ka.session=s BOOTIF=01-${netX/mac:hexhyp}";
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[2],
            format!(
                "kernel http://10.0.0.1:30766/vmlinuz {words} || kernel tftp://10.0.0.1/vmlinuz {words} || exit 1"
            )
        );
        assert!(lines[3].starts_with("initrd http://10.0.0.1:30766/all.rdz || initrd tftp://"), "{text}");
    }
}
