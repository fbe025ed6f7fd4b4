//! Plots as SVG, by plotters. Colours are names: the page says what each looks like, in light and in dark.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;
use std::error::Error;

/// Width and height in units of the drawing; it is as wide on the page as there is room for.
const AREA: (u32, u32) = (440, 260);
const TEXT: i32 = 14;
/// What the style sheet makes the colour of text, of lines behind the plot, and of the first series.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
/// Series that are told apart; more of them begin again.
pub(super) const SERIES: usize = 4;

/// One line of a plot.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// The colour that stands for series `at`, as in the style sheet.
pub(super) fn colour(at: usize) -> RGBColor {
    RGBColor(16 + (at % SERIES) as u8, 0, 0)
}

/// A bar for each label.
pub(super) fn bars(values: &[(String, f64)], unit: &str) -> String {
    drawn(|area| {
        let top = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let count = values.len();
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .margin_top(12)
            .x_label_area_size(26)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..count as f64, 0.0..top.max(1e-9) * 1.08)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .y_labels(5)
            .y_label_formatter(&|value| short(*value))
            .y_desc(unit)
            .label_style(("sans-serif", TEXT, &INK))
            .draw()?;
        for (at, (_, value)) in values.iter().enumerate() {
            let corners = [(at as f64 + 0.15, 0.0), (at as f64 + 0.85, *value)];
            chart.draw_series([Rectangle::new(corners, colour(0).filled())])?;
        }
        // Under the bars, by the same scale.
        let (left, right) = (58 + 6, AREA.0 as i32 - 6);
        let wide = f64::from(right - left) / count.max(1) as f64;
        for (at, (label, _)) in values.iter().enumerate() {
            let middle = f64::from(left) + wide * (at as f64 + 0.5);
            let place = (middle as i32, AREA.1 as i32 - 26);
            let style = ("sans-serif", TEXT, &INK).into_text_style(area).pos(
                plotters::style::text_anchor::Pos::new(
                    plotters::style::text_anchor::HPos::Center,
                    plotters::style::text_anchor::VPos::Top,
                ),
            );
            area.draw_text(label, &style, place)?;
        }
        Ok(())
    })
}

/// Latencies by the part of the frames that are within them: each step to the right is another nine.
pub(super) fn latencies(lines: &[Line]) -> String {
    drawn(|area| {
        let points = || lines.iter().flat_map(|line| &line.points);
        let right = points().map(|point| point.0).fold(1.0, f64::max);
        let low = points().map(|point| point.1).fold(f64::MAX, f64::min);
        let high = points().map(|point| point.1).fold(1e-3, f64::max);
        let low = low.clamp(1e-3, high);
        let labels = |nines: &f64| match *nines as u32 {
            0 => "0 %".into(),
            1 => "90 %".into(),
            2 => "99 %".into(),
            more => format!("99.{} %", "9".repeat(more as usize - 2)),
        };
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .margin_right(28)
            .x_label_area_size(26)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..right, (low * 0.8..high * 1.3).log_scale())?;
        mesh(&mut chart, "µs", right as usize + 1, &labels)?;
        draw(&mut chart, lines)
    })
}

/// Percent over percent.
pub(super) fn shares(lines: &[Line], unit: &str) -> String {
    drawn(|area| {
        let points = || lines.iter().flat_map(|line| &line.points);
        let top = points().map(|point| point.1).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .margin_right(28)
            .x_label_area_size(26)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..100.0, 0.0..(top * 1.08).max(0.1))?;
        mesh(&mut chart, unit, 6, &|percent| format!("{percent:.0} %"))?;
        draw(&mut chart, lines)
    })
}

type Chart<'a, 'b, Y> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>;

fn mesh<Y>(
    chart: &mut Chart<'_, '_, Y>,
    unit: &str,
    labels: usize,
    shown: &dyn Fn(&f64) -> String,
) -> Result<(), Box<dyn Error>>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_labels(labels)
        .y_labels(5)
        .x_label_formatter(&|x| shown(x))
        .y_label_formatter(&|y| short(*y))
        .y_desc(unit)
        .label_style(("sans-serif", TEXT, &INK))
        .draw()
        .map_err(|e| e.to_string().into())
}

fn draw<Y>(chart: &mut Chart<'_, '_, Y>, lines: &[Line]) -> Result<(), Box<dyn Error>>
where
    Y: Ranged<ValueType = f64>,
{
    for (at, line) in lines.iter().enumerate() {
        let style = colour(at).stroke_width(2);
        let points = line.points.iter().copied();
        chart
            .draw_series(LineSeries::new(points, style))
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// What was drawn; nothing if it could not be, which numbers alone do not do.
fn drawn(
    draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Box<dyn Error>>,
) -> String {
    let mut text = String::new();
    let done = {
        let area = SVGBackend::with_string(&mut text, AREA).into_drawing_area();
        draw(&area).is_ok() && area.present().is_ok()
    };
    if done { text } else { String::new() }
}

/// A number of an axis.
fn short(value: f64) -> String {
    let digits = |value: f64, unit: &str| {
        let text = format!("{value:.1}");
        format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match value {
        1e6.. => digits(value / 1e6, " M"),
        1e3.. => digits(value / 1e3, " k"),
        1.0.. | 0.0 => digits(value, ""),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_an_axis_are_short() {
        let shown = [0.0, 0.25, 3.0, 12.5, 1_500.0, 2e6].map(short);
        assert_eq!(shown, ["0", "0.25", "3", "12.5", "1.5 k", "2 M"]);
    }

    #[test]
    fn whatever_the_numbers_are_there_is_a_plot() {
        let line = |points| Line {
            name: "a".into(),
            points,
        };
        for points in [vec![], vec![(0.0, 0.0)], vec![(0.0, 1.0), (3.5, 1e6)]] {
            assert!(latencies(&[line(points.clone())]).contains("</svg>"));
            assert!(shares(&[line(points)], "lost").contains("</svg>"));
        }
        assert!(bars(&[], "fps").contains("</svg>"));
        let bars = bars(&[("64".into(), 0.0), ("imix".into(), 5.0)], "fps");
        assert!(bars.contains("imix") && bars.contains("#100000"), "{bars}");
    }
}
