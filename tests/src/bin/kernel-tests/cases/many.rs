//! Thousands of network namespaces.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use super::TRACK;
use crate::{
    checks::Checks,
    ctmon::{ALL, Watch},
    kernel, netlink,
    netns::{self, Netns},
    report::{self, Tick},
    runner::{Env, Test},
    stage, wait,
};

/// Flows that each namespace opens.
pub(super) const FLOWS: u8 = 3;
/// Namespaces that are alive at the same time while others come and go.
const BATCH: usize = 50;
/// Ticks in which a number that is used again is looked for.
const REUSES: usize = 20;
/// Where namespaces get names that `ip netns` knows.
const NAMES: &str = "/run/netns";
/// More than what a few hundred namespaces leave behind in a heap.
const GROWTH_KIB: i64 = 4096;

pub(super) fn tests() -> Vec<Test> {
    let one_after_another = |name, namespaces| {
        Test::new(
            name,
            &format!("{namespaces} namespaces come and go, and each is counted to the flow"),
            move |env, checks| come_and_go(env, checks, namespaces),
        )
    };
    let at_once = |name, namespaces| {
        Test::new(
            name,
            &format!(
                "{namespaces} named namespaces at the same time: exact, and what a tick costs"
            ),
            move |env, checks| all_alive(env, checks, namespaces),
        )
    };
    let on_demand = |test| Test { on_demand: true, ..test };
    vec![
        one_after_another("namespaces-come-and-go-200", 200),
        at_once("namespaces-at-once-100", 100),
        on_demand(one_after_another("namespaces-come-and-go-2000", 2000)),
        on_demand(at_once("namespaces-at-once-2000", 2000)),
        Test::new(
            "namespaces-beyond-the-limit",
            "With room for 10 namespaces, what is counted in 30 more is counted together, and nothing is lost",
            |env, checks| beyond_the_limit(env, checks, &["--fault-max-netns", "10"], 30),
        ),
        on_demand(Test::new(
            "namespaces-beyond-4096",
            "4,300 namespaces are more than ctmon tells apart: nothing is lost. Takes a VM with 3 GiB",
            |env, checks| beyond_the_limit(env, checks, &[], 4300),
        )),
    ]
}

/// Makes namespaces that have opened [`FLOWS`] flows each. They live as long as what is returned.
pub(super) fn make(number: usize) -> Result<Vec<Netns>> {
    let one = || {
        netns::unshare()?;
        netlink::loopback_up()?;
        netlink::track()?;
        // Making thousands may take longer than an entry lives by default.
        stage::keep_entries()?;
        open_flows()?;
        Netns::own()
    };
    thread::scope(|scope| {
        let thread = scope.spawn(|| (0..number).map(|_| one()).collect());
        thread.join().map_err(|_| anyhow!("the thread that makes namespaces panicked"))?
    })
}

/// To a socket that takes them all: a closed port would answer.
fn open_flows() -> Result<()> {
    let taker = UdpSocket::bind("0.0.0.0:1025")?;
    let sender = UdpSocket::bind("127.0.0.1:60000")?;
    for flow in 1..=FLOWS {
        sender.send_to(b"ctmon", (Ipv4Addr::new(127, 0, 1, flow), 1025))?;
    }
    drop(taker);
    Ok(())
}

/// Blocks of counters that are taken.
fn blocks(tick: &Tick) -> Result<i64> {
    report::number(&tick.counter_blocks, "taken").context("no counter_blocks in the tick")
}

/// Reads ticks until none of the namespaces that have flows is new to it any more.
fn until_ended(watch: &mut Watch, number: usize) -> Result<()> {
    let mut ended = 0;
    wait::until("the end of all namespaces", wait::LONG, || {
        watch.next_tick()?;
        ended = used(watch).len();
        Ok((ended >= number).then_some(()))
    })
    .with_context(|| format!("{ended} of {number} have ended"))
}

/// Flows of the namespaces that were used and have ended.
fn used(watch: &Watch) -> Vec<i64> {
    let inserts = watch.ended().iter().filter_map(|netns| netns.total("inserts"));
    inserts.filter(|inserts| *inserts > 0).collect()
}

