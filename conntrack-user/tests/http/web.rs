//! TLS and passwords.

use std::{fs, path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conntrack_user::http::{Limits, Refusal, Web};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
        version::{TLS12, TLS13},
    },
};

use crate::support::{Client, Running, until};

/// Who certifies servers and clients of a test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for `names` and its key, in PEM.
    fn certify(&self, names: Vec<SanType>) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.subject_alt_names = names;
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// A folder with a server's certificate, its key, and the authority's certificate.
    pub(crate) fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        self.renew(folder.path());
        fs::write(folder.path().join("ca"), self.0.pem()).unwrap();
        folder
    }

    fn renew(&self, folder: &Path) {
        let (certificate, key) = self.certify(vec![dns("localhost")]);
        fs::write(folder.join("crt"), certificate).unwrap();
        fs::write(folder.join("key"), key).unwrap();
    }

    /// A client that trusts it and shows `shown`.
    pub(crate) fn client(
        &self,
        shown: Option<&(String, String)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn load(folder: &Path, text: &str) -> Web {
    let path = folder.join("web.yml");
    fs::write(&path, text).unwrap();
    Web::load(&path).unwrap()
}

pub(crate) const PAIR: &str = "tls_server_config:\n  cert_file: crt\n  key_file: key\n";

async fn handshake(
    server: &Running,
    connector: TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.socket()).await.unwrap();
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The code of `/metrics`, none if the handshake or what follows fails: in TLS 1.3 a client is refused after its side
/// of it.
async fn code(server: &Running, connector: TlsConnector) -> Option<u16> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = handshake(server, connector).await.ok()?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    String::from_utf8(answer).unwrap().split(' ').nth(1)?.parse().ok()
}

#[tokio::test]
async fn tls_is_served_in_both_versions() {
    let authority = Authority::new();
    let folder = authority.folder();
    let server = Running::start(load(folder.path(), PAIR), Limits::default());
    for (version, expected) in
        [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        let stream = handshake(&server, authority.client(None, &[version])).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(expected));
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut client = Client::new(stream);
        for _ in 0..2 {
            assert_eq!(client.get("/metrics", "").await.code, 200);
        }
        assert_eq!(client.get("/big", "Connection: close\r\n").await.code, 200);
        client.closed().await;
    }
    // What is no TLS is no handshake, and the next one is served.
    let mut plain = server.connect().await;
    plain.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(plain.rest().await < 16, "an alert at the most");
    server.until_refused(Refusal::Handshake, 1).await;
    assert_eq!(code(&server, authority.client(None, &[&TLS13])).await, Some(200));
}

#[tokio::test]
async fn versions_and_suites_are_those_of_the_file() {
    let authority = Authority::new();
    let folder = authority.folder();
    let text = format!("{PAIR}  min_version: TLS13\n");
    let server = Running::start(load(folder.path(), &text), Limits::default());
    assert_eq!(code(&server, authority.client(None, &[&TLS12])).await, None);
    assert_eq!(code(&server, authority.client(None, &[&TLS13])).await, Some(200));
    let suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let text = format!("{PAIR}  max_version: TLS12\n  cipher_suites: [{suite}]\n");
    let server = Running::start(load(folder.path(), &text), Limits::default());
    assert_eq!(code(&server, authority.client(None, &[&TLS13])).await, None);
    let stream = handshake(&server, authority.client(None, &[&TLS12, &TLS13])).await.unwrap();
    let negotiated = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(negotiated.as_str(), Some(suite));
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    let authority = Authority::new();
    let folder = authority.folder();
    let limits = Limits { handshake_time: Duration::from_millis(50), ..Limits::default() };
    let server = Running::start(load(folder.path(), PAIR), limits);
    let mut silent = server.connect().await;
    let mut begun = server.connect().await;
    // The head of a record with a ClientHello of 512 bytes.
    begun.send([22, 3, 1, 2, 0, 1, 0]).await;
    silent.closed().await;
    begun.closed().await;
    server.until_refused(Refusal::HandshakeTime, 2).await;
}

