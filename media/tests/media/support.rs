//! Making media with ffmpeg, storing it, and asking ffmpeg what it thinks of the result.

use crest_core::codec::MediaEvent;
use crest_core::segment::Fragment;
use crest_core::{MediaTime, OrganizationId, Session, StreamId};
use crest_media::{FileReader, Segmenter, SegmenterConfig};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder for one test.
pub struct Bench {
    pub dir: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    /// Runs ffmpeg with arguments split at spaces; the last one names the file made here.
    pub fn make(&self, arguments: &str) -> PathBuf {
        let (options, name) = arguments.rsplit_once(' ').unwrap();
        let out = self.path(name);
        let run = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-y"])
            .args(options.split(' ').filter(|a| !a.is_empty()))
            .arg(&out)
            .output()
            .unwrap();
        assert!(run.status.success(), "ffmpeg {arguments}: {}", String::from_utf8_lossy(&run.stderr));
        out
    }
    /// Moving picture and a tone: 30 frames a second, a keyframe each second.
    pub fn sample(&self, seconds: u32, options: &str, name: &str) -> PathBuf {
        self.make(&format!(
            "-f lavfi -i testsrc2=s=320x180:r=30:d={seconds} -f lavfi -i sine=440:r=48000:d={seconds} \
             -c:v libx264 -preset veryfast -g 30 {options} -c:a aac {name}"
        ))
    }
}

pub fn events(path: &Path) -> Vec<MediaEvent> {
    let mut reader = FileReader::open(path.to_str().unwrap()).unwrap();
    let mut out = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        out.push(event);
    }
    out
}

pub fn segmenter(root: &Path, config: SegmenterConfig) -> Segmenter {
    Segmenter::new(root, OrganizationId::from_raw("org_t"), StreamId::from_raw("str_t"), Session::new(1), config)
}

/// Pushes events through a segmenter of default configuration.
pub fn store(root: &Path, events: &[MediaEvent]) -> Vec<Fragment> {
    let mut segmenter = segmenter(root, SegmenterConfig::default());
    let mut fragments = Vec::new();
    for event in events {
        fragments.extend(segmenter.push(event).unwrap());
    }
    fragments.extend(segmenter.finish().unwrap());
    fragments
}

pub fn ms(millis: i64) -> MediaTime {
    MediaTime::from_millis(millis)
}

pub fn seconds(time: MediaTime) -> f64 {
    time.secs_f64()
}

/// What ffmpeg complains about when it decodes the whole file.
pub fn complaints(path: &Path) -> String {
    let run =
        Command::new("ffmpeg").args(["-v", "error", "-nostdin", "-i"]).arg(path).args(["-f", "null", "-"]).output();
    String::from_utf8_lossy(&run.unwrap().stderr).into_owned()
}

/// A field of the first stream of a kind (`v` or `a`), as ffprobe prints it; empty without such a stream.
pub fn probe(path: &Path, kind: &str, field: &str) -> String {
    let run = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", kind, "-show_entries"])
        .arg(format!("stream={field}"))
        .args(["-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    // A transport stream's tracks are listed twice, alone and in their program.
    let text = String::from_utf8_lossy(&run.stdout);
    text.lines().next().unwrap_or_default().trim().trim_end_matches(',').to_owned()
}

pub fn number(path: &Path, kind: &str, field: &str) -> f64 {
    let text = probe(path, kind, field);
    text.parse().unwrap_or_else(|_| panic!("{field} of {kind} in {} is '{text}'", path.display()))
}

/// What ffmpeg writes to its standard output.
pub fn raw(path: &Path, options: &str) -> Vec<u8> {
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(options.split(' '))
        .arg("-")
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    run.stdout
}
