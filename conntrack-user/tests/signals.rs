//! SIGINT and SIGTERM end every command, whatever it waits for in the kernel, and no file that is none keeps one waiting.

use std::{
    ffi::CString,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Far more than a command takes to come to where it waits, or to end; a command that does not end takes more.
const PATIENCE: Duration = Duration::from_secs(20);

/// A command that ends with its test, and its helper with it.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        for helper in self.children() {
            // SAFETY: takes no memory of ours; the helper is a child of a child that was not waited for yet.
            unsafe { libc::kill(helper, libc::SIGKILL) };
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Started {
    fn new(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctmon"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(Self(command.spawn()?))
    }

    /// Child processes on the kernel's list; empty where the kernel has no such list.
    fn children(&self) -> Vec<i32> {
        let path = format!("/proc/{0}/task/{0}/children", self.0.id());
        let list = fs::read_to_string(path).unwrap_or_default();
        list.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: takes no memory of ours; the child was not waited for, so its number is its own.
        ensure!(unsafe { libc::kill(self.0.id().cast_signed(), signal) } == 0, "it has ended");
        Ok(())
    }

    /// Waits for its end; how long that took.
    fn end(&mut self) -> Result<(ExitStatus, Duration)> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait()? {
                return Ok((status, begun.elapsed()));
            }
            thread::sleep(Duration::from_millis(5));
        }
        anyhow::bail!("it does not end")
    }

    /// Waits for its end, and gives its standard error.
    fn output(&mut self) -> Result<(ExitStatus, String)> {
        let (status, _) = self.end()?;
        let mut text = String::new();
        self.0.stderr.take().context("no standard error")?.read_to_string(&mut text)?;
        Ok((status, text))
    }
}

/// A pipe with a name, at whose other end is nobody.
fn pipe(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    let text = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a 0 and is valid for the call.
    ensure!(unsafe { libc::mkfifo(text.as_ptr(), 0o600) } == 0, "mkfifo");
    Ok(path)
}

#[test]
fn a_command_that_waits_in_the_kernel_ends_by_a_signal() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pipe = pipe(folder.path(), "pipe")?.display().to_string();
    let commands: [&[&str]; 5] = [
        &["record", "--source", "procfs", "--force", &pipe],
        &["replay", &pipe],
        &["replay", "--speed", "max", "/dev/zero"],
        &["export", "--format", "csv", &pipe],
        &["backtest", &pipe],
    ];
    for arguments in commands {
        for signals in [&[libc::SIGINT][..], &[libc::SIGTERM], &[libc::SIGTERM, libc::SIGINT]] {
            let mut started = Started::new(arguments)?;
            thread::sleep(Duration::from_millis(500));
            if arguments.contains(&"/dev/zero") && started.0.try_wait()?.is_some() {
                continue;
            }
            for signal in signals {
                // It may have ended by the first one.
                let _ = started.signal(*signal);
            }
            let (status, took) = started.end().with_context(|| format!("{arguments:?}"))?;
            println!("{arguments:?} {signals:?}: {took:?} {status}");
            let codes = [128 + libc::SIGINT, 128 + libc::SIGTERM];
            let is_by_signal = status.signal().is_some()
                || status.code().is_some_and(|code| codes.contains(&code));
            ensure!(is_by_signal, "{arguments:?}: {status}");
        }
    }
    Ok(())
}

#[test]
fn a_setting_that_names_no_file_is_refused_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pipe = pipe(folder.path(), "pipe")?.display().to_string();
    let huge = folder.path().join("huge");
    fs::File::create(&huge)?.set_len(1 << 40)?;
    let huge = huge.display().to_string();
    let settings: [&[&str]; 4] = [
        &["--config"],
        &["--web-config"],
        &["--notify.webhook=https://localhost/", "--notify.webhook-authorization"],
        &["--notify.webhook=https://localhost/", "--notify.webhook-ca"],
    ];
    let folder = folder.path().display().to_string();
    for setting in settings {
        for (path, why) in [
            (pipe.as_str(), "it is a pipe, no regular file"),
            ("/dev/zero", "it is a device, no regular file"),
            (&folder, "it is a folder, no regular file"),
            (&huge, "bytes, which is the limit"),
        ] {
            let arguments = [&["serve", "--listen", "127.0.0.1:0"], setting, &[path]].concat();
            let mut started = Started::new(&arguments)?;
            let (status, said) = started.output().with_context(|| format!("{arguments:?}"))?;
            ensure!(status.code() == Some(3), "{arguments:?}: {status} {said}");
            ensure!(said.contains(path) && said.contains(why), "{arguments:?}: {said}");
        }
    }
    Ok(())
}

/// A service, which answers at a socket in `folder` once this returns.
fn service(
    folder: &Path,
    more: &[&str],
) -> Result<(Started, BufReader<std::process::ChildStderr>)> {
    let listen = format!("unix:{}", folder.join("socket").display());
    let mut started =
        Started::new(&[&["serve", "--source", "procfs", "--listen", &listen][..], more].concat())?;
    let mut log = BufReader::new(started.0.stderr.take().context("no standard error")?);
    let mut text = String::new();
    while !text.contains("listening on") {
        ensure!(log.read_line(&mut text)? > 0, "it has ended, and said {text}");
    }
    Ok((started, log))
}

#[test]
fn a_service_ends_though_its_helper_is_stopped() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for wait in [0, 2500] {
        let (mut service, _log) = service(folder.path(), &[])?;
        thread::sleep(Duration::from_millis(500));
        let helpers = service.children();
        if helpers.is_empty() {
            return Ok(());
        }
        for helper in &helpers {
            // SAFETY: takes no memory of ours; the helper is a child of a child that was not waited for yet.
            ensure!(unsafe { libc::kill(*helper, libc::SIGSTOP) } == 0, "no helper");
        }
        // At once, and when the service waits for it.
        thread::sleep(Duration::from_millis(wait));
        service.signal(libc::SIGTERM)?;
        let outcome = service.end();
        for helper in &helpers {
            // It ends by itself once it goes on; as root's, the end of another user's process does not end it.
            // SAFETY: as above; where it has ended, so that its number could be another's, there was no time for that.
            unsafe { libc::kill(*helper, libc::SIGCONT) };
        }
        let (status, took) = outcome?;
        println!("stopped for {wait} ms: {took:?} {status}");
        for helper in helpers {
            let begun = Instant::now();
            while Path::new(&format!("/proc/{helper}")).exists() {
                ensure!(begun.elapsed() < PATIENCE, "the helper stays");
                thread::sleep(Duration::from_millis(5));
            }
        }
        ensure!(status.code() == Some(0), "{status}");
    }
    Ok(())
}

#[test]
fn settings_that_become_a_pipe_stop_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.toml");
    fs::write(&config, "")?;
    // Also where the half that serves is another user than this one.
    let shared = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), shared)?;
    let (mut service, mut log) =
        service(folder.path(), &["--config", &config.display().to_string()])?;
    fs::remove_file(&config)?;
    pipe(folder.path(), "config.toml")?;
    fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    thread::sleep(Duration::from_millis(500));
    service.signal(libc::SIGHUP)?;
    let mut text = String::new();
    while !text.contains("SIGHUP: ") {
        ensure!(log.read_line(&mut text)? > 0, "it has ended, and said {text}");
    }
    ensure!(text.contains("it is a pipe, no regular file"), "{text}");
    service.signal(libc::SIGTERM)?;
    let (status, _) = service.end()?;
    ensure!(status.code() == Some(0), "{status}");
    Ok(())
}
