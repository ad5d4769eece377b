//! `ctmon events`

use clap::Args;
use conntrack_user::source::live;

use super::{
    Output,
    source::{Common, Ring},
};

#[derive(Debug, Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// End after so many events
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    ring: Ring,
}

impl Events {
    pub(crate) fn options(&self) -> live::Options {
        self.common.options(&self.ring, true, false)
    }
}
