//! The kernel modules that a VM needs, in an order in which they load.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{command, output, text},
    workspace::create,
};

/// Connection tracking does not work without these.
const REQUIRED: [&str; 3] = ["nf_conntrack", "nf_tables", "nft_ct"];

/// Loaded where the kernel has them: some became part of others, some are built in.
const WANTED: [&str; 25] = [
    "crc32c_generic",
    "libcrc32c",
    "nfnetlink",
    "nf_defrag_ipv4",
    "nf_defrag_ipv6",
    "nf_conntrack_netlink",
    "nft_counter",
    "nf_nat",
    "nft_nat",
    "nft_chain_nat",
    "nft_masq",
    "nft_reject",
    "nft_reject_inet",
    "nft_log",
    "nft_limit",
    "nft_connlimit",
    "nf_flow_table",
    "nf_flow_table_inet",
    "nft_flow_offload",
    "nfnetlink_queue",
    "nft_queue",
    "veth",
    "dummy",
    "virtio_pci",
    "virtio_net",
];

/// Puts the modules, uncompressed, into the tree of an initramfs, with their index for `modprobe` and the list of
/// those to load in `/etc/modules-order`. A kernel without a module directory has everything built in.
pub(crate) fn stage(release: &str, modules: Option<&Path>, tree: &Path) -> Result<()> {
    create(&tree.join("etc"))?;
    let order_file = tree.join("etc/modules-order");
    let Some(modules) = modules else {
        return fs::write(&order_file, "")
            .with_context(|| format!("cannot write {}", order_file.display()));
    };
    let to = tree.join("lib/modules").join(release);
    let builtin = fs::read_to_string(modules.join("modules.builtin")).unwrap_or_default();
    let order = load_order(&index(release, modules)?, &builtin)
        .with_context(|| format!("the modules of {release} in {}", modules.display()))?;
    let mut list = String::new();
    for module in order {
        let plain = module.trim_end_matches(".xz").trim_end_matches(".zst").trim_end_matches(".gz");
        let file = to.join(plain);
        create(file.parent().unwrap_or(&to))?;
        fs::write(&file, decompressed(&modules.join(&module))?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        list.push_str(&format!("/lib/modules/{release}/{plain}\n"));
    }
    fs::write(&order_file, list)
        .with_context(|| format!("cannot write {}", order_file.display()))?;
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        // depmod warns about absent ones, and does without.
        let _ = fs::copy(modules.join(name), to.join(name));
    }
    output(command("depmod").arg("-b").arg(tree).arg(release), "so that modprobe works in the VM")
        .map(drop)
}

/// `modules.dep`, made on the fly where the kernel has none: its own directory stays as it is.
fn index(release: &str, modules: &Path) -> Result<String> {
    if let Ok(text) = fs::read_to_string(modules.join("modules.dep")) {
        return Ok(text);
    }
    let scratch = tempfile::tempdir().context("no scratch directory for depmod")?;
    let parent = scratch.path().join("lib/modules");
    create(&parent)?;
    symlink(fs::canonicalize(modules)?, parent.join(release))
        .with_context(|| format!("cannot link to {}", modules.display()))?;
    let mut depmod = command("depmod");
    depmod.arg("-n").arg("-b").arg(scratch.path()).arg(release);
    let all = text(&mut depmod, "to learn which modules depend on which")?;
    // The other indices follow, each under a comment.
    Ok(all.split("\n#").next().unwrap_or_default().to_owned())
}

fn decompressed(module: &Path) -> Result<Vec<u8>> {
    let with =
        |program| output(command(program).arg("-dc").arg(module), "to decompress a kernel module");
    match module.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => with("xz"),
        Some("zst") => with("zstd"),
        Some("gz") => with("gzip"),
        _ => fs::read(module).with_context(|| format!("cannot read {}", module.display())),
    }
}

/// The files to load, each after those it depends on, from `modules.dep` and `modules.builtin`.
fn load_order(dep: &str, builtin: &str) -> Result<Vec<String>> {
    let graph: BTreeMap<&str, (&str, Vec<&str>)> = dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (path, needs.split_whitespace().map(name).collect()))
        .map(|(path, needs)| (name(path), (path, needs)))
        .collect();
    let builtin: BTreeSet<&str> = builtin.lines().map(name).collect();
    for module in REQUIRED {
        if !graph.contains_key(module) && !builtin.contains(module) {
            bail!(
                "there is no {module}, neither as a module nor built in: this kernel has nothing to monitor"
            );
        }
    }
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for module in WANTED.iter().chain(&REQUIRED) {
        visit(module, &graph, &mut seen, &mut order);
    }
    Ok(order)
}

fn visit<'a>(
    module: &'a str,
    graph: &BTreeMap<&'a str, (&'a str, Vec<&'a str>)>,
    seen: &mut BTreeSet<&'a str>,
    order: &mut Vec<String>,
) {
    let Some((path, needs)) = graph.get(module) else {
        return;
    };
    if seen.insert(module) {
        for need in needs {
            visit(need, graph, seen, order);
        }
        order.push((*path).to_owned());
    }
}

/// `kernel/net/netfilter/nf_conntrack.ko.xz` is `nf_conntrack`.
fn name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/net/netfilter/nf_tables.ko.xz: kernel/net/netfilter/nfnetlink.ko.xz kernel/lib/libcrc32c.ko.xz
kernel/net/netfilter/nfnetlink.ko.xz:
kernel/lib/libcrc32c.ko.xz:
kernel/net/ipv4/netfilter/nf_defrag_ipv4.ko.xz:
kernel/net/netfilter/nf_conntrack.ko.xz: kernel/net/ipv4/netfilter/nf_defrag_ipv4.ko.xz kernel/lib/libcrc32c.ko.xz
kernel/net/netfilter/nft_ct.ko.xz: kernel/net/netfilter/nf_tables.ko.xz kernel/net/netfilter/nf_conntrack.ko.xz
kernel/fs/ext4/ext4.ko.xz: kernel/lib/libcrc32c.ko.xz
";

    #[test]
    fn every_module_comes_after_what_it_needs() {
        let order = load_order(DEP, "").unwrap();
        let place = |module| order.iter().position(|path| name(path) == module).unwrap();
        assert!(place("nf_conntrack") > place("nf_defrag_ipv4"));
        assert!(place("nf_tables") > place("nfnetlink"));
        assert!(place("nft_ct") > place("nf_conntrack").max(place("nf_tables")));
        assert_eq!(order.len(), 6, "each once, and no other module: {order:?}");
    }

    #[test]
    fn a_loop_in_the_index_ends() {
        let order =
            load_order(&format!("{DEP}\na/veth.ko: a/dummy.ko\na/dummy.ko: a/veth.ko\n"), "")
                .unwrap();
        assert_eq!(order.len(), 8);
    }

    #[test]
    fn what_is_built_in_need_not_be_a_module() {
        let builtin = "kernel/net/netfilter/nf_conntrack.ko\nkernel/net/netfilter/nf_tables.ko\nk/nft_ct.ko\n";
        assert!(load_order("", builtin).unwrap().is_empty());
    }

    #[test]
    fn a_kernel_without_conntrack_is_an_error() {
        let error = load_order("kernel/net/netfilter/nf_tables.ko:\n", "").unwrap_err();
        assert!(error.to_string().contains("nf_conntrack"), "{error}");
    }
}