fn expect_ended(checks: &mut Checks, watch: &Watch, number: usize) {
    let flows = i64::from(FLOWS);
    let used = used(watch);
    checks.equal("namespaces that were used and ended", used.len(), number);
    let wrong: Vec<_> = watch
        .ended()
        .iter()
        .filter(|netns| {
            let zero_or_all = netns.total("inserts").filter(|inserts| [0, flows].contains(inserts));
            let of = |name| netns.total(name);
            zero_or_all.is_none()
                || ["deletes", "allocs", "frees", "deletes_by_cause_netns_exit"]
                    .iter()
                    .any(|name| of(name) != zero_or_all)
        })
        .collect();
    checks.equal("no count of an ended namespace is wrong", wrong.len(), 0);
    checks.that("the first that is wrong", wrong.is_empty(), wrong.first());
    if kernel::lacks_cookies() {
        checks.total("cookie", None, 0, true);
    } else {
        let cookies: BTreeSet<_> = watch.ended().iter().map(|netns| netns.cookie).collect();
        checks.equal("each namespace ends once", cookies.len(), watch.ended().len());
    }
}

fn come_and_go(env: &Env, checks: &mut Checks, number: usize) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let mut watch = Watch::start_every(env, "1s", ALL)?;
    watch.baseline(own)?;
    send_here(checks)?;
    // The first ones grow what later ones reuse.
    drop(make(BATCH)?);
    until_ended(&mut watch, BATCH)?;
    let memory = watch.process().memory_kib()?;
    let blocks_before = blocks(&watch.fresh_tick()?)?;

    let mut inodes = BTreeSet::new();
    let mut made = BATCH;
    while made < BATCH + number {
        // Half of them at once, the others one by one: an inode number is then used again soon.
        let together = make(BATCH / 2)?;
        inodes.extend(together.iter().map(Netns::inode));
        drop(together);
        for _ in 0..BATCH / 2 {
            inodes.extend(make(1)?.iter().map(Netns::inode));
        }
        made += BATCH / 2 * 2;
    }
    // Where a namespace takes long to go, its number comes back only after a pause.
    watch.fresh_tick()?;
    for _ in 0..REUSES {
        if watch.inodes_twice() > 0 {
            break;
        }
        for _ in 0..6 {
            inodes.extend(make(1)?.iter().map(Netns::inode));
            made += 1;
            thread::sleep(Duration::from_millis(100));
        }
        watch.next_tick()?;
    }
    until_ended(&mut watch, made)?;
    let tick = watch.fresh_tick()?;
    let grown = watch.process().memory_kib()? - memory;
    let blocks = blocks(&tick)?;
    checks.note(format!(
        "counter blocks taken: {blocks_before} before, {blocks} after; {} inode numbers for {} namespaces, {} of them twice in one tick; memory grew by {grown} KiB from {memory}",
        inodes.len(),
        made - BATCH,
        watch.inodes_twice()
    ));
    checks.that("inode numbers are used again", inodes.len() < made - BATCH, inodes.len());
    checks.that("also within one tick", watch.inodes_twice() > 0, watch.inodes_twice());
    expect_ended(checks, &watch, made);
    let netns = tick.netns(own).cloned().unwrap_or_default();
    checks.equal("inserts of the survivor", netns.total("inserts"), Some(SENT_HERE));
    checks.equal("drift of the survivor", netns.count_drift, Some(0));
    let cpus = thread::available_parallelism()?.get() as i64;
    // The survivor, and the initial namespace, may have come to another CPU.
    checks.that("blocks are given back", blocks <= blocks_before + 2 * cpus, blocks);
    checks.that("memory does not grow", grown < GROWTH_KIB, grown);
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

const SENT_HERE: i64 = 100;

fn send_here(checks: &mut Checks) -> Result<()> {
    use conntrack_tests::traffic::{Family, Plan, Protocol};
    let plan = Plan::new(Protocol::Udp, Family::Ipv4, SENT_HERE.unsigned_abs());
    stage::Running::start("survivor", plan, None).join(checks).map(drop)
}

/// A name below /run/netns, taken away when this is dropped.
struct Named(String);

impl Named {
    fn new(netns: &Netns, number: usize) -> Result<Self> {
        let path = format!("{NAMES}/many-{number}");
        fs::File::create(&path).with_context(|| path.clone())?;
        let named = Self(path);
        mount_bind(netns.path(), &named.0).with_context(|| format!("cannot name {}", named.0))?;
        Ok(named)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // A name that stays is one that the next run replaces.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
        let _ = fs::remove_file(&self.0);
    }
}

