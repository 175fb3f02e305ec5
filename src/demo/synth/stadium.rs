//! What does not move: stands, advertising boards and the pitch, drawn once per camera and larger
//! than the picture, so that a camera pans by choosing its part.

use super::canvas::{Canvas, Colour};
use crate::demo::rng::Rng;

/// Length and width of the pitch in metres.
pub const PITCH: (f64, f64) = (105.0, 68.0);

const WHITE: Colour = Colour::rgb(235, 240, 235);
const SHIRTS: [Colour; 6] = [
    Colour::rgb(190, 40, 45),
    Colour::rgb(40, 60, 160),
    Colour::rgb(225, 225, 215),
    Colour::rgb(210, 170, 40),
    Colour::rgb(60, 60, 66),
    Colour::rgb(120, 150, 190),
];
const FACES: [Colour; 3] = [Colour::rgb(230, 190, 160), Colour::rgb(170, 120, 85), Colour::rgb(100, 70, 50)];

/// How a camera sees the pitch: rows between the far and the near touchline it shows, and metres to
/// pixels at both.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Picture row of the far edge of what it shows, and of the near one.
    pub rows: (f64, f64),
    /// Metres from the far touchline at those rows.
    pub depth: (f64, f64),
    /// Pixels per metre at those rows.
    pub scale: (f64, f64),
    /// Seen from the other side.
    pub mirrored: bool,
    /// Shades of the mown stripes.
    pub grass: (Colour, Colour),
    /// Width of everything it can pan over.
    pub width: usize,
}

impl View {
    /// Where a point of the pitch lies in the whole panorama, and how large a metre is there.
    pub fn project(&self, x: f64, y: f64) -> (f64, f64, f64) {
        let (x, y) = if self.mirrored { (PITCH.0 - x, PITCH.1 - y) } else { (x, y) };
        let part = (y - self.depth.0) / (self.depth.1 - self.depth.0);
        let scale = self.scale.0 + (self.scale.1 - self.scale.0) * part;
        let column = self.width as f64 / 2.0 + (x - PITCH.0 / 2.0) * scale;
        (column, self.rows.0 + (self.rows.1 - self.rows.0) * part, scale)
    }

    /// The panorama.
    pub fn paint(&self, height: usize, rng: &mut Rng) -> Canvas {
        let mut canvas = Canvas::new(self.width, height, self.grass.0);
        let horizon = self.rows.0 as i32 - (self.scale.0 * 4.0) as i32;
        let stripe = PITCH.0 / 20.0;
        for band in 0..20 {
            for row in horizon.max(0)..height as i32 {
                let part = (f64::from(row) - self.rows.0) / (self.rows.1 - self.rows.0);
                let scale = self.scale.0 + (self.scale.1 - self.scale.0) * part;
                let left = self.width as f64 / 2.0 + (f64::from(band) * stripe - PITCH.0 / 2.0) * scale;
                if band % 2 == 0 {
                    canvas.rect(left as i32, row, (stripe * scale) as i32, 1, self.grass.1);
                }
            }
        }
        canvas.roughen(rng, 6);
        self.lines(&mut canvas);
        self.goal(&mut canvas, 0.0);
        self.goal(&mut canvas, PITCH.0);
        let boards = (self.scale.0 * 1.6).max(14.0) as i32;
        stand(&mut canvas, horizon - boards, (self.scale.0 * 0.9).max(7.0) as i32, rng);
        let mut left = 0;
        while left < self.width as i32 {
            let width = rng.between(6, 14) as i32 * boards / 2;
            canvas.rect(left, horizon - boards, width, boards, SHIRTS[rng.index(SHIRTS.len())]);
            canvas.text(left + boards / 2, horizon - boards * 3 / 4, (boards / 10).max(1), "CREST", WHITE);
            left += width;
        }
        canvas
    }

    fn lines(&self, canvas: &mut Canvas) {
        let (long, wide) = PITCH;
        let mut line = |from: (f64, f64), to: (f64, f64)| {
            let steps = ((to.0 - from.0).hypot(to.1 - from.1) * self.scale.1) as i32 + 1;
            for step in 0..=steps {
                let part = f64::from(step) / f64::from(steps);
                self.dot(canvas, from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part);
            }
        };
        let boxes = [(0.0, 16.5, 13.8), (0.0, 5.5, 24.8), (long, -16.5, 13.8), (long, -5.5, 24.8)];
        for (x, depth, y) in boxes {
            line((x, y), (x + depth, y));
            line((x, wide - y), (x + depth, wide - y));
            line((x + depth, y), (x + depth, wide - y));
        }
        line((0.0, 0.0), (long, 0.0));
        line((0.0, wide), (long, wide));
        line((0.0, 0.0), (0.0, wide));
        line((long, 0.0), (long, wide));
        line((long / 2.0, 0.0), (long / 2.0, wide));
        for step in 0..1200 {
            let angle = f64::from(step) / 1200.0 * std::f64::consts::TAU;
            self.dot(canvas, long / 2.0 + 9.15 * angle.cos(), wide / 2.0 + 9.15 * angle.sin());
        }
    }

    fn dot(&self, canvas: &mut Canvas, x: f64, y: f64) {
        let (column, row, scale) = self.project(x, y);
        let size = (scale * 0.14).max(1.0) as i32;
        canvas.rect(column as i32, row as i32, size.max(2), size, WHITE);
    }

    fn goal(&self, canvas: &mut Canvas, x: f64) {
        let (far, near) = (self.project(x, PITCH.1 / 2.0 - 3.66), self.project(x, PITCH.1 / 2.0 + 3.66));
        for part in 0..=24 {
            let part = f64::from(part) / 24.0;
            let at = |a: f64, b: f64| a + (b - a) * part;
            let (column, row, scale) = (at(far.0, near.0), at(far.1, near.1), at(far.2, near.2));
            let thick = if part == 0.0 || part == 1.0 { (scale * 0.15).max(2.0) } else { 1.0 };
            canvas.rect(column as i32, (row - scale * 2.44) as i32, thick as i32, (scale * 2.44) as i32, WHITE);
            canvas.rect(column as i32, (row - scale * 2.44) as i32, 3, 3, WHITE);
        }
    }
}

/// Spectators, row upon row, down to `bottom`; `size` is the width of one.
pub fn stand(canvas: &mut Canvas, bottom: i32, size: i32, rng: &mut Rng) {
    canvas.rect(0, 0, canvas.width as i32, bottom, Colour::rgb(38, 40, 50));
    let mut row = 0;
    while row * size < bottom {
        let shift = (row % 2) * size / 2;
        for seat in 0..canvas.width as i32 / size + 1 {
            if rng.unit() < 0.9 {
                let (x, y) = (seat * size - shift, row * size);
                let (width, height) = (size * 3 / 4, (size * 2 / 3).min(bottom - y));
                canvas.rect(x, y + size / 3, width, height.min(bottom - y - size / 3), SHIRTS[rng.index(SHIRTS.len())]);
                canvas.rect(
                    x + size / 4,
                    y,
                    size / 3 + 1,
                    (size / 3 + 1).min(bottom - y),
                    FACES[rng.index(FACES.len())],
                );
            }
        }
        row += 1;
    }
    for _ in 0..canvas.width * bottom.max(0) as usize / 3 {
        canvas.shade(rng.index(canvas.width), rng.index(bottom.max(1) as usize), if rng.unit() < 0.5 { -9 } else { 9 });
    }
}
