//! An incident as a drawing: SVG, for light and for dark surroundings.

use anyhow::Result;
use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::record::{Alert, CRITICAL, Points, Record};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// In pixels: all of it, the panels one below the other, and what stands beside them.
const SIZE: (u32, u32) = (960, 690);
const ENTRIES: u32 = 230;
const SECONDS: u32 = 270;
const LEFT: u32 = 76;
const RIGHT: u32 = 196;
const AXIS: u32 = 28;
const ROW: i32 = 22;
const FONT: f64 = 13.0;

/// What is later is drawn there, in minutes.
const LATEST: f64 = 10.0;

const PAPER: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(28, 33, 38);
const DIM: RGBColor = RGBColor(94, 105, 115);
const GRID: RGBColor = RGBColor(217, 222, 226);
const OURS: RGBColor = RGBColor(20, 97, 168);
const LINE: RGBColor = RGBColor(201, 113, 0);
const FULL: RGBColor = RGBColor(197, 54, 43);

/// What stands for a colour where the surroundings are dark.
const DARK: [(RGBColor, RGBColor); 7] = [
    (PAPER, RGBColor(20, 24, 28)),
    (INK, RGBColor(228, 232, 235)),
    (DIM, RGBColor(147, 160, 170)),
    (GRID, RGBColor(50, 58, 65)),
    (OURS, RGBColor(109, 179, 242)),
    (LINE, RGBColor(240, 169, 74)),
    (FULL, RGBColor(239, 106, 95)),
];

/// Entries against the limit, seconds left as they were and as they were said, and when what alarmed.
pub(super) fn svg(record: &Record) -> Result<String> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    area.fill(&PAPER)?;
    let end = record.entries.last().map_or(1.0, |(time, _)| minutes(*time));
    let (upper, rest) = area.split_vertically(ENTRIES);
    let (middle, lower) = rest.split_vertically(SECONDS);
    entries(record, &upper, end)?;
    left(record, &middle, end)?;
    alarms(record, &lower, end)?;
    area.present()?;
    // They hold on to the text.
    drop((area, upper, rest, middle, lower));
    Ok(for_both(&text))
}

fn entries(record: &Record, area: &Area<'_>, end: f64) -> Result<()> {
    let limit = record.limit;
    let mut chart = chart(area, end, 1.4 * limit)?;
    mesh(&mut chart, "entries", &|entries| {
        if *entries > limit { String::new() } else { format!("{entries:.0}") }
    })?;
    for (begun, name) in &record.phases {
        let at = minutes(*begun);
        chart.draw_series(LineSeries::new([(at, 0.0), (at, 1.4 * limit)], DIM.mix(0.5)))?;
        for (number, part) in name.split(", ").enumerate() {
            let at = (at, limit * (1.38 - 0.13 * number as f64));
            let text = EmptyElement::at(at) + Text::new(part.to_owned(), (5, 0), font(DIM));
            chart.draw_series([text])?;
        }
    }
    chart.draw_series(DashedLineSeries::new(
        [(0.0, limit), (end, limit)],
        6,
        4,
        FULL.stroke_width(1),
    ))?;
    let points = record.entries.iter().map(|(time, entries)| (minutes(*time), *entries));
    chart.draw_series(LineSeries::new(points, OURS.stroke_width(2)))?;
    full(record, &mut chart, 1.4 * limit)?;
    key(area, 0, OURS, Mark::Line, "entries")?;
    key(area, 1, FULL, Mark::Dashes, "nf_conntrack_max")?;
    key(area, 2, FULL, Mark::Line, "when it was full")
}

