use super::*;

/// What a kernel has sent.
const SENT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/ctnetlink-6.18.txt"));

/// What each datagram is of, and the datagram.
fn sent() -> Vec<(&'static str, Vec<u8>)> {
    let lines = SENT.lines().filter(|line| !line.starts_with('#'));
    let datagrams = lines.map(|line| {
        let (of, hex) = line.split_once(": ").unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (of, (0..hex.len()).step_by(2).map(byte).collect())
    });
    datagrams.collect()
}

fn datagram(of: &str) -> Vec<u8> {
    sent().into_iter().find(|(name, _)| *name == of).unwrap().1
}

fn only(datagram: &[u8]) -> Event {
    let all: Vec<_> = events(datagram).collect();
    assert_eq!(all.len(), 1);
    all[0].unwrap()
}

/// UDP in a zone.
pub(crate) fn udp() -> Event {
    only(&datagram("UDP in a zone"))
}

fn line(event: &Event) -> String {
    let tuple = |tuple: &Tuple| {
        let Tuple { source, destination, source_port, destination_port, .. } = tuple;
        format!("{source} {source_port} > {destination} {destination_port}")
    };
    let Event { what, by_user, id, original, reply, status, zone } = event;
    let user = if *by_user { " user" } else { "" };
    format!(
        "{what:?}{user} {:08x} {}: {}, {}, status {:#x} zone {zone}",
        id,
        original.protocol,
        tuple(original),
        tuple(reply),
        status.0
    )
}

#[test]
fn what_a_kernel_sent_is_understood() {
    let lines: Vec<String> = sent().iter().map(|(_, datagram)| line(&only(datagram))).collect();
    let expected = [
        "New 33f1f78d 1: 127.0.0.1 4660 > 127.0.0.1 2048, 127.0.0.1 4660 > 127.0.0.1 0, status 0x188 zone 0",
        "New 5e003e05 58: ::1 17185 > ::1 32768, ::1 17185 > ::1 33024, status 0x8 zone 0",
        "New 2954c561 17: 10.0.0.1 40000 > 10.9.9.9 53, 10.0.0.1 5353 > 10.0.0.1 40000, status 0x1a8 zone 0",
        "New 7697d654 17: 10.0.0.1 40000 > 127.0.0.1 9999, 127.0.0.1 9999 > 10.0.0.1 40000, status 0x188 zone 5",
        "New 4ed96f00 17: 10.0.0.1 40000 > 127.0.0.1 9998, 127.0.0.1 9998 > 10.0.0.1 40000, status 0x188 zone 6",
        "New e95558e6 47: 127.0.0.1 0 > 127.0.0.1 0, 127.0.0.1 0 > 127.0.0.1 0, status 0x188 zone 0",
        "New 4b1c5b4d 200: 127.0.0.1 0 > 127.0.0.1 0, 127.0.0.1 0 > 127.0.0.1 0, status 0x188 zone 0",
        "New e261bfb6 6: 127.0.0.1 43266 > 127.0.0.1 8888, 127.0.0.1 8888 > 127.0.0.1 43266, status 0x188 zone 0",
        "New user fb4a03bf 17: 192.0.2.1 1 > 192.0.2.2 2, 192.0.2.2 2 > 192.0.2.1 1, status 0x8 zone 7",
        "Destroy user fb4a03bf 17: 192.0.2.1 1 > 192.0.2.2 2, 192.0.2.2 2 > 192.0.2.1 1, status 0x208 zone 7",
        "Destroy user e95558e6 47: 127.0.0.1 0 > 127.0.0.1 0, 127.0.0.1 0 > 127.0.0.1 0, status 0x388 zone 0",
        "Destroy user e261bfb6 6: 127.0.0.1 43266 > 127.0.0.1 8888, 127.0.0.1 8888 > 127.0.0.1 43266, status 0x38e zone 0",
        "Destroy user 5e003e05 58: ::1 17185 > ::1 32768, ::1 17185 > ::1 33024, status 0x20a zone 0",
        "Destroy 944bd0b4 6: 192.0.2.1 1 > 192.0.2.2 2, 192.0.2.2 2 > 192.0.2.1 1, status 0x208 zone 0",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn several_messages_in_a_datagram_are_several_events() {
    let [first, second] = ["TCP", "the same by conntrack -D"].map(datagram);
    let all: Vec<Event> =
        events(&[&first[..], &second].concat()).collect::<Result<_, _>>().unwrap();
    assert_eq!(all, [only(&first), only(&second)]);
}

#[test]
fn messages_of_other_kinds_are_passed_over() {
    let mut datagram = datagram("TCP");
    // NLMSG_DONE, IPCTNL_MSG_EXP_NEW
    for kind in [3_u16, 0x200] {
        datagram[4..6].copy_from_slice(&kind.to_ne_bytes());
        assert_eq!(events(&datagram).count(), 0);
    }
}

/// The same as if what is left out had not been sent, or an error: never another event.
#[test]
fn a_datagram_cut_anywhere_is_no_event() {
    for (of, whole) in sent() {
        for length in 1..whole.len() {
            let cut: Vec<_> = events(&whole[..length]).collect();
            assert_eq!(cut, [Err(DecodeError::Length)], "{of}, {length} bytes");
        }
    }
}

/// As above, where the message says the length that it has.
#[test]
fn a_message_without_its_end_is_an_error_or_says_the_same() {
    for (of, whole) in sent() {
        for length in 16..whole.len() {
            let mut cut = whole[..length].to_vec();
            cut[..4].copy_from_slice(&(length as u32).to_ne_bytes());
            for event in events(&cut) {
                let same = |event: Event| event == only(&whole) || event.zone == 0;
                assert!(event.is_err() || event.is_ok_and(same), "{of}, {length} bytes");
            }
        }
    }
}

#[test]
fn what_is_missing_is_named() {
    for (attribute, what) in [
        (CTA_TUPLE_ORIG, "an original tuple"),
        (CTA_TUPLE_REPLY, "a reply tuple"),
        (CTA_STATUS, "a status"),
        (CTA_ID, "an id"),
    ] {
        let mut datagram = datagram("TCP");
        let at = place(&datagram, attribute);
        // An attribute that nobody knows.
        datagram[at + 2..at + 4].copy_from_slice(&0x3fff_u16.to_ne_bytes());
        let all: Vec<_> = events(&datagram).collect();
        assert_eq!(all, [Err(DecodeError::Missing(what))]);
    }
}

/// Where an attribute of the outer level begins.
fn place(datagram: &[u8], kind: u16) -> usize {
    let number = |at: usize| u16::from_ne_bytes([datagram[at], datagram[at + 1]]);
    let mut at = 20;
    while number(at + 2) & 0x3fff != kind {
        at += usize::from(number(at)).next_multiple_of(4);
    }
    at
}

#[test]
fn any_byte_may_be_any_other() {
    for (_, whole) in sent() {
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut other = whole.clone();
                other[at] ^= 1 << bit;
                // It ends, and there are no more than there is room for.
                assert!(events(&other).count() <= 1 + whole.len() / 16);
            }
        }
    }
}
