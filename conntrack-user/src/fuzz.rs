//! Fuzz targets: each gives any bytes to parsers of bytes from outside, and panics where a promise of theirs does not hold. libFuzzer runs
//! them (`fuzz/`, docs/testing.md), and `cargo test` with the inputs that the repository keeps. That of the settings file is beside its
//! parser, in the binary.

pub use crate::{
    backtest::fuzz::scenario,
    daemon::notify::fuzz::webhook,
    doctor::gather::fuzz::doctor_files,
    http::fuzz::{http, web_config},
    privilege::fuzz::{accounts, request},
    source::{
        ebpf::fuzz::{flow_record, kernel_files},
        netlink::fuzz::ctnetlink,
        procfs::fuzz::proc_files,
        recording::fuzz::recording,
    },
};

/// Takes any bytes; returns whether they are what the parser is for. An input of which no target says so tests little.
pub type Target = fn(&[u8]) -> bool;

/// Targets by name, which is that of their program in `fuzz/fuzz_targets` and of their folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 12] = [
    ("accounts", accounts),
    ("ctnetlink", ctnetlink),
    ("doctor_files", doctor_files),
    ("flow_record", flow_record),
    ("http", http),
    ("kernel_files", kernel_files),
    ("proc_files", proc_files),
    ("recording", recording),
    ("request", request),
    ("scenario", scenario),
    ("web_config", web_config),
    ("webhook", webhook),
];

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs::{read, read_dir},
        path::Path,
    };

    use super::*;

    /// Inputs of all targets together, at most; bytes of one, at most.
    const MOST_FILES: usize = 300;
    const MOST_BYTES: usize = 8192;

    fn folder(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(name)
    }

    fn names(name: &str) -> BTreeSet<String> {
        let entries = read_dir(folder(name)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn inputs_of_the_corpus_keep_the_promises_of_every_target() {
        for (name, target) in TARGETS {
            let folder = folder("corpus").join(name);
            let (mut files, mut understood) = (0, 0);
            for entry in read_dir(&folder).unwrap() {
                let input = read(entry.unwrap().path()).unwrap();
                files += 1;
                understood += usize::from(target(&input));
            }
            assert!(understood > 0, "{name}: {understood} of {files} inputs are understood");
        }
    }

    #[test]
    fn the_corpus_is_small_and_of_every_target() {
        let mut targets: BTreeSet<String> =
            TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        targets.insert("settings".to_owned());
        assert_eq!(names("corpus"), targets);
        let programs: BTreeSet<String> =
            targets.iter().map(|target| format!("{target}.rs")).collect();
        assert_eq!(names("fuzz_targets"), programs);
        let mut files = 0;
        for target in &targets {
            for entry in read_dir(folder("corpus").join(target)).unwrap() {
                let (entry, longest) = (entry.unwrap(), MOST_BYTES);
                files += 1;
                let bytes = entry.metadata().unwrap().len() as usize;
                assert!(bytes <= longest, "{}: {bytes} bytes", entry.path().display());
            }
        }
        assert!(files < MOST_FILES, "{files} files");
    }
}
