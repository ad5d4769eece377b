//! Single events.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::json::SCHEMA_VERSION;
use crate::model::{
    flow::{Cause, EventKind, FlowEvent, Tuple},
    reading::NetnsId,
};

/// One direction of a flow as JSON.
#[derive(Debug, Serialize)]
pub struct Direction {
    source: std::net::IpAddr,
    destination: std::net::IpAddr,
    source_port: u16,
    destination_port: u16,
}

impl From<&Tuple> for Direction {
    fn from(tuple: &Tuple) -> Self {
        Self {
            source: tuple.source,
            destination: tuple.destination,
            source_port: tuple.source_port,
            destination_port: tuple.destination_port,
        }
    }
}

/// The event as JSON. `netns`: its namespace, as far as it is known.
#[must_use]
pub fn json(event: &FlowEvent, netns: NetnsId) -> impl Serialize + use<> {
    #[derive(Serialize)]
    struct Json {
        schema_version: u32,
        kind: &'static str,
        event: &'static str,
        path: Option<&'static str>,
        cause: Option<&'static str>,
        monotonic_ns: u64,
        netns_cookie: Option<u64>,
        netns_inode: u64,
        zone: u16,
        protocol: u8,
        original: Direction,
        reply: Direction,
        status_bits: u32,
        replied: bool,
        assured: bool,
        offloaded: bool,
    }
    let (name, path, cause) = name(event.kind);
    Json {
        schema_version: SCHEMA_VERSION,
        kind: "event",
        event: name,
        path,
        cause,
        monotonic_ns: event.time_ns,
        netns_cookie: netns.cookie,
        netns_inode: netns.inode,
        zone: event.zone,
        protocol: event.original.protocol,
        original: (&event.original).into(),
        reply: (&event.reply).into(),
        status_bits: event.status.0,
        replied: event.status.is_replied(),
        assured: event.status.is_assured(),
        offloaded: event.status.is_offloaded(),
    }
}

/// The event as JSON with its time in UTC. `utc_offset_ns`: `CLOCK_REALTIME` less `CLOCK_MONOTONIC`.
#[must_use]
pub fn json_at(event: &FlowEvent, netns: NetnsId, utc_offset_ns: i64) -> impl Serialize + use<> {
    #[derive(Serialize)]
    struct At<T> {
        time_ns: u64,
        #[serde(flatten)]
        event: T,
    }
    let time_ns = event.time_ns.saturating_add_signed(utc_offset_ns);
    At { time_ns, event: json(event, netns) }
}

/// What happened, an insert's path, and a delete's cause.
#[must_use]
pub const fn name(kind: EventKind) -> (&'static str, Option<&'static str>, Option<&'static str>) {
    match kind {
        EventKind::InsertPacket => ("insert", Some("packet"), None),
        EventKind::InsertCtnetlink => ("insert", Some("ctnetlink"), None),
        EventKind::Destroy(Cause::Kernel) => ("destroy", None, Some("kernel")),
        EventKind::Destroy(Cause::User) => ("destroy", None, Some("user")),
        EventKind::Destroy(Cause::NetnsExit) => ("destroy", None, Some("netns_exit")),
        EventKind::Destroy(Cause::EarlyDrop) => ("destroy", None, Some("early_drop")),
        EventKind::Destroy(Cause::NoUser) => ("destroy", None, None),
        EventKind::TableFullDrop => ("table_full_drop", None, None),
        EventKind::EarlyDrop => ("early_drop", None, None),
    }
}

/// Legend of the lines of [`text`].
pub const LEGEND: &str = "\
# time (UTC), insert or destroy, protocol, original tuple, reply tuple, [state at that time], zone if not 0,
# by whom if not packets or the kernel, network namespace (inode; `ctmon watch` shows names)
";

/// The event as a line. `utc_offset_ns`: `CLOCK_REALTIME` less `CLOCK_MONOTONIC`.
#[must_use]
pub fn text(event: &FlowEvent, netns: NetnsId, utc_offset_ns: i64) -> String {
    let (name, path, cause) = name(event.kind);
    let status = event.status;
    let state = match (status.is_offloaded(), status.is_assured(), status.is_replied()) {
        (true, ..) => " [offload]",
        (_, true, _) => " [assured]",
        (_, _, true) => " [replied]",
        _ if matches!(event.kind, EventKind::Destroy(_)) => " [unreplied]",
        _ => "",
    };
    let zone = if event.zone == 0 { String::new() } else { format!(" zone {}", event.zone) };
    // What is usual is left out.
    let who = path.filter(|path| *path != "packet").or(cause.filter(|cause| *cause != "kernel"));
    let who = who.map(|who| format!(" by {who}")).unwrap_or_default();
    let time = Duration::from_nanos(event.time_ns.saturating_add_signed(utc_offset_ns));
    let inode = match netns.inode {
        // Its namespace has ended meanwhile.
        0 => "?".to_owned(),
        inode => inode.to_string(),
    };
    format!(
        "{} {name:<7} {:<6} {} reply {}{state}{zone}{who} netns {inode}\n",
        humantime::format_rfc3339_micros(UNIX_EPOCH + time),
        protocol(event.original.protocol),
        tuple(&event.original),
        tuple(&event.reply),
    )
}

/// A direction as `source -> destination`.
#[must_use]
pub fn tuple(tuple: &Tuple) -> String {
    use std::net::SocketAddr;
    format!(
        "{} -> {}",
        SocketAddr::new(tuple.source, tuple.source_port),
        SocketAddr::new(tuple.destination, tuple.destination_port)
    )
}

/// The name of an IP protocol, or its number.
#[must_use]
pub fn protocol(number: u8) -> String {
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
    use crate::model::flow::{Sample, Status};

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
            entry: 9,
            kind: EventKind::Destroy(Cause::User),
            original: direction("10.0.0.1", "10.96.0.10"),
            reply: direction("2001:db8::1", "10.0.0.1"),
            status: Status(0x2),
            zone: 3,
            sample: Sample::EVERY,
        };
        let netns = NetnsId { cookie: Some(1), inode: 7 };
        let offset_ns = 1_795_717_560_000_000_000;
        assert_eq!(
            text(&event, netns, offset_ns),
            "2026-11-26T18:26:01.500000Z destroy udp    10.0.0.1:40000 -> 10.96.0.10:53 reply \
             [2001:db8::1]:40000 -> 10.0.0.1:53 [replied] zone 3 by user netns 7\n"
        );
        let ended = text(&event, NetnsId { cookie: Some(1), inode: 0 }, offset_ns);
        assert!(ended.ends_with(" netns ?\n"), "{ended}");
        let at = serde_json::to_value(json_at(&event, netns, offset_ns)).unwrap();
        assert_eq!(at["time_ns"], 1_795_717_561_500_000_000_u64);
        assert_eq!((&at["kind"], &at["netns_inode"]), (&"event".into(), &7.into()));
        let json = serde_json::to_value(json(&event, netns)).unwrap();
        assert_eq!((&json["event"], &json["cause"]), (&"destroy".into(), &"user".into()));
        assert_eq!(json["reply"]["source"], "2001:db8::1");
        assert_eq!((&json["replied"], &json["assured"]), (&true.into(), &false.into()));
    }
}
