//! What a source may tell, with everything that can be in it.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use crate::{
    model::{
        counts::{Balance, ByProtocol, Counted, Totals},
        coverage::{BlindSpot, Coverage, NetnsNotRead, Reason},
        flow::{Cause, EventKind, FlowEvent, Sample, Status, Tuple},
        live_state::{Batch, Found, Reread},
        name::{Name, NameKind},
        probe::{Probe, Run},
        random::SplitMix64,
        reading::{CountRead, Events, KernelStat, NetnsId, NetnsReading, Reading, Time, Victim},
        windows::Windows,
    },
    source::{
        Unavailable,
        ebpf::plan::State,
        item::{Flows, Hook, Item, NetnsFlow, Notice, Origin, Start, Threshold, Use},
    },
};

const EVENTS: Events =
    Events { seen: 9, received: 7, sampled_out: 1, lost: 1, threshold: u32::MAX };

/// Between two ticks: all of them fit into one chunk.
pub(crate) const STEP: u64 = 100_000_000;
pub(crate) const START_NS: u64 = 1_795_000_000_000_000_000;
pub(crate) const INIT: NetnsId = NetnsId { cookie: Some(1), inode: 4_026_531_840 };
/// One whose cookie is an address on kernels without cookies.
pub(crate) const POD: NetnsId = NetnsId { cookie: None, inode: 4_026_532_210 };

pub(crate) fn time(ns: u64) -> Time {
    Time { monotonic_ns: ns, unix_ns: START_NS + ns }
}

pub(crate) fn start() -> Item {
    let hook = |name: &str, reason: Option<&str>| Hook {
        name: name.into(),
        function: "nf_conntrack_free".into(),
        state: if reason.is_some() { State::Unsupported } else { State::Attached },
        attached_via: reason.is_none().then(|| "kprobe".into()),
        reason: reason.map(Into::into),
        not_exact: None,
    };
    Item::Start(Start {
        time: time(0),
        cpus: 2,
        origin: Origin {
            kernel_release: "6.12.117".into(),
            source: "ebpf".into(),
            counting_since_ns: None,
            bpf_map_memory_bytes: None,
            hooks: vec![hook("free", None), hook("confirm", Some("no BTF for it"))],
            unavailable: vec![Unavailable { what: "clashes".into(), reason: "no hook".into() }],
        },
    })
}

/// A namespace in which `allocs` entries came.
pub(crate) fn netns(id: NetnsId, allocs: u64, frees: u64, max: Option<u32>) -> NetnsReading {
    let balance = Balance { allocs, frees };
    let count = 100 + (allocs - frees) as u32;
    NetnsReading {
        id,
        name: Some(Name { text: "blue".into(), kind: NameKind::IpNetns }),
        ended: false,
        idle: false,
        totals: Some(Totals {
            allocs,
            frees,
            inserts_packet: ByProtocol { udp: allocs, ..ByProtocol::default() },
            ..Totals::default()
        }),
        missed: false,
        counts: vec![CountRead { before: balance, count, after: balance }; 6],
        max,
        timeouts: (allocs == 50).then(|| [20, 60, 5, 5, 600, 30, 3, 10, 90].into()),
        in_flight: Some(crate::model::in_flight::InFlight {
            unhashed: 1,
            dying: 2,
            queued: Some(1),
        }),
        windows: Some(Windows {
            width_ns: 8_000_000,
            number: 12,
            first_ns: Some(START_NS),
            inserts: vec![5, 0, 7],
            deletes: vec![0, 1, 0],
            inserts_peak: 7,
            deletes_peak: 1,
            ..Windows::default()
        }),
        kernel: Some(KernelStat { found: Some(3), ..KernelStat::default() }),
    }
}

pub(crate) fn reading(ns: u64, netns: Vec<NetnsReading>) -> Reading {
    Reading {
        time: time(ns),
        netns,
        idle: 3,
        gone: vec![],
        events: Some(EVENTS),
        missed_calls_max: Some(0),
        overflow: Totals::default(),
        probes: vec![Probe {
            hook: "free".into(),
            hits: Some(5),
            misses: None,
            runs: Some(Run { count: 9, time_ns: 900 }),
        }],
        victims: vec![],
        rereads: None,
        blocks: Some((3, 16_384)),
        counted: Counted { clashes: false, ..Counted::ALL },
        coverage: None,
    }
}

