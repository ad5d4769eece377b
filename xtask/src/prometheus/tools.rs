//! Debian's `prometheus` and `promtool`, unpacked into the cache: installed, the package would start a service.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{arch, progress::step, vm::mirror, workspace};

/// The programs, with the loader and the C library of the same release.
pub(crate) struct Tools {
    tree: PathBuf,
    loader: PathBuf,
    libraries: PathBuf,
}

/// The programs; each has a package of its name.
const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// Whether the packages had what is looked for.
fn are_there(tree: &Path) -> Result<()> {
    for program in PROGRAMS {
        ensure!(tree.join(BIN).join(program).is_file(), "no {program} in its package");
    }
    Ok(())
}

/// Where packages have programs.
const BIN: &str = "usr/bin";

impl Tools {
    /// Downloads them where they are not in the cache.
    pub(crate) fn get() -> Result<Self> {
        let arch = arch::DEFAULT;
        let tree = workspace::cache()?.join(format!("prometheus-{}", arch.debian));
        let _lock = workspace::lock()?;
        if !tree.exists() {
            let packages = [&PROGRAMS[..], &["libc6"]].concat();
            step("fetch prometheus", || {
                let download = |scratch: &Path| mirror::download_only(arch, &packages, scratch);
                mirror::unpack(&tree, download, are_there)
            })?;
        }
        let library = tree.join("usr/lib/x86_64-linux-gnu/libc.so.6");
        let library = [library, tree.join("lib/x86_64-linux-gnu/libc.so.6")]
            .into_iter()
            .find(|path| path.exists())
            .with_context(|| format!("no C library in {}", tree.display()))?;
        let libraries = library.parent().unwrap_or(&tree).to_path_buf();
        let loader = libraries.join("ld-linux-x86-64.so.2");
        Ok(Self { tree, loader, libraries })
    }

    /// A command for one of them.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.loader);
        command.arg("--library-path").arg(&self.libraries);
        command.arg(self.tree.join(BIN).join(program));
        command
    }
}
