//! Builds the kernel programs for the binary to carry.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?;
    let root = Path::new(&manifest).parent().context("the package lies in the workspace")?;
    let ebpf = root.join("conntrack-ebpf");

    // The features of the programs have the names of those of this package.
    let is_on = |(variable, _): &(&str, &str)| env::var_os(variable).is_some();
    let features: Vec<&str> =
        [("CARGO_FEATURE_BENCH", "bench"), ("CARGO_FEATURE_FAULT_INJECTION", "fault-injection")]
            .into_iter()
            .filter(is_on)
            .map(|(_, feature)| feature)
            .collect();

    // SAFETY: a build script has one thread.
    unsafe {
        // The target has no prebuilt `core`; building it takes -Z build-std, which the pinned stable
        // compiler accepts for this nested build alone.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        env::set_var("PATH", path_with_tools()?);
        // What the nested cargo says comes out as warnings of this one.
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    aya_build::build_ebpf(
        [aya_build::Package {
            name: "conntrack-ebpf",
            root_dir: ebpf.to_str().context("the path of the workspace is UTF-8")?,
            features: &features,
            ..Default::default()
        }],
        aya_build::Toolchain::Custom(env!("CARGO_PKG_RUST_VERSION")),
    )
    .context("the kernel programs do not build; `cargo xtask setup` installs what that needs")
}

/// PATH, with the folder in front where `cargo xtask setup` puts bpf-linker.
fn path_with_tools() -> Result<std::ffi::OsString> {
    for variable in ["CTMON_CACHE", "XDG_CACHE_HOME", "HOME", "PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let folder = |variable| env::var_os(variable).map(PathBuf::from);
    let cache = folder("CTMON_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|dir| dir.join("ctmon")))
        .or_else(|| folder("HOME").map(|dir| dir.join(".cache/ctmon")));
    let path = env::var_os("PATH").unwrap_or_default();
    let all = cache.map(|dir| dir.join("tools/bin")).into_iter().chain(env::split_paths(&path));
    env::join_paths(all).context("PATH")
}
