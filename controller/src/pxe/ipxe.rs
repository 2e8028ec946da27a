//! What a UEFI machine boots: iPXE's scripts.
//!
//! The firmware loads iPXE by TFTP or HTTP, iPXE asks DHCP once more and is given [`ENTRY`], and that asks for
//! the machine's own script, and then for `default`. See <https://ipxe.org/scripting>.
//!
//! A machine that is to boot from its disk leaves iPXE with an error: only then a UEFI firmware goes on to the
//! next entry of its boot order; after a success it stops at its menu. So the decision to boot locally must
//! never look like a script that could not be fetched, or `default` would decide instead. That is why a script
//! is fetched first, and run by itself.

use super::menu::{self, Boot, Settings};

/// iPXE, with the Debian package that has it. `snponly` drives the card through the firmware's own driver, which
/// has just shown that it works, whatever the card is.
pub const FILE: (&str, &str) = ("/usr/lib/ipxe/snponly.efi", "ipxe");

/// What DHCP names for the firmware.
pub const LOADER: &str = "snponly.efi";

/// What DHCP names for iPXE.
pub const ENTRY: &str = "boot.ipxe";

/// The directory of its scripts.
pub const DIRECTORY: &str = "ipxe";

/// The entry's text.
pub const ENTRY_TEXT: &str = "\
#!ipxe
# Written by kactl pxe, which replaces every change.
imgfetch --name menu ipxe/01-${netX/mac:hexhyp} || imgfetch --name menu ipxe/default || exit 1
imgexec menu || exit 1
";

/// The text of a machine's script. Kernel and initrd come over HTTP, which is several times as fast as TFTP, and
/// over TFTP if a wall in between lets nothing else through.
#[must_use]
pub fn render(boot: &Boot, settings: &Settings) -> String {
    let head = "#!ipxe\n# Written by kactl pxe, which replaces every change.\n";
    let Boot::Kamethod { .. } = boot else { return format!("{head}exit 1\n") };
    let words = menu::kernel_words(boot, settings);
    let initrd = menu::initrd(boot, settings);
    let Settings { address, http, .. } = settings;
    let words = format!("{words} BOOTIF=01-${{netX/mac:hexhyp}}");
    format!(
        "{head}\
         kernel http://{address}:{http}/vmlinuz {words} || kernel tftp://{address}/vmlinuz {words} || exit 1\n\
         initrd http://{address}:{http}/{initrd} || initrd tftp://{address}/{initrd} || exit 1\n\
         boot || exit 1\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn settings() -> Settings {
        Settings {
            address: Ipv4Addr::new(10, 0, 0, 1),
            port: None,
            http: 30766,
            console: "console=ttyS0".into(),
            vlan: None,
            by_hand: None,
        }
    }

    #[test]
    fn to_the_disk_is_an_error_that_the_firmware_sees() {
        let text = render(&Boot::Local, &settings());
        assert_eq!(text, "#!ipxe\n# Written by kactl pxe, which replaces every change.\nexit 1\n");
        let last = ENTRY_TEXT.lines().last();
        assert_eq!(last, Some("imgexec menu || exit 1"), "what a script says must not lead to another one");
    }

    #[test]
    fn kernel_and_initrd_by_http_then_by_tftp() {
        let text = render(
            &Boot::Kamethod { session: "s".into(), server: None, port: None, image: None, store_log: None },
            &settings(),
        );
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
