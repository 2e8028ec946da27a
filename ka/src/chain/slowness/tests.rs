use super::*;

const MB: u64 = 1_000_000;

/// A member during one second: the bytes that it verified, the bytes that its writer took, and its shares
/// (starved, output, writer).
#[derive(Clone, Copy)]
struct Second(u64, u64, f64, f64, f64);

const BUSY: Second = Second(40 * MB, 40 * MB, 0.1, 0.9, 0.0);

/// Members that report every half second.
struct Stream {
    slowness: Slowness,
    chain: Vec<NodeId>,
    now: Duration,
    members: BTreeMap<NodeId, ProgressSample>,
    end: Option<Offset>,
    /// The positions, as the golden node knows them, and their rate in bytes per second; unknown at first.
    tail: Option<(Offset, u64)>,
}

impl Stream {
    fn of(nodes: u32) -> Self {
        let chain: Vec<NodeId> = (0..=nodes).map(NodeId).collect();
        let members = chain.iter().map(|id| (*id, ProgressSample::default())).collect();
        let slowness = Slowness::new(SlowLimits::default());
        Self { slowness, chain, now: Duration::ZERO, members, end: None, tail: None }
    }

    /// Lets time pass until a node is named and removed.
    fn pass(&mut self, seconds: u64, how: impl Fn(u32) -> Second) -> Option<(u64, Slow)> {
        let start = self.now;
        for _ in 0..seconds * 2 {
            self.now += Duration::from_millis(500);
            for id in self.chain.clone() {
                self.report(id, how(id.0));
            }
            if let Some(slow) = self.slowness.judge(&self.chain, self.end, self.now) {
                self.chain.retain(|id| *id != slow.node);
                return Some(((self.now - start).as_secs(), slow));
            }
        }
        None
    }

    fn report(&mut self, id: NodeId, Second(verified, written, starved, output, writer): Second) {
        let sample = self.members.get_mut(&id).unwrap();
        let half = Duration::from_millis(500);
        sample.verified = sample.verified.plus(verified / 2);
        sample.written = sample.written.plus(written / 2);
        sample.spent.running += half;
        sample.spent.starved += half.mul_f64(starved);
        sample.spent.output += half.mul_f64(output);
        sample.spent.writer += half.mul_f64(writer);
        match &mut self.tail {
            Some((tail, rate)) if id == NodeId::GOLDEN => {
                *tail = tail.plus(*rate / 2);
                self.slowness.on_golden(*sample, *tail, self.now);
            }
            _ => self.slowness.on_report(id, *sample, self.now),
        }
    }
}

/// Node 2 takes nothing, claims to have everything and to wait for nothing; node 1's link to it is full.
fn withholding(id: u32) -> Second {
    match id {
        0 => Second(0, 0, 0.0, 0.2, 0.0),
        1 => Second(0, 0, 0.0, 0.99, 0.0),
        2 => Second(1000 * MB, 1000 * MB, 0.0, 0.0, 0.0),
        _ => Second(0, 0, 0.99, 0.0, 0.0),
    }
}

#[test]
fn who_lets_nothing_through_and_names_no_reason_goes() {
    for nodes in [2, 5] {
        let mut stream = Stream::of(nodes);
        stream.tail = Some((Offset(0), 39 * MB));
        assert_eq!(stream.pass(20, |_| BUSY), None);
        stream.tail = stream.tail.map(|(tail, _)| (tail, 0));
        let (seconds, slow) = stream.pass(300, withholding).expect("a chain that stands still for ever");
        assert_eq!(slow.node, NodeId(2), "of {nodes}: {}", slow.reason);
        assert!((95..=105).contains(&seconds), "{seconds} s");
        assert!(slow.reason.to_string().starts_with("let nothing through for 10"), "{}", slow.reason);
    }
}

#[test]
fn nobody_is_slow_for_what_a_liar_says_of_itself() {
    // All links are full at 12 MB/s, as on a slow network; node 3 claims any rate it likes.
    let full = |id: u32| match id {
        0 => Second(12 * MB, 12 * MB, 0.0, 0.95, 0.0),
        3 => Second(u64::MAX / 1000, u64::MAX / 1000, 0.0, 0.0, 0.0),
        _ => Second(12 * MB, 12 * MB, 0.95, 0.95, 0.0),
    };
    let mut stream = Stream::of(5);
    assert!(stream.pass(60, full).is_some(), "an honest node goes where the golden node is not asked");
    let mut stream = Stream::of(5);
    stream.tail = Some((Offset(0), 12 * MB));
    assert_eq!(stream.pass(120, full), None);
    assert!(stream.slowness.best() < 13e6, "{}", stream.slowness.best());
}

/// The writer of node `slow` takes 0.4 MB/s: the nodes before it cannot write, and those behind it starve.
fn slow_writer(slow: u32) -> impl Fn(u32) -> Second {
    let crawl = 4 * MB / 10;
    move |id| match id.cmp(&slow) {
        std::cmp::Ordering::Less => Second(crawl, crawl, 0.0, 0.99, 0.0),
        std::cmp::Ordering::Equal => Second(crawl, crawl, 0.0, 0.0, 0.98),
        std::cmp::Ordering::Greater => Second(crawl, crawl, 0.99, 0.0, 0.0),
    }
}

