//! An offer -> the library's half of the session, and the answer.

use axum::http::StatusCode;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use str0m::change::SdpOffer;
use str0m::config::CryptoProvider;
use str0m::format::Codec;
use str0m::ice::IceCreds;
use str0m::media::{MediaKind, Mid};
use str0m::{Candidate, Rtc, RtcConfig};

use super::problem::Problem;
use super::secret;
use crate::config::WebRtcConfig;

/// Profiles of H.264 that are taken, as `profile-level-id` begins with them (RFC 6184, 8.1): baseline, constrained
/// baseline, main, high, constrained high.
const H264_PROFILES: [u32; 5] = [0x42_0000, 0x42_e000, 0x4d_0000, 0x64_0000, 0x64_0c00];
/// Level 5.2: how large a picture may be is the publisher's affair.
const H264_LEVEL: u32 = 52;
/// Payload types from here on are the library's names for H.264, until the offer gives its own; sound has 111.
const PAYLOAD_TYPE: u8 = 35;

/// A session that was agreed on.
pub(super) struct Agreed {
    /// The library's half.
    pub(super) rtc: Rtc,
    /// The answer, with all candidates.
    pub(super) answer: String,
    /// The picture's media section.
    pub(super) video: Option<Mid>,
    /// The ICE name of this side, which the publisher's first datagrams bear.
    pub(super) ufrag: String,
    /// The ICE name of the publisher.
    pub(super) publisher_ufrag: String,
}

/// How offers are answered.
pub(super) struct Terms {
    pub(super) config: WebRtcConfig,
    /// Where publishers reach this machine, the same port each.
    pub(super) candidates: Vec<SocketAddr>,
    pub(super) crypto: Arc<CryptoProvider>,
}

impl Terms {
    /// Answers an offer, or says what is wrong with it.
    ///
    /// The picture's codec is agreed on here: of those in common the answer names one, H.264 before VP8, as
    /// players of clips want it. (A browser would take the first that it prefers itself.)
    pub(super) fn answer(&self, offer: &str) -> Result<Agreed, Problem> {
        // Nothing is ever sent; an answer must say so (RFC 9725, 4.2).
        let text = offer.replace("a=sendrecv", "a=sendonly");
        let tracks = tracks(&text)?;
        let mut missing = MediaKind::Video;
        for codec in [Codec::H264, Codec::Vp8] {
            match self.with_codec(&text, &tracks, codec)? {
                Ok(agreed) => return Ok(agreed),
                Err(kind) => missing = kind,
            }
        }
        let detail = match missing {
            MediaKind::Audio => "The offer has sound, but not as Opus; offer Opus.",
            MediaKind::Video => "The offer has a picture, but neither as H.264 nor as VP8; offer one of them.",
        };
        Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "no_common_codec", detail))
    }

    /// Answers with one codec for the picture, or names the kind of media that is left without any.
    fn with_codec(&self, text: &str, tracks: &[Track], codec: Codec) -> Result<Result<Agreed, MediaKind>, Problem> {
        let invalid = |error: &dyn std::fmt::Display| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_offer", format!("The body is no usable SDP offer: {error}."))
        };
        let offer = SdpOffer::from_sdp_string(text).map_err(|error| invalid(&error))?;
        let unavailable = |error| {
            tracing::error!(%error, "a WebRTC session could not be made");
            Problem::unavailable("The server cannot make a session at the moment; try again.")
        };
        let credentials =
            IceCreds { ufrag: secret::hex(16).map_err(unavailable)?, pass: secret::hex(32).map_err(unavailable)? };
        let ufrag = credentials.ufrag.clone();
        let mut rtc = self.library(codec, credentials).build(Instant::now());
        for address in &self.candidates {
            if let Ok(candidate) = Candidate::host(*address, "udp") {
                rtc.add_local_candidate(candidate);
            }
        }
        let answer = rtc.sdp_api().accept_offer(offer).map_err(|error| invalid(&error))?.to_sdp_string();
        for track in tracks {
            let media = rtc.media(track.mid).ok_or_else(|| invalid(&"a track has no name (a=mid)"))?;
            if !media.direction().is_receiving() {
                return Err(unsupported("every track must be sent: 'a=sendonly'"));
            }
            if media.remote_pts().is_empty() {
                return Ok(Err(track.kind));
            }
        }
        let video = tracks.iter().find(|track| track.kind == MediaKind::Video).map(|track| track.mid);
        let publisher_ufrag = text.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap_or_default();
        let publisher_ufrag = publisher_ufrag.trim().to_owned();
        Ok(Ok(Agreed { rtc, answer, video, ufrag, publisher_ufrag }))
    }

    fn library(&self, codec: Codec, credentials: IceCreds) -> RtcConfig {
        let mut config = RtcConfig::new()
            .set_crypto_provider(Arc::clone(&self.crypto))
            .set_local_ice_credentials(credentials)
            // Answers who proves to know the session, and sends to nobody else: what a stranger writes into an
            // offer cannot make this server knock at addresses of others.
            .set_ice_lite(true)
            .clear_codecs()
            .enable_opus(true, false)
            .set_reordering_timeout_audio(Some(self.config.jitter.0))
            .set_reordering_timeout_video(Some(self.config.jitter.0));
        if codec == Codec::Vp8 {
            return config.enable_vp8(true);
        }
        let payload_types = (PAYLOAD_TYPE..).step_by(2);
        let kinds = H264_PROFILES.iter().flat_map(|profile| [(profile, true), (profile, false)]);
        for (payload_type, (profile, fragmented)) in payload_types.zip(kinds) {
            let (media, repair) = (payload_type.into(), Some((payload_type + 1).into()));
            config.codec_config().add_h264(media, repair, fragmented, profile | H264_LEVEL);
        }
        config
    }
}

/// A media section of an offer.
struct Track {
    kind: MediaKind,
    mid: Mid,
}

/// What an offer has, if it is no more than is taken.
fn tracks(offer: &str) -> Result<Vec<Track>, Problem> {
    let mut tracks = Vec::new();
    for section in offer.split("\nm=").skip(1) {
        let kind = match section.split(' ').next() {
            Some("audio") => MediaKind::Audio,
            Some("video") => MediaKind::Video,
            _ => return Err(unsupported("sound and picture are taken and nothing else, no data channel either")),
        };
        if section.contains("a=simulcast:") {
            return Err(unsupported("one encoding of the picture is taken, no simulcast"));
        }
        if tracks.iter().any(|track: &Track| track.kind == kind) {
            return Err(unsupported("one track of sound and one of picture are taken"));
        }
        let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:")).unwrap_or_default();
        tracks.push(Track { kind, mid: mid.trim().into() });
    }
    Ok(tracks)
}

fn unsupported(what: &str) -> Problem {
    let detail = format!("This offer cannot be taken: {what}.");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unsupported_offer", detail)
}

#[cfg(test)]
#[path = "offer_tests.rs"]
mod tests;
