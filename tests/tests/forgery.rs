//! Relays that lie: all members of a chain have the key of its blocks, and in each of these chains all but
//! one forge what they relay, truncate it, or seal an end of their own. The honest member must never accept a
//! forged byte as the golden node's, and must accuse only liars.
#![allow(clippy::unwrap_used, reason = "clippy takes helpers of tests for production code")]

use std::time::Duration;

use ka::chain::{Action, Epoch, LinkId, Member, Neighbour, NodeId, Secrets, View};
use ka::proof::{Checker, Forged, Proof, Roots, SEGMENT};
use ka::seal::{Block, Cipher, MAX_PLAINTEXT, Opener, Sealer, StreamKey, Total};
use ka_tests::sim::random::Random;

const SCHEDULES: u64 = 10_000;
const WINDOW: u64 = 64 << 20;

/// A sealed stream, and the controller's proofs about it.
struct Golden {
    key: StreamKey,
    content: Vec<u8>,
    blocks: Vec<Block>,
    proofs: Vec<Proof>,
}

impl Golden {
    fn new(random: &mut Random, length: usize, largest: usize) -> Self {
        let key = StreamKey::generate(Cipher::preferred()).unwrap();
        let (mut content, mut sealer) = (Vec::with_capacity(length + 8), Sealer::new(&key));
        while content.len() < length {
            content.extend_from_slice(&random.bits().to_le_bytes());
        }
        let mut blocks: Vec<Block> =
            content.chunks(largest).map(|plain| sealer.seal(plain).unwrap()).collect();
        let (mut roots, mut proofs) = (Roots::default(), Vec::new());
        roots.update(&content, |root| proofs.push(Proof { root, last: None }));
        let total = Total { length: content.len() as u64, hash: roots.root().hash, sha256: None };
        blocks.push(sealer.finish(&total).unwrap());
        proofs.push(Proof { root: roots.root(), last: Some(total) });
        Self { key, content, blocks, proofs }
    }
}

/// A relay with the stream's key that forwards arbitrary data; returns whether they differ from what it
/// received.
fn lie(random: &mut Random, key: &StreamKey, blocks: Vec<Block>) -> (Vec<Block>, bool) {
    let (opener, mut sealer) = (Opener::new(key), Sealer::new(key));
    let count = blocks.len();
    let (how, at) = (random.index(7), random.index(count));
    let (mut lied, mut sent, mut total) = (false, Vec::with_capacity(count), None);
    for (number, block) in blocks.iter().enumerate() {
        let mut plain = Vec::new();
        total = opener.open(block, number as u64, &mut plain).unwrap();
        if total.is_some() {
            break;
        }
        if number == at {
            match how {
                // Honest in this case.
                0 => {}
                // A single bit.
                1 | 2 if !plain.is_empty() => {
                    let byte = random.index(plain.len());
                    plain[byte] ^= 1 << random.index(8);
                    lied = true;
                }
                // A block removed, a block duplicated, a byte removed.
                3 => {
                    lied |= !plain.is_empty();
                    continue;
                }
                4 => {
                    lied |= !plain.is_empty();
                    sent.push(sealer.seal(&plain).unwrap());
                }
                5 => lied |= plain.pop().is_some(),
                _ => {}
            }
        }
        sent.push(sealer.seal(&plain).unwrap());
    }
    let mut total = total.unwrap();
    if how == 6 {
        total.length = total.length.wrapping_add(random.between(1, 1000));
        lied = true;
    }
    sent.push(sealer.finish(&total).unwrap());
    (sent, lied)
}

/// The honest node: the real member, and the comparison of its content with the proofs, which arrive at any
/// time.
fn receive(random: &mut Random, golden: &Golden, blocks: Vec<Block>) -> Result<Vec<u8>, Forged> {
    let now = Duration::ZERO;
    let mut member: Member<()> = Member::node(NodeId(1), &golden.key, WINDOW, Duration::from_secs(60));
    let predecessor = Some(Neighbour { id: NodeId(2), address: () });
    member.on_view(View { epoch: Epoch(1), predecessor, successor: None, secrets: Secrets::default() }, now);
    let dialled = member.take_actions().into_iter().find_map(|action| match action {
        Action::Dial { link, .. } => Some(link),
        _ => None,
    });
    let link: LinkId = dialled.unwrap();
    member.on_open(link, now);
    let (mut checker, mut content, mut claimed) = (Checker::default(), Vec::new(), None);
    let mut proofs = golden.proofs.iter().copied().peekable();
    for block in blocks {
        if random.chance(30)
            && let Some(proof) = proofs.next()
        {
            checker.on_proof(proof)?;
        }
        member.on_block(link, block, now);
        member.on_tick(now + Duration::from_secs(1));
        while let Some(plain) = member.next_plaintext() {
            member.on_written(plain.end);
            checker.on_content(&plain.bytes, plain.from)?;
            content.extend_from_slice(&plain.bytes);
            claimed = claimed.or(plain.total);
        }
    }
    let claimed = claimed.expect("a liar seals well");
    loop {
        if checker.on_end(claimed)? {
            return Ok(content);
        }
        checker.on_proof(proofs.next().expect("the last proof decides"))?;
    }
}

#[test]
fn no_schedule_of_lying_relays_gets_a_forged_byte_accepted() {
    let (mut accepted, mut found, mut in_a_segment) = (0, 0, 0);
    for seed in 0..SCHEDULES {
        let random = &mut Random::new(seed);
        // Occasionally a stream of several segments, in large blocks.
        let (length, largest) = if seed % 1000 == 0 {
            (usize::try_from(2 * SEGMENT).unwrap() + random.index(1 << 20), MAX_PLAINTEXT)
        } else {
            (random.index(20_000), 1 + random.index(2000))
        };
        let golden = Golden::new(random, length, largest);
        let nodes = 1 + random.index(8);
        let honest = random.index(nodes);
        let (mut blocks, mut lied) = (golden.blocks.clone(), false);
        for _ in 0..honest {
            let (sent, lies) = lie(random, &golden.key, blocks);
            (blocks, lied) = (sent, lied | lies);
        }
        match receive(random, &golden, blocks) {
            Ok(content) => {
                assert!(content == golden.content, "seed {seed}: forged bytes were accepted");
                accepted += 1;
            }
            Err(forged) => {
                assert!(lied, "seed {seed}: nobody lied, and yet: {forged}");
                assert!(honest > 0, "seed {seed}: the golden node itself is accused");
                in_a_segment += usize::from(forged.from > 0);
                found += 1;
            }
        }
    }
    println!(
        "{accepted} copies were right, {found} forgeries were found, {in_a_segment} behind a proven segment"
    );
    assert!(accepted > 1000 && found > 3000 && in_a_segment > 0, "{accepted} {found} {in_a_segment}");
}