/// Coverage with everything that may be missing.
pub(crate) fn coverage() -> Coverage {
    let mut coverage = Coverage {
        read: 2,
        blind_spots: vec![
            BlindSpot::PidNamespace,
            BlindSpot::Hidepid,
            BlindSpot::HiddenProcesses(3),
            BlindSpot::MountNamespaces(4),
        ],
        stale_files: vec!["/run/netns/old".into()],
        ..Coverage::default()
    };
    let refused = Reason::Refused("entering it takes CAP_SYS_ADMIN".into());
    for (inode, entries, reason) in
        [(11, None, refused), (12, Some(900), Reason::NoPath), (0, None, Reason::HiddenProcess)]
    {
        let id = NetnsId { cookie: None, inode };
        let name = (inode == 11).then(|| "ingress_sbox".into());
        let is_counted = entries.is_some();
        coverage.add(NetnsNotRead { id, name, is_counted, entries, reason });
    }
    coverage
}

pub(crate) fn item(purpose: Use, reading: Reading) -> Item {
    Item::Reading(purpose, Box::new(reading))
}

pub(crate) fn tuple(source: &str, port: u16) -> Tuple {
    let destination = if source.contains(':') { "2001:db8::53" } else { "10.96.0.10" };
    Tuple {
        // Compiled for tests only, which give addresses as literals.
        source: source.parse().expect("an address in a test"),
        destination: destination.parse().expect("an address"),
        source_port: port,
        destination_port: 53,
        protocol: 17,
    }
}

/// An event of the entry at this address of the kernel.
pub(crate) fn event(ns: u64, entry: u64, kind: EventKind, original: Tuple) -> NetnsFlow {
    let flow = FlowEvent {
        time_ns: ns,
        netns_cookie: 1,
        entry,
        kind,
        original,
        reply: original.turned(),
        status: Status(0x188),
        zone: 0,
        sample: Sample::EVERY,
    };
    NetnsFlow { netns: INIT, flow }
}

pub(crate) const DESTROY: EventKind = EventKind::Destroy(Cause::Kernel);
/// Addresses of entries.
pub(crate) const ENTRY: u64 = 0xffff_8881_0000_0000;

/// Events in which everything occurs: NAT, IPv6, zones, sampling, entries used again, and destroys whose
/// insert is not known.
pub(crate) fn flows() -> [Flows; 3] {
    let one = tuple("10.0.0.1", 40_001);
    let mut nat = event(1_100, ENTRY + 0x100, EventKind::InsertPacket, tuple("10.0.0.2", 40_002));
    nat.flow.reply =
        Tuple { source: Ipv4Addr::new(172, 16, 0, 9).into(), ..nat.flow.original.turned() };
    let mut nat_end = NetnsFlow { netns: INIT, flow: nat.flow.clone() };
    (nat_end.flow.kind, nat_end.flow.status) = (EventKind::Destroy(Cause::User), Status(0x38e));
    nat_end.flow.time_ns = 1_050;
    let mut v6 = event(2_000, ENTRY + 0x200, EventKind::InsertCtnetlink, tuple("2001:db8::1", 9));
    (v6.netns, v6.flow.netns_cookie, v6.flow.zone) = (POD, 0xffff_8880_1234_5678, 7);
    let mut sampled = event(2_100, ENTRY + 0x300, EventKind::InsertPacket, tuple("10.0.0.3", 1));
    sampled.flow.sample = Sample { hash: 0x1234_5678, threshold: 0x8000_0000 };
    let mut sampled_end = sampled.clone();
    sampled_end.flow.kind = DESTROY;
    sampled_end.flow.sample.threshold = 0x4000_0000;
    // Not sampled yet at its insert: the hash was not told.
    let before_sampling =
        event(2_200, ENTRY + 0x400, EventKind::InsertPacket, tuple("10.0.0.4", 1));
    let mut after = before_sampling.clone();
    after.flow.kind = DESTROY;
    after.flow.sample = Sample { hash: 77, threshold: 0x4000_0000 };
    let first = vec![
        event(1_000, ENTRY, EventKind::InsertPacket, one),
        nat,
        event(1_010, 0, EventKind::TableFullDrop, tuple("10.0.0.5", 5)),
        // Inserted before the recording began.
        event(1_020, ENTRY + 0x900, DESTROY, tuple("10.0.0.6", 6)),
        nat_end,
    ];
    let second = vec![
        v6.clone(),
        sampled,
        before_sampling,
        // Its entry's destroy was lost, and another flow has it now, whose insert was lost.
        event(2_300, ENTRY, DESTROY, tuple("10.0.0.7", 7)),
        // Told besides the destroy that follows.
        event(2_310, ENTRY + 0x400, EventKind::EarlyDrop, tuple("10.0.0.4", 1)),
        sampled_end,
        after,
        event(2_400, ENTRY, EventKind::InsertPacket, one),
        event(2_500, ENTRY, EventKind::Destroy(Cause::EarlyDrop), one),
    ];
    let mut v6_end = v6;
    v6_end.flow.kind = EventKind::Destroy(Cause::NetnsExit);
    let flows = |events| Flows { utc_offset_ns: START_NS as i64, events };
    [flows(first), flows(second), flows(vec![v6_end])]
}

