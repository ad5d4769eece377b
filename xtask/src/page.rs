//! `cargo xtask page`: the page of `ctmon serve`, looked at in Chromium.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::{arch, process, setup, workspace};

/// The tests that need it.
const TESTS: [&str; 8] = [
    "test",
    "--package",
    "conntrack-user",
    "--bin",
    "ctmon",
    "page_tests",
    "--",
    "--include-ignored",
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where its pictures go; target/page if not given.
    #[arg(long)]
    pictures: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(arch::DEFAULT)?;
    setup::ensure_browser()?;
    let pictures = match &args.pictures {
        Some(folder) => std::path::absolute(folder)?,
        None => workspace::target()?.join("page"),
    };
    workspace::create(&pictures)?;
    let mut cargo = process::cargo();
    cargo.args(TESTS).env("CTMON_PICTURES", &pictures);
    let status = process::status(&mut cargo, "to look at the page")?;
    println!("pictures: {}", pictures.display());
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