fn left(record: &Record, area: &Area<'_>, end: f64) -> Result<()> {
    let mut chart = chart(area, end, LATEST)?;
    mesh(&mut chart, "until it is full", &|left| {
        if *left < LATEST { format!("{left:.0} min") } else { "later, never".to_owned() }
    })?;
    let forecast = &record.forecast;
    let above = drawn(&forecast.high);
    let below = drawn(&forecast.low).into_iter().rev();
    let band = above.into_iter().chain(below).collect::<Vec<_>>();
    chart.draw_series([Polygon::new(band, OURS.mix(0.22))])?;
    let styles = [Mark::Line, Mark::Dashes];
    for ((_, points), mark) in record.lines.iter().zip(styles) {
        mark.series(&mut chart, drawn(points), LINE)?;
    }
    Mark::Line.series(&mut chart, drawn(&forecast.median), OURS)?;
    if let Some(full) = record.full().map(minutes) {
        chart.draw_series(LineSeries::new([(0.0, full), (full, 0.0)], INK.stroke_width(2)))?;
    }
    full(record, &mut chart, LATEST)?;
    key(area, 0, INK, Mark::Line, "as it came")?;
    key(area, 1, OURS, Mark::Line, "ctmon, 50 %")?;
    key(area, 2, OURS, Mark::Band, "ctmon, 10 % to 90 %")?;
    for (number, ((range, _), mark)) in record.lines.iter().zip(styles).enumerate() {
        key(area, 3 + number as i32, LINE, mark, &format!("predict_linear, {range}"))?;
    }
    Ok(())
}

/// A row for each that fired, with its name at the right.
fn alarms(record: &Record, area: &Area<'_>, end: f64) -> Result<()> {
    let own =
        Alert { name: "ctmon itself: critical".to_owned(), firing: record.at_least(CRITICAL) };
    let rows: Vec<&Alert> = [&own].into_iter().chain(&record.alerts).collect();
    let count = rows.len() as f64;
    let tall = AXIS as i32 + ROW * rows.len() as i32;
    let (area, _) = area.split_vertically(tall + 8);
    let mut chart = chart(&area, end, count)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(DIM)
        .x_labels(10)
        .x_label_formatter(&|at| format!("{at:.0} min"))
        .x_label_style(font(DIM))
        .draw()?;
    for (number, alert) in rows.iter().enumerate() {
        let top = count - number as f64;
        let colour = if alert.name.starts_with("ctmon") || alert.name.starts_with("Ctmon") {
            OURS
        } else {
            LINE
        };
        for (began, ended) in &alert.firing {
            let corners = [(minutes(*began), top - 0.25), (minutes(*ended), top - 0.75)];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
        }
        let (width, _) = area.dim_in_pixel();
        let at = ((width - RIGHT) as i32 + 12, 8 + ROW * number as i32 + ROW / 2);
        area.draw(&Text::new(
            alert.name.clone(),
            at,
            font(INK).pos(Pos::new(HPos::Left, VPos::Center)),
        ))?;
    }
    full(record, &mut chart, count)
}

fn chart<'a, 'b>(area: &'a Area<'b>, end: f64, top: f64) -> Result<Chart<'a, 'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin_top(8).margin_right(RIGHT).x_label_area_size(AXIS).y_label_area_size(LEFT);
    Ok(builder.build_cartesian_2d(0.0..end, 0.0..top)?)
}

fn mesh(chart: &mut Chart<'_, '_>, what: &str, value: &dyn Fn(&f64) -> String) -> Result<()> {
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(DIM)
        .label_style(font(DIM))
        .x_labels(10)
        .y_labels(6)
        .x_label_formatter(&|at| format!("{at:.0} min"))
        .y_label_formatter(&|at| value(at))
        .y_desc(what)
        .axis_desc_style(font(INK))
        .draw()?;
    Ok(())
}

/// A line through all panels at that moment.
fn full(record: &Record, chart: &mut Chart<'_, '_>, top: f64) -> Result<()> {
    if let Some(full) = record.full().map(minutes) {
        chart.draw_series(LineSeries::new([(full, 0.0), (full, top)], FULL.stroke_width(1)))?;
    }
    Ok(())
}

