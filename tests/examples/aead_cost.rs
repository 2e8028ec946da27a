//! CPU seconds that the AEAD alone takes for one GiB of blocks, on this processor.
//!
//! `make bench` adds this to what mbuffer takes, for a bound on what a relay may cost. It seals, because that
//! does the same work as opening and can be repeated in place: no copy is measured with it.

use std::error::Error;
use std::time::Duration;

use ka::seal::Cipher;
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustix::time::{ClockId, clock_gettime};

const GIB: u64 = 1 << 30;
/// A block of 64 KiB.
const PLAIN: usize = (64 << 10) - 17;

fn main() -> Result<(), Box<dyn Error>> {
    let algorithm = match Cipher::preferred() {
        Cipher::Aes256Gcm => &AES_256_GCM,
        Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
    };
    let failed = |_| "the AEAD refuses";
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &[7; 32]).map_err(failed)?);
    let mut block = vec![0x5a; PLAIN];
    let before = cpu_seconds();
    for number in 0..GIB / PLAIN as u64 {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let _tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut block).map_err(failed)?;
    }
    println!("{:.4}", cpu_seconds() - before);
    Ok(())
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)).as_secs_f64()
}
