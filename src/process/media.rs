//! A media file through segmenter, sampler and decoders, and the clips out of what was kept.

use anyhow::Context;
use crest_core::codec::{MediaEvent, VideoConfig};
use crest_core::segment::Fragment;
use crest_core::{MediaTime, OrganizationId, Session, StreamId};
use crest_ingest::Sampler;
use crest_media::{AudioDecoder, FileReader, KeyframeDecoder, Segmenter, SegmenterConfig};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::output::Report;
use super::pipeline::{self, Pipeline, Results};
use crate::usage::Usage;

/// What a clip keeps before and after its highlight.
const PADDING: MediaTime = MediaTime::from_millis(2000);

/// One file on its way.
pub(super) struct MediaRun {
    reader: FileReader,
    /// Where encoded media is kept until the clips are cut; removed afterwards.
    work: PathBuf,
    fragments: Vec<Fragment>,
    end: MediaTime,
    has_video: bool,
    broken_pictures: u64,
    broken_sound: u64,
    /// Highlights that no clip could be cut of, and why.
    uncut: Vec<String>,
}

impl MediaRun {
    pub(super) fn open(input: &str, audio: Option<u8>, out: &Path) -> anyhow::Result<Self> {
        crest_media::init()?;
        let same = |file: &PathBuf| file.canonicalize().ok() == Path::new(input).canonicalize().ok();
        if made_before(out).iter().any(same) {
            let message = format!("{input} is a clip of an earlier run into {}; choose another --out", out.display());
            return Err(Usage(message).into());
        }
        let reader = FileReader::open_with(input, audio)?;
        let work = out.join(".segments");
        if work.exists() {
            std::fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
        }
        Ok(Self {
            reader,
            work,
            fragments: Vec::new(),
            end: MediaTime::ZERO,
            has_video: false,
            broken_pictures: 0,
            broken_sound: 0,
            uncut: Vec::new(),
        })
    }

    pub(super) fn duration(&self) -> Option<MediaTime> {
        self.reader.duration()
    }

    /// Where the media ended.
    pub(super) fn end(&self) -> MediaTime {
        self.end
    }

