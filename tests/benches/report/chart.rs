//! Draws the figures as a chart: bars, in SVG, for light and dark pages.

use std::fmt::Write;

use crate::measure::Figures;

/// A panel of the chart: its title, and the value of each contender.
type Panel = (&'static str, fn(&Figures) -> f64);

const PANELS: [Panel; 4] = [
    ("CPU time of a picture, ms", |figures| figures.processor.median()),
    ("pictures a second, four clients", |figures| figures.throughput.median()),
    ("from exec to the first reply, ms", |figures| figures.first_reply.median()),
    ("memory at the end, MB", |figures| figures.busy_memory),
];

const PANEL_WIDTH: usize = 400;
const LABEL_WIDTH: usize = 235;
const BAR_WIDTH: f64 = 110.0;
const ROW_HEIGHT: usize = 22;
const TITLE_HEIGHT: usize = 34;

const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.ours { fill: #1f6feb }
.other { fill: #8c959f }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .ours { fill: #58a6ff } .other { fill: #6e7681 } }";

/// The chart as an SVG document. `caption` says where and when the figures were measured.
pub fn svg(figures: &[Figures], caption: &str) -> String {
    let panel_height = TITLE_HEIGHT + figures.len() * ROW_HEIGHT + 12;
    let (width, height) = (2 * PANEL_WIDTH, 2 * panel_height + 24);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>{caption}</title>\n<style>{STYLE}</style>\n"
    );
    for (index, panel) in PANELS.iter().enumerate() {
        let at = (index % 2 * PANEL_WIDTH, index / 2 * panel_height);
        draw(&mut svg, panel, figures, at);
    }
    writeln!(svg, "<text x=\"8\" y=\"{}\">{caption}</text>\n</svg>", height - 8)
        .expect("a string takes any text");
    svg
}

fn draw(
    svg: &mut String,
    (title, value): &Panel,
    figures: &[Figures],
    (left, top): (usize, usize),
) {
    let largest = figures.iter().map(value).fold(f64::MIN_POSITIVE, f64::max);
    let mut line = |text: String| svg.push_str(&(text + "\n"));
    line(format!("<text class=\"title\" x=\"{}\" y=\"{}\">{title}</text>", left + 8, top + 22));
    for (row, figures) in figures.iter().enumerate() {
        let y = top + TITLE_HEIGHT + row * ROW_HEIGHT;
        let value = value(figures);
        let bar = BAR_WIDTH * value / largest;
        let class = if figures.name.starts_with("Spotter") { "ours" } else { "other" };
        let start = left + LABEL_WIDTH;
        line(format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            start - 6,
            y + 13,
            figures.name
        ));
        line(format!(
            "<rect class=\"{class}\" x=\"{start}\" y=\"{y}\" width=\"{bar:.1}\" height=\"16\"/>"
        ));
        line(format!(
            "<text x=\"{:.1}\" y=\"{}\">{value:.0}</text>",
            start as f64 + bar + 5.0,
            y + 13
        ));
    }
}
