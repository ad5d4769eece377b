//! `ctmon probe`

use std::path::PathBuf;

use clap::Args;
use conntrack_user::http::Address;

pub(super) const PROBE_CODES: &str = "\
For health checks of systemd, containers and Kubernetes (exec). It takes no entry in a connection tracking table, so that
a full one does not make the service look dead.

Exit codes:
  0  the answer is 200
  1  another answer
  3  nobody answers, wrong usage, or another error";

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// Unix socket at which `ctmon serve` listens: unix:PATH, as in --listen
    #[arg(value_name = "ADDRESS", value_parser = parse_socket)]
    pub(crate) socket: PathBuf,
    /// Path to ask for: /healthz, or /readyz
    #[arg(long, value_name = "PATH", default_value = "/healthz")]
    pub(crate) path: String,
}

fn parse_socket(text: &str) -> Result<PathBuf, String> {
    match text.parse() {
        Ok(Address::Unix(path)) => Ok(path),
        Ok(Address::Ip(_) | Address::All(_)) => Err(
            "a probe over TCP takes an entry, and fails while the table is full: have `ctmon serve` listen at unix:PATH, \
             too"
            .into(),
        ),
        Err(error) => Err(format!("{error:#}")),
    }
}
