//! `ctmon serve` as root: the half that serves is another user, and says what that user cannot use.

mod service;

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use service::Service;

/// User of the serving half where there is no user `ctmon`.
const NOBODY: u32 = 65_534;

fn ctmon(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctmon"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn serve(arguments: &[&str]) -> Result<Service> {
    let mut command = ctmon(&["serve", "--source", "procfs", "--listen", "127.0.0.1:0"]);
    command.args(arguments);
    Service::start(command)
}

/// Text of /proc/PID/status.
fn status(service: &Service) -> Result<String> {
    Ok(fs::read_to_string(format!("/proc/{}/status", service.id()))?)
}

fn is_root() -> bool {
    let is = rustix::process::geteuid().is_root();
    if !is {
        println!("skipped: it takes root");
    }
    is
}

fn mode(path: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

fn refused(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn root_becomes_another_user_and_names_what_that_user_cannot_use() -> Result<()> {
    if !is_root() || fs::read_to_string("/etc/passwd")?.contains("\nctmon:") {
        return Ok(());
    }
    let root = tempfile::tempdir_in("/tmp")?;
    mode(root.path(), 0o755)?;
    let [config, flights] = ["ctmon.toml", "flights"].map(|name| root.path().join(name));
    fs::write(&config, "node = \"x\"\n")?;
    mode(&config, 0o600)?;
    fs::create_dir(&flights)?;
    let text = |path: &Path| path.display().to_string();
    let arguments = ["--config", &text(&config), "--flight-dir", &text(&flights)];
    let read =
        format!("cannot read {0}: chown root:{NOBODY} {0} && chmod 0640 {0}", config.display());
    let write = format!("cannot write into {0}: chown -R {NOBODY}:{NOBODY} {0}", flights.display());

    let mut service = serve(&arguments)?;
    let log = service.until(" notice started ")?;
    for words in ["notice sandbox user=65534:65534 landlock_abi=", &*read, &*write] {
        ensure!(log.contains(words), "no {words:?} in {log}");
    }
    let status = status(&service)?;
    let same = |number: u32| format!("\t{number}").repeat(4);
    for line in [format!("Uid:{}\n", same(NOBODY)), format!("Gid:{}\n", same(NOBODY))] {
        ensure!(status.contains(&line), "{status}");
    }
    // Files of a process that is not dumpable belong to root.
    let owner = fs::metadata(format!("/proc/{}/status", service.id()))?.uid();
    ensure!(owner == 0, "it is dumpable: {owner}");
    service.until(" notice source opened ")?;
    service.signal(Signal::HUP)?;
    let log = service.until("SIGHUP: ")?;
    ensure!(log.contains(&read) && log.contains("all stays as it was"), "{log}");
    drop(service);

    let check = |arguments: &[&str]| ctmon(&["serve", "--check"]).args(arguments).output();
    let output = check(&arguments)?;
    let error = refused(&output);
    ensure!(output.status.code() == Some(3), "{error}");
    ensure!(error.contains(&read) && error.contains(&write), "{error}");

    // As it says.
    chown(&config, Some(0), Some(NOBODY))?;
    mode(&config, 0o640)?;
    chown(&flights, Some(NOBODY), Some(NOBODY))?;
    ensure!(check(&arguments)?.status.success());
    let mut service = serve(&arguments)?;
    let log = service.until(" notice source opened ")?;
    ensure!(!log.contains("cannot"), "{log}");
    service.signal(Signal::HUP)?;
    let log = service.until("SIGHUP: ")?;
    ensure!(log.contains("the settings were read again"), "{log}");
    Ok(())
}

/// Start by a service manager with `User=`.
#[test]
fn a_user_that_cannot_read_the_web_configuration_or_its_key_learns_what_to_do() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let root = tempfile::tempdir_in("/tmp")?;
    mode(root.path(), 0o755)?;
    let [web, key] = ["web.yml", "key.pem"].map(|name| root.path().join(name));
    fs::write(&key, "")?;
    let tls = "tls_server_config: {cert_file: key.pem, key_file: key.pem}\n";
    for (text, [of_web, of_key], file) in
        [("{}\n", [0o600, 0o644], &web), (tls, [0o644, 0o600], &key)]
    {
        fs::write(&web, text)?;
        mode(&web, of_web)?;
        mode(&key, of_key)?;
        let web = web.display().to_string();
        let mut command = ctmon(&["serve", "--listen", "127.0.0.1:0", "--web-config", &web]);
        let output = command.uid(NOBODY).gid(NOBODY).output()?;
        let error = refused(&output);
        ensure!(output.status.code() == Some(3), "{error}");
        let help = format!("chown root:{NOBODY} FILE && chmod 0640 FILE");
        for words in [&*file.display().to_string(), "Permission denied", &*help] {
            ensure!(error.contains(words), "no {words:?} in {error}");
        }
    }
    Ok(())
}

#[test]
fn a_user_that_is_root_or_unknown_is_an_error() -> Result<()> {
    for (user, why) in [("0:0", "user 0 is root"), ("no-such-user", "has no user no-such-user")] {
        let output =
            ctmon(&["serve", "--check", "--user", user, "--listen", "127.0.0.1:0"]).output()?;
        let error = refused(&output);
        ensure!(output.status.code() == Some(3), "{user}: {error}");
        ensure!(error.contains("--user") && error.contains(why), "{user}: {error}");
    }
    Ok(())
}
