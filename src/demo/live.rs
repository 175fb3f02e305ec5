//! What arrives while the broadcast is on air: remembered for the score card, shown to the person
//! who watches.

use serde_json::Value;
use std::path::PathBuf;
use std::time::Instant;

use super::api::Api;
use super::card::Found;
use super::console::{Console, Tint, clock};
use super::receiver::Received;
use super::script::{Kind, Moment, Script};

/// A provisional highlight this close to a moment, in seconds, is taken to be about it.
const NEAR_S: f64 = 2.0;

/// What is known so far.
pub struct Live<'a> {
    script: &'a Script,
    console: &'a Console,
    api: Api,
    out: PathBuf,
    zero: Instant,
    /// Moments whose beginning was announced.
    announced: usize,
    /// Every highlight that was told of, in order of their first event.
    pub found: Vec<Found>,
    /// Whether `stream.ended` came.
    pub ended: bool,
    /// What went wrong.
    pub faults: Vec<String>,
}

impl<'a> Live<'a> {
    /// `zero` is the instant at which second 0 of the broadcast was on air.
    pub fn new(script: &'a Script, console: &'a Console, api: Api, out: PathBuf, zero: Instant) -> Self {
        let (found, faults) = (Vec::new(), Vec::new());
        Self { script, console, api, out, zero, announced: 0, found, ended: false, faults }
    }

    /// The publisher knows better by now when the broadcast began.
    pub fn set_zero(&mut self, zero: Instant) {
        self.zero = zero;
    }

    /// Seconds of the broadcast that are over.
    pub fn now(&self) -> f64 {
        self.zero.elapsed().as_secs_f64()
    }

    /// Says what happens on air, and what is being waited for.
    pub fn tick(&mut self) {
        let now = self.now();
        while let Some(moment) = self.script.moments.get(self.announced).filter(|m| m.start_s <= now) {
            let what = match moment.kind {
                Kind::Full => format!("a moment: crowd, cuts, fast play; chat reacts {:.1} s later", moment.lag_s),
                Kind::Visual => "a moment that can only be seen: cuts and fast play, no noise, no chat".to_owned(),
                Kind::Decoy => "the decoy: a loud hum, nothing else".to_owned(),
            };
            self.say(moment.start_s, Tint::Dim, "on air", &what);
            self.announced += 1;
        }
        let of = |state: &str| self.found.iter().filter(|f| f.state == state).count();
        let left = (self.script.duration_s - now).max(0.0);
        let told = format!("{} ready, {} on their way", of("ready"), of("provisional"));
        if left > 0.0 {
            self.console.status(format!("{} on air, {:.0} s to go   highlights: {told}", clock(now), left));
        } else {
            self.console.status(format!("{} off air, waiting for the last clips   highlights: {told}", clock(now)));
        }
    }

    /// Takes a webhook.
    pub async fn take(&mut self, received: Received) {
        let at = received.at.saturating_duration_since(self.zero).as_secs_f64();
        let data = &received.data;
        match received.event.as_str() {
            "highlight.detected" => self.detected(at, data),
            "highlight.ready" => self.ready(at, data).await,
            "highlight.deleted" => {
                let (index, why) = (self.entry(data), reason(data));
                self.found[index].state = "deleted".to_owned();
                self.say(at, Tint::Dim, "withdrawn", &format!("{}, on second thoughts ({why})", span(data)));
            }
            "highlight.failed" => {
                let (index, why) = (self.entry(data), reason(data));
                self.found[index].state = "failed".to_owned();
                self.faults.push(format!("the clip of {} failed: {why}", span(data)));
                self.say(at, Tint::Red, "failed", &format!("{}: {why}", span(data)));
            }
            "highlight.updated" => drop(self.entry(data)),
            "stream.started" => self.say(at, Tint::Dim, "started", "crest receives the broadcast"),
            "stream.ended" => {
                self.ended = true;
                self.say(at, Tint::Dim, "ended", "the stream is over");
            }
            other => self.say(at, Tint::Dim, other.trim_start_matches("stream."), &reason(data)),
        }
    }

    fn detected(&mut self, at: f64, data: &Value) {
        let index = self.entry(data);
        self.found[index].detected_s = Some(at);
        let about = match self.about(&self.found[index], NEAR_S) {
            Some(m) if m.wanted() => format!("{:.1} s after it began", at - m.start_s),
            Some(_) => "that is the decoy!".to_owned(),
            None => "nothing is planned there!".to_owned(),
        };
        let text = format!("score {:.2}  {:<42} {about}", self.found[index].score, dimensions(data));
        self.say(at, Tint::Yellow, "detected", &text);
    }

