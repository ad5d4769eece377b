//! Network namespaces that are mounted on files: found, named and read wherever they are.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    os::unix::{ffi::OsStringExt as _, fs::PermissionsExt as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use rustix::mount::{UnmountFlags, unmount};
use serde_json::Value;

use super::{
    TRACK,
    coverage::{POLL, not_read, read, status, tracking},
};
use crate::{
    checks::Checks,
    mounted::{Mounted, in_run_netns, leave_run_netns, own_file},
    process,
    runner::{Env, Test},
    stage,
};

pub(super) fn tests() -> Vec<Test> {
    let tests = [
        Test::new(
            "netns-mounted-elsewhere",
            "A namespace without a process, mounted outside of /run/netns, is read and has the name of the file",
            mounted,
        ),
        Test::new(
            "stale-netns-file",
            "A regular file in /run/netns is named as stale, and is no namespace that cannot be entered",
            stale,
        ),
        Test::new(
            "netns-mounted-twice-and-with-spaces",
            "A namespace that is mounted on several files, with spaces and bytes that are no text in their names, is read once",
            mounted_twice,
        ),
        Test::new(
            "netns-mounted-over",
            "A namespace whose file something else is mounted over is unread and says so, until its file is free again",
            mounted_over,
        ),
        Test::new(
            "netns-in-another-mount-namespace",
            "A namespace that is mounted in the mount namespace of another process alone is read",
            mounted_out_of_sight,
        ),
        Test::new(
            "stale-netns-file-becomes-one",
            "A stale file in /run/netns on which a namespace is mounted later is one, and the other way round",
            stale_becomes_one,
        ),
        Test::new(
            "other-namespaces-in-run-netns",
            "A namespace of another type that is mounted in /run/netns is neither a table that is not read nor a stale file",
            other_type,
        ),
    ];
    tests.map(Test::anywhere).into()
}

fn mounted(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let (inode, _mounted) = {
        let netns = tracking()?;
        let file = format!("/tmp/ctmon-test-netns-{}", std::process::id());
        (netns.inode(), Mounted::new(&netns, file)?)
    };
    let expected = format!("ctmon-test-netns-{}", std::process::id());
    for source in ["procfs", "auto"] {
        let common = ["status", "--source", source, "--output", "json", "--interval=50ms"];
        let status = status(env, checks, &common)?;
        let name = read(&status, inode)["name"].clone();
        checks.equal(&format!("its name, {source}"), name.as_str(), Some(expected.as_str()));
        let all = status["netns"].as_array().map(|all| all.len() as u64);
        let read = status["netns_coverage"]["read"].as_u64();
        checks.equal(&format!("namespaces read, {source}"), read, all);
    }
    Ok(())
}

fn stale(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let folder = Path::new("/run/netns");
    let is_new = !folder.exists();
    fs::create_dir_all(folder)?;
    let file = folder.join(format!("ctmon-test-stale-{}", std::process::id()));
    fs::write(&file, "")?;
    fs::set_permissions(&file, Permissions::from_mode(0o000))?;
    let seen = status(env, checks, &POLL).and_then(|status| {
        let doctor = process::run(env, &["doctor", "--output", "json"])?;
        Ok((status, serde_json::from_str::<Value>(&doctor.stdout)?))
    });
    fs::remove_file(&file)?;
    if is_new {
        fs::remove_dir(folder)?;
    }
    let (status, doctor) = seen?;
    let coverage = &status["netns_coverage"];
    let path = file.to_string_lossy();
    checks.that("it is named", coverage["stale_files"][0] == *path, coverage);
    checks.equal("unread", coverage["unread"].as_u64(), Some(0));
    let verdicts = doctor["sections"].as_array().into_iter().flatten();
    let mut verdicts = verdicts.flat_map(|section| section["verdicts"].as_array()).flatten();
    let verdict = verdicts.find(|verdict| verdict["subject"] == "namespaces");
    let verdict = verdict.context("no verdict on namespaces")?;
    checks.that("doctor's verdict", verdict["severity"] == "info", verdict);
    checks.that("it is named by doctor", verdict["what"].to_string().contains(&*path), verdict);
    Ok(())
}

