//! Single events.

use serde::Serialize;

use super::json::SCHEMA_VERSION;
use crate::source::ebpf::flow::{EventKind, FlowEvent, Tuple};

/// The event as JSON.
#[must_use]
pub fn json(event: &FlowEvent) -> impl Serialize + use<> {
    #[derive(Serialize)]
    struct Json {
        schema_version: u32,
        kind: &'static str,
        event: &'static str,
        path: Option<&'static str>,
        monotonic_ns: u64,
        netns_cookie: u64,
        zone: u16,
        protocol: u8,
        original: Direction,
        reply: Direction,
        status: u32,
        replied: bool,
        assured: bool,
    }
    #[derive(Serialize)]
    struct Direction {
        source: std::net::IpAddr,
        destination: std::net::IpAddr,
        source_port: u16,
        destination_port: u16,
    }
    let direction = |tuple: &Tuple| Direction {
        source: tuple.source,
        destination: tuple.destination,
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
    };
    let (name, path) = name(event.kind);
    Json {
        schema_version: SCHEMA_VERSION,
        kind: "event",
        event: name,
        path,
        monotonic_ns: event.time_ns,
        netns_cookie: event.netns_cookie,
        zone: event.zone,
        protocol: event.original.protocol,
        original: direction(&event.original),
        reply: direction(&event.reply),
        status: event.status.0,
        replied: event.status.is_replied(),
        assured: event.status.is_assured(),
    }
}

/// What happened, and on which path.
const fn name(kind: EventKind) -> (&'static str, Option<&'static str>) {
    match kind {
        EventKind::InsertPacket => ("insert", Some("packet")),
        EventKind::InsertCtnetlink => ("insert", Some("ctnetlink")),
        EventKind::Destroy => ("destroy", None),
    }
}

/// The event as a line.
#[must_use]
pub fn text(event: &FlowEvent) -> String {
    let (name, path) = name(event.kind);
    let state = match (event.status.is_assured(), event.status.is_replied()) {
        (true, _) => " [assured]",
        (false, true) => " [replied]",
        (false, false) if event.kind == EventKind::Destroy => " [unreplied]",
        (false, false) => "",
    };
    let zone = if event.zone == 0 { String::new() } else { format!(" zone {}", event.zone) };
    let path =
        path.filter(|path| *path != "packet").map(|p| format!(" by {p}")).unwrap_or_default();
    format!(
        "{:.6} {name:<7} {:<6} {} reply {}{state}{zone}{path} netns {}\n",
        event.time_ns as f64 / 1e9,
        protocol(event.original.protocol),
        tuple(&event.original),
        tuple(&event.reply),
        event.netns_cookie,
    )
}

fn tuple(tuple: &Tuple) -> String {
    use std::net::SocketAddr;
    format!(
        "{} -> {}",
        SocketAddr::new(tuple.source, tuple.source_port),
        SocketAddr::new(tuple.destination, tuple.destination_port)
    )
}

/// The name of an IP protocol, or its number.
fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        33 => "dccp".into(),
        47 => "gre".into(),
        58 => "icmpv6".into(),
        132 => "sctp".into(),
        136 => "udplite".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ebpf::flow::Status;

    #[test]
    fn an_event_as_a_line_and_as_json() {
        let direction = |source: &str, destination: &str| Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            source_port: 40_000,
            destination_port: 53,
            protocol: 17,
        };
        let event = FlowEvent {
            time_ns: 1_500_000_000,
            netns_cookie: 1,
            kind: EventKind::Destroy,
            original: direction("10.0.0.1", "10.96.0.10"),
            reply: direction("2001:db8::1", "10.0.0.1"),
            status: Status(0x2),
            zone: 3,
        };
        assert_eq!(
            text(&event),
            "1.500000 destroy udp    10.0.0.1:40000 -> 10.96.0.10:53 reply \
             [2001:db8::1]:40000 -> 10.0.0.1:53 [replied] zone 3 netns 1\n"
        );
        let json = serde_json::to_value(json(&event)).unwrap();
        assert_eq!(json["event"], "destroy");
        assert_eq!(json["reply"]["source"], "2001:db8::1");
        assert_eq!((&json["replied"], &json["assured"]), (&true.into(), &false.into()));
    }
}
