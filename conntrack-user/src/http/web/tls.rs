//! TLS as a web configuration has it, by rustls.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Deserialize;
use serde_saphyr::Spanned;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        NamedGroup, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
        crypto::{CryptoProvider, SupportedKxGroup, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::{WebPkiClientVerifier, danger::ClientCertVerifier},
        version::{TLS12, TLS13},
    },
};

use super::{
    client::Named,
    config::Source,
    file::{self, Files},
};
use crate::{model::name, text::printable};

/// `tls_server_config`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsSection {
    cert: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    client_ca: Option<Spanned<String>>,
    cert_file: Option<Spanned<String>>,
    key_file: Option<Spanned<String>>,
    client_auth_type: Option<Spanned<String>>,
    client_ca_file: Option<Spanned<String>>,
    client_allowed_sans: Option<Vec<Spanned<String>>>,
    min_version: Option<Spanned<String>>,
    max_version: Option<Spanned<String>>,
    cipher_suites: Option<Vec<Spanned<String>>>,
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Option<Vec<Spanned<String>>>,
}

type Text = Option<Spanned<String>>;

/// Cipher suites of TLS 1.2 by the names that Go gives them; those of TLS 1.3 are not for choice there, nor here.
const SUITES: [(&str, SupportedCipherSuite); 6] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ring::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Names of those of TLS 1.3, which may be listed and change nothing.
const SUITES_13: [&str; 3] =
    ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

const GROUPS: [(&str, NamedGroup); 3] = [
    ("CurveP256", NamedGroup::secp256r1),
    ("CurveP384", NamedGroup::secp384r1),
    ("X25519", NamedGroup::X25519),
];

/// A file that a section names, or the same in the section itself.
enum Pem<'a> {
    File(&'a Spanned<String>, &'static str, PathBuf),
    Inline(&'a Spanned<String>, &'static str),
}

impl<'a> Pem<'a> {
    /// As the format has it, an empty value is none.
    fn of(
        source: &Source<'_>,
        (file, file_key): (&'a Text, &'static str),
        (inline, key): (&'a Text, &'static str),
    ) -> Result<Option<Self>> {
        let given = |text: &'a Text| text.as_ref().filter(|text| !text.value.is_empty());
        match (given(file), given(inline)) {
            (Some(_), Some(inline)) => Err(source.wrong(
                inline,
                key,
                format_args!("{file_key} is given, too: expected one"),
            )),
            (Some(file), None) => {
                Ok(Some(Self::File(file, file_key, relative(source.path, &file.value))))
            }
            (None, inline) => Ok(inline.map(|inline| Self::Inline(inline, key))),
        }
    }

    fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(_, _, path) => file::read(path),
            Self::Inline(text, _) => Ok(text.value.clone().into_bytes()),
        }
    }

    fn certificates(&self, source: &Source<'_>) -> Result<Vec<CertificateDer<'static>>> {
        let read = || {
            let found =
                CertificateDer::pem_slice_iter(&self.read()?).collect::<Result<Vec<_>, _>>();
            let found = found.map_err(|error| anyhow!("no certificates in PEM: {error}"))?;
            ensure!(!found.is_empty(), "no certificate in PEM");
            Ok(found)
        };
        read().map_err(|error| self.wrong(source, &error))
    }

    fn key(&self, source: &Source<'_>) -> Result<PrivateKeyDer<'static>> {
        let read = || {
            let key = PrivateKeyDer::from_pem_slice(&self.read()?);
            key.map_err(|error| anyhow!("no private key in PEM, without a password: {error}"))
        };
        read().map_err(|error| self.wrong(source, &error))
    }

    fn wrong(&self, source: &Source<'_>, error: &anyhow::Error) -> anyhow::Error {
        let (Self::File(value, key, _) | Self::Inline(value, key)) = self;
        source.wrong(value, key, format_args!("{error:#}"))
    }
}

/// A path that is not absolute begins at the folder of the web configuration.
fn relative(config: &Path, name: &str) -> PathBuf {
    config.parent().unwrap_or(Path::new("")).join(name)
}

/// `client_auth_type` that refuses clients without a certificate.
const REQUIRE: &str = "RequireAndVerifyClientCert";

impl TlsSection {
    /// Reports whether it refuses clients without a certificate.
    pub(super) fn requires_certificates(&self) -> bool {
        self.client_auth_type.as_ref().is_some_and(|kind| kind.value == REQUIRE)
    }

    /// Watches the files that it names.
    pub(super) fn watch(&self, source: &Source<'_>, files: &mut Files) {
        let named = [&self.cert_file, &self.key_file, &self.client_ca_file];
        for name in named.into_iter().flatten().filter(|name| !name.value.is_empty()) {
            files.watch(&relative(source.path, &name.value));
        }
    }
}

/// Accepts TLS as `section` says.
pub(super) fn acceptor(section: &TlsSection, source: &Source<'_>) -> Result<TlsAcceptor> {
    let certificate = Pem::of(source, (&section.cert_file, "cert_file"), (&section.cert, "cert"))?;
    let key = Pem::of(source, (&section.key_file, "key_file"), (&section.key, "key"))?;
    let missing = |what| {
        let path = source.path.display();
        anyhow!(
            "{path}: tls_server_config has no {what}_file or {what}: TLS takes a certificate and its key"
        )
    };
    let certificate = certificate.ok_or_else(|| missing("cert"))?;
    let key = key.ok_or_else(|| missing("key"))?;
    let provider = Arc::new(provider(section, source)?);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(section, source)?)
        .with_context(|| {
            format!("{}: cipher_suites has none for these versions of TLS", source.path.display())
        })?;
    let builder = match client_verifier(section, source, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(certificate.certificates(source)?, key.key(source)?)
        .map_err(|error| key.wrong(source, &anyhow!("not the key of the certificate: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = section.prefer_server_cipher_suites.unwrap_or(true);
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn provider(section: &TlsSection, source: &Source<'_>) -> Result<CryptoProvider> {
    let mut provider = ring::default_provider();
    if let Some(names) = section.cipher_suites.as_ref().filter(|names| !names.is_empty()) {
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        for name in names {
            if let Some((_, suite)) = SUITES.iter().find(|(known, _)| *known == name.value) {
                provider.cipher_suites.push(*suite);
            } else if !SUITES_13.contains(&name.value.as_str()) {
                let known: Vec<_> =
                    SUITES.iter().map(|(known, _)| *known).chain(SUITES_13).collect();
                return Err(unknown(source, name, "cipher_suites", &known));
            }
        }
    }
    if let Some(names) = section.curve_preferences.as_ref().filter(|names| !names.is_empty()) {
        let all: Vec<&dyn SupportedKxGroup> = std::mem::take(&mut provider.kx_groups);
        for name in names {
            let group = GROUPS.iter().find(|(known, _)| *known == name.value);
            let group = group.and_then(|(_, group)| all.iter().find(|one| one.name() == *group));
            match group {
                Some(group) => provider.kx_groups.push(*group),
                None => {
                    return Err(unknown(
                        source,
                        name,
                        "curve_preferences",
                        &GROUPS.map(|(known, _)| known),
                    ));
                }
            }
        }
    }
    Ok(provider)
}

fn versions(
    section: &TlsSection,
    source: &Source<'_>,
) -> Result<Vec<&'static SupportedProtocolVersion>> {
    let version = |text: &Text, key, default| match text {
        None => Ok(default),
        Some(text) => match text.value.as_str() {
            "TLS12" => Ok(2),
            "TLS13" => Ok(3),
            _ => Err(unknown(source, text, key, &["TLS12", "TLS13"])),
        },
    };
    let least = version(&section.min_version, "min_version", 2)?;
    let most = version(&section.max_version, "max_version", 3)?;
    let all = [(2, &TLS12), (3, &TLS13)];
    let versions: Vec<_> =
        all.into_iter().filter(|(minor, _)| (least..=most).contains(minor)).collect();
    match &section.min_version {
        Some(text) if versions.is_empty() => {
            Err(source.wrong(text, "min_version", "is above max_version"))
        }
        _ => Ok(versions.into_iter().map(|(_, version)| version).collect()),
    }
}

fn client_verifier(
    section: &TlsSection,
    source: &Source<'_>,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>> {
    const KEY: &str = "client_auth_type";
    const KNOWN: [&str; 3] = ["NoClientCert", "VerifyClientCertIfGiven", REQUIRE];
    let roots = Pem::of(
        source,
        (&section.client_ca_file, "client_ca_file"),
        (&section.client_ca, "client_ca"),
    )?;
    let names = section.client_allowed_sans.as_deref().unwrap_or_default();
    let kind = section.client_auth_type.as_ref().filter(|kind| !kind.value.is_empty());
    let (kind, is_required) = match kind.map(|kind| (kind, kind.value.as_str())) {
        None | Some((_, "NoClientCert")) => {
            let what = "client_auth_type says that no certificate is asked for: expected RequireAndVerifyClientCert";
            if let Some(roots) = roots {
                return Err(roots.wrong(source, &anyhow!(what)));
            }
            let named = names.first().map(|name| source.wrong(name, "client_allowed_sans", what));
            return named.map_or(Ok(None), Err);
        }
        Some((kind, "VerifyClientCertIfGiven")) => (kind, false),
        Some((kind, REQUIRE)) => (kind, true),
        Some((kind, "RequestClientCert" | "RequireAnyClientCert" | "RequireClientCert")) => {
            let what = format!(
                "certificates that are not verified prove nothing: expected one of {KNOWN:?}"
            );
            return Err(source.wrong(kind, KEY, what));
        }
        Some((kind, _)) => return Err(unknown(source, kind, KEY, &KNOWN)),
    };
    let Some(pem) = roots else {
        let what =
            "client_ca_file or client_ca is missing, which clients' certificates are verified by";
        return Err(source.wrong(kind, KEY, what));
    };
    let mut roots = RootCertStore::empty();
    for certificate in pem.certificates(source)? {
        roots.add(certificate).map_err(|error| pem.wrong(source, &anyhow!(error)))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if is_required { builder } else { builder.allow_unauthenticated() };
    let inner = builder.build().map_err(|error| pem.wrong(source, &anyhow!(error)))?;
    if names.is_empty() {
        return Ok(Some(inner));
    }
    if let Some(mail) =
        names.iter().find(|name| name.value.contains('@') && !name.value.contains(':'))
    {
        let what =
            "addresses of e-mail are not compared: expected names of hosts, IP addresses or URIs";
        return Err(source.wrong(mail, "client_allowed_sans", what));
    }
    let names = names.iter().map(|name| name.value.clone()).collect();
    Ok(Some(Arc::new(Named { inner, names })))
}

fn unknown(
    source: &Source<'_>,
    value: &Spanned<String>,
    key: &str,
    known: &[&str],
) -> anyhow::Error {
    let shown = printable(&value.value, name::LONGEST);
    source.wrong(value, key, format_args!("`{shown}` is not supported: expected one of {known:?}"))
}
