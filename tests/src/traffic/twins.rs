//! The same packet from two threads at the same instant. Where both find no entry, both make one, and
//! they clash when the second is to go into the hash (`nf_ct_resolve_clash`, nf_conntrack_core.c).

use std::{
    hint, io,
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread,
};

use super::{Plan, Progress, Protocol, Sockets, pace::Pace, ports, raw, udp};
use crate::cpu;

/// Turns in which a thread waits busily before it lets others run: those that share its CPU.
const SPINS: u32 = 100_000;

pub(crate) fn run(plan: &Plan, progress: &Progress) -> io::Result<(Sockets, Option<io::Error>)> {
    let flows: Vec<u16> = match plan.protocol {
        Protocol::Icmp => (0..plan.flows).map(|_| ports::icmp_identifier()).collect(),
        Protocol::Tcp => (0..plan.flows).zip(ports::TCP_SOURCES).map(|(_, port)| port).collect(),
        Protocol::Udp => {
            (0..plan.flows).zip(ports::UDP_DESTINATIONS).map(|(_, port)| port).collect()
        }
    };
    if (flows.len() as u64) < plan.flows {
        return Err(io::Error::other(format!("no more than {} flows of twins", flows.len())));
    }
    let socket = Socket::open(plan)?;
    let meeting = Meeting::default();
    let error = thread::scope(|scope| {
        let send = |twin| {
            let (flows, socket, meeting) = (&flows, &socket, &meeting);
            scope.spawn(move || {
                // With one CPU there is no clash, and nothing else to go wrong.
                let _ = cpu::pin(twin);
                let mut first_error = None;
                let pace = Pace::new(plan.rate);
                for (flow, port) in (0..).zip(flows) {
                    pace.wait(flow);
                    // Both threads go through every meeting, or one would wait for ever.
                    meeting.of_both(flow);
                    if !progress.is_stopped() {
                        first_error =
                            first_error.or(progress.count(socket.send(twin, plan, *port)));
                    }
                }
                first_error
            })
        };
        let threads = [send(0), send(1)];
        let joined = threads.map(|thread| {
            thread.join().unwrap_or_else(|_| Some(io::Error::other("a twin panicked")))
        });
        joined.into_iter().flatten().next()
    });
    Ok((socket.into_sockets(), error))
}

enum Socket {
    Udp(UdpSocket),
    /// One for each: the kernel locks a raw socket while it sends.
    Raw([OwnedFd; 2]),
}

impl Socket {
    fn open(plan: &Plan) -> io::Result<Self> {
        match plan.protocol {
            Protocol::Udp => udp::bind(plan.from).map(Self::Udp),
            Protocol::Icmp | Protocol::Tcp => Ok(Self::Raw([raw::open(plan)?, raw::open(plan)?])),
        }
    }

    fn send(&self, twin: usize, plan: &Plan, port: u16) -> io::Result<()> {
        match self {
            // Two threads may send on one socket: nothing of it is locked meanwhile.
            Self::Udp(socket) => socket.send_to(b"ctmon", SocketAddr::new(plan.to, port)).map(drop),
            Self::Raw([first, second]) => {
                raw::send(if twin == 0 { first } else { second }, plan, port)
            }
        }
    }

    fn into_sockets(self) -> Sockets {
        match self {
            Self::Udp(socket) => Sockets { udp: vec![socket], ..Sockets::default() },
            Self::Raw(sockets) => Sockets { raw: sockets.into(), ..Sockets::default() },
        }
    }
}

/// Where two threads wait for each other, busily: a thread that sleeps would wake up too late.
#[derive(Default)]
struct Meeting {
    arrivals: AtomicU64,
}

impl Meeting {
    /// Back as soon as both threads have come for the time number `time`, counted from 0.
    fn of_both(&self, time: u64) {
        self.arrivals.fetch_add(1, SeqCst);
        let mut spins = 0;
        while self.arrivals.load(SeqCst) < 2 * (time + 1) {
            spins += 1;
            if spins % SPINS == 0 {
                thread::yield_now();
            }
            hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::traffic::{Exchange, Family, run};

    #[test]
    fn every_packet_is_counted() {
        let plan = Plan { exchange: Exchange::Twins, ..Plan::new(Protocol::Udp, Family::Ipv4, 50) };
        let outcome =
            run(&plan, &Progress::default(), &|address| TcpListener::bind(address)).unwrap();
        assert_eq!((outcome.sent, outcome.failed, outcome.error), (100, 0, None));
    }

    #[test]
    fn more_flows_than_ports_are_refused() {
        let plan =
            Plan { exchange: Exchange::Twins, ..Plan::new(Protocol::Udp, Family::Ipv4, 1_000_000) };
        assert!(run(&plan, &Progress::default(), &|address| TcpListener::bind(address)).is_err());
    }
}
