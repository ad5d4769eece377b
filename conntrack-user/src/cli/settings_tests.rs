use std::io::Write as _;

use clap::CommandFactory as _;

use super::*;
use crate::cli::{Cli, Command as Asked, Serve};

fn read(arguments: &[&str]) -> Result<Box<Serve>, String> {
    let all: Vec<OsString> = ["ctmon", "serve"].iter().chain(arguments).map(Into::into).collect();
    match Cli::read(&all).map_err(|error| error.to_string())?.command {
        Asked::Serve(serve) => Ok(serve),
        other => panic!("{other:?}"),
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn read_file(text: &str, more: &[&str]) -> Result<Box<Serve>, String> {
    let file = file(text);
    let path = file.path().to_str().unwrap();
    read(&[&["--config", path], more].concat())
        .map_err(|error| error.replace(path, "FILE").trim_end().to_owned())
}

#[test]
fn a_file_says_what_options_say() {
    let text = r#"
interval = "250ms"
event-budget = 2000
probe-stats = true
no-events = false
listen = ["[::1]:1", "unix:/run/x"]
path.procfs = "/host/proc"
[path]
sysfs = "/host/sys"
"#;
    // A table may not be opened twice, so it is named by dots alone.
    assert!(read_file(text, &[]).is_err());
    let text = text.replace("[path]\nsysfs", "path.sysfs");
    let serve = read_file(&text, &[]).unwrap();
    assert_eq!(serve.settings.0["listen"], ["[::1]:1", "unix:/run/x"]);
    assert_eq!(serve.listen[1], "unix:/run/x".parse().unwrap());
    let plan = serve.plan();
    assert_eq!(plan.interval.as_millis(), 250);
    assert!(plan.options.probe_stats && plan.options.ebpf.events);
    assert_eq!(plan.options.procfs, Path::new("/host/proc"));
    assert_eq!(plan.options.ebpf.sysfs, Path::new("/host/sys"));
}

#[test]
fn the_command_line_comes_first() {
    let text = "interval = \"250ms\"\nlisten = \"[::1]:1\"";
    let serve = read_file(text, &["--interval", "2s"]).unwrap();
    assert_eq!(serve.plan().interval.as_secs(), 2);
    assert_eq!(serve.settings.0["listen"], ["[::1]:1"]);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let cases = [
        ("\ninterval = \"soon\"", "FILE:2: invalid value 'soon' for '--interval <INTERVAL>': "),
        ("a = 1\n", "FILE:1: there is no setting a; --print-config lists those there are"),
        ("\n\npath.nowhere = 1", "FILE:3: there is no setting path.nowhere"),
        ("no-events = \"yes\"", "FILE:1: no-events is true or false, and no string"),
        ("\nevent-budget = true", "FILE:2: event-budget is a text or a number, and no boolean"),
        ("event-budget = [1]", "FILE:1: event-budget is a text or a number, and no array"),
        ("event-budget = 0", "FILE:1: invalid value '0' for '--event-budget <N>'"),
        ("config = \"x\"", "FILE:1: there is no setting config"),
        ("interval = ", "FILE:1: "),
        ("x", "FILE:1: "),
        ("interval = \"1s\"\ninterval = \"2s\"", "FILE:2: duplicate key"),
        ("no-events = true\nevent-budget = 1", "cannot be used with '--no-events'"),
        (
            "interval = \"1s\"\nwarn.high-fill-clear = 0.8",
            "FILE:2: warn.high-fill-clear = 0.8: more than 0 and at most warn.high-fill",
        ),
        // The one that is named first is not in the file.
        ("\n\nwarn.high-fill = 0.6", "FILE:3: warn.high-fill-clear = 0.7: more than 0 and at most"),
        ("\nnotify.attempts = 0", "FILE:2: notify.attempts = 0: 1 to 100"),
        (
            "\nnotify.webhook = \"hooks.example\"",
            "FILE:2: notify.webhook: expected http://HOST/PATH",
        ),
        ("\nnotify.webhook = \"http://a b/\"", "FILE:2: notify.webhook: "),
        ("\nnotify.command = [\"/nowhere/x\"]", "FILE:2: notify.command: /nowhere/x: No such file"),
        (
            "flight-dir = \"/x\"\nflight-bytes = \"1M\"",
            "FILE:2: --flight-bytes is 1000000, less than",
        ),
    ];
    for (text, expected) in cases {
        let error = read_file(text, &[]).map(|_| ()).unwrap_err();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let error = read(&["--config", "/nowhere.toml"]).map(|_| ()).unwrap_err();
    assert!(error.contains("cannot read the settings in /nowhere.toml"), "{error}");
}

#[test]
fn the_example_is_what_holds_without_it() {
    let text = Cli::settings_example();
    let plain = format!("{:?}", read(&[]).unwrap());
    // Every key that has a default, in force.
    let mut is_unset = false;
    let mut set = String::new();
    for line in text.lines() {
        let key = line.strip_prefix('#').filter(|key| !key.starts_with(' ') && !key.is_empty());
        if let Some(key) = key.filter(|_| !is_unset) {
            set += &format!("{key}\n");
        }
        is_unset = line == "# Not set.";
    }
    // Either is set, not both.
    let set = set.replace("no-events = false\n", "");
    let keys = set.lines().count();
    let file = file(&set);
    let path = file.path().to_str().unwrap();
    let with = format!("{:?}", read(&["--config", path]).unwrap());
    assert_eq!(with.replace(&format!("Some({path:?})"), "None"), plain, "{set}");
    let cli = Cli::command();
    let serve = cli.find_subcommand(SERVE).unwrap();
    let unset = text.matches("# Not set.").count();
    assert_eq!(keys + 1 + unset, serve.get_arguments().filter(|arg| is_setting(arg)).count());
}

#[test]
fn what_has_changed_is_told_by_name() {
    let before = read_file("interval = \"250ms\"", &[]).unwrap();
    let changed = |after: &Serve| {
        let (now, at_restart) = before.settings.clone().take(&after.settings);
        assert!(now.is_empty(), "{now:?}");
        at_restart
    };
    assert!(changed(&before).is_empty());
    let after = read_file("event-budget = 1\nlisten = []\nprobe-stats = true", &[]).unwrap();
    assert_eq!(changed(&after), ["event-budget", "interval", "probe-stats"]);
    // Set or not, it is the same.
    let same = read_file("interval = \"250ms\"\nevent-budget = 10000", &[]).unwrap();
    assert!(changed(&same).is_empty());
}

#[test]
fn each_setting_has_a_variable() {
    let cli = with_environment(Cli::command());
    let serve = cli.find_subcommand(SERVE).unwrap();
    let names: Vec<String> = serve
        .get_arguments()
        .filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()))
        .collect();
    assert!(names.contains(&"CTMON_PATH_PROCFS".to_owned()), "{names:?}");
    assert!(names.contains(&"CTMON_EVENT_BUDGET".to_owned()), "{names:?}");
    assert_eq!(names.len(), serve.get_arguments().filter(|arg| is_setting(arg)).count() + 1);
}
