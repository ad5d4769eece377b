//! Real commands: one that takes what it is given, and those that fail, hang and leave others behind.

use std::{fs, path::Path};

use serde_json::json;

use super::*;
use crate::{
    model::reading::NetnsId,
    privilege::sandbox::{self, Sandbox},
};

fn command(script: &str, arguments: &[&str], timeout_seconds: f64) -> Command {
    let words = ["/bin/sh", "-c", script, "sh"].into_iter().chain(arguments.iter().copied());
    let run = words.map(str::to_owned).collect();
    Command::new(&config::Command { run, timeout_seconds }).unwrap()
}

fn message() -> Message {
    let fields = vec![
        ("kind", json!("warning")),
        ("state", json!("critical")),
        ("reason", json!("$(touch /tmp/never); two words")),
        ("entries", json!(990)),
        ("netns_name", json!(null)),
    ];
    Message { netns: NetnsId { cookie: None, inode: 1 }, fields }
}

fn deliver(command: &Command) -> Result<(), String> {
    command.deliver(&message(), &|| false).map_err(|failure| failure.why)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn it_gets_the_change_in_variables_and_on_its_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let (variables, stdin) = (folder.path().join("variables"), folder.path().join("stdin"));
    let script = "env | grep ^CTMON_ | sort > \"$1\" && cat > \"$2\"";
    let places = [variables.to_str().unwrap(), stdin.to_str().unwrap()];
    assert_eq!(deliver(&command(script, &places, 10.0)), Ok(()));
    assert_eq!(
        text(&variables),
        "CTMON_CHANGE_ENTRIES=990\nCTMON_CHANGE_KIND=warning\n\
         CTMON_CHANGE_REASON=$(touch /tmp/never); two words\nCTMON_CHANGE_STATE=critical\n"
    );
    let said: serde_json::Value = serde_json::from_str(&text(&stdin)).unwrap();
    assert_eq!((&said["entries"], &said["netns_name"]), (&json!(990), &json!(null)));
}

#[test]
fn its_environment_is_small_and_known() {
    let folder = tempfile::tempdir().unwrap();
    let variables = folder.path().join("variables");
    // What the shell adds itself is not there yet.
    let script = "tr '\\0' '\\n' < /proc/$$/environ > \"$1\"";
    assert_eq!(deliver(&command(script, &[variables.to_str().unwrap()], 10.0)), Ok(()));
    let variables = text(&variables);
    let names = variables.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    let others: Vec<&str> = names.filter(|name| !name.starts_with("CTMON_CHANGE_")).collect();
    // Cargo sets many for a test.
    let is_known = |name: &&str| ["PATH", "LANG"].contains(name);
    assert!(others.contains(&"PATH") && others.iter().all(is_known), "{others:?}");
}

#[test]
fn a_program_that_can_never_be_started_is_found_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let check = |program: &str| {
        let run = if program.is_empty() { vec![] } else { vec![program.to_owned()] };
        Command::check(&config::Command { run, ..config::Command::default() })
    };
    let why = |program: &str| check(program).unwrap_err();
    assert_eq!((check(""), check("/bin/sh"), check("sh")), (Ok(()), Ok(()), Ok(())));
    let nowhere = why("/nowhere/x");
    assert!(nowhere.starts_with("notify.command: /nowhere/x: No such file"), "{nowhere}");
    assert_eq!(why("no-such-program"), "notify.command: no-such-program is in no folder of PATH");
    let path = plain.to_str().unwrap();
    assert!(why(path).contains("is not executable: chmod +x"), "{}", why(path));
    assert!(why("/etc").ends_with("/etc is not a file"));
}

#[test]
fn a_test_says_how_the_program_ended() {
    let ended = command("exit 0", &[], 10.0).try_out(&message());
    assert_eq!(ended.unwrap(), "/bin/sh ended with exit status 0");
    let ended = command("exit 4", &[], 10.0).try_out(&message());
    assert_eq!(ended.unwrap_err().why, "/bin/sh ended with exit status 4");
}

#[test]
fn it_need_not_read_its_standard_input() {
    assert_eq!(deliver(&command("exec 0<&-; exit 0", &[], 10.0)), Ok(()));
}

