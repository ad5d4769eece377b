//! Presence of nf_conntrack, by procfs: whether it is loaded, or hidden, or its table can be read.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

/// File that is there exactly when conntrack is.
#[must_use]
pub fn conntrack_file(procfs: &Path) -> PathBuf {
    procfs.join("sys/net/netfilter/nf_conntrack_count")
}

/// Reason why the table cannot be read although the kernel may have one; none where it can, or the module is not loaded.
#[must_use]
pub fn hidden_conntrack(procfs: &Path) -> Option<String> {
    let file = conntrack_file(procfs);
    match std::fs::metadata(&file) {
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_missing(procfs) => {
            let at = procfs.display();
            Some(format!("no procfs is mounted at {at}, so no table can be read; {NO_PROCFS}"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => lacks_sysctls(procfs).then(|| {
            format!(
                "{} has no sys folder (mount option subset=pid), so no table can be read",
                procfs.display()
            )
        }),
        Err(error) => Some(format!("cannot read {}: {error}", file.display())),
    }
}

/// Reports whether procfs shows processes and no sysctls: it was mounted with `subset=pid`.
fn lacks_sysctls(procfs: &Path) -> bool {
    !procfs.join("sys").exists() && procfs.join("self").exists()
}

/// Reports whether there is no procfs at all.
fn is_missing(procfs: &Path) -> bool {
    !procfs.join("sys").exists() && !procfs.join("self").exists()
}

/// Advice where there is no procfs.
const NO_PROCFS: &str =
    "mount it (`mount -t proc proc /proc`) or name another folder with --path.procfs";

/// Advice where procfs has no sysctls.
pub const NO_SYSCTLS: &str =
    "remove ProcSubset=pid from the unit of systemd, or mount procfs without subset=pid";

/// Requires that procfs shows whether the module is there.
///
/// # Errors
/// procfs has no sysctls, or they cannot be read.
pub fn require_sysctls(procfs: &Path) -> Result<()> {
    match hidden_conntrack(procfs) {
        Some(why) if lacks_sysctls(procfs) => bail!("{why}\n  {NO_SYSCTLS}"),
        Some(why) => bail!(why),
        None => Ok(()),
    }
}

/// Requires that the module is there and can be read.
///
/// # Errors
/// Conntrack is not loaded, or procfs hides it.
pub(super) fn require_conntrack(procfs: &Path) -> Result<()> {
    require_sysctls(procfs)?;
    let file = conntrack_file(procfs);
    if file.exists() {
        return Ok(());
    }
    bail!(
        "this kernel tracks no connections: {} is not there, so the module nf_conntrack is not \
         loaded. It is loaded by the first firewall rule that needs it, or by `modprobe \
         nf_conntrack`; `ctmon watch --wait` waits for it",
        file.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_procfs_without_sysctls_is_not_a_kernel_without_the_module() {
        let procfs = tempfile::tempdir().unwrap();
        let error = || format!("{:#}", require_conntrack(procfs.path()).unwrap_err());
        assert!(error().contains("no procfs is mounted at"), "{}", error());
        assert!(!error().contains("modprobe"), "{}", error());
        std::fs::create_dir(procfs.path().join("self")).unwrap();
        assert!(error().contains("ProcSubset=pid"), "{}", error());
        assert!(!error().contains("modprobe"), "{}", error());
        std::fs::create_dir_all(procfs.path().join("sys/net")).unwrap();
        assert!(error().contains("modprobe"), "{}", error());
    }
}
