//! The simulated table of `ctmon backtest`, held against a real one.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use conntrack_tests::traffic::{Family, Plan, Protocol};
use conntrack_user::backtest::{
    class::Class,
    measured::{Came, Measured},
};

use super::TRACK;
use crate::{
    checks::{Checks, Skip},
    kernel,
    runner::{Env, Test},
    stage::{self, Running},
};

pub(super) fn tests() -> Vec<Test> {
    let test = Test::new(
        "simulator-follows-the-kernel",
        "The simulated table follows a real one through a step up and a step down, given the same arrivals",
        follows,
    );
    let shows = "--verbose prints the measured series, as in tests/fixtures.".to_owned();
    vec![Test { on_demand: true, shows, ..test }]
}

/// From one look to the next.
const TICK: Duration = Duration::from_millis(200);
/// Looks after the first, and those at which more comes, and no longer does.
const TICKS: usize = 300;
const UP: usize = 80;
const DOWN: usize = 190;
/// Debian's kernels'.
const HZ: u32 = 250;

/// Who comes, with their timeouts in seconds and what sets them.
const KINDS: [(Class, Protocol, u32, i64, &str); 3] = [
    (Class::UdpUnreplied, Protocol::Udp, 300, 5, "nf_conntrack_udp_timeout"),
    (Class::Icmp, Protocol::Icmp, 100, 3, "nf_conntrack_icmp_timeout"),
    // Opened, then reset.
    (Class::TcpAssured, Protocol::Tcp, 100, 4, "nf_conntrack_tcp_timeout_close"),
];

fn start(protocol: Protocol, rate: u32) -> Running {
    let plan = Plan { rate: Some(rate), ..Plan::new(protocol, Family::Ipv4, u64::MAX) };
    Running::start(&format!("{protocol:?}"), plan, None)
}

fn follows(_: &Env, checks: &mut Checks) -> Result<()> {
    if kernel::is_before((5, 18)) {
        return Err(Skip("its garbage collector is another one".into()).into());
    }
    stage::prepare(TRACK)?;
    for (.., seconds, sysctl) in KINDS {
        stage::set_sysctl(sysctl, seconds)?;
    }
    let steady = KINDS.map(|(_, protocol, rate, ..)| start(protocol, rate));
    // An empty table is looked through once a minute.
    stage::await_pass(1000)?;
    let began = Instant::now();
    let mut more = None;
    let (mut entries, mut late) = (vec![], Duration::ZERO);
    let mut sent: [Vec<u64>; 3] = Default::default();
    // The first look is when the pass is surely over.
    for look in 1..=TICKS + 1 {
        let due = began + TICK * u32::try_from(look)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        late = late.max(due.elapsed());
        entries.push(u64::try_from(kernel::count()?)?);
        for (sent, sender) in sent.iter_mut().zip(&steady) {
            sent.push(sender.progress().sent());
        }
        match look {
            UP => more = Some(start(Protocol::Udp, 500)),
            DOWN => more.iter().for_each(|more| more.progress().stop()),
            _ => {}
        }
        if let (Some(more), Some(udp)) = (&more, sent[0].last_mut()) {
            *udp += more.progress().sent();
        }
    }
    let arrivals = KINDS.into_iter().zip(&sent).map(|((class, _, _, seconds, _), sent)| {
        let came = sent.windows(2).map(|pair| u32::try_from(pair[1] - pair[0]));
        Ok(Came { class, timeout: seconds as f64, came: came.collect::<Result<_, _>>()? })
    });
    let measured = Measured {
        kernel: kernel::release(),
        hz: HZ,
        buckets: u32::try_from(kernel::buckets()?)?,
        tick: TICK.as_secs_f64(),
        collected: TICK.as_secs_f64(),
        arrivals: arrivals.collect::<Result<_>>()?,
        entries,
    };
    let difference = measured.compare(1)?;
    checks.note(format!("{difference:?}, looks {late:?} late at the most"));
    checks.note(serde_json::to_string(&measured)?);
    checks.that("a mean level within 5 %", difference.of_means < 0.05, difference);
    // A machine that stood still has other arrivals than its looks tell.
    if late < TICK {
        checks.that("a level within 5 % in the mean", difference.mean < 0.05, difference);
    }
    Ok(())
}
