//! Keyframes into pictures, sound into samples.

use bytes::Bytes;
use crest_core::codec::{AudioConfig, MediaEvent, Packet, VideoConfig};
use crest_core::sample::{AUDIO_RATE, PICTURE_SIDE};
use crest_media::{AudioDecoder, KeyframeDecoder, KeyframePool, KeyframePoolConfig, Pcm};
use std::path::Path;
use std::sync::Arc;

use crate::support::{Bench, events, ms};

fn keyframes(path: &Path) -> (Arc<VideoConfig>, Vec<Packet>) {
    let mut config = None;
    let mut packets = Vec::new();
    for event in events(path) {
        match event {
            MediaEvent::VideoConfig(c) => config = Some(Arc::new(c)),
            MediaEvent::Video(packet) if packet.keyframe => packets.push(packet),
            _ => {}
        }
    }
    (config.unwrap(), packets)
}

fn sound(path: &Path) -> (AudioConfig, Vec<Packet>) {
    let mut config = None;
    let mut packets = Vec::new();
    for event in events(path) {
        match event {
            MediaEvent::AudioConfig(c) => config = Some(c),
            MediaEvent::Audio(packet) => packets.push(packet),
            _ => {}
        }
    }
    (config.unwrap(), packets)
}

fn colour(bench: &Bench, colour: &str, codec: &str) -> (Arc<VideoConfig>, Packet) {
    let (config, packets) = keyframes(
        &bench.make(&format!("-f lavfi -i color={colour}:s=642x362:r=10:d=1 -c:v {codec} -bf 2 -g 5 {colour}.mp4")),
    );
    (config, packets[0].clone())
}

#[test]
fn each_keyframe_gives_its_picture_at_once() {
    let bench = Bench::new();
    let red = colour(&bench, "red", "libx264");
    let blue = colour(&bench, "blue", "libx265 -x265-params log-level=none");
    let mut decoder = KeyframeDecoder::new().unwrap();
    for ((config, packet), strongest) in [(&red, 0), (&blue, 2), (&red, 0), (&red, 0), (&blue, 2)] {
        let picture = decoder.decode(config, packet).unwrap();
        assert_eq!((picture.width, picture.height), (PICTURE_SIDE, PICTURE_SIDE));
        let side = usize::from(PICTURE_SIDE);
        assert_eq!(picture.rgb.len(), side * side * 3);
        // No borders: every pixel has the colour.
        for pixel in picture.rgb.chunks(3) {
            assert!(pixel[strongest] > 200 && pixel[(strongest + 1) % 3] < 60, "{pixel:?}");
        }
    }
}