/// A recording with everything in it.
pub(crate) fn items() -> Vec<Item> {
    let mut items = vec![start()];
    let settle = reading(10, vec![netns(INIT, 0, 0, Some(1000))]);
    items.extend((0..3).map(|_| item(Use::Settle, settle.clone())));
    items.push(item(Use::First, settle));
    let [first, second, third] = flows();
    items.push(Item::Flows(first));
    items.push(item(Use::Tick, reading(STEP, vec![netns(INIT, 50, 0, Some(1000))])));
    items.push(Item::Threshold(Threshold { time: time(STEP + 7), threshold: 3 << 30 }));
    items.push(Item::Flows(second));
    let mut ended = netns(POD, 9, 9, None);
    (ended.ended, ended.name, ended.counts, ended.kernel) = (true, None, vec![], None);
    let mut everything = reading(2 * STEP, vec![netns(INIT, 70, 30, Some(500)), ended]);
    everything.overflow.allocs = 4;
    (everything.missed_calls_max, everything.events) = (None, None);
    let reread = |entry, inserted_ns, found| Reread { entry, inserted_ns, found };
    let found = Found { status: 0x18e, tcp_state: 3, timeout_seconds: 9 };
    everything.rereads = Some(Batch {
        time_ns: 2 * STEP,
        cost_ns: Some(9_000),
        rereads: vec![reread(ENTRY + 0x200, 2_000, Some(found)), reread(ENTRY + 0x999, 1, None)],
    });
    everything.coverage = Some(Arc::new(coverage()));
    everything.gone = vec![NetnsId { cookie: Some(9), inode: 5 }];
    let mut victim = event(1_999, ENTRY + 0x100, EventKind::EarlyDrop, tuple("10.0.0.2", 40_002));
    victim.flow.netns_cookie = 0xffff_8880_1234_5678;
    everything.victims = vec![Victim { netns: POD, flow: victim.flow }];
    items.push(item(Use::Tick, everything));
    items.push(Item::Flows(third));
    let text = "SIGUSR2: the programs are detached".into();
    items.push(Item::Notice(Notice { time: time(3 * STEP), text }));
    items.push(start());
    let mut polled = netns(INIT, 0, 0, Some(0));
    polled.totals = None;
    items.push(item(Use::First, reading(10, vec![polled.clone()])));
    items.push(item(Use::Tick, reading(STEP, vec![polled])));
    items
}

/// 1,000 inserts and as many destroys a second for ten minutes, a reading each 100 ms: 4,096 clients
/// with random ports, 16 services behind NAT, lifetimes of 10 to 50 s.
pub(crate) fn ten_minutes(threshold: u32) -> Vec<Item> {
    let mut random = SplitMix64::new(7);
    let mut below = |bound: u64| random.next_u64() % bound;
    let mut items =
        vec![start(), item(Use::First, reading(0, vec![netns(INIT, 0, 0, Some(262_144))]))];
    let mut ends: std::collections::BTreeMap<u64, NetnsFlow> = std::collections::BTreeMap::new();
    let (mut allocs, mut frees, mut ns) = (0, 0, 0);
    for tick in 1..=6000u64 {
        let now = tick * STEP;
        let mut events = Vec::new();
        while ns < now {
            // 1 ms on average, and never twice the same.
            ns += 1 + below(2_000_000);
            allocs += 1;
            let client = below(4096);
            let original = Tuple {
                source: IpAddr::from([10, 1, (client >> 8) as u8, client as u8]),
                destination: IpAddr::from([10, 96, 0, below(16) as u8]),
                source_port: 32_768 + below(28_232) as u16,
                destination_port: [53, 80, 443, 8080][below(4) as usize],
                protocol: [6, 17][below(2) as usize],
            };
            let entry = ENTRY + 0x140 * allocs;
            let mut insert = event(ns, entry, EventKind::InsertPacket, original);
            insert.flow.reply.source = IpAddr::from([10, 2, 0, below(64) as u8]);
            if threshold != u32::MAX {
                let hash = below(threshold.into()) as u32;
                insert.flow.sample = Sample { hash, threshold };
            }
            let mut destroy = insert.clone();
            destroy.flow.kind = DESTROY;
            destroy.flow.status = Status([0x188, 0x18a, 0x18e][below(3) as usize]);
            destroy.flow.time_ns = ns + 10_000_000_000 + below(40_000_000_000);
            ends.insert(destroy.flow.time_ns, destroy);
            events.push(insert);
        }
        let later = ends.split_off(&now);
        frees += ends.len() as u64;
        events.extend(std::mem::replace(&mut ends, later).into_values());
        events.sort_by_key(|event| event.flow.time_ns);
        items.push(Item::Flows(Flows { utc_offset_ns: START_NS as i64, events }));
        items.push(item(Use::Tick, reading(now, vec![netns(INIT, allocs, frees, Some(262_144))])));
    }
    items
}
