//! The table of everything that depends on the processor.
//!
//! The names are those of the UEFI specification (section 3.5.1.1, removable media), of GRUB's targets, and
//! of IANA's list of processor architecture types for DHCP option 93 (RFC 4578).

/// Everything that depends on a machine's processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arch {
    /// The name that `uname -m` prints.
    pub name: &'static str,
    /// The programs for UEFI firmware.
    pub efi: Efi,
    /// GRUB for UEFI.
    pub grub_uefi: Grub,
    /// GRUB for a PC BIOS, if the architecture has one.
    pub grub_bios: Option<Grub>,
    /// The types that DHCP clients send.
    pub dhcp: Dhcp,
}

/// The file names of programs for UEFI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Efi {
    /// The program that every firmware starts by default, from the system partition's root.
    pub removable: &'static str,
    /// The signed first stage, shim.
    pub shim: &'static str,
    /// GRUB.
    pub grub: &'static str,
    /// The manager of machine owner keys (MOK).
    pub mok_manager: &'static str,
    /// systemd-boot.
    pub systemd_boot: &'static str,
}

/// A GRUB target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grub {
    /// The argument of `grub-install --target=` and the name of the modules' directory.
    pub target: &'static str,
    /// A file that is present whenever the target's modules are.
    pub core: &'static str,
    /// Debian's package for it.
    pub package: &'static str,
}

/// DHCP client architecture types (option 93).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dhcp {
    /// A PC BIOS.
    pub bios: Option<u16>,
    /// UEFI with TFTP. Some firmware of 64-bit PCs sends 9, "EFI BC".
    pub uefi: &'static [u16],
    /// UEFI with HTTP.
    pub uefi_http: u16,
}

/// 64-bit PCs.
pub const X86_64: Arch = Arch {
    name: "x86_64",
    efi: Efi {
        removable: "EFI/BOOT/BOOTX64.EFI",
        shim: "shimx64.efi",
        grub: "grubx64.efi",
        mok_manager: "mmx64.efi",
        systemd_boot: "systemd-bootx64.efi",
    },
    grub_uefi: Grub { target: "x86_64-efi", core: "kernel.img", package: "grub-efi-amd64-bin" },
    grub_bios: Some(Grub { target: "i386-pc", core: "boot.img", package: "grub-pc-bin" }),
    dhcp: Dhcp { bios: Some(0), uefi: &[7, 9], uefi_http: 16 },
};

/// 64-bit ARM.
pub const AARCH64: Arch = Arch {
    name: "aarch64",
    efi: Efi {
        removable: "EFI/BOOT/BOOTAA64.EFI",
        shim: "shimaa64.efi",
        grub: "grubaa64.efi",
        mok_manager: "mmaa64.efi",
        systemd_boot: "systemd-bootaa64.efi",
    },
    grub_uefi: Grub { target: "arm64-efi", core: "kernel.img", package: "grub-efi-arm64-bin" },
    grub_bios: None,
    dhcp: Dhcp { bios: None, uefi: &[11], uefi_http: 19 },
};

/// The processor that this program was built for. A golden node and its nodes have the same one.
#[cfg(not(target_arch = "aarch64"))]
pub const THIS: Arch = X86_64;
/// The processor that this program was built for. A golden node and its nodes have the same one.
#[cfg(target_arch = "aarch64")]
pub const THIS: Arch = AARCH64;

/// The suffixes of UEFI program names, before `.efi`, for every processor with a shim.
pub const EFI_SUFFIXES: [&str; 6] = ["x64", "ia32", "aa64", "arm", "riscv64", "loongarch64"];

/// Whether this processor has AES-GCM instructions.
#[must_use]
pub fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

impl Grub {
    /// The possible paths of the target's modules, from a system's root: the paths of the file that is always
    /// among them.
    #[must_use]
    pub fn modules(&self) -> [String; 2] {
        ["grub", "grub2"].map(|name| format!("usr/lib/{name}/{}/{}", self.target, self.core))
    }
}
