//! `ctmon events`

use clap::Args;
use conntrack_user::source::live;

use super::{
    Output,
    source::{Common, Ring},
};

pub(super) const EVENTS_LEGEND: &str = "\
A line:
  2026-11-26T18:26:01.500000Z destroy udp    10.0.0.1:40000 -> 10.96.0.10:53 reply 10.0.0.9:53 -> 10.0.0.1:40000
  [replied] zone 3 by user netns 4026531840
Time in UTC; insert or destroy; protocol; tuple of the first packet; tuple of replies (after NAT); state when it
happened: unreplied, replied, assured (not evicted early), offload; zone, where it is not 0; who did it, where that is
not a packet or the kernel's time-out: ctnetlink, user, netns_exit, early_drop; inode of the network namespace, as
`ctmon watch` shows it, ? where the namespace has ended.

Ends with exit code 0 on SIGINT, SIGTERM, --count and a closed pipe; 3 on errors. A second signal
ends it at once, with exit code 130 or 143.";

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
