//! A kernel whose type information is damaged or lacks what is needed.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::expect_error;
use crate::{
    checks::Checks,
    process,
    runner::{Env, Test},
};

const BTF: &str = "kernel/btf";
const CPUS: &str = "devices/system/cpu";

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "damaged-btf-is-an-error",
        "Without BTF, with BTF cut off, and without the functions: an error with what, why and what to do",
        damaged,
    )]
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
