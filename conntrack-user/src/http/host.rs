//! By which names it is asked: a page of somebody else, in a browser on this machine or behind a port that is forwarded
//! to it, may have a name of its own lead to 127.0.0.1 (DNS rebinding), and would read what is answered to it.

use ::http::{HeaderMap, header::HOST, uri::Authority};

use super::listener::{self, Peer};

/// Names of this machine, besides addresses and `localhost`.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Those of `names`.
    #[must_use]
    pub const fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Whether a request is for this machine. Those that come from elsewhere may use any name: who can reach it from
    /// there needs nobody's browser.
    pub(super) fn admit(&self, peer: Peer, headers: &HeaderMap) -> bool {
        // No browser leaves it out.
        let Some(host) = headers.get(HOST).filter(|_| listener::is_loopback(peer)) else {
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
            || self.0.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;

    use super::*;

    #[test]
    fn over_loopback_it_is_asked_by_names_of_this_machine() {
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
        let peer = |address: &str| Some(listener::network(address.parse().unwrap()));
        for (host, expected) in cases {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            for local in ["127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1"] {
                assert_eq!(hosts.admit(peer(local), &headers), expected, "{host:?} from {local}");
            }
            for other in [None, peer("192.0.2.1"), peer("2001:db8::1")] {
                assert!(hosts.admit(other, &headers), "{host:?} from {other:?}");
            }
        }
        assert!(hosts.admit(peer("127.0.0.1"), &HeaderMap::new()));
    }
}
