//! RTSP (RFC 2326), through `retina`: cameras and encoders that wait to be asked. Media comes over the same TCP
//! connection, so that no packet is lost and no further port is needed.

use bytes::Bytes;
use crest_core::MediaTime;
use crest_core::codec::{AudioCodec, AudioConfig, MediaEvent, Packet, VideoCodec, VideoConfig};
use futures::StreamExt;
use reqwest::Url;
use retina::client::{
    Credentials, Demuxed, InitialTimestampPolicy, PlayOptions, Session, SessionOptions, SetupOptions, Transport,
};
use retina::codec::{CodecItem, FrameFormat, ParametersRef, VideoParametersCodec};
use tokio::time::timeout;

use super::Trouble;
use super::decoding_order::DecodingOrder;
use super::outlet::Outlet;
use super::source::Sources;

const PORT: u16 = 554;

/// Pulls until the server ends it.
pub(super) async fn run(sources: &Sources, url: &Url, outlet: &mut Outlet<'_>) -> Result<String, Trouble> {
    sources.allowed.check(url, &["rtsp"]).map_err(Trouble::Final)?;
    let silence = sources.config.timeout.0;
    let mut session = timeout(silence, begin(sources, url, outlet)).await.map_err(|_| silent())??;
    let (mut video, mut audio) = (Track::default(), Track::default());
    loop {
        let item = match timeout(silence, session.next()).await {
            Err(_) => return Err(silent()),
            Ok(None) => return Err(Trouble::Passing("the server ended the stream".to_owned())),
            Ok(Some(Err(error))) => return Err(Trouble::Passing(format!("the connection broke: {}", told(&error)))),
            Ok(Some(Ok(item))) => item,
        };
        let events = match item {
            CodecItem::VideoFrame(frame) => {
                let config = || match session.streams().get(frame.stream_id())?.parameters()? {
                    ParametersRef::Video(parameters) => video_config(parameters),
                    _ => None,
                };
                let config = (video.config.is_none() || frame.has_new_parameters()).then(config).flatten();
                let (pts, keyframe) = (time(frame.timestamp()), frame.is_random_access_point());
                video.event(config.map(MediaEvent::VideoConfig), pts, keyframe, frame.into_data().into())
            }
            CodecItem::AudioFrame(frame) => {
                let config = || match session.streams().get(frame.stream_id())?.parameters()? {
                    ParametersRef::Audio(parameters) => audio_config(parameters),
                    _ => None,
                };
                let config = audio.config.is_none().then(config).flatten();
                let data = Bytes::copy_from_slice(frame.data());
                audio.event(config.map(MediaEvent::AudioConfig), time(frame.timestamp()), true, data)
            }
            _ => continue,
        };
        for event in events {
            outlet.deliver(event).await?;
        }
    }
}