#[tokio::test]
async fn clients_are_asked_for_their_certificates() {
    let authority = Authority::new();
    let folder = authority.folder();
    let address = SanType::IpAddress([192, 0, 2, 1].into());
    let uri = SanType::URI("spiffe://node/ctmon".try_into().unwrap());
    let mail = SanType::Rfc822Name("a@example.org".try_into().unwrap());
    let shown = [dns("scraper"), dns("other"), address, uri, mail]
        .map(|name| Some(authority.certify(vec![name])));
    let foreign = Authority::new().certify(vec![dns("scraper")]);
    let shown = shown.into_iter().chain([Some(foreign), None]).collect::<Vec<_>>();
    let base = format!("{PAIR}  client_ca_file: ca\n");
    let named = "  client_allowed_sans: [scraper, 192.0.2.1, 'spiffe://node/ctmon']\n";
    let cases = [
        ("RequireAndVerifyClientCert", "", [true, true, true, true, true, false, false]),
        ("VerifyClientCertIfGiven", "", [true, true, true, true, true, false, true]),
        ("RequireAndVerifyClientCert", named, [true, false, true, true, false, false, false]),
    ];
    for (kind, more, expected) in cases {
        let text = format!("{base}  client_auth_type: {kind}\n{more}");
        let server = Running::start(load(folder.path(), &text), Limits::default());
        for version in [&TLS12, &TLS13] {
            for (shown, expected) in shown.iter().zip(expected) {
                let connector = authority.client(shown.as_ref(), &[version]);
                let expected = expected.then_some(200);
                assert_eq!(code(&server, connector).await, expected, "{kind} {more}{shown:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections() {
    let authority = Authority::new();
    let folder = authority.folder();
    let web = load(folder.path(), PAIR);
    let server = Running::start(web.clone(), Limits::default());
    let mut shown = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let stream = handshake(&server, authority.client(None, &[&TLS13])).await.unwrap();
        shown.push(stream.get_ref().1.peer_certificates().unwrap()[0].clone());
        kept.push(Client::new(stream));
        authority.renew(folder.path());
        web.reload().unwrap();
    }
    assert_ne!(shown[0], shown[1]);
    for mut client in kept {
        assert_eq!(client.get("/metrics", "").await.code, 200);
    }
    fs::write(folder.path().join("key"), "").unwrap();
    assert!(web.reload().is_err());
    assert_eq!(code(&server, authority.client(None, &[&TLS13])).await, Some(200));
}

pub(crate) fn login(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

pub(crate) fn users(users: &[(&str, &str, u32)]) -> String {
    let line = |(name, password, cost): &(&str, &str, u32)| {
        format!("  {name}: {}\n", bcrypt::hash(password, *cost).unwrap())
    };
    format!("basic_auth_users:\n{}", users.iter().map(line).collect::<String>())
}

#[tokio::test]
async fn passwords_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let web = load(folder.path(), &users(&[("alice", "secret", 4), ("bob", "other", 5)]));
    let server = Running::start(web.clone(), Limits::default());
    let mut client = server.connect().await;
    let answer = client.get("/metrics", "").await;
    assert_eq!((answer.code, answer.field("www-authenticate")), (401, Some("Basic")));
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
    for (user, password, expected) in [
        ("alice", "secret", 200),
        ("alice", "other", 401),
        ("alice", "", 401),
        ("alice", "secret", 200),
        ("bob", "other", 200),
        ("bob", "secret", 401),
        ("carol", "secret", 401),
        ("", "", 401),
    ] {
        let answer = client.get("/metrics", &login(user, password)).await;
        assert_eq!(answer.code, expected, "{user}:{password}");
    }
    // Nor is anything else told to those who may not ask.
    assert_eq!(client.get("/nowhere", "").await.code, 401);
    load(folder.path(), &users(&[("alice", "new", 4)]));
    web.reload().unwrap();
    for (user, password, expected) in
        [("alice", "secret", 401), ("alice", "new", 200), ("bob", "other", 401)]
    {
        assert_eq!(client.get("/metrics", &login(user, password)).await.code, expected, "{user}");
    }
}

#[tokio::test]
async fn many_wrong_passwords_do_not_keep_others_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let web = load(folder.path(), &users(&[("alice", "secret", 8)]));
    let server = Running::start(web, Limits::default());
    let mut alice = server.connect().await;
    assert_eq!(alice.get("/metrics", &login("alice", "secret")).await.code, 200);
    let mut others = Vec::new();
    for number in 0..30 {
        let mut client = server.connect().await;
        let login = login("alice", &number.to_string());
        client.send(format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{login}\r\n")).await;
        others.push(client);
    }
    // Refused at once, because checks of some are running or waiting.
    until(|| server.answered(503) > 0).await;
    let wrong = server.answered(401);
    assert_eq!(alice.get("/metrics", &login("alice", "secret")).await.code, 200);
    // Her password is remembered: none of the checks had to end for it.
    assert!(wrong < 30);
    let mut codes = Vec::new();
    for mut client in others {
        codes.push(client.answer().await.code);
    }
    assert!(codes.iter().all(|code| matches!(code, 401 | 503)), "{codes:?}");
    assert!(codes.contains(&401), "{codes:?}");
}

#[tokio::test]
async fn a_password_that_is_being_checked_is_answered_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let web = load(folder.path(), &users(&[("alice", "secret", 4)]));
    let server = Running::start(web, Limits::default());
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(server.connect().await);
    }
    let login = login("alice", "secret");
    for client in &mut clients {
        client.send(format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{login}\r\n")).await;
    }
    // One finds four others waiting: these are in flight, unless the check has ended already.
    until(|| server.answered(503) + server.answered(200) > 0).await;
    let in_flight = server.answered(200) == 0;
    let end = server.stop();
    for client in &mut clients {
        let answer = client.answer().await;
        assert!(matches!(answer.code, 200 | 503), "{answer:?}");
        let is_closed = answer.field("connection") == Some("close");
        assert!(!in_flight || is_closed == (answer.code == 200), "{answer:?}");
    }
    end.await.unwrap().unwrap();
}

#[tokio::test]
async fn headers_and_rate_are_those_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Strict-Transport-Security: max-age=1\n\
                rate_limit: { interval: 1h, burst: 2 }\n";
    let server = Running::start(load(folder.path(), text), Limits::default());
    let codes = [server.get("").await, server.get("").await, server.get("").await].map(|answer| {
        assert_eq!(answer.field("x-frame-options"), Some("deny"));
        assert_eq!(answer.field("strict-transport-security"), Some("max-age=1"));
        answer.code
    });
    assert_eq!(codes, [200, 200, 429]);
}
