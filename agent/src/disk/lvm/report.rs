//! What `pvs --reportformat json` says.

use serde::Deserialize;
use std::path::PathBuf;

/// A physical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its device node.
    pub(super) device: PathBuf,
    /// Its group; empty if it is in none.
    pub(super) group: String,
}

#[derive(Deserialize)]
struct Report {
    report: Vec<Rows>,
}

#[derive(Deserialize)]
struct Rows {
    pv: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    pv_name: PathBuf,
    vg_name: String,
}

/// The physical volumes in a report; or what is wrong with it.
pub(super) fn members(text: &str) -> Result<Vec<Member>, String> {
    let report: Report =
        serde_json::from_str(text).map_err(|e| format!("its report is not understood: {e}"))?;
    let rows = report.report.into_iter().flat_map(|rows| rows.pv);
    Ok(rows.map(|row| Member { device: row.pv_name, group: row.vg_name }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn physical_volumes_are_read() {
        let text = r#"
  {
      "report": [
          {
              "pv": [
                  {"pv_name":"/dev/sda3", "vg_name":"vg0"},
                  {"pv_name":"/dev/sdb", "vg_name":""}
              ]
          }
      ]
  }
"#;
        let found = members(text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Member { device: "/dev/sda3".into(), group: "vg0".into() });
        assert!(members("  WARNING: no").unwrap_err().contains("not understood"));
        assert_eq!(members(r#"{"report":[{"pv":[]}]}"#).unwrap(), []);
    }
}