fn all_alive(env: &Env, checks: &mut Checks, number: usize) -> Result<()> {
    stage::prepare(TRACK)?;
    fs::create_dir_all(NAMES).with_context(|| format!("cannot make {NAMES}"))?;
    let own = Netns::own()?.inode();
    let mut watch = Watch::start_every(env, "200ms", &[])?;
    watch.baseline(own)?;
    send_here(checks)?;
    let alone = cost_of_a_tick(&mut watch, 10)?;

    let began = Instant::now();
    let namespaces = make(number)?;
    let named: Vec<Named> = namespaces
        .iter()
        .enumerate()
        .map(|(number, netns)| Named::new(netns, number))
        .collect::<Result<_>>()?;
    let seconds = began.elapsed().as_secs_f64();
    let tick = wait::until("a tick that shows every namespace idle", wait::LONG, || {
        let tick = watch.next_tick()?;
        let seen = tick.netns.len() + tick.netns_idle.unwrap_or_default().unsigned_abs() as usize;
        Ok((seen > number && tick.netns.len() <= 3).then_some(tick))
    })?;
    checks.note(format!("{:?} namespaces are idle", tick.netns_idle));
    let crowded = cost_of_a_tick(&mut watch, 10)?;
    checks.note(format!(
        "CPU time of a tick: {:.2} ms alone, {:.2} ms with {number} idle namespaces (made in {seconds:.1} s)",
        alone * 1e3,
        crowded * 1e3
    ));
    expect_all(env, checks, &namespaces)?;

    drop(named);
    drop(namespaces);
    until_ended(&mut watch, number)?;
    expect_ended(checks, &watch, number);
    Ok(())
}

fn beyond_the_limit(
    env: &Env,
    checks: &mut Checks,
    arguments: &[&str],
    number: usize,
) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    // Each line names every namespace, and lines wait in memory while namespaces are made.
    let interval = if number > 1000 { "3s" } else { "200ms" };
    let mut watch = Watch::start_every(env, interval, &[ALL, arguments].concat())?;
    watch.baseline(own)?;
    send_here(checks)?;
    let namespaces = make(number)?;
    let flows = i64::from(FLOWS) * number as i64;
    let together = |watch: &Watch, tick: &Tick, name: &str| -> Option<i64> {
        let apart = tick.netns.iter().filter(|netns| !netns.ended).chain(watch.ended());
        let apart: i64 = apart.filter_map(|netns| netns.total(name)).sum();
        report::number(&tick.netns_overflow, name).map(|beyond| beyond + apart)
    };
    let tick = watch.quiet()?;
    checks.equal("inserts of all", together(&watch, &tick, "inserts"), Some(flows + SENT_HERE));
    let beyond = report::number(&tick.netns_overflow, "inserts");
    checks.that("inserts beyond the limit", beyond > Some(0), &tick.netns_overflow);
    checks.note(format!("{beyond:?} of {flows} flows were counted together"));
    let netns = tick.netns(own).cloned().unwrap_or_default();
    checks.equal("inserts of the first one", netns.total("inserts"), Some(SENT_HERE));
    drop(namespaces);
    wait::until("the end of all namespaces", wait::LONG, || {
        let tick = watch.next_tick()?;
        Ok((together(&watch, &tick, "frees") >= Some(flows)).then_some(()))
    })?;
    let tick = watch.quiet()?;
    for name in ["deletes", "deletes_by_cause_netns_exit", "frees"] {
        checks.equal(&format!("{name} of all"), together(&watch, &tick, name), Some(flows));
    }
    let netns = tick.netns(own).cloned().unwrap_or_default();
    checks.equal("drift of the first one", netns.count_drift, Some(0));
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

/// A second ctmon that shows all: those made before it, so with a baseline.
fn expect_all(env: &Env, checks: &mut Checks, namespaces: &[Netns]) -> Result<()> {
    let mut watch = Watch::start(env, &[])?;
    let settled = |tick: &Tick| {
        namespaces
            .iter()
            .all(|netns| tick.netns(netns.inode()).is_some_and(|netns| netns.baseline.is_some()))
    };
    let tick = wait::until("a baseline of every namespace", wait::LONG, || {
        let tick = watch.next_tick()?;
        Ok(settled(&tick).then_some(tick))
    })?;
    let flows = Some(i64::from(FLOWS));
    let wrong = namespaces.iter().filter_map(|netns| tick.netns(netns.inode())).filter(|netns| {
        netns.entries != flows
            || netns.count_drift != Some(0)
            || netns.name_kind.as_deref() != Some("ip_netns")
    });
    let wrong: Vec<_> = wrong.collect();
    checks.equal("entries, drift and name of every namespace: wrong", wrong.len(), 0);
    checks.that("the first that is wrong", wrong.is_empty(), wrong.first());
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

/// Seconds of CPU time that ctmon takes for one tick, over some ticks.
fn cost_of_a_tick(watch: &mut Watch, ticks: u32) -> Result<f64> {
    watch.fresh_tick()?;
    let before = watch.process().cpu_time()?;
    for _ in 0..ticks {
        watch.next_tick()?;
    }
    let spent: Duration = watch.process().cpu_time()?.saturating_sub(before);
    Ok(spent.as_secs_f64() / f64::from(ticks))
}
