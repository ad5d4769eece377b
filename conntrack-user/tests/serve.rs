//! `ctmon` as a process: where it listens, under limits that are too low, and with hostile text all around it.

mod service;

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixDatagram,
    },
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use service::Service;

const CTMON: &str = env!("CARGO_BIN_EXE_ctmon");

/// Escape codes, C1, bidi marks, line breaks that forge lines, and invisible characters.
const HOSTILE: &str = "a\x1b[31m\x1b]0;t\x07\u{9b}2J\u{202e}b\u{2066}\r\nctmon: forged\n\
                       2026-12-01T00:00:00Z critical forged\u{2028}\u{200b}\u{feff}\x7fz";

/// Starts a polling service by a shell, which runs `before`.
fn serve(before: &str, arguments: &[&str]) -> Result<Service> {
    let mut command = shell(before, &[&["serve", "--source", "procfs"], arguments].concat());
    command.stdin(Stdio::null());
    Service::start(command)
}

fn shell(before: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before}; exec \"$0\" \"$@\""), CTMON]).args(arguments);
    command
}

#[test]
fn the_log_says_where_it_listens_and_who_may_ask() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let web = folder.path().join("web.yml");
    fs::write(&web, format!("basic_auth_users:\n  a: {}\n", bcrypt::hash("secret", 4)?))?;
    let web = web.display().to_string();
    let unix = format!("unix:{}", folder.path().join("socket").display());
    let cases: [(&[&str], bool); 5] = [
        (&["--listen", "127.0.0.1:0"], false),
        (&["--listen", &unix], false),
        (&["--listen", ":0"], true),
        (&["--listen", "0.0.0.0:0"], true),
        (&["--listen", ":0", "--web-config", &web], false),
    ];
    for (arguments, is_warned) in cases {
        let mut service = serve("true", arguments)?;
        let listening = service.line("listening on ")?;
        ensure!(!listening.ends_with(":0"), "{listening}");
        let next = service.line(" ")?;
        ensure!(next.contains("asks nobody who they are") == is_warned, "{arguments:?}: {next}");
    }
    Ok(())
}

/// Signs of life every 5 ms fill any queue (net.unix.max_dgram_qlen) within the seconds that this takes.
#[test]
fn it_ends_while_the_service_manager_does_not_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    let before = format!("export WATCHDOG_USEC=10000 NOTIFY_SOCKET={}", path.display());
    let mut service = serve(&before, &["--listen", "127.0.0.1:0", "--interval", "100ms"])?;
    service.line("source opened")?;
    manager.recv(&mut [0; 4096]).context("nothing for the service manager")?;
    std::thread::sleep(Duration::from_secs(4));
    service.signal(Signal::TERM)?;
    for _ in 0..600 {
        if let Some(status) = service.status()? {
            ensure!(status.success(), "{status}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("it has not ended within 60 s of SIGTERM")
}

#[test]
fn a_umask_takes_nothing_from_a_socket() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let mut service = serve("umask 0777", &["--listen", &format!("unix:{}", path.display())])?;
    service.line("listening on ")?;
    let about = fs::symlink_metadata(&path)?;
    ensure!(about.file_type().is_socket(), "{about:?}");
    ensure!(about.permissions().mode() & 0o777 == 0o660, "{about:?}");
    Ok(())
}

#[test]
fn without_procfs_nothing_is_left_and_procfs_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let listen = format!("unix:{}", path.display());
    let arguments = ["serve", "--path.procfs", "/nowhere", "--listen", &listen];
    let output = shell("true", &arguments).stdin(Stdio::null()).output()?;
    let said = text(&output);
    ensure!(output.status.code() == Some(3), "{said}");
    ensure!(said.contains("no procfs is mounted at /nowhere"), "{said}");
    ensure!(!said.contains("socket") && !path.exists(), "{said}");
    Ok(())
}

/// Commands with the least arguments that each takes.
const COMMANDS: [&[&str]; 10] = [
    &["status"],
    &["watch", "--count", "1"],
    &["doctor"],
    &["events", "--count", "1"],
    &["record", "/nowhere/x", "--for", "1s"],
    &["serve", "--listen", "127.0.0.1:0"],
    &["probe", "unix:/nowhere/x"],
    &["replay", "/nowhere/x"],
    &["export", "--format", "csv", "/nowhere/x"],
    &["backtest", "/nowhere/x"],
];

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn limits_that_are_too_low_are_named() -> Result<()> {
    for (limit, name) in [
        ("ulimit -n 6", "ulimit -n"),
        ("ulimit -n 8", "ulimit -n"),
        ("ulimit -n 20", "ulimit -n"),
        ("ulimit -v 150000", "ulimit -v"),
        ("ulimit -s 64", "ulimit -s"),
    ] {
        for arguments in COMMANDS {
            let output = shell(limit, arguments).stdin(Stdio::null()).output()?;
            let said = text(&output);
            let code = output.status.code();
            ensure!(code == Some(3), "{limit} {arguments:?}: {code:?} {said}");
            ensure!(
                said.contains(name) && said.contains("at least"),
                "{limit} {arguments:?}: {said}"
            );
        }
    }
    Ok(())
}

