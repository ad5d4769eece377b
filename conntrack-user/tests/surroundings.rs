//! `ctmon` where the machine gives little: no procfs, nothing to write to, folders that are links, full disks.

mod service;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown, symlink},
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use service::Service;

const CTMON: &str = env!("CARGO_BIN_EXE_ctmon");

/// User of the serving half where there is no user `ctmon`.
const NOBODY: u32 = 65_534;

/// A process, in mounts of its own, that `before` has changed.
fn mounted(before: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("set -e; {before}; exec \"$0\" \"$@\"");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, CTMON]);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Reports whether this process may mount.
fn mounts() -> bool {
    let may = mounted("mount -t tmpfs tmpfs /mnt", &["--version"]).output();
    let may = may.is_ok_and(|output| output.status.success());
    if !may {
        println!("skipped: it takes root, and unshare(1)");
    }
    may
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Expects an end with exit code 3 and all of `words`.
fn expect_refusal(output: &Output, words: &[&str]) -> Result<()> {
    let text = said(output);
    ensure!(output.status.code() == Some(3), "{:?}: {text}", output.status);
    for word in words {
        ensure!(text.contains(word), "no {word:?} in {text}");
    }
    Ok(())
}

/// Arguments of a service that polls.
const SERVE: [&str; 5] = ["serve", "--source", "procfs", "--listen", "127.0.0.1:0"];

#[test]
fn without_procfs_each_command_names_it() -> Result<()> {
    if !mounts() {
        return Ok(());
    }
    for arguments in [
        &["status"][..],
        &["watch", "--count", "1"],
        &["events", "--count", "1"],
        &["record", "/tmp/none.mcap", "--for", "1s"],
        &SERVE,
    ] {
        let output = mounted("umount --lazy /proc", arguments).output()?;
        expect_refusal(&output, &["/proc"]).with_context(|| format!("{arguments:?}"))?;
    }
    // It says what it finds, whatever that is.
    let output = mounted("umount --lazy /proc", &["doctor"]).output()?;
    ensure!(said(&output).contains("/proc"), "{}", said(&output));
    Ok(())
}

#[test]
fn nothing_has_to_be_written() -> Result<()> {
    if !mounts() {
        return Ok(());
    }
    let read_only = "mount -o remount,bind,ro / ; ! touch /written 2>/dev/null";
    for arguments in [&["status"][..], &["watch", "--source", "procfs", "--count", "1"]] {
        let output = mounted(read_only, arguments).output()?;
        let text = said(&output);
        // What it finds of the tables is another matter.
        ensure!(matches!(output.status.code(), Some(0..=2)), "{arguments:?}: {text}");
        ensure!(!text.contains("Read-only"), "{arguments:?}: {text}");
    }
    let mut service = Service::start(mounted(read_only, &SERVE))?;
    service.until("source opened")?;
    service.end()?;
    let folder = tempfile::tempdir_in("/var")?;
    let file = folder.path().join("x.mcap").display().to_string();
    let output = mounted(read_only, &["record", &file, "--for", "1s"]).output()?;
    expect_refusal(&output, &[&file, "Read-only"])?;
    chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
    let folder = folder.path().display().to_string();
    let check = ["serve", "--check", "--flight-dir", &folder];
    expect_refusal(&mounted(read_only, &check).output()?, &[&folder, "read-only"])
}

/// `serve --check` with a folder of the flight recorder.
fn check(folder: &Path) -> Result<Output> {
    let folder = folder.display().to_string();
    Ok(Command::new(CTMON)
        .args(["serve", "--check", "--flight-dir", &folder])
        .stdin(Stdio::null())
        .output()?)
}

#[test]
fn a_flight_folder_that_is_a_link_is_that_of_the_link() -> Result<()> {
    if !mounts() {
        return Ok(());
    }
    let all = tempfile::tempdir()?;
    chown(all.path(), Some(NOBODY), Some(NOBODY))?;
    let folder = |name: &str| all.path().join(name);
    for name in ["own", "other"] {
        fs::create_dir(folder(name))?;
    }
    chown(folder("own"), Some(NOBODY), Some(NOBODY))?;
    fs::write(folder("file"), "")?;
    symlink(folder("own"), folder("to-own"))?;
    symlink(folder("other"), folder("to-other"))?;
    symlink(folder("file"), folder("to-file"))?;
    symlink("/nowhere/at/all", folder("to-nothing"))?;
    symlink(folder("to-itself"), folder("to-itself"))?;
    let output = check(&folder("to-own"))?;
    ensure!(output.status.success(), "{}", said(&output));
    for (name, word) in [
        ("to-other", "chown"),
        ("to-file", "is no folder"),
        ("to-nothing", "No such file"),
        ("to-itself", "symbolic links"),
    ] {
        let path = folder(name).display().to_string();
        expect_refusal(&check(&folder(name))?, &[&path, word]).context(name)?;
    }
    // A link that leads elsewhere later: not even files that could be written there are touched.
    let path = folder("to-own").display().to_string();
    let mut command = Command::new(CTMON);
    command.args(SERVE).args(["--flight-dir", &path]).stdin(Stdio::null());
    let mut service = Service::start(command)?;
    service.until("source opened")?;
    fs::remove_file(folder("to-own"))?;
    fs::create_dir(folder("elsewhere"))?;
    chown(folder("elsewhere"), Some(NOBODY), Some(NOBODY))?;
    let precious = folder("elsewhere").join(".ctmon-flight-aB3xYz.tmp");
    fs::write(&precious, "precious")?;
    symlink(folder("elsewhere"), folder("to-own"))?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    service.signal(Signal::USR1)?;
    let log = service.until("the last minutes")?;
    ensure!(fs::metadata(&precious)?.size() == 8, "{log}");
    service.end()
}

#[test]
fn a_recording_that_does_not_fit_ends_with_an_error() -> Result<()> {
    if !mounts() {
        return Ok(());
    }
    let full = "mount -t tmpfs -o size=4k tmpfs /mnt; head -c 4096 /dev/zero >/mnt/other";
    let record =
        ["record", "/mnt/x.mcap", "--source", "procfs", "--for", "3s", "--interval", "100ms"];
    let output = mounted(full, &record).output()?;
    expect_refusal(&output, &["/mnt/x.mcap", "No space left"])?;
    let device = ["record", "/dev/full", "--source", "procfs", "--for", "1s"];
    let output = mounted("true", &device).output()?;
    expect_refusal(&output, &["/dev/full"])?;
    ensure!(Path::new("/dev/full").exists(), "a device was removed");
    Ok(())
}
