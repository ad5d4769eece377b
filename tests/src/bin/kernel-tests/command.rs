//! Other programs: nft, conntrack, ip, rmmod.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::checks::one_line;

/// Runs a program in the calling thread's network namespace.
///
/// # Errors
/// When it cannot be started or does not end with 0.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let line = [&[program], arguments].concat().join(" ");
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    checked(&line, output.with_context(|| format!("cannot start {line:?}"))?)
}

/// Loads an nftables ruleset into the calling thread's network namespace.
///
/// # Errors
/// When nft refuses it.
pub(crate) fn nft(ruleset: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start nft")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(ruleset.as_bytes()).context("cannot write to nft")?;
    }
    checked("nft -f -", child.wait_with_output()?).map(drop)
}

/// Empties the conntrack table of the calling thread's network namespace.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn flush() -> Result<()> {
    run("conntrack", &["-F"]).map(drop)
}

fn checked(line: &str, output: Output) -> Result<String> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{line:?} failed: {}: {}", output.status, one_line(&said));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
