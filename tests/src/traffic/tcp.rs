//! TCP flows: connect, accept, reset.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use super::{Listen, Plan, Progress, Sockets, pace::Pace, ports};

/// To connect and to accept: over loopback it takes microseconds, on a busy host the kernel may lose
/// packets and repeat them after 1, 3 and 7 s, and where packets are dropped it must not take minutes.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(
    plan: &Plan,
    progress: &Progress,
    listen: &Listen<'_>,
) -> io::Result<(Sockets, Option<io::Error>)> {
    let mut sockets = Sockets::default();
    let mut first_error = None;
    let pace = Pace::new(plan.rate);
    let mut flow = 0;
    while flow < plan.flows && !progress.is_stopped() {
        let listener = open_listener(plan.listen.unwrap_or(plan.to), listen)?;
        let to = SocketAddr::new(plan.to, listener.local_addr()?.port());
        for _ in 0..ports::FLOWS_PER_LISTENER {
            if flow == plan.flows || progress.is_stopped() {
                break;
            }
            pace.wait(flow);
            flow += 1;
            let error = match connect_from(plan.from, to) {
                Ok(stream) => progress.count(finish(stream, &listener, plan.hold, &mut sockets)),
                Err(error) => progress.count(Err(error)),
            };
            first_error = first_error.or(error);
        }
        sockets.listeners.push(listener);
    }
    Ok((sockets, first_error))
}

/// Connections to ports that nobody listens on: refused is what is wanted.
pub(crate) fn closed(plan: &Plan, progress: &Progress) -> io::Result<(Sockets, Option<io::Error>)> {
    let mut first_error = None;
    let pace = Pace::new(plan.rate);
    let destinations = ports::CLOSED
        .flat_map(|port| std::iter::repeat_n(port, ports::FLOWS_PER_LISTENER as usize));
    for (flow, port) in (0..plan.flows).zip(destinations) {
        if progress.is_stopped() {
            break;
        }
        pace.wait(flow);
        let result = match connect_from(plan.from, SocketAddr::new(plan.to, port)) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other(format!("somebody listens on port {port}"))),
        };
        first_error = first_error.or(progress.count(result));
    }
    Ok((Sockets::default(), first_error))
}

fn open_listener(address: IpAddr, listen: &Listen<'_>) -> io::Result<TcpListener> {
    let mut last = io::Error::other(format!("no port to listen on at {address}"));
    for port in ports::LISTENERS {
        match listen(SocketAddr::new(address, port)) {
            Ok(listener) => {
                sockopt::set_socket_timeout(&listener, sockopt::Timeout::Recv, Some(TIMEOUT))?;
                return Ok(listener);
            }
            Err(error) => {
                last =
                    io::Error::new(error.kind(), format!("listen on [{address}]:{port}: {error}"))
            }
        }
        if last.kind() != io::ErrorKind::AddrInUse {
            break;
        }
    }
    Err(last)
}

/// Connects from the next source port that is free.
fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(TIMEOUT))?;
    loop {
        match bind(&socket, &SocketAddr::new(from, ports::tcp_source())) {
            Err(rustix::io::Errno::ADDRINUSE) => {}
            result => break result?,
        }
    }
    connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// Takes the connection off the listener's queue, then keeps both ends or resets it.
///
/// A reset leaves no socket in TIME_WAIT, so the ports do not run out.
fn finish(
    stream: TcpStream,
    listener: &TcpListener,
    hold: bool,
    sockets: &mut Sockets,
) -> io::Result<()> {
    let (accepted, _) = listener.accept()?;
    if hold {
        sockets.streams.extend([stream, accepted]);
    } else {
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        drop(stream);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Exchange, Family, Protocol, run};

    #[test]
    fn every_connection_is_counted_and_held_ones_stay() {
        for (hold, streams) in [(false, 0), (true, 20)] {
            let plan = Plan { hold, ..Plan::new(Protocol::Tcp, Family::Ipv4, 10) };
            let outcome =
                run(&plan, &Progress::default(), &|address| TcpListener::bind(address)).unwrap();
            assert_eq!((outcome.sent, outcome.failed, outcome.error), (10, 0, None));
            assert_eq!(outcome.sockets.streams.len(), streams);
        }
    }

    #[test]
    fn refused_connections_are_what_was_sent() {
        let plan =
            Plan { exchange: Exchange::Closed, ..Plan::new(Protocol::Tcp, Family::Ipv4, 10) };
        let outcome =
            run(&plan, &Progress::default(), &|address| TcpListener::bind(address)).unwrap();
        assert_eq!((outcome.sent, outcome.failed, outcome.error), (10, 0, None));
    }

    #[test]
    fn an_address_that_is_not_here_is_named() {
        let plan = Plan {
            listen: Some([192, 0, 2, 1].into()),
            ..Plan::new(Protocol::Tcp, Family::Ipv4, 10)
        };
        let error =
            run(&plan, &Progress::default(), &|address| TcpListener::bind(address)).unwrap_err();
        assert!(error.to_string().contains("192.0.2.1"), "{error}");
    }
}
