//! Programs that stay attached between one ctmon and the next.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use rustix::process::Signal;

use super::{TRACK, causes};
use crate::{
    checks::{Checks, Skip},
    command, kernel,
    netns::Netns,
    runner::{Env, Test},
    served::Served,
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "pinned-counts-survive-kill-9",
            "Killed with -9 in a flood and started again, the service goes on with the kernel's counts",
            survives,
        ),
        Test::new(
            "other-programs-count-anew",
            "What was pinned with other settings is removed, and counting begins anew",
            other_layout,
        ),
        Test::new(
            "what-cannot-be-pinned-counts-all-the-same",
            "A folder that takes no pins, and one that another service has, are said; counts are right",
            not_pinned,
        ),
    ]
}

/// A BPF file system, mounted as long as this is there.
pub(super) struct BpfFs {
    folder: tempfile::TempDir,
}

impl BpfFs {
    pub(super) fn mount() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        command::run("mount", &["-t", "bpf", "bpf", text(folder.path())?])?;
        Ok(Self { folder })
    }

    pub(super) fn pins(&self) -> Result<String> {
        Ok(text(&self.folder.path().join("ctmon"))?.to_owned())
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        if let Err(error) =
            text(self.folder.path()).and_then(|path| command::run("umount", &[path]))
        {
            eprintln!("kernel-tests: {error:#}");
        }
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// Waits until the namespace is quiet and all is counted.
fn quiet(served: &Served, inode: u64, allocs: f64) -> Result<()> {
    wait::until(&format!("{allocs} allocs and no count_drift"), wait::SHORT, || {
        let metrics = served.metrics()?;
        let is_quiet = metrics.of("ctmon_allocs_total", inode) == Some(allocs)
            && metrics.of("ctmon_entries_uncertainty", inode) == Some(0.0)
            && metrics.of("ctmon_count_drift", inode) == Some(0.0);
        Ok(is_quiet.then_some(()))
    })
    .with_context(|| served.metrics().map_or_else(|error| error.to_string(), |metrics| metrics.0))
}

/// Fails where kprobes cannot be pinned.
fn start_pinned(env: &Env, pins: &str) -> Result<Served> {
    let served = Served::start(env, &["--pin", pins])?;
    if served.said().contains("that takes Linux 5.15") {
        return Err(Skip("kprobes cannot be pinned before Linux 5.15".to_owned()).into());
    }
    Ok(served)
}

fn since(served: &Served) -> Result<Option<f64>> {
    Ok(served.metrics()?.value("ctmon_counting_since_timestamp_seconds"))
}

fn survives(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let bpffs = BpfFs::mount()?;
    let served = start_pinned(env, &bpffs.pins()?)?;
    let began = since(&served)?;
    let plan = Plan { rate: Some(2000), ..Plan::new(Protocol::Udp, Family::Ipv4, 100_000) };
    let mut flood = Running::start("flood", plan, None);
    wait::until("a part of the flood", wait::SHORT, || {
        Ok((flood.progress().sent() > 2000).then_some(()))
    })?;
    served.kill()?;
    checks.that("the programs stay", !kernel::ctmon_programs()?.is_empty(), ());
    let before = flood.progress().sent();
    wait::until("a part without anybody who looks", wait::SHORT, || {
        Ok((flood.progress().sent() > before + 3000).then_some(()))
    })?;
    let mut served = start_pinned(env, &bpffs.pins()?)?;
    wait::until("a part after that", wait::SHORT, || {
        Ok((flood.progress().sent() > before + 6000).then_some(()))
    })?;
    flood.progress().stop();
    let sent = flood.join(checks)?.sent as f64;
    quiet(&served, own, sent)?;
    let metrics = served.metrics()?;
    let inserts =
        format!("ctmon_inserts_total{{netns=\"{own}\",path=\"packet\",protocol=\"udp\"}}");
    checks.equal("inserts", metrics.value(&inserts), Some(sent));
    let count = kernel::count()? as f64;
    checks.equal("entries", metrics.of("ctmon_entries", own), Some(count));
    checks.equal("since when it counts", since(&served)?, began);
    // Those that nobody took out of the ring are said to be lost, but for one that was in hand.
    let events = |name: &str| metrics.value(&format!("ctmon_events_{name}_total")).unwrap_or(-1.0);
    let told = events("received") + events("sampled_out") + events("lost");
    checks.that("what became of the events", (events("seen") - told).abs() <= 1.0, &metrics.0);

    served.process().signal(Signal::USR2)?;
    wait::until("the programs are detached", wait::SHORT, || {
        Ok(kernel::ctmon_programs()?.is_empty().then_some(()))
    })?;
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    let left = fs::read_dir(bpffs.pins()?)?.count();
    checks.equal("pins after SIGUSR2", left, 0);
    Ok(())
}

fn other_layout(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let bpffs = BpfFs::mount()?;
    let pins = bpffs.pins()?;
    let served = start_pinned(env, &pins)?;
    causes::send(checks, causes::udp(100))?;
    quiet(&served, own, 100.0)?;
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    let loaded = kernel::ctmon_programs_by_id()?;
    checks.that("the programs stay", !loaded.is_empty(), ());

    let served = Served::start(env, &["--pin", &pins, "--rings", "2"])?;
    causes::send(checks, causes::udp(50))?;
    quiet(&served, own, 50.0)?;
    checks.equal("pinned layouts", fs::read_dir(&pins)?.count(), 1);
    wait::until("the programs before are gone", wait::SHORT, || {
        let now = kernel::ctmon_programs_by_id()?;
        Ok((!loaded.keys().any(|id| now.contains_key(id))).then_some(()))
    })?;
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    fs::remove_dir_all(&pins)?;
    wait::until("no program without its pin", wait::SHORT, || {
        Ok((kernel::ctmon_programs()? == BTreeSet::new()).then_some(()))
    })
}

fn not_pinned(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let bpffs = BpfFs::mount()?;
    let pins = bpffs.pins()?;
    let first = start_pinned(env, &pins)?;
    let other = tempfile::tempdir()?;
    for (folder, word) in
        [(text(other.path())?, "not in a BPF file system"), (&pins, "another ctmon keeps")]
    {
        let served = Served::start(env, &["--pin", folder])?;
        checks.that(word, served.said().contains(word), served.said());
        let before = served.metrics()?.of("ctmon_allocs_total", own).unwrap_or(0.0);
        causes::send(checks, causes::udp(30))?;
        quiet(&served, own, before + 30.0)?;
        checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    }
    quiet(&first, own, 60.0)?;
    checks.equal("exit code", first.terminate()?.status.code(), Some(0));
    Ok(())
}
