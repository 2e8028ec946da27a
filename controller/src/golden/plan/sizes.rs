//! Sizes of logical volumes on request (`--lv VG/LV=SIZE`).

use super::PlanError;
use crate::golden::scan::GoldenGroup;
use ka::disk::choice::parse_size;
use ka::plan::{LogicalSize, is_name};
use std::str::FromStr;

/// The size of one logical volume on the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedSize {
    /// Its group's name.
    pub group: String,
    /// Its own name.
    pub name: String,
    /// Its size.
    pub size: WantedBytes,
}

/// The size of a logical volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedBytes {
    /// A number of bytes.
    Fixed(u64),
    /// A percentage of the group.
    Share(u8),
    /// The same share of the group as on the golden node.
    Scaled,
    /// A weighted share of the space that the others leave.
    Fill(u32),
}

impl FromStr for WantedSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected VG/LV=SIZE with a size such as 20G, 25%, scaled, fill or fill*2, found `{text}`"
            )
        };
        let (volume, size) = text.split_once('=').ok_or_else(wrong)?;
        let (group, name) = volume.trim_start_matches("/dev/").split_once('/').ok_or_else(wrong)?;
        let size = match size {
            "scaled" => Some(WantedBytes::Scaled),
            "fill" => Some(WantedBytes::Fill(1)),
            size => match (size.strip_prefix("fill*"), size.strip_suffix('%')) {
                (Some(weight), _) => {
                    weight.parse().ok().filter(|weight| (1..=1000).contains(weight)).map(WantedBytes::Fill)
                }
                (_, Some(percent)) => {
                    percent.parse().ok().filter(|percent| (1..=100).contains(percent)).map(WantedBytes::Share)
                }
                (None, None) => parse_size(size).map(WantedBytes::Fixed),
            },
        };
        let size = size.filter(|_| is_name(group) && is_name(name)).ok_or_else(wrong)?;
        Ok(Self { group: group.to_owned(), name: name.to_owned(), size })
    }
}

impl WantedBytes {
    /// The same, for a golden volume of this many bytes.
    pub(super) fn of(self, golden: u64) -> LogicalSize {
        match self {
            Self::Fixed(bytes) => LogicalSize::Fixed(bytes),
            Self::Share(percent) => LogicalSize::Share(percent),
            Self::Scaled => LogicalSize::Scaled(golden),
            Self::Fill(weight) => LogicalSize::Fill(weight),
        }
    }
}

/// Whether each entry names a copied volume, and no volume has two.
pub(super) fn check(wanted: &[WantedSize], groups: &[GoldenGroup]) -> Result<(), PlanError> {
    for (index, one) in wanted.iter().enumerate() {
        let wrong = |reason: &str| PlanError::Size {
            volume: format!("{}/{}", one.group, one.name),
            reason: reason.to_owned(),
        };
        let is_it = |group: &GoldenGroup| {
            group.group.name == one.group && group.group.volumes.iter().any(|volume| volume.name == one.name)
        };
        if !groups.iter().any(is_it) {
            return Err(wrong("it is not a logical volume that is copied"));
        }
        if wanted.iter().take(index).any(|other| other.group == one.group && other.name == one.name) {
            return Err(wrong("two sizes for one volume"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, size) in [
            ("vg0/root=20G", WantedBytes::Fixed(20_000_000_000)),
            ("vg0/root=20GiB", WantedBytes::Fixed(20 << 30)),
            ("/dev/vg0/root=25%", WantedBytes::Share(25)),
            ("vg0/root=scaled", WantedBytes::Scaled),
            ("vg0/root=fill", WantedBytes::Fill(1)),
            ("vg0/root=fill*3", WantedBytes::Fill(3)),
        ] {
            let expected = WantedSize { group: "vg0".into(), name: "root".into(), size };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "root=20G",
            "vg0/root",
            "vg0/root=",
            "vg0/root=0%",
            "vg0/root=101%",
            "vg0/=1G",
            "vg0/a b=1G",
            "vg0/x=fill*0",
        ] {
            let error = text.parse::<WantedSize>().unwrap_err();
            assert!(error.contains(text) && error.contains("fill*2"), "{error}");
        }
    }
}
