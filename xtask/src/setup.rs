//! `cargo xtask setup`: programs and tools that building and testing need. Quick when nothing is missing.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    arch::{Arch, ArchArgs},
    emulator,
    process::{cargo_program, command, find, output, text},
    progress::{note, step},
    workspace,
};

const BPF_LINKER: &str = "0.13.0";

/// Something that a package manager installs.
struct Need {
    /// A program, or the path of a file.
    what: String,
    why: &'static str,
    apt: String,
    dnf: &'static str,
    pacman: &'static str,
}

/// What building, kernels and VMs need.
fn needs(arch: &Arch) -> Vec<Need> {
    let [qemu_apt, qemu_dnf, qemu_pacman] = arch.qemu_packages;
    // What .cargo/config.toml names.
    let cross = (
        "aarch64-linux-gnu-gcc",
        "to compile zstd for arm64",
        "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
        "gcc-aarch64-linux-gnu",
        "aarch64-linux-gnu-gcc",
    );
    let cross = (arch.name == "arm64").then_some(cross);
    let always = [
        ("cc", "to link programs", "gcc libc6-dev", "gcc", "gcc"),
        ("ldd", "to find the libraries of a VM's programs", "libc-bin", "glibc-common", "glibc"),
        ("readelf", "to find them for another architecture", "binutils", "binutils", "binutils"),
        ("setpriv", "to end a VM with its xtask", "util-linux", "util-linux", "util-linux"),
        (arch.qemu, "to run VMs", qemu_apt, qemu_dnf, qemu_pacman),
        ("busybox", "as the user land of VMs", "busybox-static", "busybox", "busybox"),
        ("nft", "for rules in VMs", "nftables", "nftables", "nftables"),
        (
            "conntrack",
            "to read the table in VMs",
            "conntrack",
            "conntrack-tools",
            "conntrack-tools",
        ),
        ("strace", "to list system calls in VMs", "strace", "strace", "strace"),
        ("depmod", "to index kernel modules", "kmod", "kmod", "kmod"),
        ("xz", "to decompress kernel modules", "xz-utils", "xz", "xz"),
        ("zstd", "to decompress kernel modules", "zstd", "zstd", "zstd"),
    ];
    let needs = always.into_iter().chain(cross).map(|(what, why, apt, dnf, pacman)| Need {
        what: what.to_owned(),
        why,
        apt: apt.to_owned(),
        dnf,
        pacman,
    });
    needs.collect()
}

/// What bpf-linker is built against: the LLVM that rustc itself has.
fn llvm_need(llvm: &str) -> Need {
    Need {
        what: format!("{}/lib/libLLVM.so", debian_llvm(llvm)),
        why: "to build bpf-linker",
        apt: format!("llvm-{llvm}-dev"),
        dnf: "llvm-devel",
        pacman: "llvm",
    }
}

/// Where Debian and its relatives keep one major version of LLVM.
fn debian_llvm(llvm: &str) -> String {
    format!("/usr/lib/llvm-{llvm}")
}

/// Whether the build of bpf-linker finds the right LLVM without being told where.
fn llvm_in_path(llvm: &str) -> bool {
    let version = text(Command::new("llvm-config").arg("--version"), "to look for LLVM");
    version.is_ok_and(|version| version.split('.').next() == Some(llvm))
}