    /// What the user should know about the input.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = self.reader.notes();
        if self.broken_pictures > 0 {
            notes.push(format!("{} keyframes could not be decoded", self.broken_pictures));
        }
        if self.broken_sound > 0 {
            notes.push(format!("{} audio packets could not be decoded", self.broken_sound));
        }
        notes.extend(self.uncut.iter().cloned());
        notes
    }

    /// Reads the whole input into the pipeline.
    pub(super) fn read(&mut self, pipeline: &mut Pipeline, bar: &ProgressBar) -> anyhow::Result<()> {
        let (organization, session) = (OrganizationId::from_raw(pipeline::ORGANIZATION), Session::new(1));
        let stream = StreamId::from_raw("str_file");
        let config = SegmenterConfig::default();
        let mut segmenter = Segmenter::new(&self.work, organization.clone(), stream, session, config);
        let mut sampler = Sampler::new(organization, session);
        let mut pictures = KeyframeDecoder::new()?;
        let mut sound: Option<AudioDecoder> = None;
        let mut video: Option<Arc<VideoConfig>> = None;
        while let Some(event) = self.reader.next_event()? {
            self.fragments.extend(segmenter.push(&event)?);
            match event {
                MediaEvent::VideoConfig(config) => video = Some(Arc::new(config)),
                MediaEvent::AudioConfig(config) => {
                    let rest = sound.as_mut().map(AudioDecoder::drain).transpose()?;
                    for pcm in rest.into_iter().flatten() {
                        sampler.audio(pcm).iter().for_each(|w| pipeline.audio(w));
                    }
                    sound = Some(AudioDecoder::new(&config)?);
                }
                MediaEvent::Video(packet) => {
                    self.has_video = true;
                    self.progress(packet.pts, bar);
                    let picture = match (&video, sampler.wants_picture(&packet)) {
                        (Some(config), true) => match pictures.decode(config, &packet) {
                            Ok(picture) => Some(picture),
                            Err(_) => {
                                self.broken_pictures += 1;
                                None
                            }
                        },
                        _ => None,
                    };
                    if let Some(batch) = sampler.video(&packet, picture) {
                        pipeline.video(&batch);
                    }
                }
                MediaEvent::Audio(packet) => {
                    self.progress(packet.pts, bar);
                    let decoded = sound.as_mut().map(|s| s.push(&packet)).transpose();
                    self.broken_sound += u64::from(decoded.is_err());
                    for pcm in decoded.ok().flatten().into_iter().flatten() {
                        sampler.audio(pcm).iter().for_each(|w| pipeline.audio(w));
                    }
                }
            }
        }
        for pcm in sound.as_mut().map(AudioDecoder::drain).transpose()?.into_iter().flatten() {
            sampler.audio(pcm).iter().for_each(|w| pipeline.audio(w));
        }
        let (batch, window) = sampler.finish();
        batch.iter().for_each(|b| pipeline.video(b));
        window.iter().for_each(|w| pipeline.audio(w));
        self.fragments.extend(segmenter.finish()?);
        self.end = self.fragments.iter().map(|f| f.end).max().unwrap_or(self.end).max(self.end);
        Ok(())
    }

    fn progress(&mut self, at: MediaTime, bar: &ProgressBar) {
        if at.nanos() / 1_000_000_000 > self.end.nanos() / 1_000_000_000 {
            bar.set_position(u64::try_from(at.nanos() / 1_000_000).unwrap_or(0));
        }
        self.end = self.end.max(at);
    }

    /// Cuts the clips and thumbnails of the highlights and names them in the report.
    pub(super) fn cut(&mut self, report: &mut Report, results: &Results, out: &Path) -> anyhow::Result<()> {
        let folder = out.join("clips");
        remove_old(out)?;
        if !results.highlights.is_empty() && !self.fragments.is_empty() {
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            let bar = super::bar(Some(MediaTime::from_millis(results.highlights.len() as i64)));
            bar.set_message("cutting clips");
            for (highlight, entry) in results.highlights.iter().zip(&mut report.highlights) {
                let (from, to) = (highlight.start.saturating_sub(PADDING), highlight.end + PADDING);
                let needed = covering(&self.fragments, from, to);
                let name = format!("clips/{}.mp4", highlight.id);
                match crest_media::cut(&self.work, needed, from, to, &out.join(&name)) {
                    Ok(_) => entry.clip = Some(name),
                    Err(error) => self.uncut.push(format!("no clip at {}: {error}", highlight.start)),
                }
                let name = format!("clips/{}.jpg", highlight.id);
                if self.has_video && crest_media::thumbnail(&self.work, needed, highlight.peak, &out.join(&name))? {
                    entry.thumbnail = Some(name);
                }
                bar.inc(1);
            }
            bar.finish_and_clear();
        }
        Ok(())
    }
}

impl Drop for MediaRun {
    fn drop(&mut self) {
        // What is left behind is removed by the next run into the same folder.
        let _ = std::fs::remove_dir_all(&self.work);
    }
}

/// The fragments that overlap a span, from the nearest one before it that starts at a keyframe.
fn covering(fragments: &[Fragment], from: MediaTime, to: MediaTime) -> &[Fragment] {
    let first = fragments.iter().position(|f| f.end > from).unwrap_or(fragments.len().saturating_sub(1));
    let first = fragments[..=first].iter().rposition(|f| f.keyframe).unwrap_or(first);
    let last = fragments.iter().rposition(|f| f.start < to).unwrap_or(first).max(first);
    &fragments[first..=last]
}

/// Removes the clips and thumbnails that an earlier run named in its `highlights.json`, and nothing
/// else: the folder may hold what is not ours.
fn remove_old(out: &Path) -> anyhow::Result<()> {
    for file in made_before(out) {
        std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

/// The files of an earlier run that are still there.
fn made_before(out: &Path) -> Vec<PathBuf> {
    let Ok(text) = std::fs::read(out.join("highlights.json")) else { return Vec::new() };
    let Ok(report) = serde_json::from_slice::<serde_json::Value>(&text) else { return Vec::new() };
    let highlights = report["highlights"].as_array().into_iter().flatten();
    let names = highlights.flat_map(|h| [h["clip"].as_str(), h["thumbnail"].as_str()]).flatten();
    let ours = |name: &&str| {
        let id = name.strip_prefix("clips/hl_").and_then(|n| n.strip_suffix(".mp4").or(n.strip_suffix(".jpg")));
        id.is_some_and(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    names.filter(ours).map(|name| out.join(name)).filter(|file| file.is_file()).collect()
}
