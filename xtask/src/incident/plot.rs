//! An incident as a drawing: SVG, for light and for dark surroundings.

use anyhow::Result;
use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::record::{Alert, CRITICAL, Points, Record};
use crate::bench::numbers::grouped;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// In pixels: the whole, two panels, what is around a panel, and a row of the last one or beside the others.
const WIDTH: u32 = 960;
const ENTRIES: u32 = 260;
const LEFT_TO_GO: u32 = 300;
const TITLE: u32 = 32;
const LEFT: u32 = 92;
const RIGHT: u32 = 210;
const AXIS: u32 = 28;
const ROW: u32 = 22;
const FONT: f64 = 14.0;

/// What is later is drawn there, in minutes.
const LATEST: f64 = 10.0;
/// How much of its colour a band has.
const SHADE: f64 = 0.22;

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

/// Entries against the limit, the time left as it was and as it was said, and when what alarmed.
pub(super) fn svg(record: &Record) -> Result<String> {
    let own = record.warned(CRITICAL);
    let alarms: Vec<&Alert> = [&own].into_iter().chain(&record.alerts).collect();
    let rows = u32::try_from(alarms.len())?;
    let size = (WIDTH, ENTRIES + LEFT_TO_GO + TITLE + ROW * rows + AXIS);
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
    area.fill(&PAPER)?;
    let (upper, rest) = area.split_vertically(ENTRIES);
    let (middle, lower) = rest.split_vertically(LEFT_TO_GO);
    entries(record, &upper)?;
    left_to_go(record, &middle)?;
    alarmed(record, &alarms, &lower)?;
    area.present()?;
    // They hold on to the text.
    drop((area, upper, rest, middle, lower));
    Ok(for_both(&text))
}

fn entries(record: &Record, area: &Area<'_>) -> Result<()> {
    let limit = record.limit;
    let top = 1.4 * limit;
    let mut chart = chart(record, area, top, "Entries")?;
    mesh(&mut chart, 6, &|entries| {
        if *entries > limit { String::new() } else { grouped(*entries) }
    })?;
    for (begun, name) in &record.phases {
        let at = minutes(*begun);
        chart.draw_series(LineSeries::new([(at, 0.0), (at, top)], DIM.mix(0.5)))?;
        for (number, part) in name.split(", ").enumerate() {
            let at = (at, limit * (1.38 - 0.13 * number as f64));
            let text = EmptyElement::at(at) + Text::new(part.to_owned(), (5, 0), font(DIM));
            chart.draw_series([text])?;
        }
    }
    let points = record.entries.iter().map(|(time, entries)| (minutes(*time), *entries)).collect();
    Mark::Line.draw(&mut chart, points, OURS)?;
    Mark::Dashes.draw(&mut chart, vec![(0.0, limit), (end(record), limit)], FULL)?;
    full(record, &mut chart, top)?;
    key(area, 0, OURS, Mark::Line, "entries")?;
    key(area, 1, FULL, Mark::Dashes, "nf_conntrack_max")?;
    key(area, 2, FULL, Mark::Line, "when it was full")
}

fn left_to_go(record: &Record, area: &Area<'_>) -> Result<()> {
    let mut chart = chart(
        record,
        area,
        LATEST,
        "Time until it is full: as it was, and as it was said at each scrape",
    )?;
    mesh(&mut chart, 6, &|left| {
        if *left < LATEST { format!("{left:.0} min") } else { "later, never".to_owned() }
    })?;
    let full_at = record.full().unwrap_or(f64::INFINITY);
    let forecast = &record.forecast;
    let above = drawn(&forecast.high, full_at);
    let below = drawn(&forecast.low, full_at).into_iter().rev();
    let band: Vec<_> = above.into_iter().chain(below).collect();
    chart.draw_series([Polygon::new(band, OURS.mix(SHADE))])?;
    let marks = [Mark::Line, Mark::Dashes];
    for ((_, points), mark) in record.lines.iter().zip(marks) {
        mark.draw(&mut chart, drawn(points, full_at), LINE)?;
    }
    Mark::Line.draw(&mut chart, drawn(&forecast.median, full_at), OURS)?;
    if let Some(full) = record.full().map(minutes) {
        Mark::Line.draw(&mut chart, vec![(0.0, full), (full, 0.0)], INK)?;
    }
    full(record, &mut chart, LATEST)?;
    key(area, 0, INK, Mark::Line, "as it was")?;
    key(area, 1, OURS, Mark::Line, "ctmon, 50 %")?;
    key(area, 2, OURS, Mark::Band, "ctmon, 10 % to 90 %")?;
    for (row, ((range, _), mark)) in (3..).zip(record.lines.iter().zip(marks)) {
        key(area, row, LINE, mark, &format!("predict_linear, {range}"))?;
    }
    Ok(())
}

