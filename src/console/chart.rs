//! Drawings in SVG that need no script: a line from zero, and stacked bars. Axes and legend are HTML, the drawing stretches.

use std::fmt::Write as _;

use maud::{Markup, html};

/// A line of numbers, from zero up to their highest.
pub(super) fn sparkline(values: &[f64]) -> Markup {
    if values.len() < 2 {
        return html! {};
    }
    let most = values.iter().copied().fold(1e-9, f64::max);
    let step = 100.0 / (values.len() - 1) as f64;
    let mut line = String::new();
    for (at, value) in values.iter().enumerate() {
        let letter = if at == 0 { 'M' } else { 'L' };
        let _ = write!(
            line,
            "{letter}{:.1} {:.1} ",
            at as f64 * step,
            22.0 - 20.0 * value / most
        );
    }
    html! {
        svg.spark viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true" {
            path.fill d=(format!("{line}L100 24L0 24z")) {}
            path d=(line.trim_end()) {}
        }
    }
}

/// One series of a stack: its class and its values.
pub(super) struct Series<'a> {
    pub class: &'a str,
    pub values: &'a [f64],
}

/// Bars side by side, each stacked of all series.
pub(super) fn stacked_bars(series: &[Series<'_>], label: &str) -> Markup {
    const HEIGHT: f64 = 180.0;
    let bars = series.iter().map(|one| one.values.len()).max().unwrap_or(0);
    let sum = |at: usize| -> f64 { series.iter().filter_map(|one| one.values.get(at)).sum() };
    let top = nice_top((0..bars).map(sum).fold(0.0, f64::max));
    let width = 1000.0 / bars.max(1) as f64;
    let mut below = vec![0.0; bars];
    let paths: Vec<(&str, String)> = series
        .iter()
        .map(|one| {
            let mut path = String::new();
            for (at, value) in one
                .values
                .iter()
                .enumerate()
                .filter(|(_, value)| **value > 0.0)
            {
                let (tall, base) = (HEIGHT * value / top, HEIGHT * below[at] / top);
                below[at] += value;
                let wide = width * 0.8;
                let _ = write!(
                    path,
                    "M{:.1} {:.1}h{wide:.1}v{tall:.1}h-{wide:.1}z",
                    at as f64 * width + width * 0.1,
                    HEIGHT - base - tall
                );
            }
            (one.class, path)
        })
        .collect();
    html! {
        svg viewBox="0 0 1000 180" preserveAspectRatio="none" role="img" aria-label=(label) {
            @for line in 0..=4 { path.c-grid d=(format!("M0 {:.1}H1000", (f64::from(line) * 45.0).clamp(0.5, 179.5))) {} }
            @for (class, path) in paths { path class=(class) d=(path) {} }
        }
        div.y aria-hidden="true" { @for line in (0..=4).rev() { span { (tick(top * f64::from(line) / 4.0)) } } }
    }
}

/// Parts of a whole, side by side.
pub(super) fn parts(whole: i64, parts: &[(&str, i64)], label: &str) -> Markup {
    let mut from = 0.0;
    let boxes: Vec<(&str, f64, f64)> = parts
        .iter()
        .map(|(class, rows)| {
            let wide = 1000.0 * *rows as f64 / whole.max(1) as f64;
            let at = from;
            from += wide;
            (*class, at, wide)
        })
        .collect();
    html! {
        svg class="bar wide" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (class, at, wide) in boxes { rect class=(class) x=(format!("{at:.1}")) width=(format!("{wide:.1}")) height="10" {} }
        }
    }
}

fn nice_top(most: f64) -> f64 {
    let mut top = 4.0;
    while top < most {
        top *= if top.log10().fract() < 0.5 { 2.5 } else { 2.0 };
    }
    top
}

fn tick(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.0}k", value / 1000.0)
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_an_axis_is_never_below_what_is_drawn() {
        for most in [0.0, 1.0, 4.0, 5.0, 99.0, 640.0, 1_000_000.0] {
            assert!(nice_top(most) >= most);
        }
    }
}
