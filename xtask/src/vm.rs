//! Virtual machines with real kernels: what the monitor and its tests meet in the field.

mod accel;
pub(crate) mod built;
mod console;
mod initramfs;
pub(crate) mod kernel;
pub(crate) mod mirror;
mod modules;
mod qemu;
mod systemd;
mod terminal;
pub(crate) mod userland;
mod version;

pub(crate) use self::initramfs::{ADDRESS, Forward, Guest};

use std::{
    fs::File,
    io::{Write as _, stdout},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use self::{
    accel::Accel,
    kernel::Kernel,
    qemu::{Machine, NoResult},
};
use crate::{
    arch::{Arch, ArchArgs},
    build,
    process::{Sink, quoted},
    progress, setup, test,
};

/// How often a VM is started at most.
const ATTEMPTS: u32 = 3;

/// That a VM gave no result is told apart from every result of the command in it, as container tools do.
const NO_RESULT: u8 = 125;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// The kernel series with the version that the mirror has, and whether it is in the cache.
    List {
        #[command(flatten)]
        arch: ArchArgs,
    },
    /// Kernels that Debian does not have.
    #[command(subcommand)]
    Kernel(KernelTask),
    /// Download kernels into the cache.
    Fetch {
        /// Series such as 6.12, newest, or all.
        #[arg(long, value_delimiter = ',', required = true, value_name = "KERNEL")]
        kernel: Vec<String>,
        #[command(flatten)]
        arch: ArchArgs,
    },
    /// Run a command in a VM; exits as the command does, or with 125 if the VM gave no result.
    Run {
        #[command(flatten)]
        kernel: KernelArg,
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
        kernel: KernelArg,
        #[command(flatten)]
        machine: MachineArgs,
        /// Leave this workspace's programs out: they are not built.
        #[arg(long)]
        bare: bool,
    },
    /// The kernel tests alone.
    Test(test::KernelArgs),
    /// The systemd unit in a VM that systemd boots: start, unload and load of nf_conntrack, a table that drops.
    Systemd(systemd::Args),
}