#[test]
fn failures_say_how_it_ended() {
    let cases = [
        ("exit 3", "/bin/sh ended with exit status 3"),
        ("kill -TERM $$", "/bin/sh was ended by signal 15"),
    ];
    for (script, expected) in cases {
        assert_eq!(deliver(&command(script, &[], 10.0)), Err(expected.into()));
    }
    let run = vec!["/nowhere/to-be-found".to_owned()];
    let nowhere = config::Command { run, ..config::Command::default() };
    let said = deliver(&Command::new(&nowhere).unwrap()).unwrap_err();
    assert!(said.starts_with("/nowhere/to-be-found cannot be started: No such file"), "{said}");
    assert!(Command::new(&config::Command::default()).is_none());
}

#[test]
fn one_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = folder.path().join("pids");
    let script = "sleep 600 & echo $! $$ > \"$1\"; wait";
    let place = [numbers.to_str().unwrap()];
    let said = deliver(&command(script, &place, 1.0)).unwrap_err();
    assert_eq!(said, "/bin/sh had not ended after 1 s and was killed");
    for pid in text(&numbers).split_whitespace() {
        wait_for_end(pid);
    }
}

/// Runs an ignored test in a process of its own, which adopts what commands leave: all tests here share theirs.
fn apart(test: &str) {
    let name = format!("daemon::notify::command::tests::{test}");
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", &name])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

#[test]
fn nothing_that_it_started_outlives_its_time() {
    apart("what_has_a_session_of_its_own_is_killed_too");
}

#[test]
#[ignore = "adopts processes: run by `nothing_that_it_started_outlives_its_time`"]
fn what_has_a_session_of_its_own_is_killed_too() {
    // Such as the helper: none of a command's.
    let mut other = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    orphans::adopt().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let numbers = folder.path().join("pids");
    let place = [numbers.to_str().unwrap()];
    // A daemon, of a shell that hangs and of one that ends well.
    let leave = "setsid sh -c 'sleep 600 & echo $! $$ > \"$1\"; wait' sh \"$1\" & \
                 until test -s \"$1\"; do sleep 0.01; done; ";
    for (end, expected) in [
        ("exec sleep 600", Err("/bin/sh had not ended after 1 s and was killed".to_owned())),
        ("exit 0", Ok(())),
    ] {
        let _ = fs::remove_file(&numbers);
        let hangs = command(&format!("{leave}{end}"), &place, 1.0);
        assert_eq!(deliver(&hangs), expected, "{end}");
        for pid in text(&numbers).split_whitespace() {
            wait_for_end(pid);
        }
        let is_noted = hangs.take_lines() == ["what it had started was killed after 1 s"];
        assert_eq!(is_noted, expected.is_ok(), "{end}");
    }
    // What ends in time is waited for, and buried.
    let waits = command("(sleep 0.3; echo late >&2) & exit 0", &[], 60.0);
    assert_eq!((deliver(&waits), waits.take_lines()), (Ok(()), vec!["late".to_owned()]));
    assert!(orphans::look().is_none());
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn generations_that_end_at_once_do_not_outlive_its_time() {
    apart("processes_that_end_as_soon_as_they_have_a_child_are_killed");
}

/// Held by each generation of [`leaps`], all of which have the file of the first.
const LEAPING: &str = "CTMON_CHANGE_LEAPING";

#[test]
#[ignore = "adopts processes: run by `generations_that_end_at_once_do_not_outlive_its_time`"]
fn processes_that_end_as_soon_as_they_have_a_child_are_killed() {
    orphans::adopt().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("held");
    let held = fs::File::create(&path).unwrap();
    let own = std::env::current_exe().unwrap();
    let name = "daemon::notify::command::tests::leaps";
    let run = [own.to_str().unwrap(), "--ignored", "--exact", name].map(str::to_owned).into();
    let leaps = Command::new(&config::Command { run, timeout_seconds: 2.0 }).unwrap();
    let mut message = message();
    message.fields.push(("leaping", json!(path.to_str().unwrap())));
    for round in 0..3 {
        let outcome = leaps.deliver(&message, &|| false).map_err(|failure| failure.why);
        let lines = leaps.take_lines();
        assert_eq!(outcome, Ok(()), "{round}: {lines:?}");
        assert_eq!(lines, ["what it had started was killed after 2 s"], "{round}");
        // None of them is there any more, nor will be.
        held.try_lock().unwrap();
        held.unlock().unwrap();
    }
}

#[test]
#[ignore = "a program for `processes_that_end_as_soon_as_they_have_a_child_are_killed`"]
fn leaps() {
    let Ok(path) = std::env::var(LEAPING) else { return };
    let held = fs::File::open(path).unwrap();
    held.lock_shared().unwrap();
    // It ends by itself if nobody kills it.
    let until = Instant::now() + Duration::from_secs(30);
    // SAFETY: what follows in the copies are system calls alone.
    unsafe {
        if libc::fork() > 0 {
            libc::_exit(0);
        }
        libc::setsid();
        while Instant::now() < until {
            if libc::fork() > 0 {
                libc::_exit(0);
            }
        }
        libc::_exit(0);
    }
}

#[test]
fn what_others_left_to_process_1_is_none_of_its() {
    apart("an_orphan_from_outside_the_filter_is_left_alone");
}

#[test]
#[ignore = "adopts processes: run by `what_others_left_to_process_1_is_none_of_its`"]
fn an_orphan_from_outside_the_filter_is_left_alone() {
    orphans::adopt().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [other, own] = ["other", "own"].map(|name| folder.path().join(name));
    // As what `kubectl exec` leaves to process 1 of a container: it is not under the filter of the half that serves.
    let leave = "setsid sh -c 'echo $$ > \"$1\"; exec sleep 600' sh \"$1\" &
                 until test -s \"$1\"; do sleep 0.01; done";
    let shell = |path: &Path| {
        let words = ["/bin/sh", "-c", leave, "sh", path.to_str().unwrap()].map(str::to_owned);
        Command::new(&config::Command { run: words.into(), timeout_seconds: 3.0 }).unwrap()
    };
    let ended =
        std::process::Command::new("/bin/sh").args(["-c", leave, "sh"]).arg(&other).status();
    assert!(ended.unwrap().success());
    let other = text(&other).trim().to_owned();
    let sandbox =
        Sandbox { commands: true, write: vec![folder.path().to_owned()], ..Sandbox::default() };
    let in_the_sandbox = move || {
        sandbox::enter(&sandbox).unwrap();
        assert_eq!(deliver(&command("exit 0", &[], 3.0)), Ok(()));
        // Those of a command are, also with a session of their own.
        let leaves = shell(&own);
        assert_eq!(deliver(&leaves), Ok(()));
        assert_eq!(leaves.take_lines(), ["what it had started was killed after 3 s"]);
        wait_for_end(text(&own).trim());
    };
    thread::spawn(in_the_sandbox).join().unwrap();
    assert!(Path::new("/proc").join(&other).exists(), "process {other} was killed");
    let other = Pid::from_raw(other.parse().unwrap()).unwrap();
    rustix::process::kill_process(other, Signal::KILL).unwrap();
}

#[test]
fn its_standard_error_is_cleaned_and_bounded() {
    let script = "printf '\\033[2J2026-12-01T00:00:00Z critical forged\\nsecond\\302\\233\\n' >&2; \
                  head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 3";
    let loud = command(script, &[], 60.0);
    assert_eq!(deliver(&loud), Err("/bin/sh ended with exit status 3".into()));
    let lines = loud.take_lines();
    assert_eq!(lines[..2], ["?[2J2026-12-01T00:00:00Z critical forged", "second?"]);
    assert!(
        lines.len() == 4 && lines[2].len() <= 500 && lines[3].contains("left out"),
        "{lines:?}"
    );
    assert_eq!(loud.take_lines(), Vec::<String>::new());
}

#[test]
fn it_does_not_outlive_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = folder.path().join("pids");
    let place = [numbers.to_str().unwrap()];
    let hangs = command("echo $$ > \"$1\"; exec sleep 600", &place, 600.0);
    let is_abandoned = || fs::read_to_string(&numbers).is_ok_and(|text| text.ends_with('\n'));
    let failure = hangs.deliver(&message(), &is_abandoned).unwrap_err();
    assert_eq!(failure.why, "/bin/sh was killed, because the daemon ends");
    wait_for_end(text(&numbers).trim());
}

/// Returns when there is no such process any more, or only what its parent has not asked for.
fn wait_for_end(pid: &str) {
    let stat = format!("/proc/{pid}/stat");
    let runs = || {
        let text = fs::read_to_string(&stat).unwrap_or_default();
        text.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    };
    for _ in 0..500 {
        if !runs() {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
    panic!("process {pid} still runs");
}
