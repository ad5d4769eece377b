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
fn names_say_when_and_why_and_sort_in_the_order_of_writing() {
    assert_eq!(numbered(7, "critical", NOW_NS), "ctmon-000007-20261126T182600Z-critical.mcap");
    assert_eq!(name("../Über all", NOW_NS), "ctmon-20261126T182600Z-----ber-all.mcap");
    assert_eq!(order(&numbered(7, &"x".repeat(100), NOW_NS)), Some(Some(7)));
    assert_eq!(order(&numbered(1_234_567, "manual", NOW_NS)), Some(Some(1_234_567)));
    assert_eq!(order("ctmon-20261126T182600Z-critical.mcap"), Some(None), "of an earlier version");
    assert!(numbered(8, "a", NOW_NS) > numbered(7, "x", NOW_NS + SECOND));
    let others = [
        "ctmon-20261126T182600Z-critical.mcap.gz",
        "ctmon-20261126T182600Z-Critical.mcap",
        "ctmon-20261126T182600Z-a b.mcap",
        "ctmon-20261126-critical.mcap",
        "ctmon-2026112T1182600Z-critical.mcap",
        "ctmon-20261126T18260xZ-critical.mcap",
        "ctmon-000007-20261126T18260xZ-critical.mcap",
        "ctmon-00007-20261126T182600Z-critical.mcap",
        "ctmon-99999999999999999999-20261126T182600Z-critical.mcap",
        "my-ctmon-20261126T182600Z-critical.mcap",
        "night.mcap",
        "",
    ];
    for other in others {
        assert_eq!(order(other), None, "{other}");
    }
}

#[test]
fn the_oldest_go_first_also_when_the_clock_was_set_back() {
    let (_dir, folder) = folder(3, 1_000_000);
    // Two of an earlier version, which gave no numbers.
    for second in [20, 10] {
        let old = name("critical", NOW_NS + second * SECOND);
        fs::write(folder.path.join(old), "old").unwrap();
    }
    let hour = 3600 * SECOND;
    for second in 0..2 {
        folder.write("manual", &snapshot(NOW_NS + hour + second * SECOND)).unwrap();
    }
    assert_eq!(
        names(&folder),
        [
            "ctmon-000001-20261126T192600Z-manual.mcap",
            "ctmon-000002-20261126T192601Z-manual.mcap",
            "ctmon-20261126T182620Z-critical.mcap",
        ]
    );
    for second in 0..2 {
        folder.write("manual", &snapshot(NOW_NS + second * SECOND)).unwrap();
    }
    assert_eq!(
        names(&folder),
        [
            "ctmon-000002-20261126T192601Z-manual.mcap",
            "ctmon-000003-20261126T182600Z-manual.mcap",
            "ctmon-000004-20261126T182601Z-manual.mcap",
        ]
    );
}

#[test]
fn a_file_is_whole_and_for_its_owner_alone() {
    let (_dir, folder) = folder(3, 1_000_000);
    let path = folder.write("manual", &snapshot(NOW_NS)).unwrap();
    assert_eq!(names(&folder), ["ctmon-000001-20261126T182600Z-manual.mcap"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut reader = Reader::open(File::open(path).unwrap()).unwrap();
    let mut items = 0;
    while reader.next_item().unwrap().is_some() {
        items += 1;
    }
    assert_eq!((items, reader.take_notes()), (samples::items().len(), vec![]));
}

#[test]
fn files_of_others_have_no_say_in_which_is_the_oldest() {
    let (_dir, folder) = folder(2, 1_000_000);
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a file of somebody else takes root");
        return;
    }
    // As one who may write the folder puts them there, for each new file to be the oldest.
    let foreign = ["ctmon-999999999999998-99991231T000000Z-x.mcap", ".ctmon-flight-aB3xYz.tmp"];
    for name in foreign {
        let path = folder.path.join(name);
        fs::write(&path, "").unwrap();
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
    }
    assert_eq!(folder.clean().unwrap(), 0);
    for second in 0..3 {
        folder.write("manual", &snapshot(NOW_NS + second * SECOND)).unwrap();
    }
    assert_eq!(
        names(&folder),
        [
            foreign[1],
            "ctmon-000002-20261126T182601Z-manual.mcap",
            "ctmon-000003-20261126T182602Z-manual.mcap",
            foreign[0],
        ]
    );
}

#[test]
fn the_highest_number_is_followed_by_a_file_that_counts() {
    let (_dir, folder) = folder(2, 1_000_000);
    fs::write(folder.path.join("ctmon-999999999999999-20261126T182559Z-x.mcap"), "").unwrap();
    for second in 0..3 {
        folder.write("manual", &snapshot(NOW_NS + second * SECOND)).unwrap();
    }
    assert_eq!(
        names(&folder),
        [1, 2].map(|second| format!("ctmon-999999999999999-20261126T18260{second}Z-manual.mcap"))
    );
}

#[test]
fn a_umask_takes_nothing_from_a_file() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root makes files in a folder that its umask has closed");
        return;
    }
    // In a process of its own, for all tests here share theirs.
    let test = "daemon::flight::files::tests::a_file_is_whole_and_for_its_owner_alone";
    let output = std::process::Command::new("sh")
        .args(["-c", "umask 0777; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
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
        [3, 4, 5]
            .map(|n| format!("ctmon-00000{n}-20261126T18260{}Z-manual.mcap", n - 1))
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
    let other = folder.write("manual", &snapshot(NOW_NS)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert!(other != path && names(&folder).len() == 2, "{other:?}");
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
