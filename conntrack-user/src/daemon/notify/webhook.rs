//! An HTTP server that is sent each change.

use std::{io, path::Path, sync::Arc, time::Duration};

use ureq::{
    Agent,
    http::{StatusCode, Uri, header::HeaderValue},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::{Failure, Message, Target, config};
use crate::{file, view::warning::object};

/// What the requests say they come from.
const USER_AGENT: &str = concat!("ctmon/", env!("CARGO_PKG_VERSION"));

/// The server.
#[derive(Debug)]
pub struct Webhook {
    agent: Agent,
    uri: Uri,
    authorization: Option<HeaderValue>,
}

/// Why there can be no webhook as configured.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Invalid {
    key: &'static str,
    why: String,
}

fn invalid(key: &'static str, why: impl Into<String>) -> Invalid {
    Invalid { key, why: why.into() }
}

fn unreadable(key: &'static str, path: &Path, error: &io::Error) -> Invalid {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; a folder that was not named at the start takes a restart"
        }
        _ => "",
    };
    invalid(key, format!("{}: {error}{hint}", path.display()))
}

impl Webhook {
    /// None where none is configured. Reads the files that it needs, and none later.
    ///
    /// # Errors
    ///
    /// Which key makes no sense, and why.
    pub fn new(config: &config::Webhook) -> Result<Option<Self>, Invalid> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let (uri, is_encrypted) = uri(&config.url)?;
        let timeout = Duration::try_from_secs_f64(config.timeout_seconds).ok();
        let builder = Agent::config_builder()
            .timeout_global(timeout)
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(USER_AGENT)
            // Changes are rare: a connection that is kept would be closed by the other side.
            .max_idle_connections(0);
        let builder = if is_encrypted {
            builder.tls_config(
                TlsConfig::builder()
                    .unversioned_rustls_crypto_provider(Arc::new(
                        tokio_rustls::rustls::crypto::ring::default_provider(),
                    ))
                    .root_certs(RootCerts::Specific(Arc::new(trusted(config)?)))
                    .build(),
            )
        } else {
            builder
        };
        let authorization = authorization(config)?;
        Ok(Some(Self { agent: builder.build().new_agent(), uri, authorization }))
    }

    /// Checks the URL alone.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn check(config: &config::Webhook) -> Result<(), Invalid> {
        if config.url.is_empty() { Ok(()) } else { uri(&config.url).map(|_| ()) }
    }

    /// Sends `message`; the status of an answer that says that it was taken.
    fn send(&self, message: &Message) -> Result<StatusCode, Failure> {
        let mut request = self.agent.post(&self.uri).header("content-type", "application/json");
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        let response = request.send(object(&message.fields)).map_err(|error| Failure {
            why: format!("{}: {error}", self.place()),
            is_temporary: true,
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(status);
        }
        // Of all others the same request would be answered in the same way.
        let is_temporary = status.is_server_error() || [408, 429].contains(&status.as_u16());
        Err(Failure { why: format!("{} answers {status}", self.place()), is_temporary })
    }

    /// Where it is, without the path, which is often a secret.
    fn place(&self) -> String {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit('@').next().unwrap_or_default();
        format!("{}://{host}", self.uri.scheme_str().unwrap_or_default())
    }
}

/// The address in `url`, and whether it is reached by TLS.
fn uri(url: &str) -> Result<(Uri, bool), Invalid> {
    let expected = "expected http://HOST/PATH or https://HOST/PATH";
    let uri: Uri =
        url.parse().map_err(|error| invalid("notify.webhook", format!("{error}; {expected}")))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => Ok((uri, false)),
        (Some("https"), Some(_)) => Ok((uri, true)),
        _ => Err(invalid("notify.webhook", expected)),
    }
}

/// The certificates of `ca_file`, else those that this machine trusts.
fn trusted(config: &config::Webhook) -> Result<Vec<Certificate<'static>>, Invalid> {
    let Some(path) = &config.ca_file else {
        let found = rustls_native_certs::load_native_certs();
        let certificates: Vec<_> =
            found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        if certificates.is_empty() {
            let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            let why = format!(
                "this machine trusts no certificate ({}): install ca-certificates, or name a file",
                errors.join("; ")
            );
            return Err(invalid("notify.webhook-ca", why));
        }
        return Ok(certificates);
    };
    let why = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let pem = file::read(path, file::WRITTEN)
        .map_err(|error| unreadable("notify.webhook-ca", path, &error))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(one) =
            item.map_err(|error| invalid("notify.webhook-ca", why(&error)))?
        {
            certificates.push(one);
        }
    }
    if certificates.is_empty() {
        return Err(invalid(
            "notify.webhook-ca",
            why(&"no certificate in it, which begins with -----BEGIN CERTIFICATE-----"),
        ));
    }
    Ok(certificates)
}

fn authorization(config: &config::Webhook) -> Result<Option<HeaderValue>, Invalid> {
    let Some(path) = &config.authorization_file else { return Ok(None) };
    let key = "notify.webhook-authorization";
    let text =
        file::read_text(path, file::WRITTEN).map_err(|error| unreadable(key, path, &error))?;
    let line = text.lines().next().unwrap_or_default().trim();
    let mut value = HeaderValue::from_str(line)
        .map_err(|_| invalid(key, format!("{}: its first line is no header", path.display())))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

impl Target for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn deliver(&self, message: &Message, _: &dyn Fn() -> bool) -> Result<(), Failure> {
        self.send(message).map(|_| ())
    }

    fn try_out(&self, message: &Message) -> Result<String, Failure> {
        let status = self.send(message)?;
        Ok(format!("{} answers {status}", self.place()))
    }
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