pub(crate) fn run(args: &ArchArgs) -> Result<ExitCode> {
    let started = Instant::now();
    ensure(args.arch)?;
    println!(
        "everything is there ({:.1} s), cache: {}",
        started.elapsed().as_secs_f64(),
        workspace::cache()?.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing, or says how to. The architecture is that of VMs, and of the programs in them.
pub(crate) fn ensure(arch: &Arch) -> Result<()> {
    let _lock = workspace::lock()?;
    let rustc =
        text(Command::new("rustc").arg("-vV").current_dir(workspace::root()), "to know its LLVM")?;
    let llvm = llvm_major(&rustc)
        .context("`rustc -vV` names no LLVM version, which bpf-linker must match")?;
    let linker = workspace::cache()?.join(format!("tools/bpf-linker-{BPF_LINKER}-llvm{llvm}"));
    // It runs only if its libraries are there as well.
    let program = linker.join("bin/bpf-linker");
    let linker_works = Command::new(&program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());

    // Before the other packages: its parts for several architectures must be of one version.
    emulator::ensure(arch, privilege())?;
    let mut needs = needs(arch);
    if !linker_works && !llvm_in_path(&llvm) {
        needs.push(llvm_need(&llvm));
    }
    install_missing(&needs)?;
    rust_components()?;
    rust_std(arch)?;
    if !linker_works {
        step(&format!("build bpf-linker {BPF_LINKER} for LLVM {llvm}"), || {
            build_linker(&linker, &llvm)
        })?;
    }
    publish(&program)
}

/// Installs what a kernel is built with where it is missing, or says how to.
pub(crate) fn ensure_kernel_builds(by_clang: bool) -> Result<()> {
    let why = "to build a kernel";
    let always = [
        ("make", "make", "make", "make"),
        ("gcc", "gcc", "gcc", "gcc"),
        ("flex", "flex", "flex", "flex"),
        ("bison", "bison", "bison", "bison"),
        ("bc", "bc", "bc", "bc"),
        ("perl", "perl", "perl", "perl"),
        ("pahole", "dwarves", "dwarves", "pahole"),
        ("/usr/include/libelf.h", "libelf-dev", "elfutils-libelf-devel", "libelf"),
        ("/usr/include/openssl/ssl.h", "libssl-dev", "openssl-devel", "openssl"),
    ];
    let clang = [
        ("clang", "clang", "clang", "clang"),
        ("ld.lld", "lld", "lld", "lld"),
        ("llvm-ar", "llvm", "llvm", "llvm"),
    ];
    let needs = always.into_iter().chain(clang.into_iter().filter(|_| by_clang));
    let needs = needs.map(|(what, apt, dnf, pacman)| Need {
        what: what.to_owned(),
        why,
        apt: apt.to_owned(),
        dnf,
        pacman,
    });
    install_missing(&needs.collect::<Vec<_>>())
}

/// Installs Chromium where it is missing, or says how to.
pub(crate) fn ensure_browser() -> Result<()> {
    let _lock = workspace::lock()?;
    install_missing(&[Need {
        what: "chromium".to_owned(),
        why: "to look at the page",
        apt: "chromium".to_owned(),
        dnf: "chromium",
        pacman: "chromium",
    }])
}

fn install_missing(needs: &[Need]) -> Result<()> {
    let exists = |what: &str| {
        if what.starts_with('/') { Path::new(what).exists() } else { find(what).is_some() }
    };
    let missing = missing(needs, exists);
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

fn missing(needs: &[Need], exists: impl Fn(&str) -> bool) -> Vec<&Need> {
    needs.iter().filter(|need| !exists(&need.what)).collect()
}

fn llvm_major(rustc: &str) -> Option<String> {
    let version = rustc.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    Some(version.split('.').next()?.trim().to_owned()).filter(|major| !major.is_empty())
}

fn install(missing: &[&Need]) -> Result<()> {
    for need in missing {
        note(&format!("missing: {}, {}", need.what, need.why));
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.apt.split(' ')).collect();
    let Some(prefix) = privilege().filter(|_| find("apt-get").is_some()) else {
        bail!("{}", instructions(missing))
    };
    let apt = |arguments: &[&str]| {
        let mut words = prefix.iter().chain(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        let mut apt = command(words.next().unwrap_or(&"env"));
        apt.args(words).args(["-q", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        apt
    };
    // One broken source among the machine's is no reason to give up.
    let updated = step("apt-get update", || output(&mut apt(&["update"]), "to install packages"));
    if let Err(error) = updated {
        note(&error.to_string());
    }
    let mut install = apt(&["install", "-y", "--no-install-recommends"]);
    install.args(&packages);
    step(&format!("apt-get install {}", packages.join(" ")), || {
        output(&mut install, "to install packages")
    })
    .with_context(|| instructions(missing))
    .map(drop)
}

/// What goes before a command that changes the system: nothing for root, sudo where it asks nothing, None otherwise.
fn privilege() -> Option<&'static [&'static str]> {
    if rustix::process::geteuid().is_root() {
        return Some(&[]);
    }
    let sudo = find("sudo")?;
    let works = Command::new(sudo)
        .args(["-n", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    works.then_some(&["sudo", "-n"])
}

fn instructions(missing: &[&Need]) -> String {
    let join = |names: Vec<&str>| names.join(" ");
    format!(
        "packages are missing that this cannot install; run as root one of\n  \
         apt-get update && apt-get install -y --no-install-recommends {}\n  dnf install {}\n  pacman -S {}\n\
         and then `cargo xtask setup` again",
        join(missing.iter().map(|need| need.apt.as_str()).collect()),
        join(missing.iter().map(|need| need.dnf).collect()),
        join(missing.iter().map(|need| need.pacman).collect()),
    )
}

/// Adds the components that rust-toolchain.toml names, where rustup has not.
fn rust_components() -> Result<()> {
    const CORE: &str = "lib/rustlib/src/rust/library/core/Cargo.toml";
    for (path, name, what) in [
        // The kernel programs build `core` for a target that has no prebuilt one.
        (CORE, "rust-src", "the sources of `core`, for the kernel programs"),
        ("bin/cargo-fmt", "rustfmt", "rustfmt, for `cargo xtask check`"),
        ("bin/cargo-clippy", "clippy", "clippy, for `cargo xtask check`"),
    ] {
        component(path, &["component", "add", name], what)?;
    }
    Ok(())
}

/// The standard library that programs in a VM are made with.
fn rust_std(arch: &Arch) -> Result<()> {
    component(
        &format!("lib/rustlib/{}/lib", arch.target),
        &["target", "add", arch.target],
        &format!("the standard library for {}", arch.target),
    )
}

/// Lets rustup add something to the pinned toolchain if a path in it does not exist.
fn component(path: &str, rustup_arguments: &[&str], what: &str) -> Result<()> {
    let mut rustc = Command::new("rustc");
    let sysroot = text(
        rustc.args(["--print", "sysroot"]).current_dir(workspace::root()),
        "to find Rust's libraries",
    )?;
    if Path::new(sysroot.trim()).join(path).exists() {
        return Ok(());
    }
    if find("rustup").is_none() {
        bail!("{} has no {path}: install {what}", sysroot.trim());
    }
    let mut rustup = command("rustup");
    rustup.args(rustup_arguments).current_dir(workspace::root());
    step(&format!("rustup {}", rustup_arguments.join(" ")), || {
        output(&mut rustup, &format!("for {what}"))
    })
    .map(drop)
}

fn build_linker(linker: &Path, llvm: &str) -> Result<()> {
    // Not in the workspace: its lock file and pinned profile are not meant for this.
    let mut cargo = Command::new(cargo_program());
    cargo.args([
        "install",
        "bpf-linker",
        "--version",
        BPF_LINKER,
        "--locked",
        "--force",
        "--no-default-features",
    ]);
    cargo.args(["--features", &format!("llvm-{llvm}"), "--root"]).arg(linker);
    if Path::new(&debian_llvm(llvm)).exists() {
        cargo.env("LLVM_PREFIX", debian_llvm(llvm));
    }
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_TARGET_DIR");
    output(&mut cargo, "to link the kernel programs").map(drop)
}

/// One path for every version: the build script of the kernel programs looks there.
fn publish(program: &Path) -> Result<()> {
    let directory = workspace::cache()?.join("tools/bin");
    let link = directory.join("bpf-linker");
    if fs::read_link(&link).is_ok_and(|to| to == program) {
        return Ok(());
    }
    workspace::create(&directory)?;
    let fresh: PathBuf = directory.join("bpf-linker.new");
    // Left by an interrupted run, or absent.
    let _ = fs::remove_file(&fresh);
    symlink(program, &fresh)
        .and_then(|()| fs::rename(&fresh, &link))
        .with_context(|| format!("cannot link {} to {}", link.display(), program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_absent_is_missing() {
        let mut needs = needs(crate::arch::DEFAULT);
        needs.push(llvm_need("22"));
        let absent = ["nft", "/usr/lib/llvm-22/lib/libLLVM.so"];
        let found = missing(&needs, |what| !absent.contains(&what));
        assert_eq!(found.iter().map(|need| need.what.as_str()).collect::<Vec<_>>(), absent);
        let text = instructions(&found);
        assert!(text.contains("--no-install-recommends nftables llvm-22-dev\n"), "{text}");
        assert!(text.contains("dnf install nftables llvm-devel\n"), "{text}");
        assert!(missing(&needs, |_| true).is_empty());
    }

    #[test]
    fn llvm_is_that_of_rustc() {
        assert_eq!(
            llvm_major("rustc 1.95.0\nrelease: 1.95.0\nLLVM version: 22.1.2\n").as_deref(),
            Some("22")
        );
        assert_eq!(llvm_major("rustc 1.95.0\n"), None);
    }
}