    async fn ready(&mut self, at: f64, data: &Value) {
        let index = self.entry(data);
        self.found[index].ready_s = Some(at);
        self.found[index].state = "ready".to_owned();
        let number = self.found.iter().filter(|f| f.state == "ready").count();
        let start = self.found[index].start_s as u64;
        let name = format!("clips/{number:02}-at-{:02}m{:02}s", start / 60, start % 60);
        let clip = self.fetch(data, "clip_url", format!("{name}.mp4")).await;
        let thumbnail = self.fetch(data, "thumbnail_url", format!("{name}.jpg")).await;
        let found = &mut self.found[index];
        (found.clip, found.thumbnail) = (clip, thumbnail);
        let found = &self.found[index];
        let about = match self.about(found, 0.0) {
            Some(m) if m.wanted() => format!("{:.1} s after it ended", at - m.end_s),
            Some(_) => "that is the decoy!".to_owned(),
            None => "nothing is planned there!".to_owned(),
        };
        let clip = found.clip.as_ref().map_or("no clip".to_owned(), |c| self.out.join(c).display().to_string());
        let text = format!("score {:.2}  {} {clip:<30} {about}", found.score, span(data));
        self.say(at, Tint::Green, "ready", &text);
    }

    /// Gets a file through the link of an event.
    async fn fetch(&mut self, data: &Value, link: &str, name: String) -> Option<String> {
        let fetched = match data[link].as_str() {
            Some(url) => self.api.save(url, &self.out.join(&name)).await,
            None => Err(anyhow::anyhow!("the event has no {link}")),
        };
        match fetched {
            Ok(size) if size > 0 => Some(name),
            Ok(_) => {
                self.faults.push(format!("{name} is empty"));
                None
            }
            Err(error) => {
                self.faults.push(format!("{name} could not be fetched: {error:#}"));
                None
            }
        }
    }

    /// The highlight that an event is about, brought up to date.
    fn entry(&mut self, data: &Value) -> usize {
        let id = data["id"].as_str().unwrap_or_default();
        let index = self.found.iter().position(|f| f.id == id).unwrap_or_else(|| {
            self.found.push(Found { id: id.to_owned(), state: "provisional".to_owned(), ..Found::default() });
            self.found.len() - 1
        });
        let number = |name: &str| data[name].as_f64().unwrap_or(0.0);
        let found = &mut self.found[index];
        (found.start_s, found.end_s, found.score) = (number("start_s"), number("end_s"), number("score"));
        index
    }

    /// The moment that a highlight is about.
    fn about(&self, found: &Found, slack: f64) -> Option<&Moment> {
        let wide = Found { start_s: found.start_s - slack, end_s: found.end_s + slack, ..found.clone() };
        let shared = |m: &&Moment| wide.overlap(m).unwrap_or(0.0);
        let best = self.script.moments.iter().max_by(|a, b| shared(a).total_cmp(&shared(b)));
        best.filter(|m| shared(m) > 0.0)
    }

    fn say(&self, at: f64, tint: Tint, what: &str, text: &str) {
        let head = format!("{}  {what:<11}", clock(at));
        match tint {
            Tint::Dim => self.console.line(self.console.paint(Tint::Dim, &format!("{head} {text}"))),
            tint => self.console.line(format!("{} {text}", self.console.paint(tint, &head))),
        }
    }
}

fn span(data: &Value) -> String {
    let number = |name: &str| data[name].as_f64().unwrap_or(0.0);
    format!("{} to {}", clock(number("start_s")), clock(number("end_s")))
}

fn reason(data: &Value) -> String {
    data["reason"].as_str().unwrap_or("no reason given").replace('_', " ")
}

/// `sound 0.8  picture 0.7`, strongest first.
fn dimensions(data: &Value) -> String {
    let Some(dimensions) = data["dimensions"].as_object() else { return String::new() };
    let mut values: Vec<(&String, f64)> = dimensions.iter().filter_map(|(k, v)| Some((k, v.as_f64()?))).collect();
    values.sort_by(|a, b| b.1.total_cmp(&a.1));
    values.iter().map(|(name, value)| format!("{name} {value:.2}")).collect::<Vec<_>>().join("  ")
}
