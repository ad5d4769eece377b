//! A ctmon that answers, and a Prometheus that asks it; both on the loopback, and only as long as they are needed.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    answers::{self, Series},
    tools::Tools,
};
use crate::process::{line, text};

/// Longest time until one of them answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A process that ends with what holds it.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {}", line(command)))?;
        Ok(Self(child))
    }

    /// An error once it has ended.
    fn still(&mut self) -> Result<()> {
        match self.0.try_wait().context("cannot look after a process")? {
            Some(status) => bail!("it ended ({status}); its own messages are above"),
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr().context("no port is free")?.port())
}

/// Tries until it works, as long as the process runs.
fn until<T>(process: &mut Running, what: &str, attempt: impl Fn() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() > PATIENCE => {
                return Err(error.context(format!("{what} after {} s", PATIENCE.as_secs())));
            }
            Err(_) => process.still().context(what.to_owned())?,
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// `ctmon serve`, which polls procfs: that works on every machine.
pub(super) struct Monitor {
    _process: Running,
    port: u16,
}

impl Monitor {
    pub(super) fn start(program: &Path) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["serve", "--source", "procfs", "--log-format", "text", "--listen"]);
        command.arg(format!("127.0.0.1:{port}"));
        let mut process = Running::start(&mut command)?;
        until(&mut process, "ctmon does not answer", || get(port, "/readyz"))?;
        Ok(Self { _process: process, port })
    }

    /// As Prometheus has it in the label `instance`.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it answers.
    pub(super) fn metrics(&self) -> Result<String> {
        get(self.port, "/metrics")
    }
}

/// What is answered with 200.
fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // Version 1.0, so that the answer comes in one piece and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer in HTTP")?;
    if !head.contains(" 200 ") {
        bail!("{path} answers {}: {body}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}

/// That rules have been evaluated on several scrapes, in which there was a forecast.
const ENOUGH: &str = "count_over_time(instance:ctmon_seconds_to_full:min[1m]) >= 3 \
                      and count_over_time(instance:ctmon_fill:max[1m]) >= 3";

/// Prometheus.
pub(crate) struct Server<'a> {
    tools: &'a Tools,
    process: Running,
    address: String,
}

impl<'a> Server<'a> {
    /// Starts one that keeps everything in `scratch`, and waits until it can be asked.
    pub(crate) fn start(tools: &'a Tools, config: &str, scratch: &Path) -> Result<Self> {
        let port = free_port()?;
        let (file, data) = (scratch.join("prometheus.yml"), scratch.join("data"));
        fs::write(&file, config).context("cannot write the configuration of Prometheus")?;
        let mut command = tools.command("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.arg("--log.level=error");
        let mut process = Running::start(&mut command)?;
        until(&mut process, "Prometheus is not ready", || get(port, "/-/ready"))?;
        Ok(Self { tools, process, address: format!("http://127.0.0.1:{port}") })
    }

    /// Waits until rules were evaluated on a few scrapes of a monitor.
    pub(super) fn has_scraped(&mut self) -> Result<()> {
        let Self { tools, process, address } = self;
        until(process, "Prometheus has not scraped ctmon", || {
            let answer = ask(tools, "instant", &[], &[address, ENOUGH])?;
            ensure!(!answer.trim().is_empty(), "there are not enough scrapes yet");
            Ok(())
        })
    }

    /// What a query gives now: a line for each series.
    pub(super) fn ask(&self, query: &str) -> Result<String> {
        ask(self.tools, "instant", &[], &[&self.address, query])
    }

    /// The series that a query gives now, with all samples that it selects: `metric[5m]`.
    pub(crate) fn samples(&self, query: &str) -> Result<Vec<Series>> {
        let json = ask(self.tools, "instant", &["--format=json"], &[&self.address, query])?;
        answers::series(&json).with_context(|| format!("the answer to {query}"))
    }

    /// What a query gave at each of some times: the first, the last, and the seconds between two.
    pub(crate) fn range(&self, query: &str, times: [f64; 2], step: u32) -> Result<Vec<Series>> {
        let [first, last] = times;
        let times = [
            "--format=json".to_owned(),
            format!("--start={first:.3}"),
            format!("--end={last:.3}"),
            format!("--step={step}s"),
        ];
        let json = ask(
            self.tools,
            "range",
            &times.each_ref().map(String::as_str),
            &[&self.address, query],
        )?;
        answers::series(&json).with_context(|| format!("the answer to {query}"))
    }
}

fn ask(tools: &Tools, verb: &str, flags: &[&str], what: &[&str]) -> Result<String> {
    let mut promtool = tools.command("promtool");
    text(promtool.args(["query", verb]).args(flags).args(what), "to ask Prometheus")
}
