//! Hardware virtualisation where it really works, emulation elsewhere.

use std::{
    fmt,
    fs::{self, OpenOptions},
    time::Duration,
};

use anyhow::Result;
use clap::ValueEnum;

use super::{
    initramfs::{self, Guest},
    kernel::Kernel,
    qemu::Machine,
};
use crate::{
    progress::{note, step},
    workspace,
};

const DEVICE: &str = "/dev/kvm";

/// A guest under KVM starts in about a second.
const TRIAL: Duration = Duration::from_secs(8);

/// What `--accel` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// KVM if a short trial proves that it works, else TCG.
    Auto,
    /// Hardware virtualisation.
    Kvm,
    /// Emulation: slower, works everywhere.
    Tcg,
    /// Emulation in which time is the number of instructions executed by all processors together, so that it does
    /// not matter what else the host does.
    Counted,
}

/// What QEMU runs the guest with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    Kvm,
    Tcg,
    Counted,
}

impl Accel {
    /// The value of QEMU's `-accel`.
    pub(crate) fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
            Self::Counted => "tcg,thread=single",
        }
    }

    /// More of QEMU's arguments: two nanoseconds an instruction, and no waiting when there is nothing to do.
    pub(crate) fn more_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm | Self::Tcg => &[],
            Self::Counted => &["-icount", "shift=1,sleep=off"],
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
            Self::Counted => "TCG, counting instructions",
        })
    }
}

/// Settles which accelerator to use with this kernel.
pub(crate) fn choose(choice: Choice, kernel: &Kernel) -> Result<Accel> {
    match choice {
        Choice::Kvm => Ok(Accel::Kvm),
        Choice::Tcg => Ok(Accel::Tcg),
        Choice::Counted => Ok(Accel::Counted),
        // Without the device, or the right to use it, there is nothing to try.
        Choice::Auto if !kernel.arch.is_host() => Ok(Accel::Tcg),
        Choice::Auto if OpenOptions::new().read(true).write(true).open(DEVICE).is_err() => {
            Ok(Accel::Tcg)
        }
        Choice::Auto => Ok(if kvm_works(kernel)? { Accel::Kvm } else { Accel::Tcg }),
    }
}

/// The device may be there and its guests die or hang all the same, so only a guest that ran proves it. The answer
/// holds until the host restarts.
fn kvm_works(kernel: &Kernel) -> Result<bool> {
    let file = workspace::cache()?.join("kvm");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let known = fs::read_to_string(&file).unwrap_or_default();
    if let Some((known_boot, verdict)) = known.split_once(' ')
        && known_boot == boot.trim()
    {
        return Ok(verdict == "works");
    }
    let works = step("trial of KVM", || {
        let guest = Guest::command("exit 0", &[]);
        let initramfs = initramfs::write(kernel, &guest)?;
        let machine = Machine {
            accel: Accel::Kvm,
            cpus: 1,
            memory: 512,
            append: "",
            time_limit: Some(TRIAL),
            boot_limit: TRIAL,
            interactive: false,
            forward: None,
        };
        Ok(machine.run(kernel, &initramfs, &mut |_| Ok(())).is_ok_and(|status| status == 0))
    })?;
    if !works {
        note(&format!("{DEVICE} exists, but a guest did not run with it: using emulation (TCG)"));
    }
    let verdict = if works { "works" } else { "fails" };
    // Not remembering it costs another trial.
    let _ = fs::write(&file, format!("{} {verdict}", boot.trim()));
    Ok(works)
}
