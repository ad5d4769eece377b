//! `ctmon doctor`, on the machine as it is, and with something taken away.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::Value;

use super::{TRACK, expect_no_panic, modules::Unloaded, privileges::NOBODY};
use crate::{
    checks::Checks,
    command,
    ctmon::Watch,
    kernel::{self, Limit},
    process::{self, Ended, Process},
    runner::{Env, Place, Test},
    stage::{self, Running},
    wait,
};

const COLUMNS: usize = 80;
const FLOWS: u64 = 300;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "doctor-everything",
            "With everything there: no warning, the hooks as watch attaches them, nothing changed or left",
            everything,
        ),
        Test::new(
            "doctor-without-btf",
            "Without BTF: a warning, and the count from procfs",
            without_btf,
        ),
        Test::new(
            "doctor-without-root",
            "Without root: which capabilities are missing and what each was for",
            without_root,
        ),
        Test::new(
            "doctor-stripped-of-capabilities",
            "As root with CAP_NET_ADMIN alone: the same, and it says root",
            stripped,
        ),
        Test::new(
            "doctor-without-procfs",
            "With a folder that is no procfs, and without a standard output: clear words",
            without_procfs,
        ),
        Test::new(
            "doctor-bundle-has-nothing-private",
            "A bundle has facts, and no address, rule or name unless asked for",
            bundle,
        ),
        Test::new(
            "doctor-sees-its-surroundings",
            "Cilium's interface, a ctnetlink listener, a sysctl file without effect, too few buckets",
            surroundings,
        ),
        Test::new(
            "doctor-names-who-sets-the-limit",
            "A program that sets the limit is named, a limit that changes meanwhile is a warning, a table that drops is critical",
            setters,
        ),
        Test {
            place: Place::WithoutConntrack,
            ..Test::new(
                "doctor-without-nf_conntrack",
                "Without nf_conntrack: a problem, what to do, and no module loaded",
                without_conntrack,
            )
        },
    ]
}

/// What `ctmon doctor --output json` says.
struct Answer {
    ended: Ended,
    json: Value,
}

impl Answer {
    fn of(ended: Ended) -> Result<Self> {
        let json = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
        Ok(Self { ended, json })
    }

    /// With these arguments besides.
    fn get(env: &Env, arguments: &[&str]) -> Result<Self> {
        let all = [&["doctor", "--output", "json"], arguments].concat();
        Self::of(process::run(env, &all)?)
    }

    fn verdicts(&self) -> impl Iterator<Item = &Value> {
        let sections = self.json["sections"].as_array().into_iter().flatten();
        sections.flat_map(|section| section["verdicts"].as_array().into_iter().flatten())
    }

    /// The verdict on `subject`; null when there is none.
    fn on(&self, subject: &str) -> Value {
        self.verdicts().find(|one| one["subject"] == subject).cloned().unwrap_or_default()
    }

    /// Expects the severity of the verdict on `subject`, with every one of `words` in it.
    fn expect(&self, checks: &mut Checks, subject: &str, severity: &str, words: &[&str]) {
        let verdict = self.on(subject);
        checks.equal(
            &format!("severity of {subject} ({verdict})"),
            verdict["severity"].as_str(),
            Some(severity),
        );
        for word in words {
            let text = verdict.to_string();
            checks.that(
                &format!("{word:?} in the verdict on {subject}"),
                text.contains(word),
                &text,
            );
        }
    }

    /// Expects the exit code.
    fn ends_with(&self, checks: &mut Checks, code: u8) {
        let bad: Vec<&Value> = self
            .verdicts()
            .filter(|one| matches!(one["severity"].as_str(), Some("warning" | "critical")))
            .collect();
        let what = format!("exit code (verdicts: {bad:?})");
        checks.equal(&what, self.ended.status.code(), Some(code.into()));
        self.is_sound(checks);
    }

    /// Expects that it is the exit code which was written, and no bug.
    fn is_sound(&self, checks: &mut Checks) {
        let code = self.ended.status.code().map(i64::from);
        checks.equal("exit_code", self.json["exit_code"].as_i64(), code);
        expect_no_panic(checks, "doctor", &self.ended.stderr);
    }
}

/// Rules, and entries that stay.
fn track(checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    Running::start("udp", Plan::new(Protocol::Udp, Family::Ipv4, FLOWS), None).join(checks)?;
    Ok(())
}

