//! The directories that the subcommands share.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::progress::note;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// Cargo's target directory: the one this program was built into, whichever way it was configured.
pub(crate) fn target() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot find the path of the running xtask")?;
    let target = program.ancestors().nth(2);
    Ok(target
        .with_context(|| format!("{} is not in a target directory", program.display()))?
        .to_path_buf())
}

/// Where tools and kernels are kept between runs and between checkouts.
pub(crate) fn cache() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("CTMON_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("ctmon")))
        .or_else(|| Some(set("HOME")?.join(".cache/ctmon")))
        .context("no place for the cache: set CTMON_CACHE, XDG_CACHE_HOME or HOME")?;
    // Without this a relative CTMON_CACHE would mean another place to each child process.
    let cache =
        std::path::absolute(&cache).with_context(|| format!("CTMON_CACHE {}", cache.display()))?;
    create(&cache)?;
    Ok(cache)
}

/// Creates a directory and its parents.
pub(crate) fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create the directory {}", directory.display()))
}

/// Keeps other xtasks from changing the cache until the returned file is dropped.
pub(crate) fn lock() -> Result<File> {
    let path = cache()?.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        note("waiting for another xtask that works on the cache");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}
