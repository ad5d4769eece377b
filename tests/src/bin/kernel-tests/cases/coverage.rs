//! Coverage of network namespaces: those without a process, those that cannot be entered, containers.

use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use serde_json::Value;

use super::{TRACK, expect_no_panic, namespaces::send};
use crate::{
    checks::{Checks, Skip},
    kernel::{self, Limit},
    mounted::{Mounted, in_run_netns, leave_run_netns, own_file},
    netns::Netns,
    process,
    runner::{Env, Test},
    served::Served,
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    let elsewhere = [
        Test::new(
            "container-is-not-ok",
            "In a PID namespace of its own status is unknown and says what to pass",
            container,
        ),
        Test::new(
            "procfs-without-sysctls",
            "With ProcSubset=pid the cause is named, and not a module that is not loaded",
            no_sysctls,
        ),
        Test::new(
            "doctor-reads-settings-of-process-1",
            "In a network namespace of its own doctor shows the settings of process 1's",
            settings,
        ),
    ];
    let names = [
        Test::new(
            "kallsyms-hidden",
            "Without /proc/kallsyms tables are read all the same, and no module is said to be missing",
            no_kallsyms,
        ),
        Test::new(
            "names-tell-apart",
            "Two namespaces whose names begin alike never look the same, in text and in performance data",
            names_alike,
        ),
    ];
    let by_programs = [
        Test::new(
            "netns-on-the-kernels-list-alone",
            "A namespace that only an open file keeps is found on the kernel's own list, with its entries",
            listed,
        ),
        Test::new(
            "counted-table-at-the-limit",
            "A full table that is only counted is critical by the kernel's one limit, in status and in doctor",
            counted_at_the_limit,
        ),
        Test::new(
            "counted-table-with-traffic",
            "With --unread ok a table that is only counted changes no verdict, also while programs count in it",
            counted_with_traffic,
        ),
        Test {
            of_ctmon: true,
            ..Test::new(
                "serve-logs-coverage-that-changes",
                "A table that is not read any more is a line in the log of serve, and in its metrics",
                logged,
            )
        },
    ];
    let anywhere = elsewhere.into_iter().chain(names).map(Test::anywhere);
    anywhere.chain(by_programs).collect()
}

/// A namespace that tracks.
pub(super) fn tracking() -> Result<Netns> {
    let netns = Netns::new()?;
    netns.run(|| stage::prepare(TRACK))?;
    Ok(netns)
}

pub(super) const POLL: [&str; 6] =
    ["status", "--source", "procfs", "--output", "json", "--interval=50ms"];

pub(super) fn status(env: &Env, checks: &mut Checks, arguments: &[&str]) -> Result<Value> {
    let ended = process::run(env, arguments)?;
    expect_no_panic(checks, "status", &ended.stderr);
    serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))
}

/// Runs ctmon by a shell command in which `ctmon` is its path.
fn by_shell(env: &Env, line: &str) -> Result<Output> {
    let line = line.replace("ctmon", &env.ctmon.to_string_lossy());
    let output = Command::new("sh").args(["-c", &line]).output();
    output.with_context(|| format!("cannot run {line}"))
}

