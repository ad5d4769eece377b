//! What a web configuration says, but for TLS.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::Path,
    time::{Duration, Instant},
};

use ::http::{HeaderName, HeaderValue};
use anyhow::{Context as _, Error, Result, anyhow};
use serde::Deserialize;
use serde_saphyr::Spanned;
use tokio_rustls::TlsAcceptor;

use super::{
    file::{self, Files},
    rate::Bucket,
    tls::{self, TlsSection},
};
use crate::http::password::Users;

/// The highest cost of a bcrypt hash: some 4 s of a processor for each wrong password.
const COST: u32 = 16;

/// What is in force.
#[derive(Default)]
pub(in crate::http) struct Config {
    tls: Option<TlsAcceptor>,
    /// Set where TLS takes a certificate of each client.
    requires_certificates: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Users,
    rate: Option<Bucket>,
}

/// The file, as <https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md> has it.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Sections {
    tls_server_config: Option<TlsSection>,
    http_server_config: Option<HttpSection>,
    basic_auth_users: Option<BTreeMap<String, Spanned<String>>>,
    rate_limit: Option<RateSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpSection {
    http2: Option<Spanned<bool>>,
    headers: Option<HeadersSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadersSection {
    #[serde(rename = "Content-Security-Policy")]
    content_security_policy: Option<Spanned<String>>,
    #[serde(rename = "X-Frame-Options")]
    x_frame_options: Option<Spanned<String>>,
    #[serde(rename = "X-Content-Type-Options")]
    x_content_type_options: Option<Spanned<String>>,
    #[serde(rename = "X-XSS-Protection")]
    x_xss_protection: Option<Spanned<String>>,
    #[serde(rename = "Strict-Transport-Security")]
    strict_transport_security: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateSection {
    interval: Option<Spanned<String>>,
    burst: Option<Spanned<u32>>,
}

impl Config {
    /// Reads `path` and the files that it names, each of which is watched even if another one is wrong.
    pub(super) fn read(path: &Path, files: &mut Files) -> Result<Self> {
        files.watch(path);
        let text = String::from_utf8(file::read(path)?)
            .with_context(|| format!("{} is no text in UTF-8", path.display()))?;
        let source = Source { path };
        let sections = source.parse(&text)?;
        let tls = match &sections.tls_server_config {
            Some(section) => {
                section.watch(&source, files);
                Some(tls::acceptor(section, &source)?)
            }
            None => None,
        };
        let section = sections.tls_server_config.as_ref();
        Ok(Self {
            tls,
            requires_certificates: section.is_some_and(TlsSection::requires_certificates),
            headers: match sections.http_server_config {
                Some(section) => headers(section, &source)?,
                None => Vec::new(),
            },
            users: users(sections.basic_auth_users.unwrap_or_default(), &source)?,
            rate: match sections.rate_limit {
                Some(section) => rate(&section, &source)?,
                None => None,
            },
        })
    }

    /// How TLS is accepted; none: there is none.
    pub(in crate::http) fn tls(&self) -> Option<&TlsAcceptor> {
        self.tls.as_ref()
    }

    /// Reports whether each client has to show who it is: by a password, or by a certificate.
    pub(in crate::http) fn asks_who(&self) -> bool {
        self.requires_certificates || !self.users.is_empty()
    }

    /// Reports whether a page of another name gets no answer from a browser: clients show who they are, or the server
    /// shows a certificate, which is for its own names.
    pub(in crate::http) fn refuses_strangers(&self) -> bool {
        self.tls.is_some() || self.asks_who()
    }

    /// Header fields of each answer.
    pub(in crate::http) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Who may ask.
    pub(in crate::http) fn users(&self) -> &Users {
        &self.users
    }

    /// Whether the limit on the rate lets a request pass, which then counts.
    pub(in crate::http) fn admits(&self) -> bool {
        self.rate.as_ref().is_none_or(|bucket| bucket.take(Instant::now()))
    }
}

/// The file that errors name.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
}

impl Source<'_> {
    fn parse(&self, text: &str) -> Result<Sections> {
        // Nor may an error show a line of the file: it may be a secret.
        let options = serde_saphyr::options! { with_snippet: false };
        let parsed: Result<Option<Sections>, _> =
            serde_saphyr::from_str_with_options(text, options);
        parsed.map(Option::unwrap_or_default).map_err(|error| {
            let path = self.path.display();
            let said = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            let said = without_values(said.lines().next().unwrap_or_default());
            let Some(at) = error.location() else { return anyhow!("{path}: {said}") };
            let (line, column) = (at.line(), at.column());
            // It is in front already.
            let place = format!(" at line {line}, column {column}");
            let said = said.strip_suffix(&place).unwrap_or(&said);
            match key_of_line(text, line).filter(|key| !said.contains(key)) {
                Some(key) => anyhow!("{path}:{line}: {key}: {said}"),
                None => anyhow!("{path}:{line}: {said}"),
            }
        })
    }

    /// Says what is wrong with the value of `key`.
    pub(super) fn wrong<T>(&self, value: &Spanned<T>, key: &str, what: impl Display) -> Error {
        anyhow!("{}:{}: {key}: {what}", self.path.display(), value.referenced.line())
    }
}

