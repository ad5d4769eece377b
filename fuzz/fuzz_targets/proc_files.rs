//! Files of procfs: any bytes become statistics or none, and a name or none; a name is fit for a terminal.

#![no_main]

use std::{env, fs, path::PathBuf, process, sync::LazyLock};

use conntrack_user::{
    model::name::LONGEST,
    source::procfs::{
        names::{Pods, of_process},
        stat,
    },
    text::printable,
};
use libfuzzer_sys::fuzz_target;

/// Folder of a process in procfs.
static PROCESS: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = env::temp_dir().join(format!("ctmon-fuzz-{}", process::id()));
    fs::create_dir_all(&folder).expect("a folder for two files");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let _ = std::str::from_utf8(bytes).map(stat::parse);
    // What is behind the first null is the other file.
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (cgroup, comm) = bytes.split_at(at);
    fs::write(PROCESS.join("cgroup"), cgroup).expect("a file of a few bytes");
    fs::write(PROCESS.join("comm"), comm).expect("a file of a few bytes");
    if let Some(name) = of_process(&PROCESS, &Pods::default()) {
        assert!(!name.text.is_empty() && printable(&name.text, LONGEST) == name.text);
    }
});
