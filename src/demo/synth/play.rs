//! The match: a ball that is passed around and two teams that follow it.

use super::stadium::PITCH;
use crate::demo::rng::Rng;

/// A point of the pitch, in metres.
pub type Point = (f64, f64);

/// Where players stand when the ball is in the middle, for the team that attacks to the right.
const FORMATION: [Point; 11] = [
    (4.0, 34.0),
    (22.0, 10.0),
    (20.0, 26.0),
    (20.0, 42.0),
    (22.0, 58.0),
    (40.0, 14.0),
    (36.0, 34.0),
    (40.0, 54.0),
    (56.0, 16.0),
    (60.0, 34.0),
    (56.0, 52.0),
];

/// A player.
#[derive(Debug, Clone, Copy)]
pub struct Player {
    /// Where they are.
    pub at: Point,
    /// Which way and how fast they run, in metres per second.
    pub speed: Point,
    /// 0 or 1.
    pub team: usize,
    home: Point,
}

/// The match at an instant.
#[derive(Debug, Clone)]
pub struct Play {
    /// Everybody.
    pub players: Vec<Player>,
    /// Where the ball is.
    pub ball: Point,
    /// Where the cameras look: the ball, followed with some inertia.
    pub focus: Point,
    target: Point,
    pass_in: f64,
    rng: Rng,
}

impl Play {
    /// Kick-off.
    pub fn new(seed: u64) -> Self {
        let player = |team: usize, (x, y): Point| {
            let home = if team == 0 { (x, y) } else { (PITCH.0 - x, PITCH.1 - y) };
            Player { at: home, speed: (0.0, 0.0), team, home }
        };
        let players = (0..2).flat_map(|team| FORMATION.iter().map(move |home| player(team, *home))).collect();
        let middle = (PITCH.0 / 2.0, PITCH.1 / 2.0);
        Self { players, ball: middle, focus: middle, target: middle, pass_in: 1.0, rng: Rng::new(seed, 4) }
    }

    /// Lets `dt` seconds pass. `lively` from 0 (midfield play) to 1 (everything happens at once).
    pub fn step(&mut self, dt: f64, lively: f64) {
        self.pass_in -= dt * (1.0 + 2.5 * lively);
        if self.pass_in < 0.0 {
            self.pass_in = self.rng.range(1.2, 2.6);
            let player = self.players[self.rng.index(self.players.len())];
            let goal = (if self.rng.unit() < 0.5 { 2.0 } else { PITCH.0 - 2.0 }, self.rng.range(28.0, 40.0));
            self.target = if self.rng.unit() < 0.6 * lively { goal } else { player.at };
            // Quiet play stays in midfield.
            let reach = 25.0 + 27.0 * lively;
            self.target.0 = self.target.0.clamp(PITCH.0 / 2.0 - reach, PITCH.0 / 2.0 + reach);
        }
        self.ball = towards(self.ball, self.target, dt * (9.0 + 26.0 * lively));
        let follow = 1.0 - (-dt * (1.2 + 4.0 * lively)).exp();
        self.focus.0 += (self.ball.0 - self.focus.0) * follow;
        self.focus.1 += (self.ball.1 - self.focus.1) * follow;
        for player in &mut self.players {
            let pull = 0.45 + 0.25 * lively;
            let wobble = (self.rng.range(-1.0, 1.0), self.rng.range(-1.0, 1.0));
            let goal = (
                player.home.0 + (self.ball.0 - PITCH.0 / 2.0) * 0.6 + (self.ball.0 - player.home.0) * pull * 0.3,
                player.home.1 + (self.ball.1 - player.home.1) * pull * 0.5,
            );
            let before = player.at;
            player.at = towards(player.at, goal, dt * (2.4 + 6.0 * lively));
            player.at.0 += wobble.0 * dt * 2.0;
            player.at.1 += wobble.1 * dt * 2.0;
            player.speed = ((player.at.0 - before.0) / dt, (player.at.1 - before.1) / dt);
        }
    }
}

fn towards(from: Point, to: Point, step: f64) -> Point {
    let distance = (to.0 - from.0).hypot(to.1 - from.1);
    if distance <= step {
        return to;
    }
    (from.0 + (to.0 - from.0) * step / distance, from.1 + (to.1 - from.1) * step / distance)
}