/// The link to node `to` carries 0.4 MB/s: its receiver has room, and the nodes before its sender have sent
/// all they may.
fn slow_link(to: u32) -> impl Fn(u32) -> Second {
    let crawl = 4 * MB / 10;
    move |id| {
        let starved = if id < to { 0.2 } else { 0.99 };
        let output = if id + 1 == to { 0.97 } else { 0.0 };
        Second(crawl, crawl, starved, output, 0.0)
    }
}

#[test]
fn a_slow_writer_is_named_with_its_figures() {
    let mut stream = Stream::of(4);
    assert_eq!(stream.pass(20, |_| BUSY), None);
    let (after, slow) = stream.pass(30, slow_writer(2)).unwrap();
    assert_eq!(slow.node, NodeId(2));
    // The ten-second average falls below three tenths after more than seven seconds.
    assert!((7..=9).contains(&after), "{after} s");
    assert!(
        slow.reason.to_string().contains("where the chain took 40 MB/s, its writer blocked 7"),
        "{}",
        slow.reason
    );
    assert_eq!(stream.pass(60, |_| BUSY), None);
}

#[test]
fn who_is_slow_from_the_start_is_measured_by_the_first_windows() {
    let mut stream = Stream::of(4);
    assert_eq!(stream.pass(1, |_| BUSY), None);
    assert_eq!(stream.pass(30, slow_writer(1)).unwrap().1.node, NodeId(1));
}

#[test]
fn the_receiver_of_a_slow_link_is_bypassed_and_then_its_sender() {
    let mut stream = Stream::of(5);
    assert_eq!(stream.pass(5, |_| BUSY), None);
    assert_eq!(stream.pass(30, slow_link(3)).unwrap().1.node, NodeId(3));
    // Node 2 is just as slow towards node 4.
    let slow = stream.pass(30, |id| slow_link(if id > 2 { 4 } else { 3 })(id)).unwrap().1;
    assert_eq!(slow.node, NodeId(2));
    assert!(
        slow.reason.to_string().starts_with("the link from node 2 to node 4 took 0.4 MB/s"),
        "{}",
        slow.reason
    );
}

#[test]
fn a_slow_source_removes_nobody() {
    let mut stream = Stream::of(4);
    assert_eq!(stream.pass(10, |_| BUSY), None);
    assert_eq!(stream.pass(120, |_| Second(MB / 10, MB / 10, 0.99, 0.0, 0.0)), None);
    assert_eq!(stream.pass(20, |_| BUSY), None);
}

#[test]
fn the_golden_nodes_own_slow_link_costs_one_node_and_no_more() {
    let mut stream = Stream::of(5);
    assert_eq!(stream.pass(5, |_| BUSY), None);
    assert_eq!(stream.pass(30, slow_link(1)).unwrap().1.node, NodeId(1));
    assert_eq!(stream.pass(300, slow_link(1)), None);
}

#[test]
fn a_chain_that_is_slow_as_a_whole_loses_two_at_most() {
    let mut stream = Stream::of(6);
    assert_eq!(stream.pass(5, |_| BUSY), None);
    let mut taken = Vec::new();
    for _ in 0..6 {
        // Whichever nodes remain, the first one's writer is slow.
        let first = stream.chain[1].0;
        taken.extend(stream.pass(60, slow_writer(first)).map(|(_, slow)| slow.node));
    }
    assert_eq!(taken, [NodeId(1), NodeId(2)]);
}

#[test]
fn removals_that_help_may_go_on() {
    let mut stream = Stream::of(6);
    for slow in 1..=4 {
        assert_eq!(stream.pass(20, |_| BUSY), None);
        assert_eq!(stream.pass(30, slow_writer(slow)).unwrap().1.node, NodeId(slow));
    }
}

#[test]
fn one_node_holds_up_nobody() {
    let mut stream = Stream::of(1);
    assert_eq!(stream.pass(10, |_| BUSY), None);
    assert_eq!(stream.pass(60, slow_writer(1)), None);
}

#[test]
fn the_last_node_goes_when_the_one_behind_it_went_for_its_link() {
    let mut stream = Stream::of(2);
    assert_eq!(stream.pass(5, |_| BUSY), None);
    // Node 1's network card is slow. It has blocks ready for node 2, so only the link behind it shows.
    assert_eq!(stream.pass(30, slow_link(2)).unwrap().1.node, NodeId(2));
    assert_eq!(stream.pass(30, slow_link(1)).unwrap().1.node, NodeId(1));
    assert_eq!(stream.pass(60, slow_link(1)), None, "nobody is left");
}

#[test]
fn a_stream_that_ends_soon_is_left_alone() {
    let mut stream = Stream::of(3);
    assert_eq!(stream.pass(20, |_| BUSY), None);
    // At this rate, 4 MB take 10 s.
    stream.end = Some(stream.members[&NodeId(2)].verified.plus(8 * MB));
    assert_eq!(stream.pass(15, slow_writer(2)), None);
    stream.end = stream.end.map(|end| end.plus(1000 * MB));
    assert_eq!(stream.pass(15, slow_writer(2)).unwrap().1.node, NodeId(2));
}

