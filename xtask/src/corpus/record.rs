//! Makes recordings, each in a VM of its own.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::repack::repack;
use crate::{
    arch, build,
    files::Files,
    ordered,
    process::{Lines, Sink},
    progress::{self, note},
    setup,
    vm::{self, Guest, MachineArgs, kernel},
    workspace,
};

/// What a script writes its recording as.
const FILE: &str = "recording.mcap";
/// Begins the line with the size of the recording.
const SIZE: &str = "bytes: ";

/// A recording to be made.
pub(crate) struct Order {
    /// Name of the file without its extension.
    pub(crate) name: String,
    /// Shell script of the VM.
    pub(crate) script: String,
    /// Kernel series.
    pub(crate) kernel: Option<String>,
}

/// Makes those that are not there yet, `jobs` at a time. Returns how many could not be made.
pub(crate) fn missing(
    orders: Vec<Order>,
    folder: &Path,
    jobs: usize,
    machine: &MachineArgs,
) -> Result<usize> {
    let (there, orders): (Vec<Order>, Vec<Order>) =
        orders.into_iter().partition(|order| path(folder, &order.name).exists());
    note(&format!("{} there already, {} to be recorded", there.len(), orders.len()));
    if orders.is_empty() {
        return Ok(0);
    }
    let arch = arch::DEFAULT;
    setup::ensure(arch)?;
    let binaries = build::static_binaries(arch)?;
    let logs = workspace::target()?.join("corpus-logs");
    workspace::create(&logs)?;
    workspace::create(folder)?;
    // Its trial of KVM is for all.
    vm::accelerator(machine, &kernel::get(arch, arch.kernel)?)?;
    let work = |order: &Order, _: Sink<'_>| {
        let began = Instant::now();
        let kernel = kernel::get(arch, order.kernel.as_deref().unwrap_or(arch.kernel))?;
        let guest = Guest::command(&order.script, &binaries);
        let log = logs.join(format!("{}.log", order.name));
        let (files, size) = run(&kernel, machine, &guest, &order.name, &log)?;
        let bytes = files.get(FILE).context("the script handed out no recording")?;
        ensure!(
            size == Some(bytes.len()),
            "the recording has {size:?} bytes in the VM, {} came out of it",
            bytes.len()
        );
        let bytes = repack(bytes)?;
        keep(&bytes, &path(folder, &order.name))?;
        let took = began.elapsed().as_secs();
        note(&format!("{}: done, {} bytes, {took} s", order.name, bytes.len()));
        Ok(())
    };
    let results = ordered::run(&orders, jobs, work, |_| Ok(()))?;
    let mut failed = 0;
    for (order, result) in orders.iter().zip(results) {
        if let Err(error) = result {
            failed += 1;
            progress::error(&error.context(format!("{} was not recorded", order.name)));
        }
    }
    Ok(failed)
}

fn path(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("{name}.mcap"))
}

/// Runs a script; its files, and the size of the recording in the VM.
fn run(
    kernel: &kernel::Kernel,
    machine: &MachineArgs,
    guest: &Guest<'_>,
    name: &str,
    log: &Path,
) -> Result<(Files, Option<usize>)> {
    let mut log = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let (mut files, mut lines, mut size) = (Files::default(), Lines::default(), None);
    let status = vm::boot(kernel, machine, guest, &mut |bytes| {
        let shown = files.push(bytes);
        log.write_all(&shown).context("cannot write the log")?;
        for line in lines.push(&shown) {
            note(&format!("{name}: {line}"));
            size = line.strip_prefix(SIZE).and_then(|size| size.trim().parse().ok()).or(size);
        }
        Ok(())
    })?;
    if status != 0 {
        bail!("its script ended with {status}");
    }
    Ok((files, size))
}

/// Writes a file beside its place and renames it: a file with its name is whole.
fn keep(bytes: &[u8], path: &Path) -> Result<()> {
    let part = path.with_extension("part");
    let write = || {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_replaces_what_was_left_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let whole = path(folder.path(), "leak-1");
        fs::write(whole.with_extension("part"), "half of something longer").unwrap();
        keep(b"whole", &whole).unwrap();
        assert_eq!(fs::read(&whole).unwrap(), b"whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
