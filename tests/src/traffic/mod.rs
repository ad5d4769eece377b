//! New flows, one conntrack entry each.

mod echo;
mod pace;
mod ports;
mod raw;
mod tcp;
mod twins;
mod udp;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::cpu;

/// What the flows are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// One datagram a flow, to ports that nobody listens on.
    Udp,
    /// One connection a flow, established and then reset.
    Tcp,
    /// One echo request a flow, which the kernel answers. Needs a raw socket.
    Icmp,
}

/// What is said in each flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exchange {
    /// What the protocol's description says.
    #[default]
    Plain,
    /// UDP: a datagram and an answer. The entry has then been replied to.
    Answered,
    /// UDP: as `Answered`, and once more when [`STREAM_AGE`] is over. The entry is then assured.
    Stream,
    /// TCP: to a port that nobody listens on. The answer, a reset, deletes the entry.
    Closed,
    /// TCP: a first packet alone, from a raw socket, to a port that nobody listens on. Where a rule
    /// drops it before the answer, the entry stays unreplied.
    Syn,
    /// Two threads send the same packet at the same instant, so that both may find no entry
    /// and make one. Each packet is counted: two a flow. TCP: a SYN from a raw socket each.
    Twins,
}

/// A UDP entry that is answered later than this after its first packet is a stream
/// (`proto.udp.stream_ts`, nf_conntrack_proto_udp.c): two seconds, and some to be sure.
pub const STREAM_AGE: Duration = Duration::from_millis(2200);

/// Addresses of which kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// 127.0.0.0/8 unless told otherwise.
    #[default]
    Ipv4,
    /// `::1` unless told otherwise.
    Ipv6,
}

impl Family {
    /// The loopback address.
    #[must_use]
    pub const fn loopback(self) -> IpAddr {
        match self {
            Self::Ipv4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::Ipv6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}

/// What one sender sends.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Protocol of the flows.
    pub protocol: Protocol,
    /// How many flows; fewer when the sender is told to stop.
    pub flows: u64,
    /// Flows a second; as fast as it goes when there is none.
    pub rate: Option<u32>,
    /// Source address. Two senders with one source address share its ports.
    pub from: IpAddr,
    /// Destination address.
    pub to: IpAddr,
    /// Where TCP listens, when something translates `to` into it.
    pub listen: Option<IpAddr>,
    /// The CPU the sender runs on.
    pub cpu: Option<usize>,
    /// Keeps TCP connections established instead of resetting them.
    pub hold: bool,
    /// What is said in each flow.
    pub exchange: Exchange,
}

impl Plan {
    /// `flows` flows from the loopback address to itself.
    #[must_use]
    pub const fn new(protocol: Protocol, family: Family, flows: u64) -> Self {
        let address = family.loopback();
        Self {
            protocol,
            flows,
            rate: None,
            from: address,
            to: address,
            listen: None,
            cpu: None,
            hold: false,
            exchange: Exchange::Plain,
        }
    }
}

/// What a sender has done so far, by what its system calls returned.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Flows that the kernel took.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Flows that a netfilter hook refused: `EPERM`.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Flows that failed otherwise.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Lets the sender end before its flows are used up.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Counts one flow. Other errors than `EPERM` are handed back.
    fn count(&self, result: io::Result<()>) -> Option<io::Error> {
        let (counter, error) = match result {
            Ok(()) => (&self.sent, None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => (&self.refused, None),
            Err(error) => (&self.failed, Some(error)),
        };
        counter.fetch_add(1, Relaxed);
        error
    }
}

/// What a sender did.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Protocol of the flows.
    pub protocol: Protocol,
    /// Flows tried.
    pub attempts: u64,
    /// Flows that the kernel took.
    pub sent: u64,
    /// Flows that a netfilter hook refused: `EPERM`.
    pub refused: u64,
    /// Flows that failed otherwise.
    pub failed: u64,
    /// The first such failure.
    pub error: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// What keeps the flows' ports taken, and held connections established.
    #[serde(skip)]
    pub sockets: Sockets,
}

/// The sockets of a sender. While they are open no other sender gets their tuples.
#[derive(Debug, Default)]
pub struct Sockets {
    udp: Vec<UdpSocket>,
    raw: Vec<OwnedFd>,
    listeners: Vec<TcpListener>,
    streams: Vec<TcpStream>,
}

impl Sockets {
    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.udp.len() + self.raw.len() + self.listeners.len() + self.streams.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Opens a listening TCP socket; the caller chooses in which network namespace.
pub type Listen<'a> = dyn Fn(SocketAddr) -> io::Result<TcpListener> + Sync + 'a;

/// Sends in the calling thread, in its network namespace, until the flows are used up or `progress`
/// is stopped.
///
/// # Errors
/// When no socket can be opened or bound, or the CPU does not exist. A flow that fails is no error:
/// it is counted.
pub fn run(plan: &Plan, progress: &Progress, listen: &Listen<'_>) -> io::Result<Outcome> {
    if let Some(cpu) = plan.cpu {
        cpu::pin(cpu)?;
    }
    let began = Instant::now();
    let (sockets, error) = match (plan.protocol, plan.exchange) {
        (Protocol::Udp, Exchange::Plain) => udp::run(plan, progress)?,
        (Protocol::Udp, Exchange::Answered | Exchange::Stream) => echo::run(plan, progress)?,
        (Protocol::Tcp, Exchange::Plain) => tcp::run(plan, progress, listen)?,
        (Protocol::Tcp, Exchange::Closed) => tcp::closed(plan, progress)?,
        (Protocol::Icmp, Exchange::Plain) | (Protocol::Tcp, Exchange::Syn) => {
            raw::run(plan, progress)?
        }
        (_, Exchange::Twins) => twins::run(plan, progress)?,
        (protocol, exchange) => {
            return Err(io::Error::other(format!("{protocol:?} has no exchange {exchange:?}")));
        }
    };
    let (sent, refused, failed) = (progress.sent(), progress.refused(), progress.failed());
    Ok(Outcome {
        protocol: plan.protocol,
        attempts: sent + refused + failed,
        sent,
        refused,
        failed,
        error: error.map(|error| error.to_string()),
        seconds: began.elapsed().as_secs_f64(),
        sockets,
    })
}