/// An error without what the library adds of the connection, which is nobody else's business.
fn told(error: &retina::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn silent() -> Trouble {
    Trouble::Passing("the server is silent (pull.timeout)".to_owned())
}

/// Asks for the first video stream that can be read, and of the audio streams that can be for the one that is chosen.
async fn begin(sources: &Sources, url: &Url, outlet: &Outlet<'_>) -> Result<Demuxed, Trouble> {
    let passing = |error: retina::Error| Trouble::Passing(format!("the server does not play it: {}", told(&error)));
    let mut url = url.clone();
    let credentials = (!url.username().is_empty()).then(|| Credentials {
        username: decoded(url.username()),
        password: decoded(url.password().unwrap_or_default()),
    });
    let (host, port) = (url.host_str().unwrap_or_default().to_owned(), url.port().unwrap_or(PORT));
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = sources.allowed.resolve(bare, port).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => Trouble::Final(error.to_string()),
        _ => Trouble::Passing(format!("{host} cannot be found: {error}")),
    })?;
    // The library resolves names by itself: it is given the address that was checked, and no password to log.
    let unusable = |()| Trouble::Final("source.url cannot be used for RTSP".to_owned());
    url.set_username("").and_then(|()| url.set_password(None)).map_err(unusable)?;
    url.set_ip_host(address.ip()).map_err(unusable)?;
    let options = SessionOptions::default().creds(credentials).user_agent("crest".to_owned());
    let mut session = Session::describe(url, options).await.map_err(passing)?;
    let mut chosen = Vec::new();
    for (media, encodings) in [("video", ["h264", "h265"].as_slice()), ("audio", &["mpeg4-generic"])] {
        let can_be_read =
            |stream: &retina::client::Stream| stream.media() == media && encodings.contains(&stream.encoding_name());
        let mut usable = session.streams().iter().enumerate().filter(|(_, stream)| can_be_read(stream));
        let before = if media == "audio" { usize::from(outlet.audio_track().unwrap_or_default()) } else { 0 };
        let found = usable.nth(before).map(|(index, _)| index);
        if found.is_none() && before > 0 {
            let stream_id = outlet.stream();
            tracing::warn!(%stream_id, audio_track = before, "the audio track that was chosen is not there; the feed has no sound");
        }
        chosen.extend(found);
    }
    if chosen.is_empty() {
        return Err(Trouble::Final("the server offers no H.264, H.265 or AAC".to_owned()));
    }
    for index in chosen {
        let setup = SetupOptions::default().transport(Transport::default()).frame_format(FrameFormat::MP4);
        session.setup(index, setup).await.map_err(passing)?;
    }
    // Servers that do not say where their clocks stand are pulled nevertheless; then the tracks begin together.
    let play = PlayOptions::default().initial_timestamp(InitialTimestampPolicy::Permissive);
    session.play(play).await.map_err(passing)?.demuxed().map_err(passing)
}

/// A part of an address as it was meant: addresses escape what would end the part.
fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// One track on its way from frames to events.
#[derive(Default)]
struct Track {
    config: Option<MediaEvent>,
    order: DecodingOrder,
}

impl Track {
    /// The frame, behind its configuration where that is new. RTP says when frames are presented, and brings them in the
    /// order in which they are decoded.
    fn event(&mut self, config: Option<MediaEvent>, pts: MediaTime, keyframe: bool, data: Bytes) -> Vec<MediaEvent> {
        let config = config.filter(|config| self.config.as_ref() != Some(config));
        if config.is_some() {
            self.config.clone_from(&config);
        }
        let Some(known) = &self.config else { return Vec::new() };
        let is_video = matches!(known, MediaEvent::VideoConfig(_));
        let packet = Packet { pts, dts: self.order.decoded_at(pts), keyframe, data };
        config
            .into_iter()
            .chain([if is_video { MediaEvent::Video(packet) } else { MediaEvent::Audio(packet) }])
            .collect()
    }
}

fn time(at: retina::Timestamp) -> MediaTime {
    let rate = i128::from(at.clock_rate().get());
    let nanos = i128::from(at.elapsed()) * 1_000_000_000 / rate;
    MediaTime::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

fn video_config(parameters: &retina::codec::VideoParameters) -> Option<VideoConfig> {
    let codec = match parameters.codec_params() {
        VideoParametersCodec::H264 { .. } => VideoCodec::H264,
        VideoParametersCodec::H265 { .. } => VideoCodec::H265,
        _ => return None,
    };
    let (width, height) = parameters.pixel_dimensions();
    Some(VideoConfig { codec, record: Bytes::copy_from_slice(parameters.extra_data()), width, height })
}

fn audio_config(parameters: &retina::codec::AudioParameters) -> Option<AudioConfig> {
    Some(AudioConfig {
        codec: AudioCodec::Aac,
        record: Bytes::copy_from_slice(parameters.extra_data()),
        sample_rate: parameters.clock_rate(),
        channels: parameters.channels().get(),
    })
}
