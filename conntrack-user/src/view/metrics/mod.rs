//! Metrics for Prometheus, as text of either format: docs/metrics.md says what each means.

mod family;
mod flight;
mod high_water;
mod http;
mod kernel;
mod live;
mod netns;
mod node;
mod once;
mod own;
mod warned;

use std::{fmt, path::Path, sync::Arc, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text, text},
    registry::Registry,
};

pub use family::{Family, Kind, Label, Sample, Value};
pub use once::{NETNS_APART, once};

use crate::{
    daemon::{process::Process, shared::Shared},
    http::Counters,
};

/// The two formats that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format 0.0.4, which everything reads.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The one that the header `Accept` asks for.
    #[must_use]
    pub fn wanted(accept: &str) -> Self {
        // How much OpenMetrics is preferred to other kinds of text; none: not at all.
        let quality = |kind: &str| {
            let ranges = accept.split(',').map(|range| range.split(';').map(str::trim));
            let qualities = ranges.filter_map(|mut range| {
                (range.next() == Some(kind)).then(|| {
                    let quality = range.find_map(|parameter| parameter.strip_prefix("q="));
                    quality.and_then(|q| q.parse::<f64>().ok()).unwrap_or(1.0)
                })
            });
            qualities.fold(0.0, f64::max)
        };
        let open = quality("application/openmetrics-text");
        let is_open = open > 0.0 && open >= quality("text/plain");
        if is_open { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The header `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

#[derive(Debug)]
struct Tables(Shared);

impl Collector for Tables {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let latest = self.0.latest();
        node::write(&latest, &mut encoder)?;
        netns::write(&latest, &mut encoder)?;
        high_water::write(&latest, &mut encoder)?;
        kernel::write(&latest, &mut encoder)?;
        live::write(&latest, &mut encoder)?;
        warned::write(latest.told(), &mut encoder)
    }
}

#[derive(Debug)]
struct Own {
    started_seconds: f64,
}

impl Collector for Own {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let process = Process::read(Path::new("/proc/self")).ok();
        own::write(process, self.started_seconds, &mut encoder)
    }
}

#[derive(Debug)]
struct Answers(Arc<Counters>);

impl Collector for Answers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        http::write(&self.0, &mut encoder)
    }
}

impl Metrics {
    /// Those of what is shared, of the HTTP server, and of this process.
    #[must_use]
    pub fn new(shared: Shared, answers: Arc<Counters>) -> Self {
        let started_seconds = SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |now| now.as_secs_f64());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Tables(shared.clone())));
        registry.register_collector(Box::new(flight::Recorder(shared)));
        registry.register_collector(Box::new(Answers(answers)));
        registry.register_collector(Box::new(Own { started_seconds }));
        Self { registry }
    }

    /// All of them in one text.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn text(&self, format: Format) -> Result<String, fmt::Error> {
        let mut out = String::new();
        match format {
            Format::Prometheus => prometheus_text::encode(&mut out, &self.registry)?,
            Format::OpenMetrics => text::encode(&mut out, &self.registry)?,
        }
        Ok(out)
    }
}

/// Every metric that there may be.
pub fn families() -> impl Iterator<Item = Family> {
    let netns = netns::families().chain(high_water::FAMILIES).chain(kernel::families());
    let netns = netns.chain(live::FAMILIES).chain(warned::FAMILIES);
    let node = node::FAMILIES.into_iter().chain(netns).chain(flight::FAMILIES);
    node.chain(http::FAMILIES).chain(own::FAMILIES)
}

#[cfg(test)]
mod tests;
