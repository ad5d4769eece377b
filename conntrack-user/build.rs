//! Builds the kernel programs for the binary to carry.

use std::{
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// aya-build builds no kernel programs where this variable is 1 or true.
const SKIP: &str = "AYA_BUILD_SKIP";

/// Object file of the monitor's programs.
const MONITOR: &str = "ctmon-ebpf";
/// Object file of the timed programs.
const BENCH: &str = "ctmon-bench-ebpf";
/// Features of the kernel programs, which have the names of those of this package.
const FEATURES: [&str; 2] = ["bench", "fault-injection"];

fn main() -> Result<()> {
    let features: Vec<&str> = FEATURES.into_iter().filter(|feature| is_on(feature)).collect();
    let objects = if is_on("bench") { vec![MONITOR, BENCH] } else { vec![MONITOR] };
    let objects = paths(&objects)?;
    remove(&objects)?;
    build(&features)?;
    stand_in(&objects)
}

/// Reports whether cargo enabled a feature of this package.
fn is_on(feature: &str) -> bool {
    let name = feature.to_ascii_uppercase().replace('-', "_");
    env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}

/// Builds the kernel programs, or none where [`SKIP`] says so.
fn build(features: &[&str]) -> Result<()> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?;
    let root = Path::new(&manifest).parent().context("the package lies in the workspace")?;
    let ebpf = root.join("conntrack-ebpf");

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
            features,
            ..Default::default()
        }],
        aya_build::Toolchain::Custom(env!("CARGO_PKG_RUST_VERSION")),
    )
    .with_context(|| {
        format!(
            "the kernel programs do not build; `cargo xtask setup` installs what that needs, \
             {SKIP}=1 leaves them out"
        )
    })
}

/// Paths of the object files, where the binary includes them from.
fn paths(objects: &[&str]) -> Result<Vec<PathBuf>> {
    let folder = env::var_os("OUT_DIR").map(PathBuf::from).context("cargo sets OUT_DIR")?;
    Ok(objects.iter().map(|object| folder.join(object)).collect())
}

/// Removes the object files of an earlier build: with [`SKIP`] they would pass for those of this one.
fn remove(objects: &[PathBuf]) -> Result<()> {
    for object in objects {
        match fs::remove_file(object) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", object.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Puts an empty file in place of each object that was left out; ctmon refuses to attach it. An object may be missing only
/// where [`SKIP`] is set.
fn stand_in(objects: &[PathBuf]) -> Result<()> {
    let missing: Vec<&PathBuf> = objects.iter().filter(|object| !object.exists()).collect();
    let Some(first) = missing.first() else {
        return Ok(());
    };
    ensure!(env::var_os(SKIP).is_some(), "the build made no {}", first.display());
    println!("cargo:warning=ctmon is built without its kernel programs: it will poll procfs only");
    for object in missing {
        fs::write(object, []).with_context(|| format!("cannot write {}", object.display()))?;
    }
    Ok(())
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
