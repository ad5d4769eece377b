//! Fills the connection tracking table of this network namespace, to see a monitor at work.

use std::{
    io::Write as _,
    net::{IpAddr, TcpListener},
    process::ExitCode,
    thread,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use conntrack_tests::traffic::{self, Exchange, Family, Plan, Progress, Protocol};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Opens flows over loopback, one conntrack entry each, and prints what it sent as one JSON object.
///
/// Entries appear only where a rule needs connection tracking, for example
/// `nft add table ip t; nft add chain ip t out '{ type filter hook output priority 0; }';
/// nft add rule ip t out ct state new counter`.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    protocol: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One datagram a flow, to ports that nobody listens on. EPERM: the table is full, or a rule
    /// refused it.
    Udp(Traffic),
    /// One connection a flow, established and then reset.
    Tcp(Traffic),
    /// One echo request a flow, which the kernel answers. Needs CAP_NET_RAW.
    Icmp(Traffic),
}

#[derive(Args)]
struct Traffic {
    /// How many flows to open.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    flows: u64,
    /// Flows a second; as fast as it goes by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// IPv6 instead of IPv4.
    #[arg(long)]
    ipv6: bool,
    /// Source address; a loopback address by default.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// Destination address; a loopback address by default.
    #[arg(long, value_name = "ADDRESS")]
    to: Option<IpAddr>,
    /// Run on this CPU only.
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Keep the sockets open, TCP connections established, until interrupted. The JSON object comes
    /// before.
    #[arg(long)]
    hold: bool,
    /// What is said in each flow.
    #[arg(long, value_enum, default_value = "plain")]
    exchange: Say,
}

#[derive(Clone, Copy, ValueEnum)]
enum Say {
    /// What the protocol's own description says.
    Plain,
    /// UDP: a datagram and an answer.
    Answered,
    /// UDP: as answered, and once more after two seconds: the entries are then assured.
    Stream,
    /// TCP: to a port that nobody listens on; the answer, a reset, deletes the entry.
    Closed,
    /// TCP: a first packet alone, to a port that nobody listens on. Needs CAP_NET_RAW.
    Syn,
    /// The same packet from two threads at the same instant, so that entries clash.
    Twins,
}

impl From<Say> for Exchange {
    fn from(say: Say) -> Self {
        match say {
            Say::Plain => Self::Plain,
            Say::Answered => Self::Answered,
            Say::Stream => Self::Stream,
            Say::Closed => Self::Closed,
            Say::Syn => Self::Syn,
            Say::Twins => Self::Twins,
        }
    }
}

fn main() -> ExitCode {
    let (protocol, arguments) = match Cli::parse().protocol {
        Command::Udp(arguments) => (Protocol::Udp, arguments),
        Command::Tcp(arguments) => (Protocol::Tcp, arguments),
        Command::Icmp(arguments) => (Protocol::Icmp, arguments),
    };
    match send(protocol, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ctmon-traffic: {error}");
            ExitCode::FAILURE
        }
    }
}

fn send(protocol: Protocol, arguments: &Traffic) -> anyhow::Result<()> {
    raise_open_files();
    let ipv6 =
        arguments.ipv6 || [arguments.from, arguments.to].iter().flatten().any(IpAddr::is_ipv6);
    let family = if ipv6 { Family::Ipv6 } else { Family::Ipv4 };
    let mut plan = Plan::new(protocol, family, arguments.flows);
    plan.from = arguments.from.unwrap_or(plan.from);
    plan.to = arguments.to.unwrap_or(plan.to);
    plan.rate = arguments.rate;
    plan.cpu = arguments.cpu;
    plan.hold = arguments.hold;
    plan.exchange = arguments.exchange.into();
    anyhow::ensure!(
        plan.from.is_ipv6() == plan.to.is_ipv6(),
        "{} and {} are not of one address family: give --from and --to alike",
        plan.from,
        plan.to
    );
    let outcome = traffic::run(&plan, &Progress::default(), &|address| TcpListener::bind(address))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&outcome)?)?;
    out.flush()?;
    if arguments.hold {
        loop {
            thread::park();
        }
    }
    Ok(())
}

/// Held connections take two descriptors each. Where the limit cannot be raised the flows beyond it
/// fail, and are counted as such.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
