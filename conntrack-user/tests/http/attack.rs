//! What a scraper sees while others attack `ctmon serve`:
//! `cargo test --release -p conntrack-user --test http metrics_under_attack -- --ignored --nocapture`.

mod victim;

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::{
    TlsConnector, client::TlsStream, rustls::pki_types::ServerName, rustls::version::TLS13,
};

use victim::Victim;

use crate::{
    support::Client,
    web::{Authority, PAIR, login, users},
};

const SLOW: usize = 500;
const QUICK: usize = 10_000;
/// Connections that the quick requests share.
const QUICK_CONNECTIONS: usize = 20;
const STUCK: usize = 50;
const GARBAGE: usize = 10;
const WRONG: usize = 10;
/// How long the attack lasts at least.
const TIME: Duration = Duration::from_secs(10);
/// Between two scrapes.
const SCRAPE: Duration = Duration::from_millis(20);

/// How the scraper comes.
#[derive(Clone)]
struct Scraper {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    login: String,
}

enum Way {
    Plain(Client<TcpStream>),
    Tls(Box<Client<TlsStream<TcpStream>>>),
}

impl Scraper {
    async fn connect(&self) -> std::io::Result<Way> {
        let stream = TcpStream::connect(self.address).await?;
        Ok(match &self.tls {
            None => Way::Plain(Client::new(stream)),
            Some(tls) => {
                let name = ServerName::try_from("localhost").unwrap();
                Way::Tls(Box::new(Client::new(tls.connect(name, stream).await?)))
            }
        })
    }

    /// Whether `/metrics` came.
    async fn scrape(&self, way: &mut Way) -> bool {
        match way {
            Way::Plain(client) => scrape(client, &self.login).await,
            Way::Tls(client) => scrape(client, &self.login).await,
        }
    }
}

async fn scrape<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>, login: &str) -> bool {
    match client.try_get("/metrics", login).await {
        Some(answer) => answer.code == 200 && answer.body.starts_with(b"# HELP ctmon_"),
        None => false,
    }
}

/// Times of scrapes in ms, on a connection each and on one that is kept, and how many failed.
#[derive(Default)]
struct Seen {
    new: Vec<f64>,
    kept: Vec<f64>,
    failed: u32,
    reconnected: u32,
}

/// Scrapes until it is told to stop; a thread of its own, so that nothing else is timed.
fn watch(scraper: Scraper, stop: Arc<AtomicBool>) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut seen = Seen::default();
        let mut kept = scraper.connect().await.unwrap();
        while !stop.load(Relaxed) {
            let begin = Instant::now();
            let is_there = match scraper.connect().await {
                Ok(mut way) => scraper.scrape(&mut way).await,
                Err(_) => false,
            };
            match is_there {
                true => seen.new.push(begin.elapsed().as_secs_f64() * 1e3),
                false => seen.failed += 1,
            }
            let begin = Instant::now();
            if !scraper.scrape(&mut kept).await {
                // As HTTP clients do when a connection that they kept is closed.
                seen.reconnected += 1;
                match scraper.connect().await {
                    Ok(way) => kept = way,
                    Err(_) => seen.failed += 1,
                }
                if !scraper.scrape(&mut kept).await {
                    seen.failed += 1;
                    continue;
                }
            }
            seen.kept.push(begin.elapsed().as_secs_f64() * 1e3);
            sleep(SCRAPE).await;
        }
        seen
    })
}

/// `/metrics` once the attack is over.
async fn metrics(scraper: &Scraper) -> String {
    let body = match scraper.connect().await.unwrap() {
        Way::Plain(mut client) => client.get("/metrics", &scraper.login).await.body,
        Way::Tls(mut client) => client.get("/metrics", &scraper.login).await.body,
    };
    println!("  /metrics has {} bytes", body.len());
    String::from_utf8(body).unwrap()
}

fn print(what: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let (count, median, most) = (times.len(), at(0.5), at(1.0));
    println!(
        "  {what}: {count} scrapes, median {median:.2} ms, 99 % {:.2} ms, max {most:.2} ms",
        at(0.99)
    );
}

/// Sends a byte of a request's head now and then; comes back when it is closed, after `pause`.
async fn slow(address: SocketAddr, pause: Duration) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let head = b"GET /metrics HTTP/1.1\r\nHost: ".iter().chain(std::iter::repeat(&b'a'));
            let mut answer = [0; 16];
            for byte in head {
                if stream.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::select! {
                    read = stream.read(&mut answer) => if read.is_ok_and(|count| count > 0) { continue } else { break },
                    () = sleep(Duration::from_millis(500)) => {}
                }
            }
        }
        sleep(pause).await;
    }
}