fn mounted_twice(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let no_text = OsString::from_vec(b"/tmp/ctmon-test-\xff\xfe".to_vec());
    let (inode, _mounts) = {
        let netns = tracking()?;
        let second = Mounted::new(&netns, own_file("b c"))?;
        let first = Mounted::new(&netns, own_file("a b"))?;
        (netns.inode(), [second, first, Mounted::new(&netns, no_text)?])
    };
    // Its name is no matter of chance.
    for _ in 0..3 {
        let status = status(env, checks, &POLL)?;
        let name = format!("ctmon-test-{}-a b", std::process::id());
        checks.equal("its name", read(&status, inode)["name"].as_str(), Some(name.as_str()));
        let all = status["netns"].as_array().into_iter().flatten();
        let times = all.filter(|netns| netns["inode"] == inode).count();
        checks.equal("it is read once", times, 1);
    }
    Ok(())
}

fn mounted_over(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let file = own_file("over");
    let (below, above, _lower, upper) = {
        let (one, other) = (tracking()?, tracking()?);
        let lower = Mounted::new(&one, &file)?;
        (one.inode(), other.inode(), lower, Mounted::new(&other, &file)?)
    };
    let covered = status(env, checks, &POLL)?;
    checks.that("the upper one is read", read(&covered, above).is_object(), &covered);
    let one = not_read(&covered, below);
    let reason = one["reason"].as_str().unwrap_or_default();
    checks.that("the lower one is not", reason.contains("mounted over"), &one);
    checks.equal("exit code", covered["exit_code"].as_i64(), Some(3));
    drop(upper);
    let free = status(env, checks, &POLL)?;
    checks.that("the lower one is read", read(&free, below).is_object(), &free);
    checks.that("the upper one has ended", !read(&free, above).is_object(), &free);
    checks.equal("unread", free["netns_coverage"]["unread"].as_u64(), Some(0));
    Ok(())
}

fn mounted_out_of_sight(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let netns = tracking()?;
    let inode = netns.inode();
    let (file, held) = (own_file("out-of-sight"), netns.path());
    let held = held.replace("self", &std::process::id().to_string());
    // It is in this network namespace, and leads to the other one by its mounts alone.
    let script = format!(
        "touch {0} && mount --bind {held} {0} && echo ready && exec sleep 600",
        file.display()
    );
    let mut child = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start unshare")?;
    let mut line = String::new();
    let output = child.stdout.take().context("no output")?;
    let said = std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line);
    drop(netns);
    let seen = said.map_err(Into::into).and_then(|_| status(env, checks, &POLL));
    child.kill().and_then(|()| child.wait())?;
    let _ = fs::remove_file(&file);
    let seen = seen?;
    checks.equal("it is mounted", line.trim(), "ready");
    // Marked: whoever makes a mount namespace mounts in it what he likes.
    let name = format!("mnt:ctmon-test-{}-out-of-sight", std::process::id());
    checks.equal("its name", read(&seen, inode)["name"].as_str(), Some(name.as_str()));
    Ok(())
}

fn stale_becomes_one(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let (file, is_new) = in_run_netns("becomes one")?;
    fs::write(&file, "")?;
    let path = file.to_string_lossy().into_owned();
    let is_stale = |status: &Value| status["netns_coverage"]["stale_files"][0] == *path;
    let before = status(env, checks, &POLL)?;
    checks.that("stale at first", is_stale(&before), &before["netns_coverage"]);
    let netns = tracking()?;
    let inode = netns.inode();
    let mounted = Mounted::new(&netns, &file)?;
    drop(netns);
    let then = status(env, checks, &POLL)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    checks.equal("then its name", read(&then, inode)["name"].as_str(), Some(name.as_str()));
    checks.equal("its kind", read(&then, inode)["name_kind"].as_str(), Some("ip_netns"));
    checks.that("no longer stale", !is_stale(&then), &then["netns_coverage"]);
    // As a failed `ip netns delete` leaves it.
    unmount(&file, UnmountFlags::empty()).context("umount")?;
    let after = status(env, checks, &POLL)?;
    checks.that("stale again", is_stale(&after), &after["netns_coverage"]);
    checks.that("it has ended", !read(&after, inode).is_object(), &after);
    drop(mounted);
    leave_run_netns(is_new)
}

fn other_type(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let (file, is_new) = in_run_netns("uts")?;
    let mounted = Mounted::bind("/proc/self/ns/uts", &file)?;
    let seen = status(env, checks, &POLL);
    drop(mounted);
    leave_run_netns(is_new)?;
    let coverage = &seen?["netns_coverage"];
    checks.equal("unread", coverage["unread"].as_u64(), Some(0));
    checks.equal("stale files", coverage["stale_files"].as_array().map(Vec::len), Some(0));
    Ok(())
}