#[derive(Subcommand)]
pub(crate) enum KernelTask {
    /// Build a kernel from Debian's source, unless the cache has it; 8 to 16 minutes on two processors.
    Build {
        /// Which one.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(built::ALL.each_ref().map(|build| build.name)))]
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct KernelArg {
    #[command(flatten)]
    arch: ArchArgs,
    /// A series such as 6.12, 6.12-rt or newest, the name of a build, or a directory with a kernel image and lib/modules;
    /// 6.12 if not given.
    #[arg(long)]
    kernel: Option<String>,
}

impl KernelArg {
    pub(crate) fn arch(&self) -> &'static Arch {
        self.arch.arch
    }

    pub(crate) fn get(&self) -> Result<Kernel> {
        kernel::get(self.arch(), self.kernel.as_deref().unwrap_or(self.arch().kernel))
    }
}

#[derive(Args, Clone)]
pub(crate) struct MachineArgs {
    /// What runs the VM.
    #[arg(long, value_enum, default_value = "auto")]
    accel: accel::Choice,
    /// Memory in MiB.
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    pub(crate) memory: u32,
    /// Virtual processors.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) cpus: u32,
    /// The VM ends after this many seconds; 2400 unless it is interactive.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
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

impl MachineArgs {
    /// For measurements: an emulated VM counts instructions, unless another way was asked for.
    pub(crate) fn for_measurements(&self, kernel: &Kernel) -> Result<Self> {
        let mut args = self.clone();
        if args.accel == accel::Choice::Auto && accelerator(&args, kernel)? == Accel::Tcg {
            args.accel = accel::Choice::Counted;
        }
        Ok(args)
    }
}

/// For all that a command does, in emulation of this host's own architecture.
const TIME_LIMIT: Duration = Duration::from_secs(2400);
/// An emulated kernel reaches init in 2 to 3 s on an idle host; this is for a host that is far from idle.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::List { arch } => list(arch.arch),
        Task::Kernel(KernelTask::Build { name }) => {
            let build = built::find(&name).with_context(|| {
                format!("there is no kernel {name} to build: there are {}", built::names())
            })?;
            println!("{}", built::make(build)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Task::Fetch { kernel, arch } => fetch(arch.arch, &kernel),
        Task::Run { kernel, machine, bare, command } => {
            setup::ensure(kernel.arch())?;
            let (kernel, binaries) = (kernel.get()?, binaries(kernel.arch(), bare)?);
            let script = quoted(&command);
            Ok(exit_code(boot(&kernel, &machine, &Guest::command(&script, &binaries), &mut print)))
        }
        Task::Shell { kernel, machine, bare } => {
            setup::ensure(kernel.arch())?;
            let (kernel, binaries) = (kernel.get()?, binaries(kernel.arch(), bare)?);
            let (rows, columns) = terminal::size();
            let script = format!("stty sane rows {rows} cols {columns}; exec sh -i");
            let guest = Guest { interactive: true, ..Guest::command(&script, &binaries) };
            progress::note("exit or Ctrl-] ends the VM");
            Ok(exit_code(boot(&kernel, &machine, &guest, &mut print)))
        }
        Task::Test(args) => test::run_kernels(&args),
        Task::Systemd(args) => systemd::run(&args),
    }
}

/// Writes what a VM says to our standard output at once.
pub(crate) fn print(bytes: &[u8]) -> Result<()> {
    let mut output = stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).context("cannot write to standard output")
}

/// What VMs run with here; may start one to find out.
pub(crate) fn accelerator(args: &MachineArgs, kernel: &Kernel) -> Result<Accel> {
    accel::choose(args.accel, kernel)
}

/// Starts a VM, runs the guest's script and hands its output to the sink. Returns the script's exit
/// status. Where the emulator breaks the kernel the VM starts again, and the sink may get the output
/// of each attempt at a repeatable script.
pub(crate) fn boot(
    kernel: &Kernel,
    args: &MachineArgs,
    guest: &Guest<'_>,
    sink: Sink<'_>,
) -> Result<u8> {
    start(kernel, args, guest, &initramfs::write(kernel, guest)?, sink)
}

/// Boots a VM from an archive that holds the programs of `guest`; see [`boot`].
fn start(
    kernel: &Kernel,
    args: &MachineArgs,
    guest: &Guest<'_>,
    initramfs: &File,
    sink: Sink<'_>,
) -> Result<u8> {
    let accel = accelerator(args, kernel)?;
    let limit = args.timeout.map(Duration::from_secs);
    let slowness = if accel == Accel::Kvm { 1 } else { kernel.arch.slowness };
    let no_modules = if args.no_modules { " ctmon.nomodules=1" } else { "" };
    let machine = Machine {
        accel,
        cpus: args.cpus,
        memory: args.memory,
        append: &format!("{}{no_modules}", args.append),
        time_limit: if guest.interactive { limit } else { limit.or(Some(TIME_LIMIT * slowness)) },
        boot_limit: BOOT_LIMIT * slowness,
        interactive: guest.interactive,
        forward: guest.forward,
    };
    progress::note(&format!(
        "VM: {} kernel {}, {} processors, {} MiB, {accel}",
        kernel.arch.name, kernel.release, args.cpus, args.memory
    ));
    let mut attempt = || {
        // Messages to the user need the terminal as it was.
        let _raw = guest.interactive.then(terminal::raw);
        machine.run(kernel, initramfs, sink)
    };
    for _ in 1..ATTEMPTS {
        let result = attempt();
        let fault = result.as_ref().err().and_then(|error| error.downcast_ref::<NoResult>());
        let again = |fault: &NoResult| fault.emulator_fault && (guest.repeatable || !fault.started);
        if !fault.is_some_and(again) {
            return result;
        }
        progress::note("the emulation broke the kernel, as QEMU before 8.1 does: starting again");
    }
    attempt()
}

/// The programs of this workspace, unless the VM is to do without.
fn binaries(arch: &Arch, bare: bool) -> Result<Vec<PathBuf>> {
    if bare { Ok(Vec::new()) } else { build::static_binaries(arch) }
}

fn exit_code(status: Result<u8>) -> ExitCode {
    status.map(ExitCode::from).unwrap_or_else(|error| {
        progress::error(&error);
        ExitCode::from(NO_RESULT)
    })
}

fn list(arch: &Arch) -> Result<ExitCode> {
    let mut rows =
        vec![["series", "kernel", "package version", "cached", "tested"].map(str::to_owned)];
    for name in kernel::expand(&["all".to_owned()]) {
        let (kernel, version, cached) = match kernel::look_up(arch, &name)? {
            Some((release, cached)) => (release.name, release.version, cached),
            None => ("not in the mirror".to_owned(), String::new(), false),
        };
        let cached = if cached { "yes" } else { "no" };
        let usual = if arch.usual.contains(&name.as_str()) { "always" } else { "on demand" };
        rows.push([name, kernel, version, cached.to_owned(), usual.to_owned()]);
    }
    for [series, kernel, version, cached, tested] in rows {
        println!("{series:16} {kernel:32} {version:24} {cached:7} {tested}");
    }
    Ok(ExitCode::SUCCESS)
}

fn fetch(arch: &'static Arch, names: &[String]) -> Result<ExitCode> {
    setup::ensure(arch)?;
    for name in kernel::expand(names) {
        println!("{name}: {}", kernel::get(arch, &name)?.release);
    }
    Ok(ExitCode::SUCCESS)
}
