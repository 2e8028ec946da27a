//! The header lines before the partitions: `name: value`.

use super::super::description::{DiskId, DiskSignature, Header, MAX_GPT_LENGTH};
use super::super::kind::TableKind;
use super::super::problem::Problem;
use super::super::units::{Lba, SectorSize};
use super::Located;
use super::value;

/// The headers read so far. The disk's identifier is interpreted once the kind of table is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers {
    table: Option<TableKind>,
    id: Option<Text>,
    sector: Option<SectorSize>,
    first_lba: Option<Lba>,
    last_lba: Option<Lba>,
    length: Option<u32>,
    grain: Option<u64>,
    device: Option<String>,
}

/// A value with its place.
#[derive(Clone, Debug)]
struct Text {
    text: String,
    line: u32,
    column: u32,
}

/// The name and value of a header line. A line with `=` describes a partition, even if it has a colon.
pub(super) fn split(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':').filter(|_| !line.contains('='))?;
    Some((name.trim(), value.trim()))
}

impl Headers {
    /// Applies one header.
    pub(super) fn set(&mut self, name: &str, text: &str, line: &str, number: u32) -> Located<()> {
        // The position of the value.
        let at = line.find(':').map_or(0, |colon| {
            let behind = line.get(colon + 1..).unwrap_or_default();
            colon + 1 + behind.len() - behind.trim_start().len()
        });
        let wrong = |header: &'static str, expected: &'static str| {
            (at, Problem::HeaderValue { header, expected, found: text.to_owned() })
        };
        let sectors = |header: &'static str| {
            value::integer(text).map(Lba).ok_or_else(|| wrong(header, "the number of a sector"))
        };
        match name {
            "label" => {
                self.table = Some(match text {
                    "dos" | "mbr" => TableKind::Mbr,
                    "gpt" => TableKind::Gpt,
                    _ => return Err((at, Problem::Label(text.to_owned()))),
                });
            }
            "label-id" => {
                let column = super::column(line, at);
                self.id = Some(Text { text: text.to_owned(), line: number, column });
            }
            "device"
                if text.starts_with('#')
                    || text.contains(|c: char| {
                        c.is_whitespace() || c.is_control() || matches!(c, '=' | ',')
                    }) =>
            {
                return Err(wrong("device", "a device's name"));
            }
            "device" => self.device = Some(text.to_owned()).filter(|device| !device.is_empty()),
            "unit" if text == "sectors" => {}
            "unit" => return Err(wrong("unit", "`sectors`")),
            "first-lba" => self.first_lba = Some(sectors("first-lba")?),
            "last-lba" => self.last_lba = Some(sectors("last-lba")?),
            "table-length" => {
                let length = value::integer(text).and_then(|n| u32::try_from(n).ok());
                let length = length.filter(|n| (1..=MAX_GPT_LENGTH).contains(n));
                self.length = Some(length.ok_or_else(|| wrong("table-length", "a number from 1 to 1024"))?);
            }
            "grain" => {
                let grain = value::bytes(text).ok_or_else(|| wrong("grain", "a number of bytes"))?;
                self.grain = Some(grain);
            }
            "sector-size" => {
                let size = value::integer(text).and_then(|n| u32::try_from(n).ok());
                let size = size.and_then(|n| SectorSize::try_from(n).ok());
                self.sector = Some(size.ok_or_else(|| wrong("sector-size", "512, 1024, 2048 or 4096"))?);
            }
            _ => return Err((line.len() - line.trim_start().len(), Problem::Header(name.to_owned()))),
        }
        Ok(())
    }

    /// The header of the description; without a label it is an MBR, as in sfdisk.
    pub(super) fn finish(self) -> Result<Header, (u32, u32, Problem)> {
        let table = self.table.unwrap_or(TableKind::Mbr);
        let mut header = Header::new(table);
        if let Some(Text { text, line, column }) = self.id {
            let wrong = |expected| {
                (line, column, Problem::HeaderValue { header: "label-id", expected, found: text.clone() })
            };
            header.id = Some(match table {
                TableKind::Mbr => value::signature(&text)
                    .map(|number| DiskId::Mbr(DiskSignature(number)))
                    .ok_or_else(|| wrong("a number of 32 bits such as 0x1a2b3c4d"))?,
                TableKind::Gpt => text.parse().map(DiskId::Gpt).map_err(|_| wrong("a GUID"))?,
            });
        }
        header.sector = self.sector;
        header.grain = self.grain;
        header.device = self.device;
        if table == TableKind::Gpt {
            header.first_lba = self.first_lba;
            header.last_lba = self.last_lba;
            header.length = self.length;
        }
        Ok(header)
    }
}
