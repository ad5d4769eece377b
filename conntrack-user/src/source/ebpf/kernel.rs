//! The running kernel as far as it is attached to: its types and its functions.

use std::{
    collections::HashSet,
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io::{self, BufReader},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use conntrack_ebpf::Config;

use super::{
    super::procfs::stat,
    Options, bears,
    btf::Btf,
    hook::{EARLY_DROP, Family, HASH_CHECK_INSERT, Hook},
    layout, preemption, rings,
    symbols::Symbols,
    windows,
};
use crate::{file, model::failed_inserts::FailedInserts};

/// The module, where conntrack is one.
pub(super) const MODULE: &str = "nf_conntrack";

/// Number of the module among the modules with data in each namespace.
const NET_ID: &str = "nf_conntrack_net_id";

/// What there is to attach to.
pub(super) struct Kernel {
    pub(super) vmlinux: Arc<Btf>,
    pub(super) module: Option<Arc<Btf>>,
    pub(super) symbols: Symbols,
    /// Whether it counts failed inserts by reason.
    pub(super) has_reasons: bool,
}

impl Kernel {
    pub(super) fn read(options: &Options) -> Result<Self> {
        let (vmlinux, module) = read_btf(&options.sysfs, options.btf.as_deref())?;
        let path = options.procfs.join("kallsyms");
        let wanted: HashSet<&str> = Hook::ALL
            .iter()
            .flat_map(|hook| {
                let kprobe = hook.kprobe().map_or(&[][..], |(_, functions)| functions);
                hook.functions().chain(kprobe.iter().copied())
            })
            .chain([EARLY_DROP, HASH_CHECK_INSERT])
            .collect();
        // Without it kprobes are not to be had, and each hook says so.
        let symbols = File::open(path).and_then(|file| {
            let file = BufReader::with_capacity(1 << 16, file);
            let data = [bears::DATA[0], NET_ID];
            Symbols::read(file, MODULE, |name| wanted.contains(name), &data)
        });
        let mut symbols = symbols.unwrap_or_default();
        let inlined = options.fault.inlined.iter().flat_map(|hook| hook.rungs()[0].parts);
        inlined.flat_map(|part| part.functions).for_each(|name| symbols.forget(name));
        let stat =
            file::read_text(&options.procfs.join("self/net/stat/nf_conntrack"), file::KERNEL);
        let stat = stat.ok().as_deref().and_then(stat::parse);
        let has_reasons = stat.is_some_and(|stat| FailedInserts::of(&stat).is_some());
        let has_reasons = has_reasons && !options.fault.all_hooks;
        Ok(Self { vmlinux, module, symbols, has_reasons })
    }
}

/// What the programs are told.
pub(super) fn config(options: &Options, kernel: &Kernel, family: Family) -> Result<Config> {
    let types = kernel.module.as_ref().unwrap_or(&kernel.vmlinux);
    let mut config = layout::resolve(types)
        .context("cannot tell where this kernel keeps its connection tracking data")?;
    config.nf_conntrack_net_id = kernel.symbols.address_of_data(NET_ID).unwrap_or_default();
    config.cpus = possible_cpus(&options.sysfs)?;
    config.copies = preemption::copies(options);
    config.events = options.events.into();
    config.victims = 1;
    config.rings = options.rings.unwrap_or_else(|| rings::number(config.cpus));
    config.ring_wakeup = ring_bytes(options.ring_bytes, config.rings) / 2;
    config.sample_seed = RandomState::new().hash_one(0);
    // What cannot be asked for the time cannot tell when a window was.
    config.window_jiffies = windows::jiffy().map_or(0, windows::jiffies);
    config.debug_log = options.debug_log.into();
    #[cfg(feature = "fault-injection")]
    {
        config.fault_skip_frees = options.fault.skip_frees;
        config.fault_skip_inserts = options.fault.skip_inserts;
        config.fault_skip_deletes = options.fault.skip_deletes;
    }
    if family == Family::Kprobe {
        let span = |name| kernel.symbols.get(name).unwrap_or_default();
        let (early_drop, hash_check_insert) = (span(EARLY_DROP), span(HASH_CHECK_INSERT));
        (config.early_drop, config.early_drop_len) = (early_drop.start, early_drop.len);
        config.hash_check_insert = hash_check_insert.start;
        config.hash_check_insert_len = hash_check_insert.len;
    }
    Ok(config)
}

/// Bytes of each of `rings`, which share `bytes`: a page at least.
pub(super) fn ring_bytes(bytes: u32, rings: u32) -> u32 {
    (bytes / rings).max(4096)
}

/// The BTF of the kernel, and of the module where conntrack is one. `file`: that of the kernel is there.
fn read_btf(sysfs: &Path, file: Option<&Path>) -> Result<(Arc<Btf>, Option<Arc<Btf>>)> {
    let folder = sysfs.join("kernel/btf");
    let path = file.map_or_else(|| folder.join("vmlinux"), Path::to_owned);
    let why = "it says where this kernel keeps its data";
    let bytes = file::read(&path, file::TYPES).with_context(|| {
        format!(
            "cannot read {}: {why} (a kernel built with CONFIG_DEBUG_INFO_BTF, or a file of its types by --btf)",
            path.display()
        )
    })?;
    let vmlinux =
        Btf::parse(bytes).with_context(|| format!("{} is of no use: {why}", path.display()))?;
    let vmlinux = Arc::new(vmlinux);

    let path = folder.join(MODULE);
    let module = match file::read(&path, file::TYPES) {
        // Built in, or a kernel without BTF of modules; what is missing shows at the hooks.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        bytes => {
            let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
            let module = Btf::parse_split(bytes, Arc::clone(&vmlinux))
                .with_context(|| format!("{} is of no use: {why}", path.display()))?;
            Some(Arc::new(module))
        }
    };
    Ok((vmlinux, module))
}

/// One more than the highest number of a CPU that can ever be there: `nr_cpu_ids`.
pub(super) fn possible_cpus(sysfs: &Path) -> Result<u32> {
    let path = sysfs.join("devices/system/cpu/possible");
    let text = file::read_text(&path, file::KERNEL)
        .with_context(|| format!("cannot read {}: it sizes the counters", path.display()))?;
    cpus(&text).with_context(|| format!("{} is not a list of CPUs: {text:?}", path.display()))
}

/// One more than the highest number in a list such as `0-3,8`.
pub(super) fn cpus(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse::<u32>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_from_a_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let why = "it is a device, no regular file";
        let error = read_btf(folder.path(), Some(Path::new("/dev/zero"))).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("/dev/zero") && error.contains(why), "{error}");
    }

    #[test]
    fn a_list_of_cpus_ends_with_the_highest_number() {
        for (list, number) in [
            ("0\n", Some(1)),
            ("0-3", Some(4)),
            ("0,2-5,9", Some(10)),
            ("", None),
            ("0-4294967295", None),
        ] {
            assert_eq!(cpus(list), number, "{list:?}");
        }
    }
}
