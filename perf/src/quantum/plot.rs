//! Latencies over loss as an SVG: a panel per rate and size, a line per transport.

use std::fmt::Write as _;

/// One coordinate system.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Labels of the horizontal axis, evenly spaced.
    pub(crate) steps: Vec<String>,
    pub(crate) lines: Vec<Line>,
}

/// What one transport came to; a step that was not measured has no point.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    /// Milliseconds.
    pub(crate) points: Vec<Option<f64>>,
}

/// Draws panels, `columns` side by side. The vertical axis is logarithmic, from 1 ms to 100 s.
pub(crate) fn draw(title: &str, panels: &[Panel], columns: usize) -> String {
    let columns = columns.clamp(1, panels.len().max(1));
    let rows = panels.len().div_ceil(columns);
    let width = columns as f64 * WIDTH;
    let height = HEAD + rows as f64 * HEIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    for (index, panel) in panels.iter().enumerate() {
        let x = (index % columns) as f64 * WIDTH;
        let y = HEAD + (index / columns) as f64 * HEIGHT;
        // Writing to a String cannot fail.
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        panel.draw(&mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

impl Panel {
    fn draw(&self, svg: &mut String) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"14\">{}</text>",
            escaped(&self.title)
        );
        for decade in 0..=DECADES {
            let value = 10_f64.powi(decade);
            let label = match value < 1000.0 {
                true => format!("{value} ms"),
                false => format!("{} s", value / 1000.0),
            };
            let y = height_of(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {y}H{RIGHT}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>",
                LEFT - 5.0,
                y + 4.0
            );
        }
        for (step, label) in self.steps.iter().enumerate() {
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                self.place_of(step),
                BOTTOM + 16.0,
                escaped(label)
            );
        }
        for (number, line) in self.lines.iter().enumerate() {
            self.draw_line(line, number, svg);
        }
    }

    fn draw_line(&self, line: &Line, number: usize, svg: &mut String) {
        let colour = COLOURS[number % COLOURS.len()];
        let mut path = String::new();
        let mut is_down = false;
        for (step, point) in line.points.iter().enumerate() {
            let Some(value) = point else {
                is_down = false;
                continue;
            };
            let (x, y) = (self.place_of(step), height_of(*value));
            let _ = write!(path, "{}{x:.1} {y:.1}", if is_down { 'L' } else { 'M' });
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\">\
                 <title>{}: {value:.1} ms</title></circle>",
                escaped(line.name)
            );
            is_down = true;
        }
        let y = TOP + 8.0 + 15.0 * number as f64;
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"{y}\" fill=\"{colour}\">{}</text>",
            RIGHT + 8.0,
            escaped(line.name)
        );
    }

    fn place_of(&self, step: usize) -> f64 {
        let between = self.steps.len().saturating_sub(1).max(1) as f64;
        LEFT + 20.0 + (RIGHT - LEFT - 40.0) * step as f64 / between
    }
}

fn height_of(ms: f64) -> f64 {
    let share = ms.max(1.0).log10() / f64::from(DECADES);
    BOTTOM - (BOTTOM - TOP) * share.min(1.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 270.0;
const HEAD: f64 = 35.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 360.0;
const TOP: f64 = 25.0;
const BOTTOM: f64 = 230.0;

/// From 1 ms to 100 s.
const DECADES: i32 = 5;

/// Told apart by those who see red and green alike.
const COLOURS: [&str; 6] = [
    "#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#555555",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_drawn_and_gaps_stay_gaps() {
        let panel = Panel {
            title: "200 calls/s < all".to_owned(),
            steps: ["0", "1", "5"].map(str::to_owned).to_vec(),
            lines: vec![Line {
                name: "one",
                points: vec![Some(20.0), None, Some(1e9)],
            }],
        };
        let svg = draw("latency", &[panel], 3);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("200 calls/s &lt; all"), "{svg}");
        assert!(!svg.contains('L'), "no line over the gap: {svg}");
        assert!(svg.contains(&format!("cy=\"{TOP:.1}\"")), "cut at the top");
    }
}