fn everything(env: &Env, checks: &mut Checks) -> Result<()> {
    track(checks)?;
    // As doctor tries it.
    let watch = Watch::start(env, &["--source", "ebpf", "--attach", "auto"])?;
    let hooks = watch.started().hooks.clone();
    watch.terminate()?;
    let modules = kernel::modules()?;
    let answer = Answer::get(env, &[])?;
    answer.ends_with(checks, 0);
    answer.expect(checks, "release", "ok", &[&kernel::release()]);
    let attached: Vec<&str> =
        hooks.iter().filter_map(|hook| hook.attached_via.as_deref()).collect();
    let via = attached.first().copied().unwrap_or("none");
    let level = if via.contains("kprobe") { "info" } else { "ok" };
    let what = format!("{} of {} by {via}", attached.len(), hooks.len());
    answer.expect(checks, "hooks", level, &[&what]);
    let is_module = modules.contains_key("nf_conntrack");
    answer.expect(checks, "nf_conntrack", "ok", &[if is_module { "a module" } else { "built" }]);
    let has_btf = !is_module || Path::new("/sys/kernel/btf/nf_conntrack").exists();
    answer.expect(checks, "BTF", if has_btf { "ok" } else { "info" }, &["vmlinux"]);
    answer.expect(checks, "capabilities", "ok", &["root"]);
    answer.expect(checks, "fill", "ok", &[&format!("({FLOWS} of ")]);
    let tracks = if is_module { "rules use nft_ct (" } else { "entries, so something tracks" };
    answer.expect(checks, "tracking", "ok", &[tracks]);
    let own = crate::netns::Netns::own()?.inode();
    checks.equal(
        "own namespace",
        answer.json["facts"]["namespaces"]["own"]["known"].as_u64(),
        Some(own),
    );
    checks.equal("no module loaded or unloaded", kernel::modules()?, modules);
    checks.equal("entries are left alone", kernel::count()?, FLOWS as i64);
    wait::until("no program left behind", wait::SHORT, || {
        Ok(kernel::ctmon_programs()?.is_empty().then_some(()))
    })?;

    let screen = process::run(env, &["doctor"])?;
    checks.equal("exit code of the screen", screen.status.code(), Some(0));
    let wide: Vec<&str> =
        screen.stdout.lines().filter(|line| line.chars().count() > COLUMNS).collect();
    checks.that("no line beyond 80 columns", wide.is_empty(), wide);
    checks.that("no escape codes", !screen.stdout.contains('\u{1b}'), &screen.stdout);
    let lines = screen.stdout.lines().count();
    checks.that("one screen", (24..=44).contains(&lines), lines);
    Ok(())
}

fn without_btf(env: &Env, checks: &mut Checks) -> Result<()> {
    track(checks)?;
    let empty = "/tmp/doctor-sysfs";
    fs::create_dir_all(empty).context("cannot create a folder in /tmp")?;
    let answer = Answer::get(env, &["--path.sysfs", empty])?;
    answer.ends_with(checks, 1);
    answer.expect(checks, "BTF", "warning", &["vmlinux is not there", "CONFIG_DEBUG_INFO_BTF"]);
    answer.expect(checks, "hooks", "warning", &["polled from procfs", "see BTF"]);
    answer.expect(checks, "fill", "ok", &[&format!("({FLOWS} of ")]);
    Ok(())
}

/// What a process without capabilities is told.
fn expect_poor(answer: &Answer, checks: &mut Checks, who: &str) {
    answer.ends_with(checks, 1);
    let words = [who, "CAP_BPF loads", "CAP_PERFMON lets", "CAP_SYS_ADMIN finds"];
    answer.expect(checks, "capabilities", "warning", &words);
    answer.expect(checks, "hooks", "warning", &["see ", "capabilities\",", "polled from procfs"]);
    answer.expect(checks, "fill", "ok", &[&format!("({FLOWS} of ")]);
    answer.expect(checks, "nf_conntrack", "ok", &[]);
}

fn without_root(env: &Env, checks: &mut Checks) -> Result<()> {
    track(checks)?;
    let arguments = ["doctor", "--output", "json"];
    let ended = Process::start_as(env, &arguments, Some(NOBODY))?.end(wait::SHORT)?;
    expect_poor(&Answer::of(ended)?, checks, "user 65534");
    Ok(())
}

fn stripped(env: &Env, checks: &mut Checks) -> Result<()> {
    track(checks)?;
    // What a thread gives up is not there for the process that it starts.
    let ended = thread::scope(|scope| {
        let poor = scope.spawn(|| {
            for bit in 0..u64::BITS {
                let one = CapabilitySet::from_bits_retain(1 << bit);
                if one != CapabilitySet::NET_ADMIN {
                    // Refused for bits that this kernel has no capability for.
                    let _ = remove_capability_from_bounding_set(one);
                }
            }
            process::run(env, &["doctor", "--output", "json"])
        });
        poor.join().map_err(|_| anyhow!("the thread without capabilities panicked"))?
    })?;
    let answer = Answer::of(ended)?;
    checks.equal(
        "capabilities",
        answer.json["facts"]["process"]["capabilities"]["known"].as_u64(),
        Some(CapabilitySet::NET_ADMIN.bits()),
    );
    expect_poor(&answer, checks, "root, without");
    Ok(())
}

