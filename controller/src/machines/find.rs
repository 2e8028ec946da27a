//! Finds the machine that a word means: by name, hardware address or IP address.

use std::net::IpAddr;

use ka::mac::Mac;
use ka::shown;

use super::record::Record;

/// The maximum number of machines with the same name that an error lists.
const MAX_NAMED: usize = 8;

/// A machine named by the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The word that was used.
    pub word: String,
    /// Its address, if known.
    pub address: Option<IpAddr>,
    /// Its record; `None` for an address from which no machine has joined.
    pub record: Option<Record>,
}

impl Found {
    /// Its name for people.
    #[must_use]
    pub fn label(&self) -> String {
        self.record.as_ref().map_or_else(|| self.word.clone(), Record::label)
    }
}

/// Finds a machine among all that ever joined. A hardware address or an IP address may be an unknown one.
///
/// # Errors
/// Why the machine cannot be determined.
pub fn find(word: &str, all: &[Record]) -> Result<Found, String> {
    let found = |record: &Record| Found {
        word: word.to_owned(),
        address: record.address,
        record: Some(record.clone()),
    };
    let unseen = |address| Found { word: word.to_owned(), address, record: None };
    if let Ok(mac) = word.parse::<Mac>() {
        return Ok(all.iter().find(|record| record.mac == mac).map_or_else(|| unseen(None), found));
    }
    if let Ok(address) = word.parse::<IpAddr>() {
        // A later machine may have the address of an earlier one.
        let there = all.iter().filter(|record| record.address == Some(address));
        let last = there.max_by_key(|record| record.last_seen);
        return Ok(last.map_or_else(|| unseen(Some(address)), found));
    }
    let named: Vec<&Record> = all.iter().filter(|record| record.name.eq_ignore_ascii_case(word)).collect();
    match named.as_slice() {
        [one] => Ok(found(one)),
        [] => Err(format!(
            "{}: no machine of this name was seen: name it by its hardware address or address, or see 'kactl machines'",
            shown::field(word)
        )),
        many => {
            let macs = shown::some(many.iter().map(|record| record.mac), MAX_NAMED);
            Err(format!(
                "{}: {} machines have this name: name one by its hardware address: {macs}; remove the file of one that is gone",
                shown::field(word),
                many.len()
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(last: u8, name: &str, address: u8, seen: u64) -> Record {
        Record {
            name: name.into(),
            address: Some([10, 0, 0, address].into()),
            ..Record::new(Mac([2, 0, 0, 0, 0, last]), seen)
        }
    }

    #[test]
    fn a_machine_has_many_names() {
        let all = [machine(1, "a", 1, 5), machine(2, "b", 2, 5), machine(3, "b", 1, 9)];
        let mac = |word: &str| find(word, &all).map(|found| found.record.map(|record| record.mac.0[5]));
        for (word, expected) in [
            ("a", Some(1)),
            ("A", Some(1)),
            ("02:00:00:00:00:02", Some(2)),
            ("02-00-00-00-00-02", Some(2)),
            ("10.0.0.2", Some(2)),
            // Two machines have had it, and the later one has it now.
            ("10.0.0.1", Some(3)),
            ("10.0.0.9", None),
            ("02:00:00:00:00:09", None),
        ] {
            assert_eq!(mac(word), Ok(expected), "{word}");
        }
        assert_eq!(find("10.0.0.9", &all).unwrap().address, Some([10, 0, 0, 9].into()));
        assert!(mac("c").unwrap_err().starts_with("c: no machine"));
        assert!(mac("b").unwrap_err().contains("2 machines have this name"));
    }
}
