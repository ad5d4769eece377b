//! `ctmon events`: what is in a flow event.

use std::{net::UdpSocket, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    checks::Checks,
    command, kernel,
    process::Process,
    runner::{Env, Test},
    stage, wait,
};

/// A flow to 127.0.9.1 goes to 127.0.9.2; nobody's answer but the echo's below comes back.
const RULES: &str = "table inet track {
  chain output { type filter hook output priority 0; ct state new counter; }
  chain input { type filter hook input priority 0; udp dport 9 drop; }
}
table ip nat {
  chain output { type nat hook output priority -100; ip daddr 127.0.9.1 dnat to 127.0.9.2; }
}
";

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "events-tell-what-happened",
        "Events have time, both tuples after NAT, IPv4 and IPv6, zone, path, namespace and final status",
        events,
    )]
}

/// Seconds on the clock of the events, to 10 ms.
fn uptime() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/uptime").context("cannot read /proc/uptime")?;
    let first = text.split_whitespace().next().context("/proc/uptime is empty")?;
    first.parse().context("/proc/uptime")
}

fn events(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(RULES)?;
    let process = Process::start(env, &["events", "--output", "json", "--count", "8"])?;
    let start = next(&process)?;
    checks.equal("the first line", &start["kind"], &json!("start"));
    let before = uptime()?;

    let plain = UdpSocket::bind("[::1]:40001")?;
    plain.send_to(b"x", "[::1]:9")?;
    let echo = UdpSocket::bind("127.0.9.2:5300")?;
    let translated = UdpSocket::bind("127.0.8.1:40002")?;
    translated.set_read_timeout(Some(Duration::from_secs(5)))?;
    translated.send_to(b"x", "127.0.9.1:5300")?;
    let mut byte = [0];
    let (_, sender) = echo.recv_from(&mut byte)?;
    echo.send_to(&byte, sender)?;
    translated.recv_from(&mut byte).context("the echo")?;
    let tuple = ["-p", "tcp", "-s", "192.0.2.1", "-d", "192.0.2.2", "--sport", "1", "--dport", "2"];
    let state = ["-t", "600", "--state", "ESTABLISHED", "-u", "ASSURED,SEEN_REPLY"];
    command::run("conntrack", &[&["-I"], &tuple[..], &state[..]].concat())?;
    let zone = ["-p", "udp", "-s", "192.0.2.1", "-d", "192.0.2.2", "--sport", "3", "--dport", "4"];
    command::run("conntrack", &[&["-I"], &zone[..], &["-t", "600", "--zone", "7"]].concat())?;
    command::flush()?;

    let mut inserts = Vec::new();
    let mut destroys = Vec::new();
    for _ in 0..8 {
        let event = next(&process)?;
        let is_insert = event["event"] == "insert";
        if is_insert { &mut inserts } else { &mut destroys }.push(event);
    }
    let after = uptime()?;
    checks.equal("inserts and destroys", (inserts.len(), destroys.len()), (4, 4));
    let cookies: Vec<&Value> =
        inserts.iter().chain(&destroys).map(|e| &e["netns_cookie"]).collect();
    checks.that(
        "all in one namespace",
        cookies.iter().all(|cookie| {
            *cookie == &inserts[0]["netns_cookie"]
                && (cookie.is_u64() || (cookie.is_null() && kernel::lacks_cookies()))
        }),
        &cookies,
    );
    if kernel::lacks_cookies() {
        checks.total("netns_cookie", None, 0, true);
    }
    for event in inserts.iter().chain(&destroys) {
        let time = event["monotonic_ns"].as_f64().unwrap_or_default() / 1e9;
        let span = before - 0.02..=after + 0.02;
        checks.that("a time within the test", span.contains(&time), (time, &span));
    }

    let direction = |source: &str, destination: &str, from: u16, to: u16| json!({"source": source, "destination": destination, "source_port": from, "destination_port": to});
    let flows = [
        (
            "IPv6",
            json!({"protocol": 17, "zone": 0, "path": "packet",
                "original": direction("::1", "::1", 40001, 9),
                "reply": direction("::1", "::1", 9, 40001)}),
            json!({"replied": false, "assured": false}),
        ),
        (
            "IPv4 with NAT",
            json!({"protocol": 17, "zone": 0, "path": "packet",
                "original": direction("127.0.8.1", "127.0.9.1", 40002, 5300),
                "reply": direction("127.0.9.2", "127.0.8.1", 5300, 40002)}),
            json!({"replied": true, "assured": false}),
        ),
        (
            "ctnetlink, assured",
            json!({"protocol": 6, "zone": 0, "path": "ctnetlink",
                "original": direction("192.0.2.1", "192.0.2.2", 1, 2),
                "reply": direction("192.0.2.2", "192.0.2.1", 2, 1)}),
            json!({"replied": true, "assured": true}),
        ),
        (
            "ctnetlink, zone 7",
            json!({"protocol": 17, "zone": 7, "path": "ctnetlink",
                "original": direction("192.0.2.1", "192.0.2.2", 3, 4),
                "reply": direction("192.0.2.2", "192.0.2.1", 4, 3)}),
            json!({"replied": false, "assured": false}),
        ),
    ];
    for (insert, (name, flow, status)) in inserts.iter().zip(&flows) {
        expect(checks, &format!("insert, {name}"), insert, flow);
        // A flush goes through the table bucket by bucket, so destroys come in any order.
        let same = |event: &&Value| event["original"] == flow["original"];
        match destroys.iter().find(same) {
            Some(destroy) => {
                for key in ["protocol", "zone", "original", "reply"] {
                    checks.equal(&format!("destroy, {name}: {key}"), &destroy[key], &flow[key]);
                }
                expect(checks, &format!("destroy, {name}"), destroy, status);
            }
            None => checks.that(&format!("destroy, {name}"), false, &destroys),
        }
    }
    checks.equal("exit code", process.end(wait::SHORT)?.status.code(), Some(0));
    Ok(())
}

fn next(process: &Process) -> Result<Value> {
    let line = process.next_line(wait::SHORT)?.context("ctmon events ended early")?;
    serde_json::from_str(&line).with_context(|| line)
}

/// Expects every field of `wanted` in `event`.
fn expect(checks: &mut Checks, what: &str, event: &Value, wanted: &Value) {
    for (key, value) in wanted.as_object().into_iter().flatten() {
        checks.equal(&format!("{what}: {key}"), &event[key.as_str()], value);
    }
}