/// A message of the parser with what it quotes of the file only where that looks like a key: what was given by mistake
/// for a web configuration may hold passwords.
fn without_values(message: &str) -> String {
    let mut shown = String::new();
    let mut rest = message;
    // An apostrophe within a word quotes nothing.
    let quotes = |rest: &str| {
        let mut before = ' ';
        rest.find(|c: char| {
            let quotes = matches!(c, '"' | '`') || c == '\'' && !before.is_alphanumeric();
            before = c;
            quotes
        })
    };
    while let Some(at) = quotes(rest) {
        let (before, quoted) = rest.split_at(at);
        shown += before;
        let mark = quoted.get(..1).unwrap_or_default();
        let inner = quoted.get(1..).unwrap_or_default();
        let Some((value, behind)) = inner.split_once(mark) else {
            shown += "a value";
            return shown;
        };
        if is_key(value) {
            shown += &format!("{mark}{value}{mark}")
        } else {
            shown += "a value"
        }
        rest = behind;
    }
    shown + rest
}

/// Reports whether `text` looks like a key, and not like a hash, a path or a sentence.
fn is_key(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=40).contains(&text.len()) && text.bytes().all(is_plain)
}

/// The key that a line begins with.
fn key_of_line(text: &str, number: u64) -> Option<&str> {
    let line = text.lines().nth(usize::try_from(number.checked_sub(1)?).ok()?)?;
    let (key, _) = line.trim_start().split_once(':')?;
    is_key(key).then_some(key)
}

fn headers(section: HttpSection, source: &Source<'_>) -> Result<Vec<(HeaderName, HeaderValue)>> {
    if let Some(http2) = section.http2.filter(|http2| http2.value) {
        let what = "HTTP/1.1 only is served: leave it out or say false";
        return Err(source.wrong(&http2, "http2", what));
    }
    let Some(section) = section.headers else { return Ok(Vec::new()) };
    let mut headers = Vec::new();
    let fields: [(&str, _, &[&str]); 5] = [
        ("Content-Security-Policy", section.content_security_policy, &[]),
        ("X-Frame-Options", section.x_frame_options, &["deny", "sameorigin", ""]),
        ("X-Content-Type-Options", section.x_content_type_options, &["nosniff"]),
        ("X-XSS-Protection", section.x_xss_protection, &[]),
        ("Strict-Transport-Security", section.strict_transport_security, &[]),
    ];
    for (name, value, allowed) in fields {
        let Some(value) = value else { continue };
        if !allowed.is_empty() && !allowed.contains(&value.value.as_str()) {
            let expected: Vec<_> = allowed.iter().filter(|value| !value.is_empty()).collect();
            return Err(source.wrong(&value, name, format_args!("expected one of {expected:?}")));
        }
        if value.value.is_empty() {
            continue;
        }
        let content = HeaderValue::from_str(&value.value)
            .map_err(|_| source.wrong(&value, name, "expected visible ASCII characters"))?;
        headers.push((HeaderName::from_bytes(name.as_bytes())?, content));
    }
    Ok(headers)
}

fn users(hashes: BTreeMap<String, Spanned<String>>, source: &Source<'_>) -> Result<Users> {
    let check = |(name, hash): (String, Spanned<String>)| {
        let what = match hash.value.parse::<bcrypt::HashParts>() {
            Ok(parts) if parts.get_cost() <= COST => return Ok((name, hash.value)),
            Ok(parts) => {
                let cost = parts.get_cost();
                format!("its cost {cost} is more than {COST}: a check would take many seconds")
            }
            Err(_) => "no hash by bcrypt; `htpasswd -nBC 10 \"\"` makes one".to_owned(),
        };
        Err(source.wrong(&hash, &format!("basic_auth_users: password of `{name}`"), what))
    };
    Users::new(hashes.into_iter().map(check).collect::<Result<_>>()?)
}

fn rate(section: &RateSection, source: &Source<'_>) -> Result<Option<Bucket>> {
    let Some(interval) = section.interval.as_ref().filter(|interval| interval.value != "0") else {
        return Ok(None);
    };
    let time = humantime::parse_duration(&interval.value)
        .map_err(|_| source.wrong(interval, "interval", "expected a time such as 1s or 100ms"))?;
    if time.is_zero() {
        return Ok(None);
    }
    if time > Duration::from_secs(86_400) {
        return Err(source.wrong(interval, "interval", "expected at most a day"));
    }
    match &section.burst {
        Some(burst) if burst.value > 0 => Ok(Some(Bucket::new(time, burst.value))),
        Some(burst) => {
            Err(source.wrong(burst, "burst", "expected at least 1: nothing would be answered"))
        }
        None => Err(source.wrong(interval, "interval", "burst is missing: expected at least 1")),
    }
}
