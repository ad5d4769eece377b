//! Virtual machines with real kernels: what the monitor and its tests meet in the field.

mod accel;
mod console;
mod initramfs;
pub(crate) mod kernel;
mod mirror;
mod modules;
mod qemu;
mod terminal;
mod version;

use std::{
    io::{Write as _, stdout},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use self::{
    initramfs::Guest,
    kernel::{Kernel, SERIES},
    qemu::{Machine, Sink},
};
use crate::{build, process::quote, progress, setup, test};

/// Names that differ between processor architectures.
struct Arch {
    /// Debian's name.
    debian: &'static str,
    /// How the packages of its smallest kernel end.
    flavour: &'static str,
    qemu: &'static str,
    /// Where a build of the kernel leaves its image.
    built_image: &'static str,
}

const ARCH: Arch = Arch {
    debian: "amd64",
    flavour: "-cloud-amd64",
    qemu: "qemu-system-x86_64",
    built_image: "arch/x86/boot/bzImage",
};

/// That a VM gave no result is told apart from every result of the command in it, as container tools do.
const NO_RESULT: u8 = 125;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// The kernel series with the version that the mirror has, and whether it is in the cache.
    List,
    /// Download kernels into the cache.
    Fetch {
        /// Series such as 6.12, newest, or all.
        #[arg(long, value_delimiter = ',', required = true, value_name = "KERNEL")]
        kernel: Vec<String>,
    },
    /// Run a command in a VM; exits as the command does, or with 125 if the VM gave no result.
    Run {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        machine: MachineArgs,
        /// Leave this workspace's programs out: they are not built.
        #[arg(long)]
        bare: bool,
        /// Programs: ctmon, kernel-tests, ctmon-traffic, nft, conntrack, and those of busybox.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// An interactive shell in a VM; Ctrl-] ends it.
    Shell {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        machine: MachineArgs,
        /// Leave this workspace's programs out: they are not built.
        #[arg(long)]
        bare: bool,
    },
    /// The kernel tests alone.
    Test(test::KernelArgs),
}

#[derive(Args)]
pub(crate) struct Which {
    /// A series such as 6.12, newest, or a directory with a kernel image and lib/modules.
    #[arg(long, default_value = kernel::DEFAULT)]
    kernel: String,
}

#[derive(Args)]
pub(crate) struct MachineArgs {
    /// What runs the VM.
    #[arg(long, value_enum, default_value = "auto")]
    accel: accel::Choice,
    /// Memory in MiB.
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    memory: u32,
    /// Virtual processors.
    #[arg(long, default_value_t = 2, value_name = "N")]
    cpus: u32,
    /// The VM ends after this many seconds; 600 unless it is interactive.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// More arguments for the kernel.
    #[arg(
        long,
        value_name = "KERNEL-ARGS",
        allow_hyphen_values = true,
        default_value = "",
        hide_default_value = true
    )]
    append: String,
    /// Load no module at start; modprobe finds them.
    #[arg(long)]
    no_modules: bool,
}

const TIME_LIMIT: Duration = Duration::from_secs(600);

pub(crate) fn run(task: Task) -> Result<ExitCode> {
    setup::ensure()?;
    match task {
        Task::List => list(),
        Task::Fetch { kernel } => fetch(&kernel),
        Task::Run {
            which,
            machine,
            bare,
            command,
        } => {
            let script = command
                .iter()
                .map(|word| quote(word))
                .collect::<Vec<_>>()
                .join(" ");
            let kernel = kernel::get(&which.kernel)?;
            let binaries = if bare {
                Vec::new()
            } else {
                build::static_binaries()?
            };
            Ok(no_result(boot(
                &kernel, &machine, &script, &binaries, &mut print,
            )))
        }
        Task::Shell {
            which,
            machine,
            bare,
        } => {
            let kernel = kernel::get(&which.kernel)?;
            let binaries = if bare {
                Vec::new()
            } else {
                build::static_binaries()?
            };
            Ok(no_result(shell(&kernel, &machine, &binaries)))
        }
        Task::Test(args) => test::run_kernels(&args),
    }
}

/// Runs a shell script in a VM and hands its output to the sink. Returns its exit status.
pub(crate) fn boot(
    kernel: &Kernel,
    args: &MachineArgs,
    script: &str,
    binaries: &[PathBuf],
    sink: Sink<'_>,
) -> Result<u8> {
    start(
        kernel,
        args,
        &Guest {
            script,
            interactive: false,
            binaries,
        },
        sink,
    )
}

/// Writes what a VM says to our standard output at once.
pub(crate) fn print(bytes: &[u8]) -> Result<()> {
    let mut output = stdout().lock();
    output
        .write_all(bytes)
        .and_then(|()| output.flush())
        .context("cannot write to standard output")
}

fn start(kernel: &Kernel, args: &MachineArgs, guest: &Guest<'_>, sink: Sink<'_>) -> Result<u8> {
    let accel = accel::choose(args.accel, kernel)?;
    let initramfs = initramfs::write(kernel, guest)?;
    let limit = args.timeout.map(Duration::from_secs);
    let no_modules = if args.no_modules {
        " ctmon.nomodules=1"
    } else {
        ""
    };
    let machine = Machine {
        accel,
        cpus: args.cpus,
        memory: args.memory,
        append: &format!("{}{no_modules}", args.append),
        time_limit: if guest.interactive {
            limit
        } else {
            limit.or(Some(TIME_LIMIT))
        },
        interactive: guest.interactive,
    };
    progress::note(&format!(
        "VM: kernel {}, {} processors, {} MiB, {accel}",
        kernel.release, args.cpus, args.memory
    ));
    machine.run(kernel, &initramfs, sink)
}

fn shell(kernel: &Kernel, args: &MachineArgs, binaries: &[PathBuf]) -> Result<u8> {
    progress::note("exit or Ctrl-] ends the VM");
    let (rows, columns) = terminal::size();
    let script = format!("stty sane rows {rows} cols {columns}; exec sh -i");
    let _raw = terminal::raw();
    start(
        kernel,
        args,
        &Guest {
            script: &script,
            interactive: true,
            binaries,
        },
        &mut print,
    )
}

fn no_result(status: Result<u8>) -> ExitCode {
    status.map_or_else(
        |error| {
            progress::error(&error);
            ExitCode::from(NO_RESULT)
        },
        ExitCode::from,
    )
}

fn list() -> Result<ExitCode> {
    println!(
        "{:8} {:32} {:24} {:7} tested",
        "series", "kernel", "package version", "cached"
    );
    for (name, usual) in SERIES {
        let usual = if usual { "always" } else { "on demand" };
        match kernel::look_up(name)? {
            Some((release, cached)) => {
                let cached = if cached { "yes" } else { "no" };
                println!(
                    "{name:8} {:32} {:24} {cached:7} {usual}",
                    release.name, release.version
                );
            }
            None => println!(
                "{name:8} {:32} {:24} {:7} {usual}",
                "not in the mirror", "", "no"
            ),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn fetch(names: &[String]) -> Result<ExitCode> {
    for name in kernel::expand(names) {
        println!("{name}: {}", kernel::get(&name)?.release);
    }
    Ok(ExitCode::SUCCESS)
}
