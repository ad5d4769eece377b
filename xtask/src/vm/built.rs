//! `cargo xtask vm kernel build`: kernels that Debian does not have, from its sources. In the cache they are known by what they
//! were made of.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
    thread::available_parallelism,
};

use anyhow::{Context as _, Result, ensure};

use super::mirror;
use crate::{
    arch::X86_64,
    process::{command, output, text},
    progress::step,
    setup, workspace,
};

/// Debian's package of the source.
const SOURCE: &str = "linux-source-6.12";

/// What all are configured with: small, with conntrack built in.
const FRAGMENT: &str = include_str!("kernels/small-builtin.config");

/// A kernel to build.
pub(crate) struct Build {
    /// What `--kernel` calls it.
    pub(crate) name: &'static str,
    /// What there is to try on it.
    pub(crate) what: &'static str,
    is_clang: bool,
    /// Arguments of the kernel's scripts/config.
    config: &'static [&'static str],
    /// Places in the source that are changed: file, text, and what takes its place.
    changes: &'static [(&'static str, &'static str, &'static str)],
}

const CORE: &str = "net/netfilter/nf_conntrack_core.c";

/// All of them.
pub(crate) static ALL: [Build; 4] = [
    Build {
        name: "builtin-gcc",
        what: "conntrack built in, by gcc",
        is_clang: false,
        config: &[],
        changes: &[],
    },
    Build {
        name: "builtin-thinlto",
        what: "conntrack built in, by clang with ThinLTO, which inlines across files",
        is_clang: true,
        config: &["-e", "LTO_CLANG_THIN", "-d", "LTO_NONE"],
        changes: &[],
    },
    Build {
        name: "builtin-no-btf",
        what: "no type information (BTF) at all",
        is_clang: false,
        config: &["-d", "DEBUG_INFO_BTF"],
        changes: &[],
    },
    Build {
        name: "builtin-inlined",
        // Not the allocation: gcc makes init_conntrack.isra.0 of its caller, which has no type.
        what: "inserts and deletes inlined by gcc",
        is_clang: false,
        config: &[],
        changes: &[
            (
                CORE,
                "static void __nf_conntrack_insert_prepare(",
                "static __always_inline void __nf_conntrack_insert_prepare(",
            ),
            (
                CORE,
                "static void __nf_ct_delete_from_lists(",
                "static __always_inline void __nf_ct_delete_from_lists(",
            ),
            (
                CORE,
                "static void nf_ct_delete_from_lists(",
                "static __always_inline void nf_ct_delete_from_lists(",
            ),
        ],
    },
];

/// The build of that name.
pub(crate) fn find(name: &str) -> Option<&'static Build> {
    ALL.iter().find(|build| build.name == name)
}

/// The names, for a message.
pub(crate) fn names() -> String {
    ALL.each_ref().map(|build| build.name).join(", ")
}

