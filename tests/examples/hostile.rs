//! A host that does harm, for `make bench CASES=hostile`:
//!
//! ```text
//! hostile hold ADDRESS                      holds connections
//! hostile replay ADDRESS KEY                the same, with a recorded handshake on each
//! hostile discover ADDRESS                  forged discoveries
//! hostile inventories|silent|hellos|logs|steps ADDRESS KEY SESSION
//! hostile unread ADDRESS PATH               HTTP without reading
//! hostile unconfirmed ADDRESS FILE          TFTP without confirming
//! hostile relay|forge|accuse ADDRESS KEY SESSION CARD   an admitted member
//! hostile get ADDRESS PATH                  an honest download over HTTP; prints seconds
//! hostile tftp ADDRESS FILE                 an honest download over TFTP; prints seconds
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::time::Instant;

use ka::keys::JoinKey;
use ka_tests::hostile::floods::{self, Insider};
use ka_tests::hostile::relay::{self, Lie};

/// The block that the forger changes: some way into the stream.
const FORGED: u64 = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (what, address) = match words[..] {
        [what, address, ..] => (what, address.parse::<SocketAddr>()?),
        _ => return Err("hostile WHAT ADDRESS …; see the head of hostile.rs".into()),
    };
    let key = |path: &str| -> Result<JoinKey, Box<dyn Error>> {
        Ok(JoinKey::from_text(&std::fs::read_to_string(path)?)?)
    };
    match (what, &words[2..]) {
        ("hold", []) => floods::hold(address, &[]),
        ("replay", [path]) => floods::hold(address, &floods::recorded(&key(path)?)?),
        ("discover", []) => floods::discover(address)?,
        ("unread", [path]) => floods::never_read(address, path),
        ("unconfirmed", [file]) => floods::never_confirm(address, file),
        ("get", [path]) => timed(|| floods::fetch_http(address, path))?,
        ("tftp", [file]) => timed(|| floods::fetch_tftp(address, file))?,
        ("relay" | "forge" | "accuse", [path, session, card]) => {
            let lie = match what {
                "forge" => Lie::Forge(FORGED),
                "accuse" => Lie::Accuse,
                _ => Lie::None,
            };
            println!("{:?}", relay::relay(address, &key(path)?, (session, what, card), lie)?);
        }
        (_, [path, session]) => {
            let insider = match what {
                "inventories" => Insider::Inventories,
                "silent" => Insider::Silent,
                "hellos" => Insider::Hellos,
                "logs" => Insider::Logs,
                "steps" => Insider::Steps,
                _ => return Err(format!("no flood is called {what}").into()),
            };
            floods::inside(address, &key(path)?, session, insider)
        }
        _ => return Err("hostile: arguments are missing; see the head of hostile.rs".into()),
    }
    Ok(())
}

fn timed(work: impl FnOnce() -> std::io::Result<usize>) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let bytes = work()?;
    println!("{:.3} {bytes}", start.elapsed().as_secs_f64());
    Ok(())
}
