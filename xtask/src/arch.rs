//! What differs between processor architectures, as data.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};

/// One architecture that VMs have.
#[derive(Debug)]
pub(crate) struct Arch {
    /// What `--arch` calls it.
    pub(crate) name: &'static str,
    /// Rust's name of it, as in [`std::env::consts::ARCH`].
    rust: &'static str,
    /// Rust's target with the libraries that a static program can be made from.
    pub(crate) target: &'static str,
    /// Debian's name.
    pub(crate) debian: &'static str,
    /// How the packages of Debian's smallest kernel end.
    pub(crate) flavour: &'static str,
    /// The same of its real-time kernel.
    pub(crate) real_time: &'static str,
    /// The emulator, and Debian's, Fedora's and Arch's package of it.
    pub(crate) qemu: &'static str,
    pub(crate) qemu_packages: [&'static str; 3],
    /// The machine, and a second serial line on the chardev `output`: arguments for QEMU.
    pub(crate) machine: &'static [&'static str],
    /// The kernel's names of the first serial line and of the second.
    pub(crate) serial: [&'static str; 2],
    /// Where a build of the kernel leaves its image.
    pub(crate) built_image: &'static str,
    /// What runs where no kernel is asked for.
    pub(crate) kernel: &'static str,
    /// Series that are tested where none are asked for.
    pub(crate) usual: &'static [&'static str],
    /// How many times as long everything takes in emulation as with [`X86_64`].
    pub(crate) slowness: u32,
}

pub(crate) const X86_64: Arch = Arch {
    name: "x86_64",
    rust: "x86_64",
    target: "x86_64-unknown-linux-gnu",
    debian: "amd64",
    flavour: "-cloud-amd64",
    real_time: "-rt-amd64",
    qemu: "qemu-system-x86_64",
    qemu_packages: ["qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86"],
    machine: &["-serial", "chardev:output"],
    serial: ["ttyS0", "ttyS1"],
    built_image: "arch/x86/boot/bzImage",
    kernel: "6.12",
    usual: &["6.1", "6.12", "newest"],
    slowness: 1,
};

pub(crate) const ARM64: Arch = Arch {
    name: "arm64",
    rust: "aarch64",
    // With the linker that .cargo/config.toml names.
    target: "aarch64-unknown-linux-musl",
    debian: "arm64",
    flavour: "-cloud-arm64",
    real_time: "-rt-arm64",
    qemu: "qemu-system-aarch64",
    qemu_packages: ["qemu-system-arm", "qemu-system-aarch64-core", "qemu-system-aarch64"],
    // Before QEMU 9.2 the machine has one serial line of its own.
    machine: &["-machine", "virt", "-device", "pci-serial,chardev=output"],
    serial: ["ttyAMA0", "ttyS0"],
    built_image: "arch/arm64/boot/Image",
    kernel: "6.12",
    usual: &["6.12"],
    slowness: 2,
};

/// The architecture of most machines, and of the VMs where none is asked for.
pub(crate) static DEFAULT: &Arch = &X86_64;

static ALL: [&Arch; 2] = [&X86_64, &ARM64];

/// The argument `--arch`.
#[derive(clap::Args)]
pub(crate) struct ArchArgs {
    /// Architecture of the VM.
    #[arg(long, value_parser = parser(), default_value = DEFAULT.name)]
    pub(crate) arch: &'static Arch,
}

/// Takes the name of an architecture.
pub(crate) fn parser() -> impl clap::builder::TypedValueParser<Value = &'static Arch> {
    PossibleValuesParser::new(ALL.map(|arch| arch.name))
        .map(|name| ALL.into_iter().find(|arch| arch.name == name).unwrap_or(DEFAULT))
}

impl Arch {
    /// Whether this host runs programs of it, and has its libraries.
    pub(crate) fn is_host(&self) -> bool {
        self.rust == std::env::consts::ARCH
    }

    /// Flag of rustc that aya-build sets: whose registers a kprobe sees.
    pub(crate) fn bpf_cfg(&self) -> String {
        format!("--cfg=bpf_target_arch=\"{}\"", self.rust)
    }
}
