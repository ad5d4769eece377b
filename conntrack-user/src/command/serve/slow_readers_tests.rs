//! A scrape beside clients that ask for the last minutes and do not read them.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use conntrack_user::{
    daemon::log::{Format, Logger},
    http::{Counters, Hosts, Web},
};

use super::{
    routes::tests::{fill, routes},
    server::Bound,
};

/// Slow readers: one less than the connections that may be open.
const SLOW: usize = 127;

const SCRAPES: usize = 21;

/// Longest time of the scrape in the middle. It takes milliseconds; the rest is for a busy machine and a debug build.
const MOST: Duration = Duration::from_secs(2);

/// Kernel memory for buffers of TCP in this network namespace, in bytes, those of the clients among it.
fn socket_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = line.rsplit(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    Ok(stream)
}

#[test]
fn a_scrape_waits_for_no_slow_reader() {
    let routes = routes(true);
    fill(&routes);
    let bound =
        Bound::listen(&["127.0.0.1:0".parse().unwrap()], None, Web::none(), Hosts::default())
            .unwrap();
    let address = bound.addresses()[0].to_string().parse().unwrap();
    let counters = Arc::new(Counters::default());
    let answering =
        bound.answer(routes, counters.clone(), Logger::open(Format::Text).unwrap()).unwrap();
    let slow: Vec<_> = (0..SLOW).map(|_| ask(address, "/api/v1/history").unwrap()).collect();
    thread::sleep(Duration::from_millis(200));
    let mut times: Vec<_> = (0..SCRAPES)
        .map(|_| {
            let (begun, mut text) = (Instant::now(), String::new());
            ask(address, "/metrics").unwrap().read_to_string(&mut text).unwrap();
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!(
        "{SLOW} slow readers: a scrape takes {:?}, at most {:?}; {} KB of socket memory in this namespace",
        times[SCRAPES / 2],
        times[SCRAPES - 1],
        socket_memory() / 1000
    );
    assert!(times[SCRAPES / 2] < MOST, "{times:?}");
    drop(slow);
    answering.finish().unwrap();
}
