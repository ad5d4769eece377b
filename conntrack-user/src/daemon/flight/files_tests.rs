use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{
    daemon::flight::ring::{Limits, Ring},
    source::recording::{reader::Reader, samples},
};

const SECOND: u64 = 1_000_000_000;
/// 2026-11-26 18:26:00 UTC
const NOW_NS: u64 = 1_795_717_560 * SECOND;

/// A recording that ends then.
fn snapshot(unix_ns: u64) -> Snapshot {
    let mut ring = Ring::new(Limits { bytes: 4_000_000, ns: 600 * SECOND });
    for item in samples::items() {
        ring.take(&item, Vec::new).unwrap();
    }
    let mut snapshot = ring.snapshot(0).unwrap();
    snapshot.until.unix_ns = unix_ns;
    snapshot
}

fn folder(most_files: usize, most_bytes: u64) -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder { path: dir.path().into(), most_files, most_bytes };
    (dir, folder)
}

fn names(folder: &Folder) -> Vec<String> {
    let mut names = folder.names().unwrap();
    names.sort_unstable();
    names
}

#[test]
fn names_say_when_and_why_and_sort_by_time() {
    assert_eq!(name("critical", NOW_NS), "ctmon-20261126T182600Z-critical.mcap");
    assert_eq!(name("../Über all", NOW_NS), "ctmon-20261126T182600Z-----ber-all.mcap");
    assert!(is_recording(&name(&"x".repeat(100), NOW_NS)));
    assert!(name("warning", NOW_NS + SECOND) > name("x", NOW_NS));
    let others = [
        "ctmon-20261126T182600Z-critical.mcap.gz",
        "ctmon-20261126T182600Z-Critical.mcap",
        "ctmon-20261126T182600Z-a b.mcap",
        "ctmon-20261126-critical.mcap",
        "ctmon-2026112T1182600Z-critical.mcap",
        "ctmon-20261126T18260xZ-critical.mcap",
        "my-ctmon-20261126T182600Z-critical.mcap",
        "night.mcap",
        "",
    ];
    for other in others {
        assert!(!is_recording(other), "{other}");
    }
}

#[test]
fn a_file_is_whole_and_for_its_owner_alone() {
    let (_dir, folder) = folder(3, 1_000_000);
    let path = folder.write("manual", &snapshot(NOW_NS)).unwrap();
    assert_eq!(names(&folder), ["ctmon-20261126T182600Z-manual.mcap"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut reader = Reader::open(File::open(path).unwrap()).unwrap();
    let mut items = 0;
    while reader.next_item().unwrap().is_some() {
        items += 1;
    }
    assert_eq!((items, reader.take_notes()), (samples::items().len(), vec![]));
}

#[test]
fn the_oldest_make_room_and_others_stay() {
    let (_dir, folder) = folder(3, 1_000_000);
    let foreign =
        ["ctmon.toml", "night.mcap", "ctmon-20200101T000000Z-old.mcap.bak", ".ctmon-flight-x"];
    for name in foreign {
        fs::write(folder.path.join(name), name).unwrap();
    }
    fs::create_dir(folder.path.join("ctmon-20200101T000000Z-folder.mcap")).unwrap();
    for second in 0..5 {
        folder.write("manual", &snapshot(NOW_NS + second * SECOND)).unwrap();
    }
    let names = names(&folder);
    let ours: Vec<&String> = names.iter().filter(|name| name.contains("manual")).collect();
    assert_eq!(
        ours,
        ["02", "03", "04"]
            .map(|s| format!("ctmon-20261126T1826{s}Z-manual.mcap"))
            .iter()
            .collect::<Vec<_>>()
    );
    assert_eq!(names.len(), 3 + foreign.len() + 1);
}

#[test]
fn all_together_keep_to_their_size() {
    let one = snapshot(NOW_NS).size();
    let (_dir, folder) = folder(100, 2 * one + one / 2);
    for second in 0..5 {
        folder.write("manual", &snapshot(NOW_NS + second * SECOND)).unwrap();
    }
    assert_eq!(names(&folder).len(), 2);
    let small = Folder { most_bytes: one - 1, ..folder };
    let error = small.write("manual", &snapshot(NOW_NS + 9 * SECOND)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(names(&small).len(), 2, "nothing was removed for it");
}

#[test]
fn what_a_killed_process_has_left_is_removed() {
    let (_dir, folder) = folder(3, 1_000_000);
    for name in [".ctmon-flight-aB3xYz.tmp", ".ctmon-flight-aB3xY.tmp", ".ctmon-flight-a/b.tmp"] {
        let _ = fs::write(folder.path.join(name), "half");
    }
    assert_eq!(folder.clean().unwrap(), 1);
    assert_eq!(names(&folder), [".ctmon-flight-aB3xY.tmp"]);
}

#[test]
fn a_file_that_is_there_is_never_replaced() {
    let (_dir, folder) = folder(3, 1_000_000);
    let path = folder.write("manual", &snapshot(NOW_NS)).unwrap();
    fs::write(&path, "mine").unwrap();
    let error = folder.write("manual", &snapshot(NOW_NS)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert_eq!(names(&folder).len(), 1, "and nothing is left of the other one");
}

#[test]
fn a_folder_that_is_missing_or_none_is_an_error() {
    let (dir, folder) = folder(3, 1_000_000);
    for path in ["missing", "file"] {
        let folder = Folder { path: dir.path().join(path), ..folder.clone() };
        assert!(folder.write("manual", &snapshot(NOW_NS)).is_err());
        assert!(folder.clean().is_err());
        fs::write(dir.path().join("file"), "").unwrap();
    }
}