fn container(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    // With programs, a table without entries is known to be empty.
    send(50, checks)?;
    let inside = "unshare -n -p -f --mount-proc ctmon status --interval 50ms --source";
    for (source, level) in [("procfs", "1 of at least 1 table read"), ("auto", "1 of ")] {
        let output = by_shell(env, &format!("{inside} {source}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        checks.equal(&format!("exit code, {source}"), output.status.code(), Some(3));
        let first = text.lines().next().unwrap_or_default();
        let is_told = first.starts_with(&format!("UNKNOWN: {level}"))
            && first.contains("(only this container's: see --pid=host)");
        checks.that(&format!("the first line, {source}"), is_told, first);
        let is_advice = text.contains("--pid=host") && text.contains("hostPID");
        checks.that(&format!("what to pass, {source}"), is_advice, &text);
        let output = by_shell(env, &format!("{inside} {source} --unread ok"))?;
        let code = output.status.code();
        checks.equal(&format!("exit code with --unread ok, {source}"), code, Some(0));
    }
    Ok(())
}

fn no_sysctls(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let line = "unshare -m sh -c 'mount -t proc -o subset=pid proc /proc && exec timeout 5 ctmon ARGUMENTS'";
    for arguments in ["status", "watch --wait", "serve --listen 127.0.0.1:0"] {
        let output = by_shell(env, &line.replace("ARGUMENTS", arguments))?;
        // As a monitoring plugin, `status` has its errors on standard output.
        let all = [output.stdout.as_slice(), &output.stderr].concat();
        let text = String::from_utf8_lossy(&all);
        checks.equal(&format!("{arguments}: exit code"), output.status.code(), Some(3));
        let is_cause = text.contains("subset=pid") && text.contains("ProcSubset");
        checks.that(&format!("{arguments}: the cause"), is_cause, &text);
        checks.that(&format!("{arguments}: no other one"), !text.contains("modprobe"), &text);
    }
    Ok(())
}

fn no_kallsyms(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let line = "unshare -m sh -c 'mount --bind /dev/null /proc/kallsyms && exec timeout 30 ctmon ARGUMENTS'";
    for arguments in ["status --interval 50ms", "watch --source procfs --count 1"] {
        let output = by_shell(env, &line.replace("ARGUMENTS", arguments))?;
        let all = [output.stdout.as_slice(), &output.stderr].concat();
        let text = String::from_utf8_lossy(&all);
        checks.equal(&format!("{arguments}: exit code"), output.status.code(), Some(0));
        checks.that(
            &format!("{arguments}: no module is missing"),
            !text.contains("modprobe"),
            &text,
        );
    }
    Ok(())
}

fn names_alike(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let names = ["kube-system-gateway-blue", "kube-system-gateway-green"];
    let (folder, is_new) = in_run_netns("")?;
    let folder = folder.parent().context("/run/netns")?;
    let mounts = names.map(|name| Mounted::new(&tracking()?, folder.join(name)));
    let seen = process::run(env, &["status", "--source", "procfs", "--interval=50ms"]);
    let is_mounted = mounts.iter().all(Result::is_ok);
    drop(mounts);
    leave_run_netns(is_new)?;
    let text = seen?.stdout;
    checks.equal("both are mounted", is_mounted, true);
    for name in names {
        checks.that(
            &format!("{name} in text"),
            text.lines().skip(1).any(|line| line.trim_start().starts_with(name)),
            &text,
        );
        let label = format!("'entries_{name}'=");
        checks.that(&format!("{name} in performance data"), text.contains(&label), &text);
    }
    Ok(())
}

fn settings(env: &Env, checks: &mut Checks) -> Result<()> {
    // As in some virtual machines, where it has privileges that root's other processes lack.
    if let Err(error) = fs::read_link("/proc/1/ns/net") {
        return Err(Skip(format!("process 1 does not show its network namespace: {error}")).into());
    }
    stage::prepare(TRACK)?;
    let own = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout";
    let before: u32 = fs::read_to_string(own)?.trim().parse()?;
    crate::netns::write(own, &(before + 7).to_string())?;
    let of_first = env.init.run(|| Ok(fs::read_to_string(own)?.trim().to_owned()))?;
    let doctor = process::run(env, &["doctor", "--output", "json"])?;
    let doctor: Value = serde_json::from_str(&doctor.stdout)?;
    let table = &doctor["facts"]["table"];
    checks.equal("whose settings", table["settings_of"].as_str(), Some("host"));
    let seen = table["sysctls"]["known"]["udp_timeout"].as_str();
    checks.equal("udp_timeout", seen, Some(of_first.as_str()));
    Ok(())
}

fn listed(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let netns = Netns::new()?;
    netns.run(|| stage::prepare(TRACK))?;
    let sent = netns.run(|| send(300, checks))?;
    let count = netns.run(kernel::count)?;
    checks.equal("the kernel's count", count, sent);
    let arguments = ["status", "--source", "ebpf", "--output", "json", "--interval", "50ms"];
    let arguments = [arguments.as_slice(), &env.arguments(&[])].concat();
    let status = status(env, checks, &arguments)?;
    let coverage = &status["netns_coverage"];
    checks.equal("is_total_exact", coverage["is_total_exact"].as_bool(), Some(true));
    let not_read = coverage["not_read"].as_array().into_iter().flatten();
    let found = not_read.into_iter().find(|one| one["inode"] == netns.inode());
    checks.that("it is on the list", found.is_some(), coverage);
    let entries = found.and_then(|one| one["entries"].as_i64());
    checks.equal("its entries", entries, Some(sent));
    checks.equal("exit code", status["exit_code"].as_i64(), Some(3));
    Ok(())
}

/// The namespace with this inode among those that are read; null where it is none of them.
pub(super) fn read(status: &Value, inode: u64) -> Value {
    let all = status["netns"].as_array().into_iter().flatten();
    all.into_iter().find(|netns| netns["inode"] == inode).cloned().unwrap_or_default()
}

/// Namespace with this inode among those that are not read; null where it is none of them.
pub(super) fn not_read(status: &Value, inode: u64) -> Value {
    let all = status["netns_coverage"]["not_read"].as_array().into_iter().flatten();
    all.into_iter().find(|netns| netns["inode"] == inode).cloned().unwrap_or_default()
}

/// Arguments of a status by programs.
fn by_programs<'a>(env: &'a Env, more: &[&'a str]) -> Vec<&'a str> {
    let arguments = ["status", "--source", "ebpf", "--interval", "50ms"];
    [arguments.as_slice(), &env.arguments(&[]), more].concat()
}

fn counted_at_the_limit(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let _max = Limit::max(&env.init, 200)?;
    let netns = tracking()?;
    netns.run(|| stage::fill_for_good(200))?;
    let inode = netns.inode();
    let ended = process::run(env, &by_programs(env, &[]))?;
    let first = ended.stdout.lines().next().unwrap_or_default();
    let verdict = format!(
        "CRITICAL: 100% full in netns {inode}, which is only counted: 200 of 200 entries (limit: the kernel's one limit, read in netns "
    );
    checks.that("the first line", first.starts_with(&verdict), first);
    let data = format!("'entries_{inode}'=200;160;190;0;200 'drops_{inode}'=U");
    checks.that("performance data", first.contains(&data), first);
    checks.equal("exit code", ended.status.code(), Some(2));
    let json = status(env, checks, &by_programs(env, &["--output", "json"]))?;
    let one = not_read(&json, inode);
    checks.equal("fill_ratio", one["fill_ratio"].as_f64(), Some(1.0));
    checks.equal("entries_limit", one["entries_limit"].as_u64(), Some(200));
    checks.equal("severity", json["severity"].as_str(), Some("critical"));

    let doctor = process::run(env, &["doctor", "--output", "json"])?;
    let doctor: Value = serde_json::from_str(&doctor.stdout)?;
    let namespaces = &doctor["facts"]["namespaces"];
    checks.equal("the list is the kernel's", namespaces["is_total_exact"].as_bool(), Some(true));
    let others = namespaces["others"].as_array().into_iter().flatten();
    let other = others.into_iter().find(|other| other["inode"] == inode);
    let entries = other.and_then(|other| other["entries"].as_u64());
    checks.equal("its entries for doctor", entries, Some(200));
    checks.equal("doctor's tables", doctor["tables_severity"].as_str(), Some("critical"));
    Ok(())
}

fn counted_with_traffic(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let netns = tracking()?;
    let plan = Plan { rate: Some(200), ..Plan::new(Protocol::Udp, Family::Ipv4, 60_000) };
    let traffic = netns.run(|| Ok(Running::start("elsewhere", plan, None)))?;
    // Long enough for programs to count in it.
    let common = ["status", "--source", "ebpf", "--interval", "1s", "--output", "json"];
    let arguments = [common.as_slice(), &env.arguments(&[])].concat();
    for (unread, code) in [("ok", 0), ("warning", 1), ("unknown", 3)] {
        let status = status(env, checks, &[arguments.as_slice(), &["--unread", unread]].concat())?;
        checks.equal(&format!("--unread {unread}"), status["exit_code"].as_i64(), Some(code));
        let one = not_read(&status, netns.inode());
        checks.equal("it is counted", one["is_counted"].as_bool(), Some(true));
    }
    drop(traffic);
    Ok(())
}

fn logged(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let served = Served::start(env, &["--source", "procfs"])?;
    let unread = || anyhow::Ok(served.metrics()?.value("ctmon_netns{coverage=\"unread\"}"));
    checks.equal("unread at first", unread()?, Some(0.0));
    let file = own_file("logged");
    let _mounts = {
        let (one, other) = (tracking()?, tracking()?);
        let lower = Mounted::new(&one, &file)?;
        [lower, Mounted::new(&other, &file)?]
    };
    wait::until("a table that is not read", wait::SHORT, || {
        Ok((unread()? == Some(1.0)).then_some(()))
    })?;
    checks.that("nothing is logged at once", !served.said().contains("coverage: "), served.said());
    wait::until("the line about it", wait::SHORT, || {
        Ok(served.said().contains("coverage: tables are not read that were").then_some(()))
    })?;
    let said = served.said();
    let line = said.lines().find(|line| line.contains("coverage: ")).unwrap_or_default();
    for word in [" warning ", "unread=1", "mounted over"] {
        checks.that(&format!("{word:?} in the line"), line.contains(word), line);
    }
    std::thread::sleep(Duration::from_secs(5));
    checks.equal("lines about it", served.said().matches("coverage: ").count(), 1);
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    Ok(())
}
