use conntrack_ebpf::{EVERY_FLOW, FlowHash, IPS_ASSURED, IPS_SEEN_REPLY, is_sampled};

use super::*;
use crate::model::{
    flow::{FlowEvent, Sample},
    lifetimes::Window,
};

const SECOND: u64 = 1_000_000_000;

/// `n` TCP flows, inserted a microsecond apart, in the sample below `threshold`.
fn flows(n: u64, seed: u64, threshold: u32) -> Flows {
    let mut flows = Flows::new(100_000, Window::default(), 0);
    for flow in 0..n {
        let hash = FlowHash::new(seed).with(flow).finish();
        if is_sampled(hash, threshold) {
            flows.observe(&FlowEvent {
                time_ns: flow * 1000,
                sample: Sample { hash, threshold },
                ..FlowEvent::example(320 * flow, 6)
            });
        }
    }
    flows
}

/// Reads flows again: of each ten, seven are established and assured, two in SYN_RECV, one in SYN_SENT.
fn read(flows: &Flows, n: usize, seed: u64, time_ns: u64) -> Batch {
    let state = |inserted_ns: u64| match inserted_ns / 1000 % 10 {
        0..7 => (IPS_SEEN_REPLY | IPS_ASSURED, 3),
        7..9 => (IPS_SEEN_REPLY, 2),
        _ => (0, 1),
    };
    let rereads = flows.choose(n, seed).into_iter().map(|choice| {
        let (status, tcp_state) = state(choice.inserted_ns);
        let found = Some(Found { status, tcp_state, timeout_seconds: 60 });
        Reread { entry: choice.entry, inserted_ns: choice.inserted_ns, found }
    });
    Batch { time_ns, cost_ns: Some(50_000), rereads: rereads.collect() }
}

#[test]
fn shares_hold_the_truth() {
    // (flows, ratio) with 256 reads a second for five seconds.
    for (n, ratio) in [(100_000, 1.0), (20_000, 0.5), (1_500, 1.0), (600, 0.5)] {
        let mut covered = [0; 3];
        let threshold = if ratio < 1.0 { (ratio * 4_294_967_296.0) as u32 } else { EVERY_FLOW };
        let mut table = flows(n, 0, threshold);
        for run in 0..100 {
            if ratio < 1.0 {
                table = flows(n, run, threshold);
            }
            let flows = &mut table;
            let mut live = LiveState::default();
            for second in 1..=5 {
                let seed = run * 100 + second;
                let batch = read(flows, READS_PER_SECOND, seed, (10 + second) * SECOND);
                live.observe(&batch, flows);
            }
            let summary = live.summary(flows, 15 * SECOND).unwrap();
            assert_eq!((summary.oldest_read_seconds, summary.gone), (4.0, 0));
            let [tcp] = &summary.protocols[..] else { panic!("{summary:?}") };
            let truths = [(EntryStatus::Assured, 0.7), (EntryStatus::Replied, 0.2)];
            for (covered, (status, truth)) in covered.iter_mut().zip(truths) {
                let share = tcp.by_status[status as usize].ratio;
                *covered += u32::from((share.low..=share.high).contains(&truth));
            }
            let found = tcp.by_tcp_state.iter().filter(|share| share.is_found());
            let states: Vec<TcpState> = found.map(|share| share.of).collect();
            assert_eq!(states, [TcpState::SynSent, TcpState::SynRecv, TcpState::Established]);
            let never = tcp.by_tcp_state[TcpState::TimeWait as usize];
            assert!(never.ratio.low == 0.0 && !never.is_found(), "{never:?}");
            let share = tcp.by_tcp_state[TcpState::SynSent as usize].ratio;
            covered[2] += u32::from((share.low..=share.high).contains(&0.1));
        }
        println!("{n} flows at {ratio}: {covered:?} of 100");
        assert!(covered.iter().all(|covered| *covered >= 90), "{n} {ratio}: {covered:?}");
    }
}

#[test]
fn where_all_are_read_there_is_no_error() {
    let mut flows = flows(100, 1, EVERY_FLOW);
    let mut live = LiveState::default();
    assert_eq!(live.summary(&flows, SECOND), None);
    for second in 1..=3 {
        let batch = read(&flows, READS_PER_SECOND, second, second * SECOND);
        live.observe(&batch, &mut flows);
    }
    let summary = live.summary(&flows, 3 * SECOND).unwrap();
    assert_eq!((summary.reads, summary.seconds_per_read), (300, Some(5e-7)));
    let tcp = &summary.protocols[0];
    assert_eq!((tcp.read, tcp.speaks_for), (100, Estimate::exact(100.0)));
    assert_eq!(tcp.by_status[EntryStatus::Assured as usize].ratio, Estimate::exact(0.7));
    assert_eq!(live.summary(&flows, 9 * SECOND), None);
}