/// How something is drawn.
#[derive(Clone, Copy)]
enum Mark {
    Line,
    Dashes,
    Band,
}

impl Mark {
    fn series(
        self,
        chart: &mut Chart<'_, '_>,
        points: Vec<(f64, f64)>,
        colour: RGBColor,
    ) -> Result<()> {
        match self {
            Self::Dashes => {
                chart.draw_series(DashedLineSeries::new(points, 4, 3, colour.stroke_width(2)))?
            }
            Self::Line | Self::Band => {
                chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            }
        };
        Ok(())
    }
}

/// What a mark means, at the right of a panel.
fn key(area: &Area<'_>, row: i32, colour: RGBColor, mark: Mark, name: &str) -> Result<()> {
    let (width, _) = area.dim_in_pixel();
    let (x, y) = ((width - RIGHT) as i32 + 12, 18 + ROW * row);
    let style = colour.stroke_width(2);
    match mark {
        Mark::Line => area.draw(&PathElement::new([(x, y), (x + 24, y)], style))?,
        Mark::Dashes => {
            for at in [x, x + 9, x + 18] {
                area.draw(&PathElement::new([(at, y), (at + 6, y)], style))?;
            }
        }
        Mark::Band => {
            area.draw(&Rectangle::new([(x, y - 6), (x + 24, y + 6)], colour.mix(0.22).filled()))?
        }
    }
    let style = font(INK).pos(Pos::new(HPos::Left, VPos::Center));
    Ok(area.draw(&Text::new(name.to_owned(), (x + 32, y), style))?)
}

fn font(colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", FONT).into_font().color(&colour)
}

fn minutes(seconds: f64) -> f64 {
    seconds / 60.0
}

/// In minutes, and no later than the end of the axis.
fn drawn(points: &Points) -> Vec<(f64, f64)> {
    let shown = |said: &Option<f64>| said.map_or(LATEST, minutes).min(LATEST);
    points.iter().map(|(time, said)| (minutes(*time), shown(said))).collect()
}

/// With the other colours where the surroundings are dark.
fn for_both(svg: &str) -> String {
    let hex = |RGBColor(red, green, blue)| format!("#{red:02X}{green:02X}{blue:02X}");
    let rules: String = DARK
        .iter()
        .map(|(light, dark)| {
            let (light, dark) = (hex(*light), hex(*dark));
            format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}\n")
        })
        .collect();
    let style = format!("<style>@media (prefers-color-scheme: dark) {{\n{rules}}}</style>\n");
    match svg.split_once(">\n") {
        Some((opening, rest)) => format!("{opening}>\n{style}{rest}"),
        None => svg.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::record::tests::example;

    #[test]
    fn everything_is_drawn_and_named() {
        let svg = svg(&example()).unwrap();
        for text in [
            "entries",
            "nf_conntrack_max",
            "as it came",
            "ctmon, 10 % to 90 %",
            "predict_linear, 5m",
            "predict_linear, 1m",
            "10 connections/s",
            "CtmonTableFullSoon",
            "ctmon itself: critical",
            "later, never",
        ] {
            assert!(svg.contains(&format!("\n{text}\n</text>")), "{text}");
        }
        assert!(svg.contains("<polygon"));
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn each_colour_has_one_for_the_dark() {
        let svg = svg(&example()).unwrap();
        let (style, drawing) = svg.split_once("</style>").unwrap();
        for part in drawing.split(['"']).filter(|part| part.starts_with('#')) {
            assert!(style.contains(&format!("[fill=\"{part}\"]{{fill:#")), "{part}");
        }
    }

    #[test]
    fn what_is_later_than_the_axis_is_at_its_end() {
        let points = vec![(0.0, Some(30.0)), (60.0, Some(6000.0)), (120.0, None)];
        assert_eq!(drawn(&points), [(0.0, 0.5), (1.0, LATEST), (2.0, LATEST)]);
    }
}
