//! What differs between processor architectures. One so far: another one is another constant.

/// Names of one architecture.
pub(crate) struct Arch {
    /// Rust's name of it, with the libraries that a static program can be made from.
    pub(crate) target: &'static str,
    /// Debian's name.
    pub(crate) debian: &'static str,
    /// How the packages of Debian's smallest kernel end.
    pub(crate) flavour: &'static str,
    /// The emulator, and Debian's, Fedora's and Arch's package of it.
    pub(crate) qemu: &'static str,
    pub(crate) qemu_packages: [&'static str; 3],
    /// Where a build of the kernel leaves its image.
    pub(crate) built_image: &'static str,
}

/// The architecture of the VMs.
pub(crate) const ARCH: Arch = Arch {
    target: "x86_64-unknown-linux-gnu",
    debian: "amd64",
    flavour: "-cloud-amd64",
    qemu: "qemu-system-x86_64",
    qemu_packages: ["qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86"],
    built_image: "arch/x86/boot/bzImage",
};
