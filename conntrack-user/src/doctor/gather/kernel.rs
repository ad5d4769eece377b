//! What the kernel was built with.

use std::{collections::BTreeMap, io::Read, path::Path};

use flate2::read::GzDecoder;

use super::{Roots, file};
use crate::doctor::facts::Fact;

/// Options that decide whether programs attach and what can be told.
const OPTIONS: [&str; 32] = [
    "BPF_EVENTS",
    "BPF_JIT",
    "BPF_JIT_ALWAYS_ON",
    "BPF_LSM",
    "BPF_SYSCALL",
    "BPF_UNPRIV_DEFAULT_OFF",
    "DEBUG_INFO_BTF",
    "DEBUG_INFO_BTF_MODULES",
    "DYNAMIC_FTRACE",
    "DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
    "FUNCTION_TRACER",
    "HZ",
    "KPROBES",
    "KPROBE_EVENTS",
    "NETFILTER_NETLINK_HOOK",
    "NETFILTER_XT_MATCH_CONNTRACK",
    "NET_ACT_CT",
    "NFT_CT",
    "NF_CONNTRACK",
    "NF_CONNTRACK_EVENTS",
    "NF_CONNTRACK_MARK",
    "NF_CONNTRACK_PROCFS",
    "NF_CONNTRACK_ZONES",
    "NF_CT_NETLINK",
    "NF_FLOW_TABLE",
    "NF_NAT",
    "NF_TABLES",
    "OPENVSWITCH",
    "PERF_EVENTS",
    "PREEMPT",
    "PREEMPT_DYNAMIC",
    "SECURITY_LOCKDOWN_LSM",
];

/// Bytes of a configuration that are looked at, of which distributions write up to 300,000.
const MAX_BYTES: u64 = 4 << 20;

/// Those of [`OPTIONS`] that are set, from where kernels and distributions keep them.
pub(super) fn config(roots: &Roots, release: &Fact<String>) -> Fact<BTreeMap<String, String>> {
    let packed = roots.procfs.join("config.gz");
    if let Some(text) = file::bytes(&packed).ok().and_then(|bytes| unpacked(&bytes)) {
        return Fact::Known(options(&text));
    }
    let Fact::Known(release) = release else {
        return Fact::Unavailable("the kernel's release is not known".into());
    };
    let plain = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
    let found = plain.iter().find_map(|path| file::text(&roots.file(path)).known().cloned());
    match found {
        Some(text) => Fact::Known(options(&text)),
        None => {
            Fact::Unavailable(format!("neither {} nor {} is there", packed.display(), plain[0]))
        }
    }
}

/// Text of a packed configuration, up to [`MAX_BYTES`] of it.
pub(super) fn unpacked(packed: &[u8]) -> Option<String> {
    let mut text = String::new();
    GzDecoder::new(packed).take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

pub(super) fn options(text: &str) -> BTreeMap<String, String> {
    let set = text.lines().filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='));
    let wanted = set.filter(|(name, _)| OPTIONS.contains(name));
    wanted.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// Whether perf has an event source for them: the one sign of them that needs no privilege.
pub(super) fn kprobes(sysfs: &Path) -> Fact<bool> {
    let sources = sysfs.join("bus/event_source/devices");
    match std::fs::metadata(&sources) {
        Ok(_) => Fact::Known(sources.join("kprobe").exists()),
        Err(error) => Fact::Unavailable(file::why(&sources, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_set_and_matter() {
        let text = "# a comment\nCONFIG_HZ=250\nCONFIG_NFT_CT=m\n# CONFIG_KPROBES is not set\n\
                    CONFIG_BUILD_SALT=\"secret\"\n";
        let options = options(text);
        let expected = [("HZ", "250"), ("NFT_CT", "m")];
        assert!(options.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected), "{options:?}");
    }

    #[test]
    fn a_packed_configuration_is_unpacked_up_to_a_bound() {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"CONFIG_HZ=250\n").unwrap();
        let zeros = vec![b'\n'; 1 << 20];
        for _ in 0..32 {
            encoder.write_all(&zeros).unwrap();
        }
        let text = unpacked(&encoder.finish().unwrap()).unwrap();
        assert_eq!((options(&text)["HZ"].as_str(), text.len()), ("250", MAX_BYTES as usize));
        assert_eq!(unpacked(b"CONFIG_HZ=250\n"), None);
    }

    #[test]
    fn options_are_sorted_and_unique() {
        assert!(OPTIONS.is_sorted_by(|a, b| a < b));
    }
}
