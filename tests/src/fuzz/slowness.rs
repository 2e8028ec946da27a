//! What members report about their waiting time and their position, true or not: a report can only ever
//! remove a node of the chain.

use std::time::Duration;

use ka::chain::{NodeId, Offset, ProgressSample, Slow, SlowLimits, Slowness, Spent};

use super::input::Input;

pub(super) fn any_reports(data: &[u8]) {
    let mut input = Input::new(data);
    let mut slowness = Slowness::new(SlowLimits::default());
    let mut chain: Vec<NodeId> = (0..=u32::from(input.below(6))).map(NodeId).collect();
    let mut samples = vec![ProgressSample::default(); chain.len()];
    let mut now = Duration::ZERO;
    while !input.is_empty() {
        let number = usize::from(input.byte()) % samples.len();
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
                slowness.on_report(node, ProgressSample { spent, verified, written }, now);
            }
            _ => {
                // Honest members continue from their position.
                let sample = &mut samples[number];
                let passed = input.millis();
                let part = |share: u8| passed.mul_f64(f64::from(share) / 255.0);
                sample.spent.running += passed;
                sample.spent.starved += part(input.byte());
                sample.spent.output += part(input.byte());
                sample.spent.writer += part(input.byte());
                sample.verified = sample.verified.plus(u64::from(input.u16()) << 10);
                sample.written = sample.written.plus(u64::from(input.u16()) << 10).min(sample.verified);
                now += passed;
                slowness.on_report(node, *sample, now);
            }
        }
    }
}
