//! `ctmon serve` as a process: a storm of SIGHUP costs little, and its memory goes into no core dump.

use std::{
    fs,
    io::Read as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// A service that ends with its test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: takes no memory of ours; the child was not waited for, so its number is its own.
        let sent = unsafe { libc::kill(self.0.id().cast_signed(), signal) };
        ensure!(sent == 0, "it has ended");
        Ok(())
    }

    /// Reports whether the service catches SIGHUP already: bit 0 of the mask in /proc/PID/status.
    fn listens(&self) -> Result<bool> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.context("no SigCgt")?.trim(), 16)?;
        Ok(caught & 1 != 0)
    }
}

#[test]
fn a_storm_of_hangups_is_a_line_a_second_and_there_are_no_core_dumps() -> Result<()> {
    let mut service = Service(
        Command::new(env!("CARGO_BIN_EXE_ctmon"))
            .args(["serve", "--source", "procfs", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?,
    );
    let mut log = service.0.stderr.take().context("no standard error")?;
    let begun = Instant::now();
    while !service.listens()? {
        ensure!(begun.elapsed() < Duration::from_secs(60), "it does not listen for signals");
        thread::sleep(Duration::from_millis(50));
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", service.0.id()))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let core: Vec<_> = core.unwrap_or_default().split_whitespace().skip(4).collect();
    ensure!(core[..2] == ["0", "0"], "{limits}");
    let storm = Instant::now();
    for _ in 0..200 {
        service.signal(libc::SIGHUP)?;
        thread::sleep(Duration::from_millis(5));
    }
    // The last one is not lost.
    thread::sleep(Duration::from_millis(1500));
    let seconds = storm.elapsed().as_secs();
    service.signal(libc::SIGTERM)?;
    let mut text = String::new();
    log.read_to_string(&mut text)?;
    let lines = text.lines().filter(|line| line.contains("SIGHUP: ")).count() as u64;
    ensure!((2..=seconds + 1).contains(&lines), "{lines} lines in {seconds} s:\n{text}");
    Ok(())
}