#[test]
fn a_flow_that_stays_gone_has_lost_its_destroy() {
    let mut flows = flows(3, 1, EVERY_FLOW);
    let mut live = LiveState::default();
    let gone = |entry| Reread { entry, inserted_ns: 1000, found: None };
    // The second names a flow that is not there.
    let batch =
        Batch { time_ns: SECOND, cost_ns: None, rereads: vec![gone(320), gone(640), gone(7)] };
    live.observe(&batch, &mut flows);
    let summary = live.summary(&flows, SECOND).unwrap();
    assert_eq!((summary.reads, summary.gone, summary.seconds_per_read), (1, 1, None));
    assert!(summary.protocols.is_empty());
    live.observe(&Batch { time_ns: 2 * SECOND, cost_ns: None, rereads: vec![] }, &mut flows);
    assert_eq!(flows.len(), 3);
    live.observe(&Batch { time_ns: 3 * SECOND, cost_ns: None, rereads: vec![] }, &mut flows);
    assert_eq!((flows.len(), flows.pairing().unpaired), (2, 1));
}

#[test]
fn states_are_the_kernels() {
    assert_eq!(TcpState::of(3), TcpState::Established);
    assert_eq!((TcpState::of(9), TcpState::of(200)), (TcpState::SynSent2, TcpState::Unknown));
    for (at, state) in TcpState::ALL.into_iter().enumerate() {
        assert_eq!(state as usize, at);
    }
}

#[test]
fn what_was_read_of_a_namespace_speaks_for_its_flows() {
    let mut flows = Flows::new(10_000, Window::default(), 0);
    // Of ten flows nine are of one namespace; of another one there are too few.
    for flow in 0..2000 {
        let netns_cookie = if flow % 10 == 0 { 8 } else { 7 };
        let hash = FlowHash::new(1).with(flow).finish() >> 1;
        flows.observe(&FlowEvent {
            time_ns: flow * 1000,
            netns_cookie: if flow < 9 { 6 } else { netns_cookie },
            sample: Sample { hash, threshold: 1 << 31 },
            ..FlowEvent::example(320 * flow, if flow % 2 == 0 { 6 } else { 17 })
        });
    }
    let mut live = LiveState::default();
    let (read_ns, long) = (10 * SECOND, 16 * SECOND);
    assert_eq!(live.of_netns(7, &flows, read_ns), None);
    for seed in 0..5 {
        let batch = read(&flows, READS_PER_SECOND, seed, read_ns + seed);
        live.observe(&batch, &mut flows);
    }
    for (cookie, expected) in [(7, 2.0 * 1793.0), (8, 2.0 * 199.0)] {
        let netns = live.of_netns(cookie, &flows, read_ns).unwrap();
        let all: f64 = netns.entries.iter().flatten().sum();
        // Each flow stands for two entries.
        assert!((all - expected).abs() < 10.0, "{cookie}: {all}");
        assert_eq!(netns.entries[EntryStatus::Offloaded as usize], [0.0; 4]);
    }
    let seven = live.of_netns(7, &flows, read_ns).unwrap();
    let tcp: f64 = seven.entries.iter().map(|of| of[Protocol::Tcp as usize]).sum();
    assert!((tcp / (2.0 * 1793.0) - 4.0 / 9.0).abs() < 0.05, "{tcp}");
    assert_eq!(live.of_netns(6, &flows, read_ns), None, "too few");
    assert_eq!(live.of_netns(7, &flows, long), None, "too long ago");
}

#[test]
fn of_short_connections_the_old_ones_are_closed() {
    // Each was open for the first half of the time that the table has been watched.
    const FLOWS: u64 = 200;
    let mut flows = flows(FLOWS, 1, EVERY_FLOW);
    let mut live = LiveState::default();
    let [established, time_wait] = [3, 7];
    let rereads = flows.choose(FLOWS as usize, 1).into_iter().map(|choice| {
        let is_young = choice.inserted_ns >= FLOWS / 2 * 1000;
        let tcp_state = if is_young { established } else { time_wait };
        let status = IPS_SEEN_REPLY | IPS_ASSURED;
        let found = Some(Found { status, tcp_state, timeout_seconds: 60 });
        Reread { entry: choice.entry, inserted_ns: choice.inserted_ns, found }
    });
    let batch = Batch { time_ns: SECOND, cost_ns: None, rereads: rereads.collect() };
    live.observe(&batch, &mut flows);
    let netns = live.of_netns(FlowEvent::example(0, 6).netns_cookie, &flows, SECOND).unwrap();
    assert_eq!((netns.established, netns.old_established), (FLOWS as f64 / 2.0, Some(0.0)));
}
