//! Drawing by spans on planar YUV 4:2:0, so that frames cost little even in an unoptimised build.

use crate::demo::rng::Rng;

/// A colour as the encoder wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour {
    y: u8,
    u: u8,
    v: u8,
}

impl Colour {
    /// From red, green and blue (ITU-R BT.601, limited range).
    pub const fn rgb(r: i32, g: i32, b: i32) -> Self {
        Self {
            y: (16 + ((66 * r + 129 * g + 25 * b + 128) >> 8)) as u8,
            u: (128 + ((-38 * r - 74 * g + 112 * b + 128) >> 8)) as u8,
            v: (128 + ((112 * r - 94 * g - 18 * b + 128) >> 8)) as u8,
        }
    }
}

/// A picture.
#[derive(Debug, Clone)]
pub struct Canvas {
    /// Width in pixels, even.
    pub width: usize,
    /// Height in pixels, even.
    pub height: usize,
    luma: Vec<u8>,
    u: Vec<u8>,
    v: Vec<u8>,
}

impl Canvas {
    /// Of one colour.
    pub fn new(width: usize, height: usize, colour: Colour) -> Self {
        let chroma = width / 2 * (height / 2);
        let (luma, u, v) = (vec![colour.y; width * height], vec![colour.u; chroma], vec![colour.v; chroma]);
        Self { width, height, luma, u, v }
    }

    /// Appends the picture as raw yuv420p.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.luma);
        out.extend_from_slice(&self.u);
        out.extend_from_slice(&self.v);
    }

    /// Fills a rectangle; what lies outside is cut off.
    pub fn rect(&mut self, x: i32, y: i32, width: i32, height: i32, colour: Colour) {
        let (left, right) = (x.clamp(0, self.width as i32), (x + width).clamp(0, self.width as i32));
        let (top, bottom) = (y.clamp(0, self.height as i32), (y + height).clamp(0, self.height as i32));
        if left >= right || top >= bottom {
            return;
        }
        for row in top as usize..bottom as usize {
            self.luma[row * self.width..][left as usize..right as usize].fill(colour.y);
        }
        let chroma = self.width / 2;
        for row in top as usize / 2..(bottom as usize).div_ceil(2) {
            let (from, to) = (left as usize / 2, (right as usize).div_ceil(2));
            self.u[row * chroma..][from..to].fill(colour.u);
            self.v[row * chroma..][from..to].fill(colour.v);
        }
    }

    /// Fills an ellipse.
    pub fn ellipse(&mut self, x: f64, y: f64, across: f64, down: f64, colour: Colour) {
        for row in (y - down).floor() as i32..=(y + down).ceil() as i32 {
            let offset = (f64::from(row) - y) / down.max(0.5);
            if offset.abs() <= 1.0 {
                let half = across * (1.0 - offset * offset).sqrt();
                self.rect((x - half).round() as i32, row, (2.0 * half).round().max(1.0) as i32, 1, colour);
            }
        }
    }

    /// Roughens the brightness of everything, as grass and grain do.
    pub fn roughen(&mut self, rng: &mut Rng, strength: u8) {
        for eight in self.luma.chunks_mut(8) {
            let mut bits = rng.next();
            for pixel in eight {
                let noise = (bits & 0xFF) as u8 % (2 * strength + 1);
                *pixel = pixel.saturating_add(noise).saturating_sub(strength);
                bits >>= 8;
            }
        }
    }

    /// Makes one pixel lighter or darker.
    pub fn shade(&mut self, x: usize, y: usize, by: i8) {
        if let Some(pixel) = self.luma.get_mut(y * self.width + x) {
            *pixel = pixel.saturating_add_signed(by);
        }
    }

    /// Copies a part of another picture here. Both lie on even positions.
    pub fn copy(&mut self, from: &Canvas, source: (i32, i32), size: (i32, i32), target: (i32, i32)) {
        let even = |v: i32| v & !1;
        let (mut sx, mut sy, mut tx, mut ty) = (even(source.0), even(source.1), even(target.0), even(target.1));
        let (mut w, mut h) = (even(size.0), even(size.1));
        let left = (-sx).max(-tx).max(0);
        let top = (-sy).max(-ty).max(0);
        (sx, tx, w) = (sx + left, tx + left, w - left);
        (sy, ty, h) = (sy + top, ty + top, h - top);
        w = w.min(from.width as i32 - sx).min(self.width as i32 - tx);
        h = h.min(from.height as i32 - sy).min(self.height as i32 - ty);
        if w <= 0 || h <= 0 {
            return;
        }
        let (sx, sy, tx, ty, w, h) = (sx as usize, sy as usize, tx as usize, ty as usize, w as usize, h as usize);
        for row in 0..h {
            let line = &from.luma[(sy + row) * from.width + sx..][..w];
            self.luma[(ty + row) * self.width + tx..][..w].copy_from_slice(line);
        }
        let (theirs, ours) = (from.width / 2, self.width / 2);
        for row in 0..h / 2 {
            let (source, target) = ((sy / 2 + row) * theirs + sx / 2, (ty / 2 + row) * ours + tx / 2);
            self.u[target..][..w / 2].copy_from_slice(&from.u[source..][..w / 2]);
            self.v[target..][..w / 2].copy_from_slice(&from.v[source..][..w / 2]);
        }
    }

    /// Writes a text in capitals, digits and a few signs; `size` is the side of one of its dots.
    pub fn text(&mut self, x: i32, y: i32, size: i32, text: &str, colour: Colour) {
        for (place, sign) in text.chars().enumerate() {
            let rows = glyph(sign);
            for (row, bits) in rows.iter().enumerate() {
                for column in (0..3).filter(|c| bits & (4 >> c) != 0) {
                    let left = x + (place as i32 * 4 + column) * size;
                    self.rect(left, y + row as i32 * size, size, size, colour);
                }
            }
        }
    }
}

