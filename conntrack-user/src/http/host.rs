//! Names by which requests ask. A page of somebody else, in a browser that reaches this machine, can have a name of its own
//! lead to any address of it (DNS rebinding), and would read the answers.

use ::http::{HeaderMap, Version, header::HOST, uri::Authority};

use super::listener::{self, Peer};

/// Admits every name, as one of [`Hosts`].
const ANY: &str = "*";

/// Names of this machine, besides addresses and `localhost`.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Those of `names`.
    #[must_use]
    pub const fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Reports whether a request has as many Host fields as RFC 9112 (section 3.2) requires: one; HTTP/1.0 at most one.
    pub(super) fn is_named(version: Version, headers: &HeaderMap) -> bool {
        match headers.get_all(HOST).iter().count() {
            0 => version < Version::HTTP_11,
            number => number == 1,
        }
    }

    /// Reports whether a request asks by a name of this machine. A unix socket is out of a browser's reach. Over the network
    /// any name will do where the server `refuses_strangers`: a page of somebody else has neither the password nor the
    /// certificate, and no server certificate is for its name. Over loopback names are few: they are always checked.
    pub(super) fn admit(&self, peer: Peer, refuses_strangers: bool, headers: &HeaderMap) -> bool {
        let is_checked = peer.is_some() && (listener::is_loopback(peer) || !refuses_strangers);
        // No browser leaves it out.
        let Some(host) = headers.get(HOST).filter(|_| is_checked) else {
            return true;
        };
        let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        host.is_some_and(|host| self.has(host.host()))
    }

    fn has(&self, host: &str) -> bool {
        let is_ipv6 = host.starts_with('[') && host.ends_with(']');
        if is_ipv6 || host.parse::<std::net::Ipv4Addr>().is_ok() {
            return true;
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        let top = host.rsplit('.').next().unwrap_or_default();
        top.eq_ignore_ascii_case("localhost")
            || self.0.iter().any(|name| name == ANY || name.eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;

    use super::*;

    fn peer(address: &str) -> Peer {
        Some(listener::network(address.parse().unwrap()))
    }

    #[test]
    fn it_is_asked_by_names_of_this_machine() {
        let hosts = Hosts::new(vec!["node-17".into(), "metrics.example.org".into()]);
        let cases = [
            ("127.0.0.1:12620", true),
            ("[::1]:12620", true),
            ("192.0.2.7", true),
            ("localhost", true),
            ("LocalHost:12620", true),
            ("ctmon.localhost.", true),
            ("node-17:12620", true),
            ("Metrics.Example.org", true),
            ("example.org:12620", false),
            ("localhost.example.org", false),
            ("notlocalhost", false),
            ("node-17.example.org", false),
            ("127.0.0.1.example.org", false),
            ("", false),
            (":12620", false),
            ("a b", false),
        ];
        for (host, expected) in cases {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            for local in ["127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1"] {
                for refuses in [false, true] {
                    let admitted = hosts.admit(peer(local), refuses, &headers);
                    assert_eq!(admitted, expected, "{host:?} from {local}");
                }
            }
            for other in ["192.0.2.1", "2001:db8::1"] {
                let admitted = hosts.admit(peer(other), false, &headers);
                assert_eq!(admitted, expected, "{host:?} from {other}");
                assert!(hosts.admit(peer(other), true, &headers), "{host:?} from {other}");
            }
            assert!(hosts.admit(None, false, &headers), "{host:?} at a unix socket");
        }
        assert!(hosts.admit(peer("127.0.0.1"), false, &HeaderMap::new()));
    }

    #[test]
    fn a_star_admits_every_name() {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("example.org"))]);
        for (name, expected) in [("*", true), ("*.org", false)] {
            let hosts = Hosts::new(vec![name.into()]);
            assert_eq!(hosts.admit(peer("192.0.2.1"), false, &headers), expected, "{name}");
        }
    }

    #[test]
    fn a_request_has_one_host() {
        let cases = [
            (Version::HTTP_11, 0, false),
            (Version::HTTP_11, 1, true),
            (Version::HTTP_11, 2, false),
            (Version::HTTP_10, 0, true),
            (Version::HTTP_10, 1, true),
            (Version::HTTP_10, 2, false),
        ];
        for (version, number, expected) in cases {
            let mut headers = HeaderMap::new();
            for _ in 0..number {
                headers.append(HOST, HeaderValue::from_static("localhost"));
            }
            assert_eq!(Hosts::is_named(version, &headers), expected, "{version:?} {number}");
        }
    }
}
