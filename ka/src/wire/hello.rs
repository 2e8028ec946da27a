//! The limits of a `Hello`. Any holder of the join secret can send one, so its lengths are not trusted.

use super::control::Hello;
use crate::hostname;
use crate::inventory::{Card, Content, Disk, Inventory, Product};

/// The longest encoded `Hello` in bytes.
pub const MAX_HELLO: usize = 64 << 10;
/// The longest string in it in bytes.
pub const MAX_TEXT: usize = 256;
/// The most network cards.
pub const MAX_CARDS: usize = 64;
/// The most addresses of a card, and the most names of a disk.
pub const MAX_NAMES: usize = 64;
/// The most disks.
pub const MAX_DISKS: usize = 256;
/// The most entries listed for a disk.
pub const MAX_CONTENTS: usize = 64;

/// A `Hello` beyond the limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// A text is too long.
    #[error("its {what} has {length} bytes, and at most {MAX_TEXT} are allowed")]
    Text {
        /// Which one.
        what: &'static str,
        /// Its length.
        length: usize,
    },
    /// There are too many items of one kind.
    #[error("it has {count} {what}, and at most {most} are allowed")]
    Count {
        /// The kind.
        what: &'static str,
        /// Their number.
        count: usize,
        /// The limit.
        most: usize,
    },
    /// The host name is invalid.
    #[error(
        "its host name is not valid: letters, digits, '-' and '_', separated by dots, {} at most",
        hostname::MAX_LENGTH
    )]
    Hostname,
}