/// Five rows of three dots.
fn glyph(sign: char) -> [u8; 5] {
    match sign {
        '0' | 'O' => [7, 5, 5, 5, 7],
        '1' => [2, 6, 2, 2, 7],
        '2' => [7, 1, 7, 4, 7],
        '3' => [7, 1, 7, 1, 7],
        '4' => [5, 5, 7, 1, 1],
        '5' | 'S' => [7, 4, 7, 1, 7],
        '6' => [7, 4, 7, 5, 7],
        '7' => [7, 1, 1, 2, 2],
        '8' => [7, 5, 7, 5, 7],
        '9' => [7, 5, 7, 1, 7],
        'A' => [2, 5, 7, 5, 5],
        'C' => [7, 4, 4, 4, 7],
        'E' => [7, 4, 6, 4, 7],
        'G' => [7, 4, 5, 5, 7],
        'L' => [4, 4, 4, 4, 7],
        'R' => [6, 5, 6, 5, 5],
        'T' => [7, 2, 2, 2, 2],
        'V' => [5, 5, 5, 5, 2],
        ':' => [0, 2, 0, 2, 0],
        '-' => [0, 0, 7, 0, 0],
        '!' => [2, 2, 2, 0, 2],
        _ => [0; 5],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_drawn_outside() {
        let mut canvas = Canvas::new(32, 16, Colour::rgb(0, 100, 0));
        let other = Canvas::new(64, 64, Colour::rgb(200, 0, 0));
        canvas.rect(-10, -10, 5, 5, Colour::rgb(255, 255, 255));
        canvas.ellipse(31.0, 15.0, 40.0, 40.0, Colour::rgb(255, 255, 255));
        canvas.text(28, 12, 3, "GOAL!", Colour::rgb(0, 0, 0));
        for at in [-70, -3, 0, 5, 31, 70] {
            canvas.copy(&other, (at, -at), (64, 64), (-at, at));
        }
        let mut raw = Vec::new();
        canvas.append_to(&mut raw);
        assert_eq!(raw.len(), 32 * 16 * 3 / 2);
    }
}