fn without_procfs(env: &Env, checks: &mut Checks) -> Result<()> {
    let empty = "/tmp/doctor-procfs";
    fs::create_dir_all(empty).context("cannot create a folder in /tmp")?;
    let answer = Answer::get(env, &["--path.procfs", empty])?;
    answer.ends_with(checks, 2);
    answer.expect(checks, "nf_conntrack", "critical", &[empty, "--path.procfs"]);

    let ctmon = env.ctmon.to_str().context("the path of ctmon is UTF-8")?;
    for arguments in ["doctor", "doctor --output json"] {
        let script = format!("{ctmon} {arguments} 2>&1 >/dev/full; echo code $?");
        let said = command::run("sh", &["-c", &script])?;
        checks.that("a full disk is said", said.contains("No space left"), &said);
        checks.that("a full disk is exit code 3", said.contains("code 3"), &said);
        expect_no_panic(checks, arguments, &said);
    }
    Ok(())
}

/// A name, an address and a comment that a bundle must not hold.
const CUSTOMER: &str = "customer-x";
const ADDRESS: &str = "127.0.0.";
const SETTINGS: &str = "/etc/sysctl.d/customer-y.conf";

fn bundle(env: &Env, checks: &mut Checks) -> Result<()> {
    track(checks)?;
    command::nft("table inet customer_z { chain secret { counter comment \"customer-rule\"; }; }")?;
    let name = Path::new("/run/netns").join(CUSTOMER);
    fs::create_dir_all("/run/netns").and_then(|()| fs::write(&name, "")).context("/run/netns")?;
    let name = name.to_str().context("UTF-8")?;
    command::run("mount", &["-o", "bind", "/proc/self/ns/net", name])?;
    fs::create_dir_all("/etc/sysctl.d").context("/etc/sysctl.d")?;
    fs::write(SETTINGS, "net.netfilter.nf_conntrack_max = 424242\n").context(SETTINGS)?;
    let result = look_into_bundles(env, checks);
    fs::remove_file(SETTINGS).context(SETTINGS)?;
    command::run("umount", &[name])?;
    fs::remove_file(name).context("/run/netns")?;
    result
}

fn look_into_bundles(env: &Env, checks: &mut Checks) -> Result<()> {
    let entries = command::run("conntrack", &["-L"])?;
    checks.that("entries have the address", entries.contains(ADDRESS), &entries);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    checks.that("the host has a name", host.len() > 3, &host);
    let path = "/tmp/doctor-bundle.tar.gz";
    let unpack = || command::run("tar", &["-xzOf", path]);

    // Under another name of procfs, which may say something about its owner too.
    let procfs = "/tmp/customer-w-proc";
    fs::create_dir_all(procfs).context(procfs)?;
    command::run("mount", &["-o", "bind", "/proc", procfs])?;
    let arguments = ["--bundle", path, "--path.procfs", procfs];
    let answer = Answer::get(env, &arguments);
    command::run("umount", &[procfs])?;
    let answer = answer?;
    answer.is_sound(checks);
    checks.that("it says where", answer.ended.stderr.contains(path), &answer.ended.stderr);
    let text = unpack()?;
    for private in ["customer", ADDRESS, &host, "secret"] {
        checks.that(
            &format!("no {private:?} in the bundle"),
            !text.contains(private),
            lines(&text, private),
        );
    }
    let files = command::run("tar", &["-tzf", path])?;
    let files: BTreeSet<&str> = files.lines().filter_map(|file| file.split('/').nth(1)).collect();
    let expected = [
        "README.txt",
        "config.txt",
        "doctor.json",
        "doctor.txt",
        "hooks.txt",
        "statistics.txt",
        "sysctl.txt",
    ];
    checks.equal("files", files, BTreeSet::from(expected));
    for word in [&kernel::release(), "424242", "nf_conntrack_max=", "__nf_conntrack_alloc"] {
        checks.that(&format!("{word:?} in the bundle"), text.contains(word), &text);
    }

    let again = process::run(env, &["doctor", "--bundle", path])?;
    super::expect_error(checks, "a file that is there", &again, &["not overwritten"]);
    fs::remove_file(path).context(path)?;
    Answer::get(env, &["--bundle", path, "--include-private"])?.is_sound(checks);
    let text = unpack()?;
    for asked in [CUSTOMER, SETTINGS, &host] {
        checks.that(&format!("{asked:?} where asked for"), text.contains(asked), &text);
    }
    for never in [ADDRESS, "secret"] {
        checks.that(&format!("no {never:?} even then"), !text.contains(never), lines(&text, never));
    }
    fs::remove_file(path).context(path)
}

