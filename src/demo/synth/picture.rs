//! The pictures: what each camera sees of the match, frame by frame.

use super::canvas::{Canvas, Colour};
use super::director::{Camera, Shot, shots};
use super::play::{Play, Player};
use super::stadium::{PITCH, View, stand};
use super::{FRAME_RATE, HEIGHT, WIDTH};
use crate::demo::rng::Rng;
use crate::demo::script::{Kind, Script};

const WHITE: Colour = Colour::rgb(245, 245, 245);
const DARK: Colour = Colour::rgb(18, 20, 28);
const SKIN: Colour = Colour::rgb(205, 150, 115);
const KITS: [(Colour, Colour); 2] =
    [(Colour::rgb(205, 40, 50), Colour::rgb(240, 240, 240)), (Colour::rgb(45, 80, 200), Colour::rgb(20, 20, 60))];

/// Width of one spectator before the audience's camera.
const SEAT: i32 = 24;
/// How far the audience's picture reaches beyond the frame.
const MARGIN: i32 = 40;

/// Draws a broadcast's frames in order.
pub struct Painter {
    script: Script,
    shots: Vec<Shot>,
    views: [(View, Canvas); 3],
    crowd: Canvas,
    play: Play,
    rng: Rng,
    frame: u64,
    canvas: Canvas,
}

impl Painter {
    /// Prepares the stadium.
    pub fn new(script: &Script) -> Self {
        let mut rng = Rng::new(script.seed, 5);
        let greens = |r, g, b| (Colour::rgb(r, g, b), Colour::rgb(r - 8, g - 14, b - 6));
        let rows = (HEIGHT as f64 * 0.33, HEIGHT as f64 * 0.95);
        let wide = View {
            rows,
            depth: (0.0, PITCH.1),
            scale: (7.5, 9.8),
            mirrored: false,
            grass: greens(70, 128, 60),
            width: 1120,
        };
        let opposite = View {
            rows: (HEIGHT as f64 * 0.25, HEIGHT as f64 * 1.1),
            scale: (9.0, 12.8),
            mirrored: true,
            grass: greens(98, 142, 70),
            width: 1440,
            ..wide
        };
        let close = View {
            rows: (HEIGHT as f64 * 0.3, HEIGHT as f64 * 0.98),
            depth: (12.0, 56.0),
            scale: (19.5, 30.0),
            grass: greens(52, 104, 46),
            width: 3000,
            ..wide
        };
        let views = [wide, opposite, close].map(|view| (view, view.paint(HEIGHT, &mut rng)));
        let mut crowd = Canvas::new(WIDTH + 2 * MARGIN as usize, HEIGHT + 2 * MARGIN as usize, DARK);
        stand(&mut crowd, HEIGHT as i32 + 2 * MARGIN, SEAT, &mut rng);
        Self {
            script: script.clone(),
            shots: shots(script),
            views,
            crowd,
            play: Play::new(script.seed),
            rng,
            frame: 0,
            canvas: Canvas::new(WIDTH, HEIGHT, DARK),
        }
    }

    /// How many frames there are.
    pub fn frames(script: &Script) -> u64 {
        (script.duration_s * FRAME_RATE as f64).round() as u64
    }

    /// Draws the next frame and appends it as raw yuv420p.
    pub fn next(&mut self, out: &mut Vec<u8>) {
        let t = self.frame as f64 / FRAME_RATE as f64;
        let lively = self.script.liveliness(t);
        self.play.step(1.0 / FRAME_RATE as f64, lively);
        let camera = self.shots.iter().rev().find(|s| s.from_s <= t).map_or(Camera::Wide, |s| s.camera);
        match camera {
            Camera::Wide => self.pitch(0, t, lively),
            Camera::Opposite => self.pitch(1, t, lively),
            Camera::Close => self.pitch(2, t, lively),
            Camera::Crowd => self.audience(t),
        }
        self.overlay(t);
        self.canvas.append_to(out);
        self.frame += 1;
    }

    fn pitch(&mut self, view: usize, t: f64, lively: f64) {
        let (view, panorama) = &self.views[view];
        let (focus, _, _) = view.project(self.play.focus.0, self.play.focus.1);
        let shake = 5.0 * lively * (t * 9.0).sin() * (t * 23.0).cos();
        let left = (focus + shake - WIDTH as f64 / 2.0).clamp(0.0, (view.width - WIDTH) as f64) as i32 & !1;
        self.canvas.copy(panorama, (left, 0), (WIDTH as i32, HEIGHT as i32), (0, 0));
        let mut order: Vec<(usize, f64, f64, f64)> = Vec::with_capacity(self.play.players.len());
        for (index, player) in self.play.players.iter().enumerate() {
            let (x, y, scale) = view.project(player.at.0, player.at.1);
            order.push((index, x - f64::from(left), y, scale));
        }
        order.sort_by(|a, b| a.2.total_cmp(&b.2));
        for (index, x, y, scale) in order {
            person(&mut self.canvas, &self.play.players[index], index, t, x, y, scale);
        }
        let (x, y, scale) = view.project(self.play.ball.0, self.play.ball.1);
        let (x, size) = (x - f64::from(left), (scale * 0.22).max(2.0));
        let bounce = (t * 7.0).sin().abs() * scale * 0.4 * (0.3 + lively);
        self.canvas.ellipse(x, y, size, size * 0.4, Colour::rgb(30, 60, 30));
        self.canvas.ellipse(x, y - size - bounce, size, size, WHITE);
    }