impl Hello {
    /// Checks that everything in it is within the limits.
    ///
    /// # Errors
    /// [`HelloError`] for the first violation.
    pub fn check(&self) -> Result<(), HelloError> {
        let Inventory { hostname, cards, disks, product, .. } = &self.inventory;
        let Product { maker, model, serial } = product;
        for (what, value) in [("maker", maker), ("model", model), ("serial number", serial)] {
            text(what, value)?;
        }
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

    /// The same cut to the limits, for an agent to send, with a list of what was left out. A disk that is
    /// left out is unknown to the controller, and so is never written to.
    #[must_use]
    pub fn bounded(mut self) -> (Self, Vec<String>) {
        let mut left_out = Vec::new();
        let Inventory { hostname, cards, disks, product, .. } = &mut self.inventory;
        if !hostname.is_empty() && !hostname::is_valid(hostname) {
            left_out.push("its host name, which is not valid".to_owned());
            hostname.clear();
        }
        for (what, count, most) in
            [("network cards", cards.len(), MAX_CARDS), ("disks", disks.len(), MAX_DISKS)]
        {
            if count > most {
                left_out.push(format!("{} of {count} {what}", count - most));
            }
        }
        cards.truncate(MAX_CARDS);
        disks.truncate(MAX_DISKS);
        cut(&mut self.version);
        product.texts().into_iter().for_each(cut);
        cards.iter_mut().for_each(bound_card);
        disks.iter_mut().for_each(bound_disk);
        let all = self.inventory.disks.len();
        // Its entry in a message costs a few bytes more.
        while postcard::to_stdvec(&self).is_ok_and(|bytes| bytes.len() + 64 > MAX_HELLO)
            && self.inventory.disks.pop().is_some()
        {}
        let dropped = all - self.inventory.disks.len();
        if dropped > 0 {
            left_out.push(format!(
                "{dropped} disks, since the description of all is longer than {MAX_HELLO} bytes"
            ));
        }
        (self, left_out)
    }

    /// The approximate number of bytes that it takes in memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.len()).sum::<usize>();
        let Inventory { hostname, cards, disks, .. } = &self.inventory;
        let card = |card: &Card| {
            size_of::<Card>() + texts(&[&card.name, &card.mac]) + size_of_val(card.addresses.as_slice())
        };
        let content = |content: &Content| {
            let words = [content.kind.as_deref(), content.label.as_deref()].map(Option::unwrap_or_default);
            size_of::<Content>() + content.device.len() + texts(&words)
        };
        let disk = |disk: &Disk| {
            let words = [disk.usage.as_deref(), disk.table.as_deref()].map(Option::unwrap_or_default);
            let names = disk.by_id.iter().map(|name| size_of::<String>() + name.len()).sum::<usize>();
            let contents = disk.contents.iter().map(content).sum::<usize>();
            let own = texts(&[&disk.name, &disk.model, &disk.serial, &disk.bus]);
            size_of::<Disk>() + own + texts(&words) + names + contents
        };
        let own = texts(&[&self.session, &self.version, hostname]);
        let cards = cards.iter().map(card).sum::<usize>();
        size_of::<Self>() + own + cards + disks.iter().map(disk).sum::<usize>()
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

fn bound_card(card: &mut Card) {
    cut(&mut card.name);
    cut(&mut card.mac);
    card.addresses.truncate(MAX_NAMES);
}

/// Cuts a disk to the limits. A disk with more entries than may be listed reports that.
fn bound_disk(disk: &mut Disk) {
    for text in [&mut disk.name, &mut disk.model, &mut disk.serial, &mut disk.bus] {
        cut(text);
    }
    disk.usage.iter_mut().chain(&mut disk.table).for_each(cut);
    // A truncated name could be another disk's.
    disk.by_id.retain(|name| name.len() <= MAX_TEXT);
    disk.by_id.truncate(MAX_NAMES);
    if disk.contents.len() > MAX_CONTENTS {
        let rest = disk.contents.split_off(MAX_CONTENTS - 1);
        let size = rest.iter().fold(0_u64, |sum, content| sum.saturating_add(content.size));
        disk.contents.push(Content { device: format!("{} more", rest.len()), size, ..Content::default() });
    }
    for content in &mut disk.contents {
        cut(&mut content.device);
        content.kind.iter_mut().chain(&mut content.label).for_each(cut);
    }
}

fn cut(text: &mut String) {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_TEXT).last();
    text.truncate(end.unwrap_or(0));
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

    fn hello(change: impl FnOnce(&mut Hello)) -> Hello {
        let mut hello = Hello {
            session: "kainstall".into(),
            version: "0.1.0".into(),
            key: [0; 32],
            data_port: 30764,
            window: 1 << 23,
            inventory: Inventory::default(),
            erasable: true,
            place: 0,
            resume: None,
        };
        change(&mut hello);
        hello
    }

    #[test]
    fn an_honest_machine_of_any_size_has_a_hello_that_is_taken() {
        let plain = hello(|hello| hello.inventory.disks = vec![Disk::default(); 3]);
        assert_eq!(plain.clone().bounded(), (plain, Vec::new()));
        let large = hello(|hello| {
            let content = Content { label: Some("ä".repeat(300)), size: 1, ..Content::default() };
            let disk = Disk {
                model: "x".repeat(1000),
                usage: Some("y".repeat(1000)),
                by_id: vec!["z".repeat(100); 100],
                contents: vec![content; 128],
                ..Disk::default()
            };
            let card = Card { addresses: vec![[10, 0, 0, 1].into(); 100], ..Card::default() };
            hello.inventory.hostname = "Müller's PC".into();
            hello.inventory.disks = vec![disk; 300];
            hello.inventory.cards = vec![card; 100];
        });
        let (sent, left_out) = large.bounded();
        assert_eq!(sent.check(), Ok(()));
        assert!(postcard::to_stdvec(&sent).unwrap().len() <= MAX_HELLO - 64);
        assert!(!sent.inventory.disks.is_empty() && left_out.len() == 4, "{left_out:?}");
        let last = sent.inventory.disks[0].contents.last().unwrap();
        assert_eq!((last.device.as_str(), last.size), ("65 more", 65));
        assert!(sent.weight() > MAX_HELLO / 2 && sent.weight() < 4 * MAX_HELLO, "{}", sent.weight());
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
