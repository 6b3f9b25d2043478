//! The figures: SVG files of their own, readable in light and in dark pages.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const INK: RGBColor = RGBColor(60, 66, 74);
const OURS: RGBColor = RGBColor(7, 160, 94);
const PEERS: RGBColor = RGBColor(120, 144, 178);
const CEILING: RGBColor = RGBColor(190, 196, 204);
const LINES: [RGBColor; 4] = [OURS, RGBColor(214, 104, 36), PEERS, RGBColor(150, 90, 170)];

/// Whose bar it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Ours,
    Peer,
    Ceiling,
}

/// One horizontal bar.
pub struct Bar {
    pub label: String,
    pub value: f64,
    /// What stands at its end.
    pub text: String,
    pub side: Side,
}

/// Horizontal bars, longest first as given.
pub fn bars(path: &Path, title: &str, bars: &[Bar]) -> anyhow::Result<()> {
    const LEFT: i32 = 270;
    const RIGHT: i32 = 130;
    const TOP: i32 = 58;
    const STEP: i32 = 30;
    let width = 860;
    let height = TOP + STEP * i32::try_from(bars.len())? + 14;
    let root = SVGBackend::new(path, (width, u32::try_from(height)?)).into_drawing_area();
    root.fill(&WHITE)?;
    let title_style = ("sans-serif", 19).into_font().color(&INK);
    root.draw(&Text::new(title.to_owned(), (18, 18), title_style))?;
    let longest = bars
        .iter()
        .map(|bar| bar.value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let font = || ("sans-serif", 14).into_font().color(&INK);
    for (index, bar) in bars.iter().enumerate() {
        let top = TOP + STEP * i32::try_from(index)?;
        let space = f64::from(i32::try_from(width)? - LEFT - RIGHT);
        let end = LEFT + (space * bar.value / longest).round() as i32;
        let color = match bar.side {
            Side::Ours => OURS,
            Side::Peer => PEERS,
            Side::Ceiling => CEILING,
        };
        root.draw(&Rectangle::new(
            [(LEFT, top), (end, top + 20)],
            color.filled(),
        ))?;
        let right = font().pos(Pos::new(HPos::Right, VPos::Center));
        root.draw(&Text::new(bar.label.clone(), (LEFT - 10, top + 10), right))?;
        let left = font().pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(bar.text.clone(), (end + 8, top + 10), left))?;
    }
    root.present()?;
    Ok(())
}

/// One line of a chart.
pub struct Line {
    pub label: String,
    pub points: Vec<(f64, f64)>,
}

/// Lines over one axis each way, both from 0.
pub fn lines(
    path: &Path,
    title: &str,
    across: &str,
    up: &str,
    lines: &[Line],
) -> anyhow::Result<()> {
    let root = SVGBackend::new(path, (860, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|line| &line.points);
    let right = points().map(|point| point.0).fold(1.0, f64::max);
    let top = points().map(|point| point.1).fold(1.0, f64::max) * 1.4;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 19).into_font().color(&INK))
        .margin(16)
        .margin_right(40)
        .x_label_area_size(44)
        .y_label_area_size(74)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(CEILING.mix(0.5))
        .axis_style(INK)
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .x_desc(across)
        .y_desc(up)
        .x_label_formatter(&|value| crate::report::whole(*value))
        .y_label_formatter(&|value| crate::report::whole(*value))
        .draw()?;
    for (line, color) in lines.iter().zip(LINES) {
        chart
            .draw_series(LineSeries::new(
                line.points.iter().copied(),
                color.stroke_width(2),
            ))?
            .label(line.label.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.9))
        .border_style(TRANSPARENT)
        .label_font(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    root.present()?;
    Ok(())
}
