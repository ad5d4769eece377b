//! What the HTTP server counts.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::family::{Family, Sample};
use crate::http::{Counters, Refusal};

const OPEN: Family = Family::gauge("ctmon_http_connections", "Connections that are open.");
const ACCEPTED: Family =
    Family::counter("ctmon_http_connections_accepted", "Connections that were taken.");
const REFUSED: Family = Family::counter(
    "ctmon_http_connections_refused",
    "Connections that were closed or not taken because of a limit, by reason.",
);
const REQUESTS: Family =
    Family::counter("ctmon_http_requests", "Requests, by the code of their answer.");

pub(super) const FAMILIES: [Family; 4] = [OPEN, ACCEPTED, REFUSED, REQUESTS];

/// Writes them all.
pub(super) fn write(counters: &Counters, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    OPEN.write(encoder, &[Sample::of(counters.open())])?;
    ACCEPTED.write(encoder, &[Sample::of(counters.accepted())])?;
    let refused =
        Refusal::ALL.map(|why| Sample::of(counters.refused(why)).with("reason", why.name()));
    REFUSED.write(encoder, &refused)?;
    let requests: Vec<Sample<'_>> = counters
        .answered()
        .map(|(code, count)| {
            let code = code.map_or_else(|| "other".to_owned(), |code| code.to_string());
            Sample::of(count).with("code", code)
        })
        .collect();
    REQUESTS.write(encoder, &requests)
}
