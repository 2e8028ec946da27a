//! The list of machines that may be erased.

use std::path::Path;

use ka::mac::Mac;

use crate::lists::list::{self, ListError, Once};

/// Reads a list with one hardware address per line; `#` begins a comment.
///
/// # Errors
/// [`ListError`] with file, line and column.
pub fn read(path: &Path) -> Result<Vec<Mac>, ListError> {
    parse(path, &list::read(path, "the list of nodes")?)
}

/// Parses such a list; `path` is for errors.
///
/// # Errors
/// [`ListError`] with file, line and column.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Mac>, ListError> {
    let (mut macs, mut once) = (Vec::new(), Once::new());
    for line in list::lines(path, text) {
        let mac = line.mac()?;
        once.add(mac, &line, line.first)?;
        line.end()?;
        macs.push(mac);
    }
    if macs.is_empty() {
        return Err(ListError::Empty { path: path.to_owned() });
    }
    Ok(macs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::mac::MacError;

    fn mac(text: &str) -> Mac {
        text.parse().unwrap()
    }

    #[test]
    fn every_common_form_is_the_same_address() {
        for text in [
            "52:54:00:ab:cd:ef",
            "52:54:00:AB:CD:EF",
            "52-54-00-ab-cd-ef",
            "5254.00ab.cdef",
            "525400abcdef",
            "01-52-54-00-ab-cd-ef",
        ] {
            let mac = mac(text);
            assert_eq!(mac.to_string(), "52:54:00:ab:cd:ef", "{text}");
            assert_eq!(mac.pxelinux_name(), "01-52-54-00-ab-cd-ef");
        }
        assert_eq!(mac("00-54-00-ab-cd-ef").to_string(), "00:54:00:ab:cd:ef");
    }

    #[test]
    fn what_is_no_address() {
        for text in [
            "",
            "node1",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:ef:00",
            "52:54:00:ab:cd:eg",
            "52:54:00:ab-cd:ef",
            "5:254:00:ab:cd:ef",
            "+25400abcdef",
            "52:54:00:ab:cd:ef ",
            "52:54:00:äb:cd:e",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(MacError::Shape(text.into())), "{text}");
        }
        for text in ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"] {
            assert_eq!(text.parse::<Mac>(), Err(MacError::NoMachine(text.into())), "{text}");
        }
    }

    #[test]
    fn a_list() {
        let text = "# rack 1\n\n  52:54:00:00:00:01  # first\r\n\t5254.0000.0002#second\n";
        let macs = parse(Path::new("macs"), text).unwrap();
        assert_eq!(macs, [mac("52:54:00:00:00:01"), mac("52:54:00:00:00:02")]);
    }

    #[test]
    fn an_error_in_a_list_has_its_place() {
        for (text, message) in [
            ("", "macs names no machine"),
            ("# none\n", "macs names no machine"),
            (
                "525400000001\n  node2\n",
                "macs:2:3: expected a hardware address such as 52:54:00:12:34:56, found 'node2'",
            ),
            (
                "é525400000001",
                "macs:1:1: expected a hardware address such as 52:54:00:12:34:56, found 'é525400000001'",
            ),
            ("525400000001 node1", "macs:1:14: expected the end of the line or a comment, found 'node1'"),
            ("525400000001\n\n\u{a0}52-54-00-00-00-01", "macs:3:2: '52-54-00-00-00-01' is already in line 1"),
            ("ffffffffffff", "macs:1:1: 'ffffffffffff' is not a single machine's address"),
        ] {
            assert_eq!(parse(Path::new("macs"), text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_missing_list_is_named() {
        let error = read(Path::new("/nonexistent/macs")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the list of nodes /nonexistent/macs");
    }
}
