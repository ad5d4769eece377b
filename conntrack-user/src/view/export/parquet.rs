//! Tables as Apache Parquet.

use std::{io::Write, sync::Arc};

use anyhow::{Context as _, Result};
use parquet::{
    basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::Type,
};
use serde_json::Value;

use super::{Column, Kind};

/// Rows of a row group: they are in memory until it is whole.
const ROWS: usize = 8192;

/// A table that is being written.
pub(super) struct Writer<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Cells>,
}

/// Values of a column, without those that are null, and which ones those are.
struct Cells {
    present: Vec<i16>,
    values: Values,
}

enum Values {
    /// Bits of signed or unsigned numbers.
    Int(Vec<i64>),
    Float(Vec<f64>),
    Bool(Vec<bool>),
    Text(Vec<ByteArray>),
}

impl Cells {
    fn new(kind: Kind) -> Self {
        let values = match kind {
            Kind::Unsigned | Kind::Signed => Values::Int(vec![]),
            Kind::Float => Values::Float(vec![]),
            Kind::Bool => Values::Bool(vec![]),
            Kind::Text => Values::Text(vec![]),
        };
        Self { present: vec![], values }
    }

    fn push(&mut self, cell: &Value) {
        let taken = match &mut self.values {
            Values::Int(values) => {
                let number = cell.as_i64().or_else(|| cell.as_u64().map(u64::cast_signed));
                number.map(|number| values.push(number))
            }
            Values::Float(values) => cell.as_f64().map(|number| values.push(number)),
            Values::Bool(values) => cell.as_bool().map(|flag| values.push(flag)),
            Values::Text(values) => cell.as_str().map(|text| values.push(text.into())),
        };
        self.present.push(i16::from(taken.is_some()));
    }
}

impl<W: Write + Send> Writer<W> {
    pub(super) fn new(columns: &[Column], out: W) -> Result<Self> {
        let fields = columns.iter().map(field).collect::<Result<_>>()?;
        let schema = Type::group_type_builder("ctmon").with_fields(fields).build()?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("ctmon ", env!("CARGO_PKG_VERSION")).into())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
        Ok(Self { file, columns: columns.iter().map(|column| Cells::new(column.kind)).collect() })
    }

    pub(super) fn row<'a>(&mut self, cells: impl Iterator<Item = &'a Value>) -> Result<()> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.push(cell);
        }
        let rows = self.columns.first().map_or(0, |column| column.present.len());
        if rows >= ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let mut group = self.file.next_row_group()?;
        for column in &mut self.columns {
            let mut writer = group.next_column()?.context("a column without a writer")?;
            let Cells { present, values } = column;
            match values {
                Values::Int(values) => write::<Int64Type>(&mut writer, values, present)?,
                Values::Float(values) => write::<DoubleType>(&mut writer, values, present)?,
                Values::Bool(values) => write::<BoolType>(&mut writer, values, present)?,
                Values::Text(values) => write::<ByteArrayType>(&mut writer, values, present)?,
            }
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        if self.columns.first().is_some_and(|column| !column.present.is_empty()) {
            self.flush()?;
        }
        self.file.close()?;
        Ok(())
    }
}

fn write<T: DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    values: &mut Vec<T::T>,
    present: &mut Vec<i16>,
) -> Result<()> {
    writer.typed::<T>().write_batch(values, Some(present), None)?;
    values.clear();
    present.clear();
    Ok(())
}

fn field(column: &Column) -> Result<Arc<Type>> {
    let (physical, logical) = match column.kind {
        Kind::Unsigned => (Physical::INT64, Some(LogicalType::integer(64, false))),
        Kind::Signed => (Physical::INT64, Some(LogicalType::integer(64, true))),
        Kind::Float => (Physical::DOUBLE, None),
        Kind::Bool => (Physical::BOOLEAN, None),
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
    };
    let field = Type::primitive_type_builder(column.name, physical)
        .with_logical_type(logical)
        .with_repetition(Repetition::OPTIONAL);
    Ok(Arc::new(field.build()?))
}