/// A row for each, with its name at the right.
fn alarmed(record: &Record, alarms: &[&Alert], area: &Area<'_>) -> Result<()> {
    let rows = alarms.len() as f64;
    let mut chart = chart(record, area, rows, "Warnings and alerts")?;
    mesh(&mut chart, 0, &|_| String::new())?;
    for (row, alert) in (0..).zip(alarms) {
        let top = rows - f64::from(row);
        let is_ours = alert.name.to_lowercase().starts_with("ctmon");
        let colour = if is_ours { OURS } else { LINE };
        for (began, ended) in &alert.firing {
            // One that was evaluated once can still be seen.
            let ended = ended.max(began + 3.0);
            let corners = [(minutes(*began), top - 0.25), (minutes(ended), top - 0.75)];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
        }
        name(area, row, 0, &alert.name)?;
    }
    full(record, &mut chart, rows)
}

/// A panel over the whole time, with its title above it.
fn chart<'a, 'b>(
    record: &Record,
    area: &'a Area<'b>,
    top: f64,
    title: &str,
) -> Result<Chart<'a, 'b>> {
    let style = font(INK).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(title.to_owned(), (LEFT as i32, TITLE as i32 / 2), style))?;
    let mut builder = ChartBuilder::on(area);
    builder.margin_top(TITLE).margin_right(RIGHT).x_label_area_size(AXIS).y_label_area_size(LEFT);
    Ok(builder.build_cartesian_2d(0.0..end(record), 0.0..top)?)
}

fn mesh(chart: &mut Chart<'_, '_>, values: usize, value: &dyn Fn(&f64) -> String) -> Result<()> {
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).bold_line_style(GRID).axis_style(DIM).label_style(font(DIM));
    if values == 0 {
        mesh.disable_y_mesh();
    }
    mesh.x_labels(10).x_label_formatter(&|at| format!("{at:.0} min"));
    mesh.y_labels(values).y_label_formatter(&|at| value(at)).draw()?;
    Ok(())
}

/// A line through all panels at that moment.
fn full(record: &Record, chart: &mut Chart<'_, '_>, top: f64) -> Result<()> {
    match record.full().map(minutes) {
        Some(full) => Mark::Line.draw(chart, vec![(full, 0.0), (full, top)], FULL),
        None => Ok(()),
    }
}

/// How something is drawn.
#[derive(Clone, Copy)]
enum Mark {
    Line,
    Dashes,
    Band,
}

impl Mark {
    fn draw(
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
fn key(area: &Area<'_>, row: u32, colour: RGBColor, mark: Mark, what: &str) -> Result<()> {
    let (x, y) = beside(area, row);
    let style = colour.stroke_width(2);
    match mark {
        Mark::Line => area.draw(&PathElement::new([(x, y), (x + 24, y)], style))?,
        Mark::Dashes => {
            for at in [x, x + 9, x + 18] {
                area.draw(&PathElement::new([(at, y), (at + 6, y)], style))?;
            }
        }
        Mark::Band => {
            let corners = [(x, y - 6), (x + 24, y + 6)];
            area.draw(&Rectangle::new(corners, colour.mix(SHADE).filled()))?;
        }
    }
    name(area, row, 32, what)
}

/// A text in a row at the right of a panel.
fn name(area: &Area<'_>, row: u32, indent: i32, what: &str) -> Result<()> {
    let (x, y) = beside(area, row);
    let style = font(INK).pos(Pos::new(HPos::Left, VPos::Center));
    Ok(area.draw(&Text::new(what.to_owned(), (x + indent, y), style))?)
}

/// Where such a row begins, half way down.
fn beside(area: &Area<'_>, row: u32) -> (i32, i32) {
    let (width, _) = area.dim_in_pixel();
    ((width - RIGHT) as i32 + 12, (TITLE + ROW * row + ROW / 2) as i32)
}

fn font(colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", FONT).into_font().color(&colour)
}

fn minutes(seconds: f64) -> f64 {
    seconds / 60.0
}

fn end(record: &Record) -> f64 {
    record.entries.last().map_or(1.0, |(time, _)| minutes(*time))
}

/// What was said before the table was full, in minutes, and no later than the end of the axis.
fn drawn(points: &Points, full: f64) -> Vec<(f64, f64)> {
    let before = points.iter().take_while(|(time, _)| *time < full);
    let shown = |said: &Option<f64>| said.map_or(LATEST, minutes).min(LATEST);
    before.map(|(time, said)| (minutes(*time), shown(said))).collect()
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
            "as it was",
            "ctmon, 10 % to 90 %",
            "predict_linear, 5m",
            "predict_linear, 1m",
            "10 connections/s",
            "CtmonTableFullSoon",
            "ctmon_severity &gt;= 2",
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
    fn what_is_later_than_the_axis_is_at_its_end_and_nothing_is_said_once_it_is_full() {
        let points =
            vec![(0.0, Some(30.0)), (60.0, Some(6000.0)), (120.0, None), (180.0, Some(0.0))];
        assert_eq!(drawn(&points, 180.0), [(0.0, 0.5), (1.0, LATEST), (2.0, LATEST)]);
    }
}
