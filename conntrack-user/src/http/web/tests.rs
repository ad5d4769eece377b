use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;

/// bcrypt of `secret` at cost 4.
fn hash() -> String {
    bcrypt::hash("secret", 4).unwrap()
}

/// A folder with a certificate `crt` and its key `key`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    folder
}

fn certify(folder: &Path) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("crt"), cert.pem()).unwrap();
    fs::write(folder.join("key"), signing_key.serialize_pem()).unwrap();
}

fn load(folder: &Path, text: &str) -> Result<Web> {
    let path = folder.join("web.yml");
    fs::write(&path, text).unwrap();
    Web::load(&path)
}

#[test]
fn what_the_format_has_is_taken() {
    let folder = folder();
    let inline = |name: &str| {
        fs::read_to_string(folder.path().join(name)).unwrap().replace('\n', "\n      ")
    };
    let absolute = folder.path().join("crt").display().to_string();
    let cases = [
        String::new(),
        "# nothing\n".to_owned(),
        "---\n".to_owned(),
        "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\nrate_limit:\n".to_owned(),
        "tls_server_config: { cert_file: crt, key_file: key }".to_owned(),
        format!("tls_server_config:\n  cert_file: {absolute}\n  key_file: \"key\"\n  cert: ''\n"),
        format!("tls_server_config:\n  cert: |\n      {}\n  key: |\n      {}\n", inline("crt"), inline("key")),
        "tls_server_config:\n  cert_file: crt\n  key_file: key\n  client_auth_type: RequireAndVerifyClientCert\n  \
         client_ca_file: crt\n  client_allowed_sans: [host, 192.0.2.1, 'spiffe://node/a']\n  min_version: TLS12\n  \
         max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]\n  \
         prefer_server_cipher_suites: false\n  curve_preferences: [X25519, CurveP256, CurveP384]\n"
            .to_owned(),
        "tls_server_config: { cert_file: crt, key_file: key, client_auth_type: '', client_ca_file: '' }".to_owned(),
        "http_server_config:\n  http2: false\n  headers:\n    Content-Security-Policy: default-src 'self'\n    \
         X-Frame-Options: deny\n    X-Content-Type-Options: nosniff\n    X-XSS-Protection: \"1\"\n    \
         Strict-Transport-Security: ''\n"
            .to_owned(),
        format!("basic_auth_users:\n  alice: {}\n  'bob b': {}\n", hash(), hash().replace("$2b$", "$2y$")),
        "rate_limit: { interval: 0, burst: 1 }".to_owned(),
        "rate_limit: { interval: \"100ms\", burst: 20 }".to_owned(),
    ];
    for text in cases {
        load(folder.path(), &text).unwrap_or_else(|error| panic!("{text}\n{error:#}"));
    }
}

