//! Compressed answers.

use std::{
    io::{self, Write as _},
    sync::Mutex,
};

use ::http::{HeaderMap, header::ACCEPT_ENCODING};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use super::lock;

/// Shorter bodies are sent as they are: they fit into one packet.
const LEAST: usize = 1024;

/// Bodies whose compressed form is kept.
const KEPT: usize = 4;

/// Bodies and their compressed forms, the newest last.
#[derive(Default)]
pub(super) struct Compressed(Mutex<Vec<(Bytes, Bytes)>>);

impl Compressed {
    /// `body` compressed, if that is of use. A body that was given before, the same memory, is not compressed again.
    pub(super) fn get(&self, body: &Bytes) -> Option<Bytes> {
        if body.len() < LEAST {
            return None;
        }
        let mut kept = lock(&self.0);
        // The memory of a body that is kept is not used for another one.
        let same = |(plain, _): &&(Bytes, Bytes)| {
            plain.as_ptr() == body.as_ptr() && plain.len() == body.len()
        };
        if let Some((_, compressed)) = kept.iter().find(same) {
            return Some(compressed.clone());
        }
        let compressed = compress(body).ok()?;
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((body.clone(), compressed.clone()));
        Some(compressed)
    }
}

fn compress(body: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

/// Whether a client asks for gzip: names it, and not with weight 0.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        is_gzip && weight.is_none_or(|weight| weight.parse().is_ok_and(|weight: f32| weight > 0.0))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn gzip_is_asked_for_by_name() {
        for (value, expected) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("gzip;q=nonsense", false),
            ("*", false),
            ("identity", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())]);
            assert_eq!(is_asked_for(&headers), expected, "{value}");
        }
        assert!(!is_asked_for(&HeaderMap::new()));
    }

    #[test]
    fn a_body_is_compressed_once() {
        let compressed = Compressed::default();
        assert_eq!(compressed.get(&Bytes::from_static(b"short")), None);
        let body = Bytes::from("ctmon_entries{netns=\"4026531840\"} 1\n".repeat(100));
        let first = compressed.get(&body).unwrap();
        assert!(first.len() * 10 < body.len(), "{} of {}", first.len(), body.len());
        assert_eq!(compressed.get(&body.clone()).unwrap().as_ptr(), first.as_ptr());
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&first[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, body);
        // The same text elsewhere is another body; a few are kept.
        for _ in 0..2 * KEPT {
            let other = compressed.get(&Bytes::from(body.to_vec())).unwrap();
            assert_ne!(other.as_ptr(), first.as_ptr());
        }
        assert_eq!(compressed.0.lock().unwrap().len(), KEPT);
    }
}