/// The folder of the cache in which `build` is, built before from whatever source; the newest.
pub(crate) fn cached(build: &Build) -> Result<Option<PathBuf>> {
    let folders = fs::read_dir(root()?).into_iter().flatten().flatten();
    let is_ours = |folder: &PathBuf| {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let rest =
            name.as_deref().and_then(|name| name.strip_prefix(build.name)?.strip_prefix('-'));
        rest.is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let folders = folders.map(|entry| entry.path()).filter(is_ours);
    let time = |folder: &PathBuf| fs::metadata(folder).and_then(|data| data.modified()).ok();
    Ok(folders.max_by_key(time))
}

fn root() -> Result<PathBuf> {
    Ok(workspace::cache()?.join("kernels"))
}

/// Builds it, unless the cache has it; returns its folder.
pub(crate) fn make(build: &Build) -> Result<PathBuf> {
    let _lock = workspace::lock()?;
    setup::ensure_kernel_builds(build.is_clang)?;
    let source = source()?;
    let folder = root()?.join(format!("{}-{:016x}", build.name, recipe(build, &source)?));
    if folder.is_dir() {
        return Ok(folder);
    }
    let scratch = tempfile::tempdir_in(root()?).context("no scratch folder in the cache")?;
    let tree = scratch.path().join("tree");
    workspace::create(&tree)?;
    step("unpack the kernel's source", || {
        let mut tar = command("tar");
        tar.arg("-xf").arg(&source).arg("-C").arg(&tree).arg("--strip-components=1");
        output(&mut tar, "to build a kernel")
    })?;
    change(build, &tree)?;
    configure(build, &tree)?;
    step(&format!("build the kernel {}", build.name), || {
        let jobs = available_parallelism().map_or(1, usize::from);
        output(make_in(build, &tree).arg(format!("-j{jobs}")).arg("bzImage"), "to build a kernel")
    })?;
    let made = scratch.path().join("made");
    workspace::create(&made)?;
    fs::copy(tree.join(X86_64.built_image), made.join("bzImage"))
        .context("no bzImage was built")?;
    fs::copy(tree.join(".config"), made.join("config")).context("there is no .config")?;
    // For `--btf`, where the kernel has none itself.
    let mut pahole = command("pahole");
    pahole.arg("--btf_encode_detached").arg(made.join("vmlinux.btf")).arg(tree.join("vmlinux"));
    output(&mut pahole, "to write down the kernel's types")?;
    fs::rename(&made, &folder)
        .with_context(|| format!("cannot move it to {}", folder.display()))?;
    Ok(folder)
}

/// The archive of the source, downloaded once.
fn source() -> Result<PathBuf> {
    let folder = workspace::cache()?.join(SOURCE);
    if !folder.is_dir() {
        step(&format!("fetch {SOURCE}"), || {
            let download = |scratch: &Path| mirror::download_only(&X86_64, &[SOURCE], scratch);
            mirror::unpack(&folder, download, |_| Ok(()))
        })?;
    }
    let archive = folder.join(format!("usr/src/{SOURCE}.tar.xz"));
    ensure!(archive.is_file(), "the package {SOURCE} has no {}", archive.display());
    Ok(archive)
}

/// What tells a build from all others: source, configuration and compiler.
fn recipe(build: &Build, source: &Path) -> Result<u64> {
    let compiler = if build.is_clang { "clang" } else { "gcc" };
    let version = text(Command::new(compiler).arg("--version"), "to know the compiler")?;
    let size = fs::metadata(source).context("cannot look at the source")?.len();
    let changelog = source.ancestors().nth(3).map(|root| root.join("usr/share/doc").join(SOURCE));
    let changelog = changelog.and_then(|folder| fs::read(folder.join("changelog.Debian.gz")).ok());
    let mut hasher = DefaultHasher::new();
    (size, changelog, version, FRAGMENT, build.config, build.changes).hash(&mut hasher);
    Ok(hasher.finish())
}

fn change(build: &Build, tree: &Path) -> Result<()> {
    for (file, from, to) in build.changes {
        let path = tree.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("there is no {file}"))?;
        ensure!(text.contains(from), "{file} has no {from:?} to be changed");
        fs::write(&path, text.replacen(from, to, 1))
            .with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}

fn configure(build: &Build, tree: &Path) -> Result<()> {
    let fragment = tree.join("ctmon.config");
    fs::write(&fragment, FRAGMENT).context("cannot write the fragment")?;
    let why = "to configure a kernel";
    let mut first = make_in(build, tree);
    first.arg("allnoconfig").env("KCONFIG_ALLCONFIG", &fragment);
    output(&mut first, why)?;
    if !build.config.is_empty() {
        let mut config = command("scripts/config");
        output(config.current_dir(tree).args(build.config), why)?;
    }
    output(make_in(build, tree).arg("olddefconfig"), why).map(drop)
}

fn make_in(build: &Build, tree: &Path) -> Command {
    let mut make = command("make");
    make.arg("-s").arg("-C").arg(tree);
    if build.is_clang {
        make.arg("LLVM=1");
    }
    make
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_one_build_each() {
        for build in &ALL {
            assert!(std::ptr::eq(find(build.name).unwrap(), build));
            let longer = ALL.iter().filter(|other| other.name.starts_with(build.name));
            assert_eq!(longer.count(), 1, "{}", build.name);
        }
        assert!(find("6.12").is_none());
    }

    #[test]
    fn a_change_that_does_not_apply_is_an_error() {
        let tree = tempfile::tempdir().unwrap();
        let build = Build { changes: &[("a.c", "static int f(", "int f(")], ..ALL[0] };
        fs::write(tree.path().join("a.c"), "static int g(void);").unwrap();
        assert!(change(&build, tree.path()).unwrap_err().to_string().contains("a.c"));
        fs::write(tree.path().join("a.c"), "static int f(void);").unwrap();
        change(&build, tree.path()).unwrap();
        assert_eq!(fs::read_to_string(tree.path().join("a.c")).unwrap(), "int f(void);");
    }
}