#[test]
fn what_is_wrong_is_named_with_line_and_key() {
    let folder = folder();
    certify(tempfile::tempdir().unwrap().path());
    let other = self::folder();
    let foreign = other.path().join("key").display().to_string();
    fs::write(folder.path().join("empty"), "").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    let pair = "tls_server_config:\n  cert_file: crt\n  key_file: key\n";
    let cases = [
        ("a: b\n".to_owned(), ":1: ", "unknown field `a`"),
        ("# c\n\nbasic_auth_user:\n".to_owned(), ":3: ", "basic_auth_users"),
        ("tls_server_config:\n  cert_fil: crt\n".to_owned(), ":2: ", "cert_file"),
        ("http_server_config:\n  headers:\n    X-Other: a\n".to_owned(), ":3: ", "X-Frame-Options"),
        ("- a\n".to_owned(), ":1: ", ""),
        ("basic_auth_users: [\n".to_owned(), ":", ""),
        ("basic_auth_users:\n  a: b\n  a: c\n".to_owned(), ":3: ", "duplicate mapping key `a`"),
        (
            "tls_server_config: { min_version: TLS12 }\n".to_owned(),
            "web.yml: ",
            "cert_file or cert",
        ),
        ("tls_server_config: { cert_file: crt }\n".to_owned(), "web.yml: ", "key_file or key"),
        (
            "tls_server_config:\n  key_file: key\n  cert_file: none\n".to_owned(),
            ":3: cert_file: ",
            "cannot read",
        ),
        (
            "tls_server_config:\n  key_file: key\n  cert_file: empty\n".to_owned(),
            ":3: cert_file: ",
            "no certificate",
        ),
        (
            "tls_server_config:\n  key_file: key\n  cert_file: folder\n".to_owned(),
            ":3: cert_file: ",
            "no regular file",
        ),
        (
            "tls_server_config:\n  cert_file: crt\n  key_file: crt\n".to_owned(),
            ":3: key_file: ",
            "no private key",
        ),
        (
            format!("tls_server_config:\n  cert_file: crt\n  key_file: {foreign}\n"),
            ":3: key_file: ",
            "not the key",
        ),
        (format!("{pair}  cert: x\n"), ":4: cert: ", "cert_file is given, too"),
        (format!("{pair}  min_version: TLS10\n"), ":4: min_version: ", "\"TLS12\", \"TLS13\""),
        (format!("{pair}  max_version: SSL30\n"), ":4: max_version: ", "\"TLS12\", \"TLS13\""),
        (
            format!("{pair}  max_version: TLS12\n  min_version: TLS13\n"),
            ":5: min_version: ",
            "above max_version",
        ),
        (
            format!(
                "{pair}  cipher_suites:\n  - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\n  - TLS_RSA_WITH_AES_128_CBC_SHA\n"
            ),
            ":6: cipher_suites: ",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        ),
        (
            format!("{pair}  cipher_suites: [TLS_AES_128_GCM_SHA256]\n  max_version: TLS12\n"),
            "cipher_suites has none",
            "",
        ),
        (
            format!("{pair}  curve_preferences: [CurveP521]\n"),
            ":4: curve_preferences: ",
            "CurveP384",
        ),
        (
            format!("{pair}  client_auth_type: RequestClientCert\n"),
            ":4: client_auth_type: ",
            "prove nothing",
        ),
        (
            format!("{pair}  client_auth_type: Maybe\n"),
            ":4: client_auth_type: ",
            "VerifyClientCertIfGiven",
        ),
        (
            format!("{pair}  client_auth_type: RequireAndVerifyClientCert\n"),
            ":4: client_auth_type: ",
            "client_ca_file or client_ca is missing",
        ),
        (
            format!("{pair}  client_ca_file: crt\n"),
            ":4: client_ca_file: ",
            "RequireAndVerifyClientCert",
        ),
        (
            format!("{pair}  client_allowed_sans: [a]\n"),
            ":4: client_allowed_sans: ",
            "RequireAndVerifyClientCert",
        ),
        (
            format!(
                "{pair}  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: crt\n  client_allowed_sans:\n  \
                 - a@example.org\n"
            ),
            ":7: client_allowed_sans: ",
            "e-mail",
        ),
        (
            format!("{pair}  prefer_server_cipher_suites: perhaps\n"),
            ":4: prefer_server_cipher_suites: ",
            "bool",
        ),
        (
            format!("{pair}  curve_preferences: [\"a\\nb\\e[2J\"]\n"),
            ":4: curve_preferences: ",
            "`a?b?[2J` is not supported",
        ),
        ("http_server_config:\n  http2: true\n".to_owned(), ":2: http2: ", "HTTP/1.1 only"),
        (
            "http_server_config: { headers: { X-Frame-Options: a } }\n".to_owned(),
            ":1: X-Frame-Options: ",
            "sameorigin",
        ),
        (
            "http_server_config: { headers: { X-XSS-Protection: \"a\\nb\" } }\n".to_owned(),
            ":1: X-XSS",
            "visible",
        ),
        (
            "basic_auth_users:\n  alice: secret\n".to_owned(),
            ":2: ",
            "password of `alice`: no hash by bcrypt",
        ),
        (
            format!("basic_auth_users:\n  alice: {}\n", hash().replace("$04$", "$17$")),
            ":2: ",
            "its cost 17 is more than 16",
        ),
        ("rate_limit: { interval: soon, burst: 1 }\n".to_owned(), ":1: interval: ", "such as 1s"),
        ("rate_limit:\n  interval: 1s\n  burst: 0\n".to_owned(), ":3: burst: ", "at least 1"),
        ("rate_limit:\n  interval: 1s\n".to_owned(), ":2: interval: ", "burst is missing"),
        ("rate_limit:\n  interval: 1s\n  burst: -1\n".to_owned(), ":3: burst: ", ""),
    ];
    for (text, place, expected) in cases {
        let Err(error) = load(folder.path(), &text) else { panic!("taken:\n{text}") };
        let error = format!("{error:#}");
        assert!(error.contains(place) && error.contains(expected), "{text}\n{error}");

        assert!(error.contains("web.yml"), "{error}");
        assert!(!error.contains("secret") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn no_error_shows_a_secret() {
    let folder = folder();
    for text in [
        "basic_auth_users:\n  alice: hunter2\n",
        "basic_auth_users:\n  alice: [hunter2]\n",
        "basic_auth_users: hunter2\n",
        "tls_server_config:\n  key: hunter2\n  cert_file: crt\n",
        "tls_server_config:\n  key: 'hunter2\n",
        // Files that were given by mistake.
        "root:$6$hunter2$x:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
        "root:$6$hunter2$x:19000:0:99999:7:::",
        "root: $6$hunter2\n",
        "$6$hunter2: 1\n",
        "\"$6$hunter2\"\n",
        "- $6$hunter2\n",
        "rate_limit: { burst: $6$hunter2 }\n",
        "http_server_config: { http2: $6$hunter2 }\n",
        "tls_server_config: { cipher_suites: \"$6$hunter2 it's\" }\n",
        "PASSWORD=$6$hunter2\n",
        "-----BEGIN PRIVATE KEY-----\n$6$hunter2\n",
    ] {
        let error = load(folder.path(), text).err().unwrap();
        assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
    }
}

#[test]
fn a_changed_file_is_read_anew_and_a_broken_one_is_not_used() {
    let folder = folder();
    let web = load(folder.path(), "tls_server_config: { cert_file: crt, key_file: key }").unwrap();
    let said = Arc::new(Mutex::new(Vec::new()));
    let hears = said.clone();
    let say: Say =
        Arc::new(move |notice| lock(&hears).push((notice.is_warning(), notice.to_string())));
    let looks = AtomicUsize::new(0);
    // What is in force after the next look, and what was said of it.
    let look = || {
        let now = Instant::now() + LOOK * (1 + looks.fetch_add(1, Relaxed) as u32);
        (web.at(now, &say), std::mem::take(&mut *lock(&said)))
    };
    let (first, notices) = look();
    assert_eq!(notices, []);
    let is_same = |a: &Arc<Config>, b: &Arc<Config>| Arc::ptr_eq(a, b);
    // A new certificate, whose key is not there yet.
    let new = self::folder();
    fs::copy(new.path().join("crt"), folder.path().join("crt")).unwrap();
    let (kept, notices) = look();
    assert!(is_same(&first, &kept));
    assert!(notices.len() == 1 && notices[0].0 && notices[0].1.contains("key_file"), "{notices:?}");
    // Said once.
    assert_eq!(look().1, []);
    fs::copy(new.path().join("key"), folder.path().join("key")).unwrap();
    let (second, notices) = look();
    assert!(!is_same(&first, &second));
    assert!(
        notices.len() == 1 && !notices[0].0 && notices[0].1.contains("read anew"),
        "{notices:?}"
    );
    // The file itself goes, and comes back otherwise.
    let path = folder.path().join("web.yml");
    fs::remove_file(&path).unwrap();
    let (kept, notices) = look();
    assert!(is_same(&second, &kept) && notices.len() == 1 && notices[0].0, "{notices:?}");
    fs::write(&path, "").unwrap();
    let (third, notices) = look();
    assert!(third.tls().is_none() && notices.len() == 1 && !notices[0].0, "{notices:?}");
    // Before it is time, nothing is looked at.
    fs::write(&path, "nonsense").unwrap();
    let before = web.at(Instant::now(), &say);
    assert!(is_same(&third, &before) && lock(&said).is_empty());
    assert!(web.reload().is_err());
    assert!(is_same(&third, &web.at(Instant::now(), &say)));
}