    /// The stand jumps in blocks; lamps flash, paper rains.
    fn audience(&mut self, t: f64) {
        let columns = WIDTH as i32 / (SEAT * 2) + 2;
        for row in 0..HEIGHT as i32 / SEAT + 2 {
            for column in 0..columns {
                let phase = f64::from(row * 7 + column * 13);
                let hop = ((t * 8.0 + phase).sin().abs() * 14.0) as i32;
                let sway = ((t * 2.2 + f64::from(row)).sin() * 8.0) as i32;
                let source = (column * SEAT * 2 + MARGIN / 2 + sway, row * SEAT);
                let target = (column * SEAT * 2 - SEAT, row * SEAT - hop);
                self.canvas.copy(&self.crowd, source, (SEAT * 2, SEAT + 14), target);
            }
        }
        for _ in 0..5 {
            let (x, y) = (self.rng.range(0.0, WIDTH as f64), self.rng.range(0.0, HEIGHT as f64));
            let size = self.rng.range(1.0, 7.0);
            self.canvas.ellipse(x, y, size, size, Colour::rgb(255, 255, 240));
        }
        for piece in 0..90i32 {
            let speed = 90.0 + f64::from(piece % 7) * 22.0;
            let y = (f64::from(piece * 83) + t * speed) % (HEIGHT as f64 + 20.0);
            let x = f64::from(piece * 131 % WIDTH as i32) + (t * 3.0 + f64::from(piece)).sin() * 18.0;
            let (shirt, _) = KITS[piece as usize % 2];
            let colour = if piece % 3 == 0 { Colour::rgb(245, 205, 60) } else { shirt };
            self.canvas.rect(x as i32, y as i32, 6, 4 + piece % 3, colour);
        }
    }

    fn overlay(&mut self, t: f64) {
        let goal_at = |s: f64, e: f64| s + (e - s) * 0.4;
        let full = self.script.moments.iter().filter(|m| m.kind == Kind::Full);
        let mut score = [0, 0];
        let mut banner = false;
        for (index, moment) in full.enumerate() {
            let goal = goal_at(moment.start_s, moment.end_s);
            score[index % 2] += i32::from(t >= goal);
            banner |= t >= goal && t < goal + 1.8;
        }
        self.canvas.rect(16, 12, 172, 22, DARK);
        self.canvas.rect(16, 12, 4, 22, KITS[0].0);
        self.canvas.rect(184, 12, 4, 22, KITS[1].0);
        let seconds = t as u64;
        let text = format!("CRE {}-{} EST", score[0], score[1]);
        self.canvas.text(26, 18, 2, &text, WHITE);
        self.canvas.text(136, 18, 2, &format!("{:02}:{:02}", seconds / 60, seconds % 60), Colour::rgb(245, 205, 60));
        if banner {
            let blink = if ((t * 5.0) as u64).is_multiple_of(2) { Colour::rgb(245, 205, 60) } else { WHITE };
            let (size, top) = (12, HEIGHT as i32 * 5 / 8);
            let left = (WIDTH as i32 - 19 * size) / 2;
            self.canvas.rect(left - 18, top - 14, 19 * size + 36, 5 * size + 28, DARK);
            self.canvas.text(left, top, size, "GOAL!", blink);
        }
    }
}

fn person(canvas: &mut Canvas, player: &Player, index: usize, t: f64, x: f64, y: f64, scale: f64) {
    if x < -80.0 || x > WIDTH as f64 + 80.0 {
        return;
    }
    let (shirt, shorts) = KITS[player.team];
    let running = player.speed.0.hypot(player.speed.1).min(8.0) / 8.0;
    let stride = (t * (6.0 + 8.0 * running) + index as f64).sin() * scale * 0.35 * running;
    let part = |v: f64| (v * scale).max(1.0) as i32;
    canvas.ellipse(x, y, scale * 0.5, scale * 0.14, Colour::rgb(35, 70, 32));
    for side in [-1.0, 1.0] {
        let foot = x + side * stride;
        canvas.rect((foot - scale * 0.1) as i32, (y - scale * 0.55) as i32, part(0.2), part(0.55), WHITE);
        canvas.rect(
            (x + side * stride * 0.5 - scale * 0.16) as i32,
            (y - scale * 0.95) as i32,
            part(0.3),
            part(0.45),
            shorts,
        );
        let hand = x + side * (scale * 0.36) - stride * side * 0.4;
        canvas.rect((hand - scale * 0.07) as i32, (y - scale * 1.4) as i32, part(0.15), part(0.5), SKIN);
    }
    canvas.rect((x - scale * 0.3) as i32, (y - scale * 1.5) as i32, part(0.6), part(0.65), shirt);
    canvas.ellipse(x, y - scale * 1.7, scale * 0.18, scale * 0.22, SKIN);
    canvas.rect((x - scale * 0.18) as i32, (y - scale * 1.95) as i32, part(0.36), part(0.14), DARK);
    if scale > 15.0 {
        let number = format!("{}", index % 11 + 1);
        canvas.text((x - scale * 0.15) as i32, (y - scale * 1.38) as i32, (scale / 12.0) as i32, &number, shorts);
    }
}
