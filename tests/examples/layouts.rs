//! Generated tables as sparse images, for another kernel to read:
//!
//! ```text
//! layouts FOLDER COUNT     FOLDER/0, FOLDER/1, … and, on standard output, a line of JSON for each
//! ```

use std::error::Error;
use std::fs::File;
use std::path::Path;

use ka::disk::description::Role;
use ka::disk::units::{MB, SectorSize};
use ka_tests::layouts::{Family, GPT, LOGICALS, MBR, TB, layout};
use ka_tests::sim::random::Random;
use ka_tests::tables;
use serde_json::json;

/// What is told apart: tables of both kinds, sectors of both sizes, weighted shares, and disks over 2 TiB.
fn families() -> [Family; 8] {
    let large = (2 * TB + MB, 14 * TB);
    let sector = SectorSize::B4096;
    [
        MBR,
        LOGICALS,
        GPT,
        Family { fills: 80, ..LOGICALS },
        Family { disk: large, ..GPT },
        Family { sector, ..MBR },
        Family { sector, fills: 40, ..LOGICALS },
        Family { sector, fills: 40, disk: large, ..GPT },
    ]
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, count] = arguments.as_slice() else { return Err("layouts FOLDER COUNT".into()) };
    for (number, family) in (0..count.parse::<u64>()?).zip(families().into_iter().cycle()) {
        let mut random = Random::new(7000 + number);
        let disk = family.disk(&mut random);
        let layout = layout(&family.description(&mut random, disk), disk, &mut random);
        let image = Path::new(folder).join(number.to_string());
        File::create(&image)?.set_len(disk.bytes())?;
        tables::write(&image, &layout);
        let bytes = |sectors: u64| sectors * disk.sector.bytes();
        let one = |placed: &ka::disk::layout::Placed| {
            json!({
                "number": placed.number, "start": bytes(placed.start.0), "size": bytes(placed.size.0),
                "extended": placed.role == Role::Extended,
            })
        };
        let partitions: Vec<_> = layout.partitions.iter().map(one).collect();
        println!("{}", json!({ "sector": disk.sector.bytes(), "partitions": partitions }));
    }
    Ok(())
}
