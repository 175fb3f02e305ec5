//! What each event of a feed passes before it is stored or decoded.

use crest_core::codec::MediaEvent;
use crest_media::{Announced, PictureHeaders};
use std::time::Instant;

use super::ledger::{Permit, Rate};
use super::meter::{Bucket, Meter};
use super::{Excess, LimitsConfig};

/// Frames per second that a picture is taken to have until they have been counted: big pictures must not slip in
/// together before they are.
const PRESUMED_FRAMES: u64 = 30;

/// One feed's gate. It holds the feed's permit.
#[derive(Debug)]
pub(crate) struct Gate {
    permit: Permit,
    headers: Option<PictureHeaders>,
    /// Pixels of one coded picture; 0 where that is not known.
    picture: u64,
    bits: Bucket,
    pixels: Bucket,
    meter: Meter,
    /// Since when more arrives than could be claimed.
    over: Option<Instant>,
}

impl Gate {
    pub(crate) fn new(permit: Permit) -> Self {
        let LimitsConfig { feed_bits_per_second, feed_pixels_per_second, burst, .. } = *permit.config();
        Self {
            permit,
            headers: None,
            picture: 0,
            bits: Bucket::new(feed_bits_per_second, burst.0),
            pixels: Bucket::new(feed_pixels_per_second, burst.0),
            meter: Meter::new(burst.0 / 2),
            over: None,
        }
    }

    /// Whether the feed may go on with this event, which arrives now.
    pub(crate) fn pass(&mut self, event: &MediaEvent, now: Instant) -> Result<(), Excess> {
        match event {
            MediaEvent::VideoConfig(config) => {
                let headers = PictureHeaders::of(config);
                let announced = headers.announced();
                self.headers = Some(headers);
                self.picture = 0;
                self.look(announced)
            }
            MediaEvent::AudioConfig(_) => Ok(()),
            MediaEvent::Video(packet) => {
                // Parameter sets may come along with any picture.
                let announced = self.headers.as_ref().map(|headers| headers.within(&packet.data));
                self.look(announced.unwrap_or(Announced::Nothing))?;
                self.count(packet.data.len(), self.picture, now)
            }
            MediaEvent::Audio(packet) => self.count(packet.data.len(), 0, now),
        }
    }

    fn look(&mut self, announced: Announced) -> Result<(), Excess> {
        // What cannot be read is not decoded either.
        let Announced::Size { width, height } = announced else { return Ok(()) };
        let LimitsConfig { max_width, max_height, .. } = *self.permit.config();
        if (max_width > 0 && width > max_width) || (max_height > 0 && height > max_height) {
            let limits = format!("{max_width} x {max_height} (limits.max_width, limits.max_height)");
            let reason = format!("its picture is coded as {width} x {height}, and at most {limits} is taken");
            return Err(Excess::new("picture_size", format!("{reason}; lower the encoder's resolution")));
        }
        self.picture = u64::from(width) * u64::from(height);
        let presumed = Rate { pixels: self.picture.saturating_mul(PRESUMED_FRAMES), ..self.permit.rate() };
        if presumed.pixels > self.permit.rate().pixels {
            self.permit.claim(presumed)?;
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize, pixels: u64, now: Instant) -> Result<(), Excess> {
        let bits = (bytes as u64).saturating_mul(8);
        if !self.bits.take(bits, now) {
            return Err(self.flood("feed_bits_per_second", "bits", "bitrate"));
        }
        if !self.pixels.take(pixels, now) {
            return Err(self.flood("feed_pixels_per_second", "pixels", "resolution or frame rate"));
        }
        match self.meter.add(pixels, bits, now) {
            Some(measured) => self.settle(measured, now),
            None => Ok(()),
        }
    }

    /// Claims what was measured and a quarter more, so that a feed which varies keeps its place among others;
    /// what it does not use any more it gives back a tenth at a time. More than it could claim is forgiven as
    /// long as any burst.
    fn settle(&mut self, measured: Rate, now: Instant) -> Result<(), Excess> {
        let had = self.permit.rate();
        let room = |measured: u64| measured.saturating_add(measured / 4);
        let wanted = |had: u64, measured: u64| {
            if measured > had { room(measured) } else { room(measured).max(had - had / 10).min(had) }
        };
        let wanted = Rate { pixels: wanted(had.pixels, measured.pixels), bits: wanted(had.bits, measured.bits) };
        let at_least = Rate { pixels: had.pixels.max(measured.pixels), bits: had.bits.max(measured.bits) };
        let Err(excess) = self.permit.claim(wanted).or_else(|_| self.permit.claim(at_least)) else {
            self.over = None;
            return Ok(());
        };
        let over = now.saturating_duration_since(*self.over.get_or_insert(now));
        if over < self.permit.config().burst.0 { Ok(()) } else { Err(excess) }
    }

    fn flood(&self, limit: &'static str, what: &str, lower: &str) -> Excess {
        let LimitsConfig { feed_bits_per_second, feed_pixels_per_second, burst, .. } = *self.permit.config();
        let most = if what == "bits" { feed_bits_per_second } else { feed_pixels_per_second };
        let over = format!("it sent more than {most} {what} per second for {} s", burst.0.as_secs_f64());
        Excess::new(limit, format!("{over} (limits.{limit}); lower the encoder's {lower}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "gate_tests.rs"]
mod tests;
