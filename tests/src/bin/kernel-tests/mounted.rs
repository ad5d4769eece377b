//! Network namespaces on files, for as long as a test needs them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::netns::Netns;

/// A file on which a namespace is mounted, until this is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn new(netns: &Netns, file: impl AsRef<Path>) -> Result<Self> {
        Self::bind(&netns.path(), file)
    }

    /// `held`: a file of this process that stands for a namespace.
    pub(crate) fn bind(held: &str, file: impl AsRef<Path>) -> Result<Self> {
        let file = file.as_ref();
        let cannot = || format!("cannot mount {held} on {}", file.display());
        // Something may be mounted on it already.
        if !file.exists() {
            fs::write(file, "").with_context(cannot)?;
        }
        let mounted = Self(file.to_owned());
        mount_bind(held, file).with_context(cannot)?;
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The one on top, where there are several. Fails where it was not mounted.
        let _ = unmount(&self.0, UnmountFlags::empty());
        // Fails where something else is mounted on it.
        let _ = fs::remove_file(&self.0);
    }
}

/// A name in /tmp that no other test has.
pub(crate) fn own_file(name: &str) -> PathBuf {
    format!("/tmp/ctmon-test-{}-{name}", std::process::id()).into()
}

/// A file in /run/netns that no other test has, and whether the folder is new.
pub(crate) fn in_run_netns(name: &str) -> Result<(PathBuf, bool)> {
    let folder = Path::new("/run/netns");
    let is_new = !folder.exists();
    fs::create_dir_all(folder)?;
    Ok((folder.join(format!("ctmon-test-{}-{name}", std::process::id())), is_new))
}

/// Removes the folder again.
pub(crate) fn leave_run_netns(is_new: bool) -> Result<()> {
    if is_new {
        fs::remove_dir("/run/netns").context("/run/netns")?;
    }
    Ok(())
}
