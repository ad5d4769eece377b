//! Fuzz target of files of procfs.

#![allow(clippy::expect_used, reason = "a panic is how a fuzz target reports")]

use std::fs;

use super::{
    discover::is_kernel_thread,
    mounts,
    names::{Pods, of_process},
    parse_number, stat,
};
use crate::{
    daemon::process::{cpu_seconds, resident_bytes},
    model::name::LONGEST,
    text::printable,
};

/// Files of procfs: any bytes become statistics, mounts and numbers, or none, and a name or none; a name is fit for a terminal.
pub fn proc_files(bytes: &[u8]) -> bool {
    let mut is_known = false;
    if let Ok(text) = str::from_utf8(bytes) {
        is_known |= stat::parse(text).is_some() || parse_number(text).is_ok();
        is_known |= cpu_seconds(text).is_some() || resident_bytes(text).is_some();
        let _ = is_kernel_thread(text);
    }
    let (mounts, _) = mounts::parse(bytes);
    assert!(mounts.len() <= bytes.len());
    is_known |= !mounts.is_empty();
    // What is behind the first null is the other file.
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (cgroup, comm) = bytes.split_at(at);
    let process = tempfile::tempdir().expect("a folder");
    fs::write(process.path().join("cgroup"), cgroup).expect("a file of a few bytes");
    fs::write(process.path().join("comm"), comm).expect("a file of a few bytes");
    let name = of_process(process.path(), &Pods::default());
    if let Some(name) = &name {
        assert!(!name.text.is_empty() && printable(&name.text, LONGEST) == name.text);
    }
    is_known || name.is_some()
}