/// Sends `bytes` and waits to be closed; comes back then.
async fn send(address: SocketAddr, bytes: Vec<u8>, pause: Duration) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await
            && stream.write_all(&bytes).await.is_ok()
        {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        sleep(pause).await;
    }
}

/// Asks as fast as answers come, `left` times with others.
async fn quick(scraper: Scraper, left: Arc<AtomicU64>) {
    let mut way = scraper.connect().await.ok();
    while left.load(Relaxed) > 0 {
        let is_there = match &mut way {
            Some(way) => scraper.scrape(way).await,
            None => false,
        };
        match is_there {
            true => drop(left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))),
            false => way = scraper.connect().await.ok(),
        }
    }
}

/// Tries one wrong password after the other.
async fn guess(scraper: Scraper) {
    for number in 0.. {
        let guess = Scraper { login: login("alice", &number.to_string()), ..scraper.clone() };
        if let Ok(mut way) = guess.connect().await {
            assert!(!guess.scrape(&mut way).await);
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn attack(title: &str, folder: &TempDir, scraper: impl Fn(SocketAddr) -> Scraper, pause: Duration) {
    let victim = Victim::start(folder.path());
    let scraper = scraper(victim.address);
    println!("{title}");
    let quiet = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let (scraper, stop) = (scraper.clone(), quiet.clone());
        move || watch(scraper, stop)
    });
    std::thread::sleep(Duration::from_secs(2));
    quiet.store(true, Relaxed);
    let mut seen = watcher.join().unwrap();
    print("before, new connection", &mut seen.new);
    let before = victim.takes();
    let taking = victim.watch();

    let stop = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let (scraper, stop) = (scraper.clone(), stop.clone());
        move || watch(scraper, stop)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let took = runtime.block_on(async {
        let mut attackers = JoinSet::new();
        let address = victim.address;
        for _ in 0..SLOW {
            attackers.spawn(slow(address, pause));
        }
        for number in 0..GARBAGE {
            let garbage = match number % 2 {
                0 => (0..4096_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
                _ => format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(100_000)).into_bytes(),
            };
            attackers.spawn(send(address, garbage, pause));
        }
        for _ in 0..STUCK {
            // The head of a record with a ClientHello that does not come.
            attackers.spawn(send(address, vec![22, 3, 1, 2, 0, 1, 0], pause));
        }
        if !scraper.login.is_empty() {
            for _ in 0..WRONG {
                attackers.spawn(guess(scraper.clone()));
            }
        }
        let begin = Instant::now();
        let left = Arc::new(AtomicU64::new(QUICK as u64));
        let mut asking = JoinSet::new();
        for _ in 0..QUICK_CONNECTIONS {
            asking.spawn(quick(scraper.clone(), left.clone()));
        }
        asking.join_all().await;
        let took = begin.elapsed();
        sleep(TIME.saturating_sub(took)).await;
        attackers.shutdown().await;
        took
    });
    stop.store(true, Relaxed);
    let mut seen = watcher.join().unwrap();
    print("attacked, new connection", &mut seen.new);
    print("attacked, kept connection", &mut seen.kept);
    println!(
        "  scrapes that failed: {}, connections kept that were closed: {}",
        seen.failed, seen.reconnected
    );
    println!("  {QUICK} quick requests in {:.1} s", took.as_secs_f64());
    let most = taking.most();
    println!(
        "  resident: {} KiB before, {} KiB at the most; private: {} and {} KiB; descriptors: {} and {}",
        before.rss, most.rss, before.private, most.private, before.descriptors, most.descriptors
    );
    for line in runtime.block_on(metrics(&scraper)).lines() {
        if line.starts_with("ctmon_http_") && !line.ends_with(" 0") {
            println!("  {line}");
        }
    }
    victim.end();
}

#[test]
#[ignore = "a measurement, of use with optimization only"]
fn metrics_under_attack() {
    let plain = |address| Scraper { address, tls: None, login: String::new() };
    let empty = tempfile::tempdir().unwrap();
    let (rarely, at_once) = (Duration::from_secs(1), Duration::from_millis(1));
    attack("plain, attackers come back after 1 s", &empty, plain, rarely);
    attack("plain, attackers come back at once", &empty, plain, at_once);
    let authority = Authority::new();
    let folder = authority.folder();
    let text = format!("{PAIR}{}", users(&[("alice", "secret", 10)]));
    fs::write(folder.path().join("web.yml"), text).unwrap();
    let tls = authority.client(None, &[&TLS13]);
    let secret = |address| {
        let tls = Some(tls.clone());
        Scraper { address, tls, login: login("alice", "secret") }
    };
    attack("TLS and passwords, attackers come back after 1 s", &folder, secret, rarely);
    attack("TLS and passwords, attackers come back at once", &folder, secret, at_once);
}