/// Finds a character that commands a terminal, or a forged line.
fn found(text: &str) -> Option<String> {
    let is_mark = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let bad = text.chars().find(|c| *c != '\n' && c.is_control() || is_mark(*c));
    let forged = text
        .lines()
        .find(|line| line.starts_with("ctmon: forged") || line.starts_with("2026-12-01T00:00:00Z"));
    bad.map(|c| format!("{c:?}")).or(forged.map(str::to_owned))
}

#[test]
fn nothing_of_hostile_text_reaches_the_terminal() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let value = write("value.toml", "interval = \"\\u001b[2J\\u009b\\u202e\\nctmon: forged\"\n")?;
    let key = write("key.toml", "\"\\u001b[2J\\u009b\\u202e\\nctmon: forged\" = 1\n")?;
    let user = write("user.yml", "basic_auth_users:\n  \"\\e[31m\\u009bx\": nohash\n")?;
    let file =
        write("file.yml", "tls_server_config:\n  cert_file: \"\\e[31m\\u009bx\"\n  key_file: k\n")?;
    let scenario = write("scenario.toml", "title = \"\\u001b[31m\\u009b\"\n\x1b[2Jfoo\n")?;
    let path = format!("/nowhere/{HOSTILE}");
    let unix = format!("unix:{path}");
    let url = format!("http://127.0.0.1:1/{HOSTILE}");
    let noisy = "printf '\\033[2J\\302\\233\\nctmon: forged\\n' >&2; exit 1";
    // On the command line.
    let cases: [&[&str]; 25] = [
        &[HOSTILE],
        &["replay", &path],
        &["export", "--format", "csv", &path],
        &["backtest", &path],
        &["backtest", &scenario],
        &["record", &path, "--for", "1s"],
        &["probe", &unix],
        &["doctor", "--path.procfs", &path],
        &["watch", "--path.procfs", &path],
        &["watch", "--netns", HOSTILE],
        &["watch", "--interval", HOSTILE],
        &["serve", "--config", &path],
        &["serve", "--config", &value],
        &["serve", "--config", &key],
        &["serve", "--web-config", &path],
        &["serve", "--web-config", &user],
        &["serve", "--web-config", &file],
        &["serve", "--check", "--flight-dir", &path],
        &["serve", "--check", "--node", HOSTILE],
        &["serve", "--listen", HOSTILE],
        &["serve", "--listen", &unix],
        &["serve", "--notify.command", &path],
        &["serve", "--check", "--notify.webhook", HOSTILE],
        &["serve", "--test-notify", "--notify.webhook", &url],
        &[
            "serve",
            "--test-notify",
            "--notify.command",
            "/bin/sh",
            "--notify.command",
            "-c",
            "--notify.command",
            noisy,
        ],
    ];
    for arguments in cases {
        let output = Command::new(CTMON).args(arguments).stdin(Stdio::null()).output()?;
        let said = text(&output);
        ensure!(found(&said).is_none(), "{arguments:?}: {:?} in {said:?}", found(&said));
        ensure!(!said.is_empty() && said.len() < 20_000, "{arguments:?}: {said:?}");
    }
    // In the environment.
    let unknown = format!("CTMON_{}", HOSTILE.replace('=', ""));
    let cases = [
        ("CTMON_INTERVAL", HOSTILE),
        ("CTMON_CONFIG", &path),
        ("CTMON_LISTEN", &unix),
        ("CTMON_NODE", HOSTILE),
        ("CTMON_FLIGHT_DIR", &path),
        (&unknown, "1"),
    ];
    for (name, value) in cases {
        let check = ["serve", "--check"];
        let output =
            Command::new(CTMON).args(check).env(name, value).stdin(Stdio::null()).output()?;
        let said = text(&output);
        ensure!(found(&said).is_none(), "{name:?}: {:?} in {said:?}", found(&said));
    }
    // Of any length.
    let long = "x".repeat(100_000);
    for arguments in [&["watch", "--netns", &long][..], &["serve", "--config", &long]] {
        let output = Command::new(CTMON).args(arguments).stdin(Stdio::null()).output()?;
        ensure!(output.status.code() == Some(3), "{:?}", output.status);
    }
    Ok(())
}

#[test]
fn an_error_that_nobody_reads_keeps_its_exit_code() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let damaged = folder.path().join("damaged.mcap");
    fs::write(&damaged, "none")?;
    let damaged = damaged.to_string_lossy();
    for arguments in [
        &["backtest", "/dev/zero"][..],
        &["replay", &damaged],
        &["probe", "unix:/nowhere"],
        &["serve", "--source", "procfs", "--listen", "unix:/nowhere/socket"],
        &["watch", "--color-of-none"],
    ] {
        let said = shell("true", arguments).output()?;
        let unsaid = shell("true", arguments).stderr(fs::File::create("/dev/full")?).output()?;
        assert!(!said.stderr.is_empty() && !said.status.success(), "{arguments:?}: {said:?}");
        assert_eq!(unsaid.status.code(), said.status.code(), "{arguments:?}");
    }
    Ok(())
}
