//! UDP flows that are answered, each by a socket of its own.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use super::{Exchange, Plan, Progress, STREAM_AGE, Sockets, pace::Pace, ports, udp};

/// To receive: over loopback it takes microseconds, and a lost datagram must not take minutes.
const TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) fn run(plan: &Plan, progress: &Progress) -> io::Result<(Sockets, Option<io::Error>)> {
    let mut first_error = None;
    let pace = Pace::new(plan.rate);
    let client = udp::bind(plan.from)?;
    client.set_read_timeout(Some(TIMEOUT))?;
    let mut servers = Vec::new();
    let mut began = Instant::now();
    let mut destinations = ports::UDP_DESTINATIONS;
    while (servers.len() as u64) < plan.flows && !progress.is_stopped() {
        let port = destinations.next().ok_or_else(|| io::Error::other("no port is left"))?;
        let server = match UdpSocket::bind(SocketAddr::new(plan.to, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
            server => server?,
        };
        server.set_read_timeout(Some(TIMEOUT))?;
        pace.wait(servers.len() as u64);
        first_error = first_error.or(progress.count(exchange(&client, &server)));
        servers.push(server);
        began = Instant::now();
    }
    if plan.exchange == Exchange::Stream {
        thread::sleep(STREAM_AGE.saturating_sub(began.elapsed()));
        for server in &servers {
            // The flow has been counted.
            first_error = first_error.or(exchange(&client, server).err());
        }
    }
    servers.push(client);
    Ok((Sockets { udp: servers, ..Sockets::default() }, first_error))
}

/// There and back.
fn exchange(client: &UdpSocket, server: &UdpSocket) -> io::Result<()> {
    let mut datagram = [0; 5];
    client.send_to(b"ctmon", server.local_addr()?)?;
    let (_, from) = server.recv_from(&mut datagram)?;
    server.send_to(&datagram, from)?;
    client.recv_from(&mut datagram).map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::traffic::{Family, Protocol, run};

    #[test]
    fn every_flow_is_answered() {
        let plan =
            Plan { exchange: Exchange::Answered, ..Plan::new(Protocol::Udp, Family::Ipv4, 10) };
        let outcome =
            run(&plan, &Progress::default(), &|address| TcpListener::bind(address)).unwrap();
        assert_eq!((outcome.sent, outcome.failed, outcome.error), (10, 0, None));
        assert_eq!(outcome.sockets.len(), 11, "a server each and the client");
    }
}
