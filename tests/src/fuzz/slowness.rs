//! What members report about their waiting time and their position, true or not: a report can only ever
//! remove a node of the chain.

use std::time::Duration;

use ka::chain::{NodeId, Offset, Slow, SlowLimits, Slowness, Spent, Standing};

use super::input::Input;

pub(super) fn any_reports(data: &[u8]) {
    let mut input = Input::new(data);
    let mut slowness = Slowness::new(SlowLimits::default());
    let mut chain: Vec<NodeId> = (0..=u32::from(input.below(6))).map(NodeId).collect();
    let mut standings = vec![Standing::default(); chain.len()];
    let mut now = Duration::ZERO;
    while !input.is_empty() {
        let number = usize::from(input.byte()) % standings.len();
        let node = NodeId(u32::try_from(number).expect("few"));
        match input.below(8) {
            0 => {
                now += input.millis();
                let end = (input.below(4) == 0).then(|| Offset(input.u64()));
                let (best, length) = (slowness.best(), chain.len());
                assert!(best >= 0.0 && !best.is_nan());
                if let Some(Slow { node, reason }) = slowness.judge(&chain, end, now) {
                    assert!(node != NodeId::GOLDEN && chain.contains(&node), "{node}: {reason}");
                    // Even the only node can be removed, because of a sender that was slow before.
                    assert!(length >= 2 && !reason.to_string().is_empty());
                    chain.retain(|member| *member != node);
                }
            }
            1 => {
                // Liars may report anything.
                let times: [u64; 4] = std::array::from_fn(|_| input.u64());
                let [running, starved, output, writer] = times.map(|t| Duration::new(t, 0));
                let spent = Spent { running, starved, output, writer };
                let (verified, written) = (Offset(input.u64()), Offset(input.u64()));
                slowness.on_report(node, Standing { spent, verified, written }, now);
            }
            _ => {
                // Honest members continue from their position.
                let standing = &mut standings[number];
                let passed = input.millis();
                let part = |share: u8| passed.mul_f64(f64::from(share) / 255.0);
                standing.spent.running += passed;
                standing.spent.starved += part(input.byte());
                standing.spent.output += part(input.byte());
                standing.spent.writer += part(input.byte());
                standing.verified = standing.verified.plus(u64::from(input.u16()) << 10);
                standing.written = standing.written.plus(u64::from(input.u16()) << 10).min(standing.verified);
                now += passed;
                slowness.on_report(node, *standing, now);
            }
        }
    }
}
