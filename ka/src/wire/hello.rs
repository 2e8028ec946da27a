//! What a `Hello` may say. Whoever knows the join secret can send one, so nothing in it is believed to have a sane length.

use super::control::Hello;
use crate::hostname;
use crate::inventory::{Card, Disk, Inventory};

/// The longest `Hello` in bytes, as it is encoded.
pub const MAX_HELLO: usize = 64 << 10;
/// The longest string in it in bytes.
pub const MAX_TEXT: usize = 256;
/// The most network cards.
pub const MAX_CARDS: usize = 64;
/// The most addresses of a card, and names of a disk.
pub const MAX_NAMES: usize = 64;
/// The most disks.
pub const MAX_DISKS: usize = 256;
/// The most things on a disk.
pub const MAX_CONTENTS: usize = 64;

/// A `Hello` that nobody has to understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// A text is too long.
    #[error("its {what} has {length} bytes, and at most {MAX_TEXT} are allowed")]
    Text {
        /// Which.
        what: &'static str,
        /// How long it is.
        length: usize,
    },
    /// There are too many of something.
    #[error("it has {count} {what}, and at most {most} are allowed")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// The host name is none.
    #[error(
        "its host name is not valid: letters, digits, '-' and '_', separated by dots, {} at most",
        hostname::LONGEST
    )]
    Hostname,
}

impl Hello {
    /// Whether all that it says has a sane length.
    ///
    /// # Errors
    /// [`HelloError`] with the first that has not.
    pub fn check(&self) -> Result<(), HelloError> {
        let Inventory { hostname, cards, disks, .. } = &self.inventory;
        text("session", &self.session)?;
        text("version", &self.version)?;
        if !hostname.is_empty() && !hostname::is_valid(hostname) {
            return Err(HelloError::Hostname);
        }
        count("network cards", cards.len(), MAX_CARDS)?;
        count("disks", disks.len(), MAX_DISKS)?;
        cards.iter().try_for_each(card)?;
        disks.iter().try_for_each(disk)
    }
}

fn card(card: &Card) -> Result<(), HelloError> {
    text("card's name", &card.name)?;
    text("hardware address", &card.mac)?;
    count("addresses of a card", card.addresses.len(), MAX_NAMES)
}

fn disk(disk: &Disk) -> Result<(), HelloError> {
    for (what, value) in [
        ("disk's name", &disk.name),
        ("disk's model", &disk.model),
        ("disk's serial number", &disk.serial),
        ("disk's bus", &disk.bus),
    ] {
        text(what, value)?;
    }
    for (what, value) in [("disk's usage", &disk.usage), ("partition table", &disk.table)] {
        value.iter().try_for_each(|value| text(what, value))?;
    }
    count("names of a disk", disk.by_id.len(), MAX_NAMES)?;
    disk.by_id.iter().try_for_each(|name| text("disk's name", name))?;
    count("partitions of a disk", disk.contents.len(), MAX_CONTENTS)?;
    for content in &disk.contents {
        text("partition's name", &content.device)?;
        content.kind.iter().chain(&content.label).try_for_each(|value| text("partition's label", value))?;
    }
    Ok(())
}

fn text(what: &'static str, value: &str) -> Result<(), HelloError> {
    if value.len() > MAX_TEXT { Err(HelloError::Text { what, length: value.len() }) } else { Ok(()) }
}

fn count(what: &'static str, count: usize, most: usize) -> Result<(), HelloError> {
    if count > most { Err(HelloError::Count { what, count, most }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Content;

    fn hello(change: impl FnOnce(&mut Hello)) -> Hello {
        let mut hello = Hello {
            session: "kainstall".into(),
            version: "0.1.0".into(),
            key: [0; 32],
            data_port: 30764,
            window: 1 << 23,
            inventory: Inventory::default(),
            erasable: true,
            resume: None,
        };
        change(&mut hello);
        hello
    }

    #[test]
    fn what_is_sane_passes_and_what_is_not_is_named() {
        let long = || "x".repeat(MAX_TEXT + 1);
        assert_eq!(hello(|_| ()).check(), Ok(()));
        assert_eq!(hello(|hello| hello.inventory.hostname = "node_7.example".into()).check(), Ok(()));
        let disk = |change: &dyn Fn(&mut Disk)| {
            hello(|hello| {
                let mut disk = Disk::default();
                change(&mut disk);
                hello.inventory.disks.push(disk);
            })
        };
        for (hello, words) in [
            (hello(|hello| hello.inventory.hostname = "x".repeat(70_000)), "its host name is not valid"),
            (hello(|hello| hello.inventory.hostname = "a\x1b[2J".into()), "its host name is not valid"),
            (hello(|hello| hello.version = long()), "its version has 257 bytes"),
            (
                hello(|hello| hello.inventory.disks = vec![Disk::default(); 257]),
                "it has 257 disks, and at most 256",
            ),
            (disk(&|disk| disk.model = long()), "its disk's model has 257 bytes"),
            (disk(&|disk| disk.by_id = vec![String::new(); 65]), "it has 65 names of a disk"),
            (disk(&|disk| disk.contents = vec![Content::default(); 65]), "it has 65 partitions of a disk"),
            (
                disk(&|disk| disk.contents = vec![Content { label: Some(long()), ..Content::default() }]),
                "its partition's label has 257 bytes",
            ),
        ] {
            let error = hello.check().unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
