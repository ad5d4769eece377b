//! What happens within a tick.

use std::{
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};

use super::TRACK;
use crate::{
    checks::Checks,
    ctmon::Watch,
    netns::Netns,
    report::{self, Windows},
    runner::{Env, Test},
    stage, wait,
};

const FLOWS: u16 = 500;
/// Bursts.
const BURSTS: usize = 5;

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "a-burst-in-a-quiet-second",
        "500 flows at once, five times: each is counted within one window of when its sender can have sent it",
        burst,
    )]
}

fn burst(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let mut watch = Watch::start_every(env, "1s", &["--netns", "self"])?;
    watch.baseline(own)?;
    // Takes the datagrams, so that nobody answers.
    let _taker = UdpSocket::bind("0.0.0.0:1025")?;
    for number in 0..BURSTS {
        watch.fresh_tick()?;
        thread::sleep(Duration::from_millis(300));
        let times = send(number as u8)?;
        let seen = until_counted(&mut watch, own)?;
        let width = seen.width_ns;
        checks.that("a window of 5 to 20 ms", (5_000_000..=20_000_000).contains(&width), width);
        checks.equal("windows that were missed", seen.missed, 0);
        checks.equal("inserts in all windows", seen.inserts.iter().sum::<i64>(), i64::from(FLOWS));
        let difference = difference(&times, &seen).context("no window with a count")?;
        let peak = seen.inserts.iter().copied().max().unwrap_or(0);
        let rate = peak as f64 * 1e9 / width as f64;
        checks.equal("the highest rate", seen.insert_rate_peak, Some(rate));
        checks.note(format!(
            "{} ms by the sender, {} windows of {} ms: {:?}; at most {:.2} windows apart; the kernel's \
             clock was at most {} ms late",
            (times[times.len() - 1].after - times[0].before) / 1_000_000,
            seen.inserts.len(),
            width / 1_000_000,
            seen.inserts,
            difference as f64 / width as f64,
            times.iter().map(|time| time.late).max().unwrap_or(0) / 1_000_000
        ));
        let within = format!("burst {number} agrees within one window");
        checks.that(&within, difference <= width, format!("{difference} ns"));
    }
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

/// When a flow was sent, in nanoseconds since 1970.
///
/// Windows are those of the kernel's jiffies, which stand still while the processor that counts them does,
/// as an emulated one does now and then. The coarse clock is advanced with them: a flow is counted at a
/// jiffy that is not before what that clock showed before the call, and not after the end of the call.
struct Sent {
    before: i64,
    after: i64,
    /// By how much the coarse clock was late before the call: up to a jiffy without a cause.
    late: i64,
}

/// Opens [`FLOWS`] flows as fast as it goes.
fn send(number: u8) -> Result<Vec<Sent>> {
    let sender = UdpSocket::bind((Ipv4Addr::new(127, 0, 1 + number, 1), 60_000))?;
    let mut times = Vec::with_capacity(FLOWS.into());
    for flow in 0..FLOWS {
        let [high, low] = flow.to_be_bytes();
        let coarse = now(ClockId::RealtimeCoarse);
        let late = now(ClockId::Realtime) - coarse;
        sender.send_to(b"ctmon", (Ipv4Addr::new(127, 9, high, low), 1025))?;
        times.push(Sent { before: coarse, after: now(ClockId::Realtime), late });
    }
    Ok(times)
}

fn now(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// The windows of all ticks since the burst, put together.
fn until_counted(watch: &mut Watch, inode: u64) -> Result<Windows> {
    let mut all = Windows::default();
    wait::until("windows with all the flows", wait::SHORT, || {
        let tick = watch.next_tick()?;
        let windows = tick.netns(inode).and_then(|netns: &report::Netns| netns.windows.clone());
        if let Some(next) = windows {
            join(&mut all, next);
        }
        Ok((all.inserts.iter().sum::<i64>() >= FLOWS.into()).then(|| all.clone()))
    })
}

fn join(all: &mut Windows, next: Windows) {
    all.missed += next.missed;
    all.width_ns = next.width_ns;
    let Some(start) = next.first_ns.filter(|_| next.inserts.iter().sum::<i64>() > 0) else {
        return;
    };
    match all.first_ns {
        None => *all = Windows { missed: all.missed, ..next },
        Some(first) => {
            // The two clocks are compared anew at each tick, so it is not a whole number.
            let index = (start - first + next.width_ns / 2) / next.width_ns;
            all.inserts.resize(index.max(0) as usize, 0);
            all.inserts.extend(next.inserts);
            all.insert_rate_peak = match (all.insert_rate_peak, next.insert_rate_peak) {
                (Some(one), Some(other)) => Some(one.max(other)),
                _ => None,
            };
        }
    }
}

/// How far a flow was counted from when it was sent, at most: by the number of flows before the end of each
/// window.
fn difference(times: &[Sent], seen: &Windows) -> Option<i64> {
    let mut counted = 0;
    let mut most = 0;
    let first = seen.first_ns?;
    for (index, count) in seen.inserts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let start = first + index as i64 * seen.width_ns;
        let flows = times.get(counted..counted + *count as usize)?;
        for Sent { before, after, .. } in flows {
            let early = start - after;
            let late = before - (start + seen.width_ns);
            most = most.max(early).max(late);
        }
        counted += *count as usize;
    }
    Some(most)
}
