//! A metric and its samples, as the library for them takes it.

use std::{borrow::Cow, fmt};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet},
    metrics::MetricType,
};

/// What is said of a metric wherever it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name; a counter's without `_total`, which is appended.
    pub name: &'static str,
    /// What it means, with its unit.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
}

/// Kinds of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until counting begins anew.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A label and its value.
pub type Label<'a> = (&'static str, Cow<'a, str>);

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    /// Which one of its family.
    pub labels: Vec<Label<'a>>,
    /// Never NaN: what is not known has no sample.
    pub value: Value,
}

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// What was counted.
    Count(u64),
    /// A difference.
    Signed(i64),
    /// All else.
    Float(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<i64> for Value {
    fn from(difference: i64) -> Self {
        Self::Signed(difference)
    }
}

impl From<f64> for Value {
    fn from(float: f64) -> Self {
        Self::Float(float)
    }
}

impl<'a> Sample<'a> {
    /// One without labels.
    pub fn of(value: impl Into<Value>) -> Self {
        Self { labels: Vec::new(), value: value.into() }
    }

    /// The same with one more label.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'a, str>>) -> Self {
        self.labels.push((name, value.into()));
        self
    }
}

struct Labels<'a>(&'a [Label<'a>]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> fmt::Result {
        let labels: Vec<(&str, &str)> =
            self.0.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        labels.encode(encoder)
    }
}

impl Family {
    /// A counter; `name` without `_total`.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter }
    }

    /// A gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge }
    }

    /// Writes all samples of the family; nothing where there are none.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn write(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        samples: &[Sample<'_>],
    ) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let mut family = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for sample in samples {
            let labels = Labels(&sample.labels);
            let mut encoder = family.encode_family(&labels)?;
            match (self.kind, sample.value) {
                (Kind::Gauge, Value::Count(value)) => encoder.encode_gauge(&value)?,
                (Kind::Gauge, Value::Signed(value)) => encoder.encode_gauge(&value)?,
                (Kind::Gauge, Value::Float(value)) => encoder.encode_gauge(&value)?,
                (Kind::Counter, Value::Count(value)) => {
                    encoder.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
                }
                (Kind::Counter, Value::Signed(value)) => {
                    encoder.encode_counter::<NoLabelSet, f64, f64>(&(value as f64), None)?;
                }
                (Kind::Counter, Value::Float(value)) => {
                    encoder.encode_counter::<NoLabelSet, f64, f64>(&value, None)?;
                }
            }
        }
        Ok(())
    }
}
