//! Files that a web configuration is made of, and whether they have changed.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::file;

/// The files, and what each was when it was read.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<(PathBuf, Option<Stamp>)>);

/// Tells versions of a file apart: device, inode, size, and when content or inode were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, u64, (i64, i64), (i64, i64));

impl Stamp {
    fn of(file: &Metadata) -> Self {
        let (modified, changed) =
            ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
        Self(file.dev(), file.ino(), file.size(), modified, changed)
    }

    fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::of)
    }
}

impl Files {
    /// Watches `path` from now on.
    pub(super) fn watch(&mut self, path: &Path) {
        // Before it is read, so that a change meanwhile is seen the next time.
        self.0.push((path.to_owned(), Stamp::at(path)));
    }

    /// Where they are.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.0.iter().map(|(path, _)| path.clone()).collect()
    }

    /// Whether one is not what it was.
    pub(super) fn have_changed(&self) -> bool {
        self.0.iter().any(|(path, stamp)| Stamp::at(path) != *stamp)
    }
}

/// The content of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    file::read(path, file::WRITTEN).with_context(|| format!("cannot read {}", path.display()))
}