#[test]
fn slower_is_not_too_slow() {
    let mut stream = Stream::of(3);
    assert_eq!(stream.pass(20, |_| BUSY), None);
    // Two fifths of the best rate, and it waits only for the writer.
    assert_eq!(
        stream.pass(60, |id| Second(16 * MB, 16 * MB, 0.0, 0.0, if id == 2 { 0.99 } else { 0.0 })),
        None
    );
}

#[test]
fn who_stalls_for_a_death_elsewhere_is_not_to_blame() {
    let mut stream = Stream::of(4);
    assert_eq!(stream.pass(20, |_| BUSY), None);
    // Node 3 is silent: the writer of node 1 still drains its window, as fast as ever.
    let how = |id| Second(0, 40 * MB, 0.0, 0.9, if id == 1 { 0.99 } else { 0.0 });
    assert_eq!(stream.pass(12, how), None);
    // Later all of them wait, and none writes.
    assert_eq!(stream.pass(30, |_| Second(0, 0, 0.0, 0.5, 0.0)), None);
}

#[test]
fn the_limit_is_named_though_nobody_is_removed() {
    type Case<'a> = (u32, &'a dyn Fn(u32) -> Second, Option<&'a str>);
    let slow_source = |_: u32| Second(4 * MB, 4 * MB, 0.9, 0.0, 0.0);
    let (link, first, alone, writer) = (slow_link(2), slow_link(1), slow_link(1), slow_writer(3));
    let cases: [Case; 6] = [
        (3, &link, Some("the link from node 1 to node 2, 0.4 MB/s")),
        (3, &first, Some("the link from the golden node to node 1, 0.4 MB/s")),
        (1, &alone, Some("the link from the golden node to node 1, 0.4 MB/s")),
        (3, &writer, Some("the disk of node 3, 0.4 MB/s")),
        (3, &slow_source, Some("the golden node, which reads and packs no faster")),
        (3, &|_| Second(40 * MB, 40 * MB, 0.1, 0.2, 0.1), None),
    ];
    for (nodes, how, expected) in cases {
        // From the start: no faster rate is known, so no node is too slow.
        let mut stream = Stream::of(nodes);
        assert_eq!(stream.pass(12, how), None, "{expected:?}");
        let limit = stream.slowness.limit(&stream.chain, stream.now).map(|limit| limit.reason().to_string());
        assert_eq!(limit.as_deref(), expected);
    }
}

/// The part of the chain, its rate, and how it compares to the others: the first link and the last, a disk,
/// the source.
#[test]
fn the_limit_has_its_figures() {
    let golden = NodeId::GOLDEN;
    let link = |from, to| Limiter::Link { from, to };
    type Case<'a> = (&'a dyn Fn(u32) -> Second, Limiter, f64);
    let source = |id: u32| Second(4 * MB / 10, 4 * MB / 10, if id == 0 { 0.9 } else { 0.8 }, 0.1, 0.0);
    let cases: [Case; 5] = [
        (&slow_link(1), link(golden, NodeId(1)), 0.97),
        (&slow_link(2), link(NodeId(1), NodeId(2)), 0.97),
        (&slow_link(3), link(NodeId(2), NodeId(3)), 0.97),
        (&slow_writer(2), Limiter::Writer(NodeId(2)), 0.98),
        (&source, Limiter::Source, 0.9),
    ];
    for (how, what, busy) in cases {
        let mut stream = Stream::of(3);
        assert_eq!(stream.pass(5, |_| BUSY), None);
        // No node is removed at the end of a stream, and the limit is known all the same.
        stream.end = Some(Offset(0));
        assert_eq!(stream.pass(30, how), None);
        let limit = stream.slowness.limit(&stream.chain, stream.now).unwrap();
        assert_eq!(limit.what, what);
        assert!((limit.rate / 4e5 - 1.0).abs() < 0.01 && (limit.best / 4e7 - 1.0).abs() < 0.01, "{limit:?}");
        assert!((limit.busy - busy).abs() < 0.01 && limit.others <= 0.2, "{limit:?}");
    }
}

/// A card that negotiated 100 Mbit/s among gigabit ones: 11.2 MB/s where the first windows were sent at 112.
#[test]
fn a_card_of_a_tenth_of_the_speed_is_too_slow() {
    let mut stream = Stream::of(3);
    let fast = Second(112 * MB, 112 * MB, 0.1, 0.9, 0.0);
    assert_eq!(stream.pass(5, |_| fast), None);
    let tenth = |id: u32| {
        let Second(_, _, starved, output, writer) = slow_link(2)(id);
        Second(115 * MB / 10, 115 * MB / 10, starved, output, writer)
    };
    let (_, slow) = stream.pass(60, tenth).expect("the receiver of the slow link");
    assert_eq!(slow.node, NodeId(2));
}