#[test]
fn pictures_have_the_colours_and_places_that_ffmpeg_gives_them() {
    let bench = Bench::new();
    // Depths, subsamplings, matrices and ranges as cameras and encoders have them; small ones are BT.601 unless they
    // say otherwise, large ones BT.709.
    let sd = "testsrc2=s=720x576:r=10:d=1";
    let hd = "testsrc2=s=1920x1080:r=10:d=1";
    let wide = "-color_range pc -colorspace bt709";
    for (number, (source, codec, ours)) in [
        (sd, "libx264 -pix_fmt yuv420p", "bt601"),
        (hd, "libx264 -pix_fmt yuv420p", "bt709"),
        (sd, "libx264 -pix_fmt yuv420p -colorspace bt709", "bt709"),
        (hd, "libx264 -pix_fmt yuv422p10le", "bt709"),
        (hd, &format!("libx264 -pix_fmt yuvj420p {wide}"), "bt709"),
        (hd, "libx265 -pix_fmt yuv420p10le -x265-params log-level=none", "bt709"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = bench.make(&format!("-f lavfi -i {source} -c:v {codec} -qp 34 -g 10 {number}.mp4"));
        let (config, packets) = keyframes(&file);
        let picture = KeyframeDecoder::new().unwrap().decode(&config, &packets[0]).unwrap();
        let scale = format!("scale={PICTURE_SIDE}:{PICTURE_SIDE}:flags=area:in_color_matrix={ours}");
        let expected =
            bench.make(&format!("-i {} -frames:v 1 -vf {scale} -pix_fmt rgb24 {number}.rgb", file.display()));
        let expected = std::fs::read(expected).unwrap();
        assert_eq!(picture.rgb.len(), expected.len());
        let apart: u64 = picture.rgb.iter().zip(&expected).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let apart = apart as f64 / expected.len() as f64;
        assert!(apart < 3.0, "{codec}: pixels are {apart:.1} of 255 apart");
    }
}

#[test]
fn a_broken_keyframe_spoils_nothing_after_it() {
    let bench = Bench::new();
    let (config, packets) = keyframes(&bench.sample(3, "-bf 2", "in.mp4"));
    let mut decoder = KeyframeDecoder::new().unwrap();
    let good = decoder.decode(&config, &packets[1]).unwrap();
    let noise: Vec<u8> = (0..packets[1].data.len()).map(|i| ((i * 7919) >> 3) as u8).collect();
    for bad in
        [Bytes::from(noise), Bytes::new(), packets[1].data.slice(..40), Bytes::from_static(&[0, 0, 0, 200, 0x65])]
    {
        assert!(decoder.decode(&config, &Packet { data: bad, ..packets[1].clone() }).is_err());
        assert_eq!(decoder.decode(&config, &packets[1]).unwrap(), good);
    }
    let nonsense = Arc::new(VideoConfig { record: Bytes::from_static(b"nonsense"), ..(*config).clone() });
    let _ = decoder.decode(&nonsense, &packets[1]);
    assert_eq!(decoder.decode(&config, &packets[1]).unwrap(), good);
}

#[test]
fn a_keyframe_that_is_damaged_in_its_middle_is_no_picture() {
    let bench = Bench::new();
    // Not HEVC: libavcodec does not tell there.
    for codec in ["libx264 -bf 2", "libx264 -x264-params slices=4"] {
        let source = "-f lavfi -i testsrc2=s=1280x720:r=10:d=1,noise=alls=10:allf=t";
        let (config, packets) = keyframes(&bench.make(&format!("{source} -c:v {codec} -g 5 in.mp4")));
        let mut decoder = KeyframeDecoder::new().unwrap();
        let mut data = packets[0].data.to_vec();
        let middle = data.len() / 2;
        for (i, byte) in data[middle..].iter_mut().take(2000).enumerate() {
            *byte = ((i * 7919) >> 3) as u8;
        }
        let decoded = decoder.decode(&config, &Packet { data: data.into(), ..packets[0].clone() });
        assert!(decoded.is_err(), "{codec}");
        assert!(decoder.decode(&config, &packets[0]).is_ok());
    }
}

#[test]
fn keyframes_that_do_not_reset_the_decoder_have_pictures_too() {
    let bench = Bench::new();
    let (config, open) = keyframes(&bench.sample(4, "-bf 2 -x264-params open-gop=1:scenecut=0", "open.flv"));
    let (other, closed) = keyframes(&bench.sample(4, "-bf 2", "closed.flv"));
    assert_eq!((open.len(), closed.len()), (4, 4));
    let mut decoder = KeyframeDecoder::new().unwrap();
    for (open, closed) in open.iter().zip(&closed) {
        let open = decoder.decode(&config, open).unwrap();
        let closed = decoder.decode(&other, closed).unwrap();
        let apart: u64 = open.rgb.iter().zip(&closed.rgb).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert!(apart / (open.rgb.len() as u64) < 8, "{}", apart / open.rgb.len() as u64);
    }
}

#[test]
fn pictures_that_are_too_large_are_refused_from_their_headers_alone() {
    let bench = Bench::new();
    let (small, keyframe) = colour(&bench, "red", "libx264");
    // 67 million pixels in some kilobytes: more than 8K, and a hundred megabytes to decode.
    let args = "-f lavfi -i color=s=8192x8192:r=1:d=1 -c:v libx264 -threads 1 -preset ultrafast";
    let (bomb, packets) = keyframes(&bench.make(&format!("{args} -bsf:v dump_extra=freq=keyframe bomb.mp4")));
    assert!(packets[0].data.len() < 1 << 20, "{} bytes are no bomb", packets[0].data.len());
    let mut decoder = KeyframeDecoder::new().unwrap();
    for config in [&bomb, &small] {
        // Announced by the record, or by the picture itself.
        let refused = decoder.decode(config, &packets[0]).unwrap_err();
        assert!(refused.message.contains("8192 x 8192") && refused.message.contains("decoder.max_pixels"), "{refused}");
    }
    assert!(decoder.decode(&small, &keyframe).is_ok(), "others are decoded as before");
    let (other, frame) = colour(&bench, "blue", "libx265 -x265-params log-level=none");
    let mut cautious = KeyframeDecoder::of_at_most(100_000).unwrap();
    for (config, keyframe) in [(&small, &keyframe), (&other, &frame)] {
        let refused = cautious.decode(config, keyframe).unwrap_err();
        assert!(refused.message.contains("decoder.max_pixels"), "{refused}");
    }
}

#[tokio::test]
async fn the_pool_answers_every_keyframe_it_takes_and_refuses_the_rest() {
    let bench = Bench::new();
    let (config, packets) = keyframes(&bench.sample(2, "", "in.mp4"));
    let pool =
        KeyframePool::new(&KeyframePoolConfig { workers: 1, queue: 2, ..KeyframePoolConfig::default() }).unwrap();
    let answers: Vec<_> = (0..50).filter_map(|_| pool.submit(&config, &packets[0])).collect();
    assert!(answers.len() < 50);
    for answer in answers {
        assert!(answer.await.unwrap().is_ok());
    }
    let broken = Packet { data: Bytes::from_static(b"no picture"), ..packets[0].clone() };
    assert!(pool.submit(&config, &broken).unwrap().await.unwrap().is_err());
    assert!(pool.clone().submit(&config, &packets[1]).unwrap().await.unwrap().is_ok());
}

/// Checks that pieces follow each other without gap, and joins them.
fn joined(pieces: &[Pcm]) -> Vec<f32> {
    let mut out: Vec<f32> = Vec::new();
    for piece in pieces {
        let expected = pieces[0].start.nanos() + out.len() as i64 * 1_000_000_000 / i64::from(AUDIO_RATE);
        assert!((piece.start.nanos() - expected).abs() <= 1, "{:?} instead of {expected}", piece.start);
        out.extend(&piece.samples);
    }
    out
}

#[test]
fn sound_comes_out_whole_at_16_khz() {
    for (rate, channels) in [(48_000, 2), (44_100, 1), (22_050, 2)] {
        let bench = Bench::new();
        let file = bench.make(&format!("-f lavfi -i sine=1000:r={rate}:d=4 -ac {channels} -c:a aac in.m4a"));
        let (config, packets) = sound(&file);
        let mut decoder = AudioDecoder::new(&config).unwrap();
        let mut pieces = Vec::new();
        for packet in &packets {
            // As RTMP would say it: whole milliseconds.
            let rounded = ms(packet.pts.nanos() / 1_000_000);
            pieces.extend(decoder.push(&Packet { pts: rounded, ..packet.clone() }).unwrap());
        }
        pieces.extend(decoder.drain().unwrap());
        let samples = joined(&pieces);
        let expected = packets.len() as f64 * 1024.0 / f64::from(rate) * 16_000.0;
        assert!((samples.len() as f64 - expected).abs() < 400.0, "{} of {expected}", samples.len());
        // A tone of 1 kHz crosses zero 2000 times a second.
        let middle = &samples[16_000..32_000];
        let crossings = middle.windows(2).filter(|w| (w[0] < 0.0) != (w[1] < 0.0)).count();
        assert!((1995..=2005).contains(&crossings), "{crossings}");
        assert!(middle.iter().all(|s| s.abs() <= 1.0));
    }
}

#[test]
fn a_jump_in_time_is_followed() {
    let bench = Bench::new();
    let (config, packets) = sound(&bench.make("-f lavfi -i sine=500:r=48000:d=4 -c:a aac in.m4a"));
    let mut decoder = AudioDecoder::new(&config).unwrap();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (i, packet) in packets.iter().enumerate() {
        let late = i >= 90;
        let pts = if late { packet.pts + ms(5000) } else { packet.pts };
        for pcm in decoder.push(&Packet { pts, ..packet.clone() }).unwrap() {
            if pcm.start >= packets[90].pts + ms(5000) { after.push(pcm) } else { before.push(pcm) }
        }
    }
    after.extend(decoder.drain().unwrap());
    assert_eq!(after[0].start, packets[90].pts + ms(5000));
    let length = |samples: &[f32]| samples.len() as f64 / f64::from(AUDIO_RATE);
    assert!((length(&joined(&before)) - 90.0 * 1024.0 / 48_000.0).abs() < 0.03);
    assert!((length(&joined(&after)) - (packets.len() - 90) as f64 * 1024.0 / 48_000.0).abs() < 0.03);
}

#[test]
fn sound_goes_on_after_broken_packets() {
    let bench = Bench::new();
    let (config, packets) = sound(&bench.make("-f lavfi -i sine=500:r=48000:d=4 -c:a aac in.m4a"));
    let mut decoder = AudioDecoder::new(&config).unwrap();
    let mut end = ms(0);
    for (i, packet) in packets.iter().enumerate() {
        let broken = (50..70).contains(&i);
        let data = if broken { Bytes::from_static(&[0xff; 60]) } else { packet.data.clone() };
        for pcm in decoder.push(&Packet { data, ..packet.clone() }).unwrap_or_default() {
            end = pcm.start + ms(pcm.samples.len() as i64 * 1000 / i64::from(AUDIO_RATE));
        }
    }
    for pcm in decoder.drain().unwrap() {
        end = pcm.start + ms(pcm.samples.len() as i64 * 1000 / i64::from(AUDIO_RATE));
    }
    let expected = packets[packets.len() - 1].pts + ms(21);
    assert!((end - expected).nanos().abs() < 60_000_000, "{end} instead of {expected}");
}
