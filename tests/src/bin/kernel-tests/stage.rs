//! Plays a scenario.

use std::{
    net::TcpListener,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use conntrack_tests::traffic::{self, Outcome, Progress};
use rustix::process::Signal;

use crate::{
    checks::{Checks, Skip},
    command,
    ctmon::{self, Watch},
    expression::{Expectation, Values},
    kernel::{self, Limit},
    netns::{self, Netns},
    runner::Env,
    scenario::{Action, Scenario, Sender, Step},
    values::{self, Stat},
    wait,
};

/// Long enough that nothing expires before a test removes it. Seconds.
const TIMEOUT: i64 = 3600;
const TIMEOUTS: [&str; 8] = [
    "nf_conntrack_icmp_timeout",
    "nf_conntrack_udp_timeout",
    "nf_conntrack_udp_timeout_stream",
    "nf_conntrack_tcp_timeout_close",
    "nf_conntrack_tcp_timeout_max_retrans",
    "nf_conntrack_tcp_timeout_syn_sent",
    "nf_conntrack_tcp_timeout_time_wait",
    "nf_conntrack_tcp_timeout_established",
];

/// Plays the scenario in the calling thread's network namespace, which is new.
pub(crate) fn play(env: &Env, scenario: &Scenario, checks: &mut Checks) -> Result<()> {
    let stat = kernel::stat()?;
    for name in &scenario.needs {
        if !name.strip_prefix("stat_").is_some_and(|column| stat.contains_key(column)) {
            return Err(Skip(format!("this kernel does not count {name}")).into());
        }
    }
    // First made, last dropped: a limit is put back when the senders have ended.
    let _max = scenario.table.max.map(|max| Limit::max(&env.init, max)).transpose()?;
    let _buckets =
        scenario.table.buckets.map(|buckets| Limit::buckets(&env.init, buckets)).transpose()?;
    let mut stage = Stage::set_up(env, scenario)?;
    for (index, step) in scenario.steps.iter().enumerate() {
        let place = format!("step {} ({:?})", index + 1, step.action);
        stage.take(step, &place, checks).context(place)?;
    }
    stage.close(checks)
}

/// Keeps entries until a test removes them, and loads the ruleset.
pub(crate) fn prepare(ruleset: &str) -> Result<()> {
    keep_entries()?;
    command::nft(ruleset)
}

/// Lets no entry of the calling thread's namespace expire before a test removes it.
pub(crate) fn keep_entries() -> Result<()> {
    TIMEOUTS.iter().try_for_each(|name| set_sysctl(name, TIMEOUT))
}

/// A number below net.netfilter, in the calling thread's namespace.
pub(crate) fn sysctl(name: &str) -> Result<i64> {
    kernel::number(&format!("/proc/sys/net/netfilter/{name}"))
}

pub(crate) fn set_sysctl(name: &str, value: i64) -> Result<()> {
    netns::write(&format!("/proc/sys/net/netfilter/{name}"), &value.to_string())
}

/// Fills the table of the calling thread's namespace with entries that nothing evicts, until it takes no more than `room`.
pub(crate) fn fill_for_good(room: i64) -> Result<()> {
    let state = ["-t", "600", "--state", "ESTABLISHED", "-u", "ASSURED,SEEN_REPLY"];
    for number in 0..room + 10 {
        let (source, port) = (format!("192.0.2.{}", number % 250), (1000 + number).to_string());
        let tuple = ["-I", "-p", "tcp", "-s", &source, "-d", "198.51.100.1", "--dport", "80"];
        // The last ones find it full.
        let _ = command::run("conntrack", &[&tuple[..], &["--sport", &port], &state[..]].concat());
    }
    let count = kernel::count()?;
    anyhow::ensure!(count >= room, "{count} of {room} entries: the table is not full");
    Ok(())
}

/// Waits until the garbage collector has passed through a table of more than `least` entries: a tenth of it has gone.
pub(crate) fn await_pass(least: i64) -> Result<()> {
    let mut before = 0;
    wait::until("a pass of the garbage collector", wait::LONG, || {
        let count = kernel::count()?;
        let is_pass = before > least && count < before * 9 / 10;
        before = count;
        Ok(is_pass.then_some(()))
    })
}

/// A sender's thread; told to stop when this is dropped.
pub(crate) struct Running {
    name: String,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<std::io::Result<Outcome>>>,
}

impl Running {
    /// Starts it in the calling thread's network namespace.
    pub(crate) fn start(name: &str, plan: traffic::Plan, peer: Option<Arc<Netns>>) -> Self {
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        let thread = thread::spawn(move || {
            traffic::run(&plan, &shared, &|address| match &peer {
                None => TcpListener::bind(address),
                Some(peer) => {
                    peer.run(|| Ok(TcpListener::bind(address)?)).map_err(std::io::Error::other)
                }
            })
        });
        Self { name: name.to_owned(), progress, thread: Some(thread) }
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Waits for its end. Failures other than `EPERM` are violations.
    pub(crate) fn join(&mut self, checks: &mut Checks) -> Result<Outcome> {
        let thread = self
            .thread
            .take()
            .with_context(|| format!("sender {} has been waited for", self.name))?;
        let outcome = thread.join().map_err(|_| anyhow!("sender {} panicked", self.name))?;
        let outcome = outcome.with_context(|| format!("sender {}", self.name))?;
        checks.equal(
            &format!("no failed flow of sender {} ({:?})", self.name, outcome.error),
            outcome.failed,
            0,
        );
        Ok(outcome)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.progress.stop();
        if let Some(thread) = self.thread.take() {
            // What it returns belongs to a test that has failed already.
            let _ = thread.join();
        }
    }
}

struct Stage<'a> {
    env: &'a Env,
    scenario: &'a Scenario,
    inode: u64,
    peer: Option<Arc<Netns>>,
    stat_before: Stat,
    watch: Option<Watch>,
    running: Vec<Running>,
    /// Open until the end, so that no later flow has the tuple of an earlier one.
    done: Vec<(String, Outcome)>,
    /// What some moment has fixed.
    fixed: Values,
}

impl<'a> Stage<'a> {
    fn set_up(env: &'a Env, scenario: &'a Scenario) -> Result<Self> {
        for address in &scenario.addresses {
            let family = if address.contains(':') { "-6" } else { "-4" };
            command::run("ip", &[family, "addr", "add", address, "dev", "lo"])?;
        }
        let peer = scenario
            .peer
            .then(|| Netns::new().and_then(|peer| netns::join(&peer).map(|()| Arc::new(peer))));
        prepare(&scenario.ruleset)?;
        for (name, value) in &scenario.sysctl {
            set_sysctl(name, *value)?;
        }
        Ok(Self {
            env,
            scenario,
            inode: Netns::own()?.inode(),
            peer: peer.transpose().context("no second namespace")?,
            stat_before: kernel::stat()?,
            watch: None,
            running: Vec::new(),
            done: Vec::new(),
            fixed: Values::new(),
        })
    }

    fn take(&mut self, step: &Step, place: &str, checks: &mut Checks) -> Result<()> {
        let mut tick = None;
        match step.action {
            Action::StartCtmon => {
                self.fix("count_at_start", kernel::count()?);
                self.fix("sent_at_start", self.sent());
                let arguments: Vec<&str> = self.scenario.ctmon.iter().map(String::as_str).collect();
                self.watch = Some(Watch::start(self.env, &arguments)?);
            }
            Action::StopCtmon => self.watch()?.process().signal(Signal::STOP)?,
            Action::ContinueCtmon => self.watch()?.process().signal(Signal::CONT)?,
            Action::Baseline => {
                let inode = self.inode;
                tick = Some(self.watch()?.baseline(inode)?);
                self.fix("sent_at_baseline", self.sent());
            }
            Action::Send => {
                self.start_senders(step)?;
                self.join(checks)?;
            }
            Action::StartSenders => self.start_senders(step)?,
            Action::StopSenders => {
                self.running.iter().for_each(|running| running.progress.stop());
                self.join(checks)?;
            }
            Action::Quiet => tick = Some(self.watch()?.quiet()?),
            Action::Flush => command::flush()?,
            Action::Dump => drop(command::run("conntrack", &["-L"])?),
            Action::Run => {
                let words: Vec<&str> = step.command.iter().map(String::as_str).collect();
                if let Some((program, arguments)) = words.split_first() {
                    command::run(program, arguments)?;
                }
            }
            Action::Sleep => thread::sleep(Duration::from_secs_f64(step.seconds)),
        }
        let mut expectations = step.expectations.clone();
        if step.action == Action::Quiet {
            let always: Result<Vec<_>> =
                values::ALWAYS.iter().map(|text| Expectation::parse(text)).collect();
            expectations.extend(always?);
        }
        if expectations.is_empty() {
            return Ok(());
        }
        let mut values = self.fixed.clone();
        let tick = match tick {
            Some(tick) => tick,
            None => self.watch()?.fresh_tick()?,
        };
        values::add_tick(&mut values, &tick, self.inode);
        values::add_kernel(&mut values, &self.stat_before)?;
        self.add_senders(&mut values);
        let watch = self.watch()?;
        checks.expectations(place, &expectations, &values, |name| watch.cannot_tell(name));
        Ok(())
    }

    fn watch(&mut self) -> Result<&mut Watch> {
        self.watch.as_mut().context("ctmon has not been started: a step `start-ctmon` is missing")
    }

    fn fix(&mut self, name: &str, value: i64) {
        self.fixed.insert(name.to_owned(), Some(value));
    }

    fn start_senders(&mut self, step: &Step) -> Result<()> {
        let named = |sender: &&Sender| {
            step.senders.as_ref().is_none_or(|names| names.contains(&sender.name))
        };
        for sender in self.scenario.senders.iter().filter(named) {
            let peer = if sender.far { self.peer.clone() } else { None };
            self.running.push(Running::start(&sender.name, sender.plan()?, peer));
        }
        Ok(())
    }

    fn join(&mut self, checks: &mut Checks) -> Result<()> {
        while let Some(running) = self.running.first_mut() {
            self.done.push((running.name.clone(), running.join(checks)?));
            self.running.remove(0);
        }
        Ok(())
    }

    /// Flows that all senders have sent so far.
    fn sent(&self) -> i64 {
        let done = self.done.iter().map(|(_, outcome)| outcome.sent);
        signed(done.chain(self.running.iter().map(|running| running.progress.sent())).sum())
    }

    fn add_senders(&self, values: &mut Values) {
        let (mut attempts, mut sent, mut refused) = (0, 0, 0);
        for (name, outcome) in &self.done {
            attempts += outcome.attempts;
            sent += outcome.sent;
            refused += outcome.refused;
            for (word, number) in [
                ("attempts", outcome.attempts),
                ("sent", outcome.sent),
                ("refused", outcome.refused),
            ] {
                values.insert(format!("{word}_{name}"), Some(signed(number)));
            }
        }
        for (word, number) in [("attempts", attempts), ("sent", sent), ("refused", refused)] {
            values.insert(word.to_owned(), Some(signed(number)));
        }
    }

    /// ctmon's own end belongs to every scenario.
    fn close(mut self, checks: &mut Checks) -> Result<()> {
        let Some(watch) = self.watch.take() else {
            return Ok(());
        };
        let by_kprobe = watch.started().is_by_kprobe();
        let ended = watch.terminate()?;
        checks.equal("ctmon ends with 0 by SIGTERM", ended.status.code(), Some(0));
        let complaints = ctmon::complaints(&ended.stderr, by_kprobe);
        checks.equal("nothing on ctmon's standard error", complaints.as_str(), "");
        Ok(())
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
