//! A kernel whose type information is damaged or lacks what is needed.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use conntrack_tests::traffic::{Family, Plan, Protocol};

use super::{TRACK, expect_error};
use crate::{
    checks::{Checks, Skip},
    command,
    ctmon::Watch,
    netns::Netns,
    process,
    runner::{Env, Test},
    stage::{self, Running},
};

const BTF: &str = "kernel/btf";
const CPUS: &str = "devices/system/cpu";

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "damaged-btf-is-an-error",
            "Without BTF, with BTF cut off, and without the functions: an error with what, why and what to do",
            damaged,
        ),
        Test::new(
            "types-from-a-file-count-the-same",
            "Without BTF in sysfs, --btf gives the types, and kprobes count every flow",
            from_a_file,
        ),
    ]
}

/// A folder that looks like sysfs as far as ctmon reads it. `module`: the BTF of nf_conntrack.
fn sysfs(name: &str, vmlinux: Option<&[u8]>, module: Option<&[u8]>) -> Result<String> {
    let root = format!("/tmp/sysfs-{name}");
    let create = |folder: &str| {
        let folder = Path::new(&root).join(folder);
        fs::create_dir_all(&folder).map(|()| folder).context("cannot create a folder in /tmp")
    };
    let (btf, cpus) = (create(BTF)?, create(CPUS)?);
    fs::copy(Path::new("/sys").join(CPUS).join("possible"), cpus.join("possible"))
        .context("cannot copy the list of CPUs")?;
    for (file, bytes) in [("vmlinux", vmlinux), ("nf_conntrack", module)] {
        if let Some(bytes) = bytes {
            fs::write(btf.join(file), bytes).context("cannot write BTF to /tmp")?;
        }
    }
    Ok(root)
}

fn damaged(env: &Env, checks: &mut Checks) -> Result<()> {
    let read = |file: &str| fs::read(Path::new("/sys").join(BTF).join(file));
    let vmlinux = read("vmlinux").context("this kernel has no BTF")?;
    // None where conntrack is built in.
    let module = read("nf_conntrack").ok();
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();

    let no_btf = sysfs("none", None, None)?;
    let cut = sysfs("cut", Some(&half(&vmlinux)), module.as_deref())?;
    let mut cases = vec![
        (no_btf, vec!["vmlinux", "cannot read", "--source procfs"]),
        (cut, vec!["vmlinux", "cut off", "--source procfs"]),
    ];
    if let Some(module) = &module {
        let cut = sysfs("cut-module", Some(&vmlinux), Some(&half(module)))?;
        cases.push((cut, vec!["nf_conntrack", "cut off", "--source procfs"]));
        let without = sysfs("no-functions", Some(&vmlinux), None)?;
        cases.push((without, vec!["no function __nf_conntrack_alloc", "--source procfs"]));
    }
    for (root, words) in &cases {
        let arguments = [
            "watch",
            "--source",
            "ebpf",
            "--attach",
            "fentry",
            "--path.sysfs",
            root,
            "--count",
            "1",
        ];
        let ended = process::run(env, &arguments)?;
        expect_error(checks, &arguments.join(" "), &ended, words);
    }
    Ok(())
}

fn from_a_file(env: &Env, checks: &mut Checks) -> Result<()> {
    let file = Path::new("/sys").join(BTF).join("vmlinux");
    let file = file.to_str().context("a path in UTF-8")?;
    let root = sysfs("file", None, None)?;
    for attach in ["auto", "kprobe"] {
        let types = ["--path.sysfs", &root, "--btf", file, "--attach", attach];
        count_by(env, checks, &types).with_context(|| format!("--attach {attach}"))?;
    }
    Ok(())
}

/// Expects that a ctmon with these arguments counts every flow; where kprobes find no function, nothing.
fn count_by(env: &Env, checks: &mut Checks, types: &[&str]) -> Result<()> {
    const FLOWS: u64 = 1000;
    let once = [["watch", "--source", "ebpf", "--count", "1"].as_slice(), types].concat();
    let ended = process::run(env, &once)?;
    if ended.stderr.contains("BTF has no structure") {
        let why = "conntrack is a module, and its types are in a file of their own";
        return Err(Skip(why.into()).into());
    }
    if ended.stderr.contains("has no function") {
        checks.note(format!("not by {}: {}", types.join(" "), ended.stderr.trim()));
        return Ok(());
    }
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let mut watch = Watch::start(env, types)?;
    watch.baseline(own)?;
    let plan = Plan::new(Protocol::Udp, Family::Ipv4, FLOWS);
    let sent = Running::start("flows", plan, None).join(checks)?.sent;
    let sent = i64::try_from(sent).context("flows")?;
    command::flush()?;
    let netns = watch.quiet_netns(own)?;
    for name in ["allocs", "inserts", "deletes", "frees"] {
        if !watch.cannot_tell(name) {
            checks.equal(name, netns.total(name), Some(sent));
        }
    }
    checks.equal("count_drift", netns.count_drift, Some(0));
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}
