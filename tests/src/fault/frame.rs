//! Ethernet frames with TCP in them: damage that the checksum does not reveal, as a faulty switch causes it.

const ETHERNET: usize = 14;

/// Writes the TCP checksum of the frame's contents. Frames between namespaces have none yet: the kernel
/// leaves it to a card.
pub(super) fn seal(frame: &mut [u8]) {
    let Some((start, end)) = tcp(frame) else { return };
    let addresses = frame[ETHERNET + 12..ETHERNET + 20].to_vec();
    let segment = &mut frame[start..end];
    segment[16..18].fill(0);
    let length = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    let mut sum = u64::from(length) + 6;
    for pair in addresses.chunks(2).chain(segment.chunks(2)) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).unwrap_or(0);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
}

/// Flips one bit of the TCP payload; the number selects it. Returns false if there is no payload.
pub(super) fn flip(frame: &mut [u8], choice: u64) -> bool {
    let Some((start, end)) = tcp(frame) else { return false };
    let data = start + usize::from(frame[start + 12] >> 4) * 4;
    if data >= end {
        return false;
    }
    let bits = (end - data) as u64 * 8;
    let bit = usize::try_from(choice % bits).unwrap_or(0);
    frame[data + bit / 8] ^= 1 << (bit % 8);
    true
}

/// The position of the TCP segment in an IPv4 frame.
fn tcp(frame: &[u8]) -> Option<(usize, usize)> {
    let ip = frame.get(ETHERNET..)?;
    if frame[12..14] != [8, 0] || ip.len() < 20 || ip[9] != 6 {
        return None;
    }
    let start = ETHERNET + usize::from(ip[0] & 15) * 4;
    let end = ETHERNET + usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    (end <= frame.len() && start + 20 <= end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment from 10.0.0.1 to 10.0.0.2 that carries "abc".
    fn frame() -> Vec<u8> {
        let mut frame = vec![0; ETHERNET];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame.extend([0x45, 0, 0, 43, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0x50, 0x10, 0, 5, 0xaa, 0xaa, 0, 0]);
        frame.extend(b"abc");
        frame
    }

    #[test]
    fn a_sealed_segment_sums_to_all_ones() {
        let mut frame = frame();
        seal(&mut frame);
        let pseudo = [10, 0, 0, 1, 10, 0, 0, 2, 0, 6, 0, 23];
        let bytes: Vec<u8> =
            pseudo.into_iter().chain(frame[ETHERNET + 20..].iter().copied()).chain([0]).collect();
        let mut sum: u32 =
            bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        sum = (sum & 0xffff) + (sum >> 16);
        assert_eq!(sum, 0xffff);
    }

    #[test]
    fn a_flip_changes_one_bit_of_the_data() {
        for choice in 0..24 {
            let mut flipped = frame();
            assert!(flip(&mut flipped, choice));
            let changed: Vec<u32> = frame().iter().zip(&flipped).map(|(a, b)| (a ^ b).count_ones()).collect();
            assert_eq!(changed.iter().sum::<u32>(), 1);
            assert_eq!(changed[ETHERNET + 40..].iter().sum::<u32>(), 1);
        }
    }
}
