//! Determines which machines are meant, and how each is switched.

use std::collections::BTreeMap;

use ka::mac::Mac;

use super::PowerError;
use crate::config::bmc::{Bmcs, Method, Wake};
use crate::lists::hosts::Hosts;
use crate::machines::find::find;
use crate::machines::record::Record;

/// A machine to switch.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name for people.
    pub label: String,
    /// Its card, if one is known.
    pub mac: Option<Mac>,
    /// It boots by UEFI.
    pub uefi: bool,
    /// How it is switched.
    pub method: Result<Method, PowerError>,
}

/// All known machines: those that joined a run, the site's table, and the BMCs.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    records: Vec<Record>,
    hosts: BTreeMap<String, Mac>,
    bmcs: Bmcs,
    /// The interface through which machines are woken, unless their entry names one.
    interface: Option<String>,
}

impl Directory {
    /// Combines all these. Tables are read in order; the first that names a machine wins.
    #[must_use]
    pub fn new(records: Vec<Record>, tables: &[Hosts], bmcs: Bmcs, interface: Option<String>) -> Self {
        let mut hosts = BTreeMap::new();
        for (mac, name) in tables.iter().flat_map(Hosts::iter) {
            hosts.entry(name.hostname.to_ascii_lowercase()).or_insert(mac);
        }
        Self { records, hosts, bmcs, interface }
    }

    /// The machine that a word names. A machine with a BMC needs no record: its name is enough.
    #[must_use]
    pub fn target(&self, word: &str) -> Target {
        let found = find(word, &self.records);
        let record = found.as_ref().ok().and_then(|found| found.record.clone());
        let mac = word.parse().ok().or(record.as_ref().map(|record| record.mac));
        let mac = mac.or_else(|| self.hosts.get(&word.to_ascii_lowercase()).copied());
        let named = mac.and_then(|mac| self.hosts.iter().find(|(_, known)| **known == mac));
        let names = [
            Some(word.to_owned()),
            record.as_ref().map(|record| record.name.clone()),
            named.map(|(name, _)| name.clone()),
            mac.map(|mac| mac.to_string()),
        ];
        let known = self.bmcs.get(names.iter().flatten().map(String::as_str)).cloned();
        let method = match (known, mac) {
            (Some(method), _) => Ok(method),
            (None, Some(_)) => {
                Ok(Method::Wake(Wake { interface: self.interface.clone(), ..Wake::default() }))
            }
            (None, None) => Err(PowerError::Unknown(match found {
                Err(why) if why.contains("machines have this name") => why,
                _ => "it has no [[bmc]], and its hardware address is not known to wake it by".into(),
            })),
        };
        let name = record.as_ref().map(|record| record.name.clone()).filter(|name| !name.is_empty());
        let name = name.or_else(|| named.map(|(name, _)| name.clone()));
        let label = name.unwrap_or_else(|| word.to_owned());
        let uefi = record.and_then(|record| record.firmware).is_some_and(|firmware| firmware == "uefi");
        Target { label, mac, uefi, method }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn a_machine_is_known_by_any_of_its_names() {
        let records =
            vec![Record { name: "n1".into(), firmware: Some("uefi".into()), ..Record::new(mac(1), 5) }];
        let hosts = Hosts::parse(Path::new("hosts"), "020000000002 n2\n020000000003 n3\n").unwrap();
        let directory = Directory::new(records, &[hosts], Bmcs::default(), Some("eth9".into()));
        for (word, card) in [
            ("n1", Some(1)),
            ("N2", Some(2)),
            ("02:00:00:00:00:01", Some(1)),
            ("02:00:00:00:00:07", Some(7)),
            ("n4", None),
        ] {
            let target = directory.target(word);
            assert_eq!(target.mac, card.map(mac), "{word}");
            assert_eq!(target.method.is_ok(), card.is_some(), "{word}: {:?}", target.method);
        }
        let target = directory.target("02-00-00-00-00-01");
        assert!(target.uefi && target.label == "n1");
        let Ok(Method::Wake(wake)) = target.method else { panic!("{target:?}") };
        assert_eq!(wake.interface.as_deref(), Some("eth9"));
    }
}
