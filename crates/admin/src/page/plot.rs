//! Plots as inline SVG: one line per series, with the same figures as a label for screen readers.
//! Pure.

use crate::page::text::figure;
use maud::{Markup, html};
use std::fmt::Write;

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 96.0;

/// Values over time, oldest first. `None` means that there is no value for that time.
pub struct Series<'a> {
    pub name: &'a str,
    pub values: Vec<Option<f64>>,
}

/// Rounds up to a number of the form 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value.is_nan() || value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|bound| *bound >= value)
        .unwrap_or(value)
}

/// Returns the SVG path of a line, with gaps where there are no values. `kept` values fill the
/// width; fewer values are aligned to the right.
fn path(values: &[Option<f64>], kept: usize, top: f64, width: f64, height: f64) -> String {
    let (step, from) = (width / (kept.max(2) - 1) as f64, kept.saturating_sub(values.len()));
    let (mut path, mut is_drawing) = (String::new(), false);
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value else {
            is_drawing = false;
            continue;
        };
        let (x, y) = ((from + at) as f64 * step, height - height * (value / top).clamp(0.0, 1.0));
        let _ = write!(path, "{}{x:.1} {y:.1}", if is_drawing { "L" } else { "M" });
        if !is_drawing && values.get(at + 1).is_none_or(Option::is_none) {
            path.push_str("h0.01");
        }
        is_drawing = true;
    }
    path
}

/// Returns the label for screen readers: the present and the highest value of each series.
fn words(series: &[Series<'_>], format: impl Fn(f64) -> String) -> String {
    let one = |series: &Series<'_>| {
        let now = series.values.last().copied().flatten().map_or("nothing".to_owned(), &format);
        let most =
            series.values.iter().flatten().copied().reduce(f64::max).map_or("nothing".to_owned(), &format);
        format!("{}: now {now}, at most {most}", series.name)
    };
    series.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Renders a plot of the last `minutes`. `top` is its upper edge; the default fits the values.
pub fn chart(
    title: &str,
    series: &[Series<'_>],
    kept: usize,
    minutes: usize,
    top: Option<f64>,
    format: impl Fn(f64) -> String + Copy,
) -> Markup {
    let most = series.iter().flat_map(|series| series.values.iter().flatten()).copied().fold(0.0, f64::max);
    let top = top.unwrap_or_else(|| round_up(most));
    html! {
        figure.plot {
            figcaption {
                (title)
                @for (at, one) in series.iter().enumerate() {
                    span class=(format!("key s{at}")) {
                        (one.name) " " b { (one.values.last().copied().flatten().map_or("–".to_owned(), format)) }
                    }
                }
            }
            svg viewBox=(format!("0 0 {WIDTH} {}", HEIGHT + 4.0)) preserveAspectRatio="none" role="img"
                aria-label=(format!("{title}, last {minutes} minutes. {}", words(series, format))) {
                @for share in [0.0, 0.5, 1.0] {
                    line.grid x1="0" x2=(WIDTH) y1=(2.0 + HEIGHT * share) y2=(2.0 + HEIGHT * share) {}
                }
                g transform="translate(0 2)" {
                    @for (at, one) in series.iter().enumerate() {
                        path class=(format!("s{at}")) d=(path(&one.values, kept, top, WIDTH, HEIGHT)) {}
                    }
                }
            }
            div.axis aria-hidden="true" {
                span { "−" (minutes) " min" }
                span { "0 – " (format(top)) }
                span { "now" }
            }
        }
    }
}

/// Renders a line without axes, for a table row.
pub fn spark(name: &str, values: Vec<Option<f64>>, kept: usize) -> Markup {
    let top = round_up(values.iter().flatten().copied().fold(0.0, f64::max));
    let label = words(&[Series { name, values: values.clone() }], figure);
    html! {
        svg.spark viewBox="0 0 120 24" preserveAspectRatio="none" role="img" aria-label=(label) {
            path.s0 d=(path(&values, kept, top, 120.0, 23.0)) {}
        }
    }
}

/// Renders the phases of a request, one after the other.
pub fn phases(parts: &[(&str, f64)], total: f64) -> Markup {
    let total = total.max(0.001);
    let spoken = parts.iter().map(|(name, ms)| format!("{name} {ms:.1} ms")).collect::<Vec<_>>().join(", ");
    // The start and width of each phase; the whole width is 200.
    let mut end = 0.0;
    let bars = parts.iter().map(|(name, ms)| {
        let (from, width) = (end, (200.0 * ms / total).min(200.0 - end).max(0.0));
        end += width;
        (name, from, width)
    });
    html! {
        svg.phases viewBox="0 0 200 10" preserveAspectRatio="none" role="img" aria-label=(spoken) {
            rect.rest x="0" y="0" width="200" height="10" {}
            @for (at, (name, from, width)) in bars.enumerate() {
                rect class=(format!("p{at}")) x=(format!("{from:.2}")) y="0" width=(format!("{width:.2}")) height="10" { title { (name) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_is_round() {
        for (value, want) in [
            (0.0, 1.0),
            (0.3, 0.5),
            (1.0, 1.0),
            (1.1, 2.0),
            (73.0, 100.0),
            (4_900.0, 5_000.0),
            (f64::NAN, 1.0),
        ] {
            assert!((round_up(value) - want).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }

    #[test]
    fn lines_have_gaps_where_there_is_nothing() {
        let values = [Some(0.0), Some(10.0), None, Some(5.0)];
        assert_eq!(path(&values, 4, 10.0, 30.0, 10.0), "M0.0 10.0L10.0 0.0M30.0 5.0h0.01");
        assert_eq!(path(&values[..1], 4, 10.0, 30.0, 10.0), "M30.0 10.0h0.01", "the newest is on the right");
        assert_eq!(path(&[], 4, 10.0, 30.0, 10.0), "");
    }

    #[test]
    fn a_reader_hears_the_figures() {
        let markup = chart(
            "Lag",
            &[Series { name: "<b>", values: vec![Some(3.0), Some(1.0)] }],
            360,
            30,
            None,
            figure,
        )
        .into_string();
        assert!(markup.contains("&lt;b&gt;: now 1, at most 3"), "{markup}");
        assert!(!markup.contains("style="), "the policy forbids it");
    }
}
