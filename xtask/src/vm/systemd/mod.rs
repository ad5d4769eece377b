//! `cargo xtask vm systemd`: the unit of contrib/systemd in a VM whose first process is systemd.

mod root;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, ensure};

use super::{Guest, KernelArg, MachineArgs, exit_code, print, start};
use crate::{build, setup};

/// Programs that the script runs.
const PROGRAMS: [&str; 2] = ["ctmon", "ctmon-traffic"];

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    kernel: KernelArg,
    #[command(flatten)]
    machine: MachineArgs,
    /// Release of Debian that systemd is of: bookworm has 252, trixie 257.
    #[arg(long, default_value = "bookworm", value_name = "NAME")]
    release: String,
    /// Directory with ctmon and ctmon-traffic; built from this workspace if not given.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Seconds for which a full table drops packets.
    #[arg(long, default_value_t = 180, value_name = "SECONDS")]
    dropping: u32,
}

/// Boots the VM and runs [`root::SCRIPT`] in it: prints a line for each assertion; fails where one does.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let arch = args.kernel.arch();
    setup::ensure(arch)?;
    let kernel = args.kernel.get()?;
    let programs = match &args.programs {
        Some(directory) => PROGRAMS.map(|name| directory.join(name)).to_vec(),
        None => {
            let built = build::static_binaries(arch)?;
            let is_used = |path: &PathBuf| PROGRAMS.iter().any(|name| path.ends_with(name));
            built.into_iter().filter(is_used).collect()
        }
    };
    for program in &programs {
        ensure!(program.is_file(), "there is no {}", program.display());
    }
    let tree = root::fetched(arch, &args.release)?;
    let archive = root::write(&kernel, &tree, &programs, args.dropping)
        .context("cannot write the root file system")?;
    // Neither the script nor the programs are those of an initramfs: they are in the archive.
    let guest = Guest::command("", &[]);
    Ok(exit_code(start(&kernel, &args.machine, &guest, &archive, &mut print)))
}
