//! `ctmon doctor`

use std::{path::PathBuf, time::Duration};

use clap::Args;
use conntrack_user::doctor::gather::Roots;

use super::{Output, source::Paths, values::parse_interval};

pub(super) const DOCTOR_CODES: &str = "\
It reads only, and attaches the kernel programs for a moment to see whether they do.

Exit codes:
  0  all is well
  1  ctmon works with less than everything, or a table is in danger
  2  ctmon cannot do its job, or a table is 95 % full
  3  wrong usage, or another error";

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Also write a .tar.gz for a bug report; an existing file is not overwritten
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// Put into the bundle what is private: host name, names of namespaces and files
    #[arg(long, requires = "bundle")]
    pub(crate) include_private: bool,
    /// Keep the programs attached for so long, and tell what they counted, missed and took
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    pub(crate) observe: Option<Duration>,
    #[command(flatten)]
    paths: Paths,
    /// Where the root file system is: settings in /etc, the kernel's configuration in /boot
    #[arg(long = "path.rootfs", value_name = "DIR", default_value = "/")]
    rootfs: PathBuf,
}

impl Doctor {
    pub(crate) fn roots(&self) -> Roots {
        // Absolute, so that a bundle can hide them.
        let absolute =
            |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Roots {
            procfs: absolute(&self.paths.procfs),
            sysfs: absolute(&self.paths.sysfs),
            btf: self.paths.btf.as_ref().map(absolute),
            pods: absolute(&self.paths.pods),
            rootfs: absolute(&self.rootfs),
        }
    }
}