/// A child process, ended when this is dropped.
struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn surroundings(env: &Env, checks: &mut Checks) -> Result<()> {
    track(checks)?;
    let answer = Answer::get(env, &[])?;
    answer.expect(checks, "listeners", "ok", &[]);
    answer.expect(checks, "bypass", "ok", &[]);
    answer.expect(checks, "limit set by", "ok", &["default"]);
    answer.expect(checks, "size", "ok", &[]);

    let listener = Command::new("conntrack")
        .arg("-E")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start conntrack -E")?;
    let _listener = Listener(listener);
    wait::until("a listener", wait::SHORT, || {
        let answer = Answer::get(env, &[])?;
        Ok((answer.on("listeners")["severity"] == "info").then_some(()))
    })?;

    let _max = Limit::max(&env.init, 65_536)?;
    let _buckets = Limit::buckets(&env.init, 1024)?;
    fs::create_dir_all("/etc/sysctl.d").context("/etc/sysctl.d")?;
    fs::write(SETTINGS, "net.netfilter.nf_conntrack_max = 424242\n").context(SETTINGS)?;
    // sysfs shows the interfaces of the network namespace that it was mounted in.
    let link =
        |verb| env.init.run(|| command::run("ip", &["link", verb, "cilium_host", "type", "dummy"]));
    link("add")?;
    let answer = Answer::get(env, &[]);
    link("del")?;
    fs::remove_file(SETTINGS).context(SETTINGS)?;
    let answer = answer?;
    answer.ends_with(checks, 1);
    answer.expect(checks, "bypass", "warning", &["cilium_host", "bypass netfilter"]);
    answer.expect(checks, "limit set by", "info", &[SETTINGS, "424242", "modules-load.d"]);
    answer.expect(checks, "size", "warning", &["nf_conntrack_buckets to"]);
    Ok(())
}

/// Process with the name of a firewall manager; sets the limit each second on request.
const MANAGER: &str = "printf pve-firewall >/proc/$$/comm
while :; do
  for max in $0; do echo $max >/proc/sys/net/netfilter/nf_conntrack_max; sleep 1; done
  sleep 1
done";

/// Runs [`MANAGER`] in the initial network namespace, where alone the limit can be set.
struct Manager(Child);

impl Manager {
    fn start(env: &Env, limits: &str) -> Result<Self> {
        let spawn = || Ok(Command::new("sh").args(["-c", MANAGER, limits]).spawn()?);
        Ok(Self(env.init.run(spawn)?))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn setters(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let max = Limit::max(&env.init, 20_000)?;
    let named = ["pve-firewall", "each 10 s", "host.fw"];
    {
        let _manager = Manager::start(env, "")?;
        let answer = wait::until("the program is named", wait::SHORT, || {
            let answer = Answer::get(env, &[])?;
            Ok((answer.on("limit set by")["severity"] == "info").then_some(answer))
        })?;
        answer.expect(checks, "limit set by", "info", &named);
        answer.expect(checks, "losses", "ok", &[]);
    }
    {
        let _manager = Manager::start(env, "30000 20000")?;
        let answer = Answer::get(env, &["--observe", "4s"])?;
        answer.expect(checks, "limit set by", "warning", &["was changed", "30000", "20000"]);
        answer.expect(checks, "limit set by", "warning", &named);
        answer.ends_with(checks, 1);
    }
    max.change(50)?;
    stage::fill_for_good(50)?;
    let plan = Plan { rate: Some(100), ..Plan::new(Protocol::Udp, Family::Ipv4, 60_000) };
    let traffic = Running::start("refused", plan, None);
    let answer = Answer::get(env, &[])?;
    drop(traffic);
    answer.expect(checks, "losses", "critical", &["packets dropped in", "whose table is full"]);
    checks.equal("of the tables", answer.json["tables_severity"].as_str(), Some("critical"));
    let of_ctmon = answer.json["program_severity"].as_str();
    checks.that("ctmon itself works", matches!(of_ctmon, Some("ok" | "info")), of_ctmon);
    answer.ends_with(checks, 2);
    Ok(())
}

/// Lines of `text` that have `word`.
fn lines<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.contains(word)).collect()
}

fn without_conntrack(env: &Env, checks: &mut Checks) -> Result<()> {
    let _unloaded = Unloaded::new()?;
    let answer = Answer::get(env, &[])?;
    answer.ends_with(checks, 2);
    answer.expect(checks, "nf_conntrack", "critical", &["not loaded", "modprobe", "--wait"]);
    answer.expect(checks, "hooks", "info", &["not tried"]);
    answer.expect(checks, "namespaces", "info", &[]);
    checks.that(
        "ctmon loads no module",
        !kernel::modules()?.contains_key("nf_conntrack"),
        "it did",
    );
    Ok(())
}
