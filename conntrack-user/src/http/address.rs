//! Where to listen.

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Error, Result, bail, ensure};

/// Bytes that the path of a unix socket may have: `sun_path`, without the 0 at its end.
const PATH_BYTES: usize = 107;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `127.0.0.1:9999`, `[::1]:9999`; port 0 takes any that is free.
    Ip(SocketAddr),
    /// `:9999`: all addresses, IPv4 and IPv6.
    All(u16),
    /// `unix:/run/ctmon/ctmon.sock`
    Unix(PathBuf),
}

impl Address {
    /// Reports whether other machines may reach it: it is neither a loopback address nor a unix socket.
    #[must_use]
    pub fn is_reached_by_others(&self) -> bool {
        match self {
            Self::Ip(address) => !address.ip().to_canonical().is_loopback(),
            Self::All(_) => true,
            Self::Unix(_) => false,
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const EXPECTED: &str = "expected ADDRESS:PORT such as 127.0.0.1:9999 or [::1]:9999, :PORT for all addresses, or unix:/PATH";
        if let Some(path) = text.strip_prefix("unix:") {
            ensure!(
                path.starts_with('/') && !path.contains('\0'),
                "`{text}` is no unix socket: expected an absolute path, such as unix:/run/ctmon/ctmon.sock"
            );
            ensure!(
                path.len() <= PATH_BYTES,
                "the path of the unix socket `{text}` has {} bytes; {PATH_BYTES} are the most",
                path.len()
            );
            return Ok(Self::Unix(path.into()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            bail!("`{text}` has no port: {EXPECTED}");
        };
        let port: u16 = match port.parse() {
            Ok(number) if port.starts_with(|first: char| first.is_ascii_digit()) => number,
            _ => bail!("`{port}` in `{text}` is no port from 0 to 65535: {EXPECTED}"),
        };
        match host {
            "" => Ok(Self::All(port)),
            _ if host.parse::<Ipv6Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok() => {
                bail!("`{text}`: an IPv6 address is written in brackets: {EXPECTED}")
            }
            _ => bail!("`{host}` in `{text}` is no address; names are not looked up: {EXPECTED}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::All(port) => write!(f, ":{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in ["127.0.0.1:9999", "[::1]:0", "0.0.0.0:65535", ":9999", "unix:/run/a b.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!(":80".parse::<Address>().unwrap(), Address::All(80));
    }

    #[test]
    fn others_reach_all_but_loopback_and_unix_sockets() {
        let cases = [
            ("127.0.0.1:1", false),
            ("127.9.9.9:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("unix:/run/a", false),
            (":1", true),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("192.0.2.1:1", true),
            ("[2001:db8::1]:1", true),
        ];
        for (text, expected) in cases {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.is_reached_by_others(), expected, "{text}");
        }
    }

    #[test]
    fn errors_say_what_is_expected() {
        let long = format!("unix:/{}", "a".repeat(107));
        let cases = [
            ("", "has no port"),
            ("9999", "has no port"),
            ("127.0.0.1", "has no port"),
            ("127.0.0.1:", "`` in"),
            ("127.0.0.1:65536", "no port from 0 to 65535"),
            (":+80", "no port from 0 to 65535"),
            ("localhost:9999", "names are not looked up"),
            ("256.0.0.1:1", "is no address"),
            ("::1:9999", "in brackets"),
            ("unix:run/ctmon.sock", "an absolute path"),
            ("unix:", "an absolute path"),
            (&long, "108 bytes"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
