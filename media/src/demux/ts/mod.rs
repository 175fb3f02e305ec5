//! MPEG transport streams -> pieces of elementary streams.
//!
//! `mpeg2ts-reader` knows the syntax of packets, tables and PES headers. Its own demultiplexer is not used: it believes
//! a table's version before the checksum, so one damaged table hides all good ones that follow.

mod clock;
mod pes;
mod sections;
mod sync;

use mpeg2ts_reader::StreamType;
use mpeg2ts_reader::packet::Packet;
use mpeg2ts_reader::psi::pat::{PatSection, ProgramDescriptor};
use mpeg2ts_reader::psi::pmt::{PmtSection, StreamInfo};

use super::notes::{Notes, missing};
use super::track::Unit;
use crate::file::Kind;
use clock::Clock;
use pes::{Collector, Pes};
use sections::{Section, Sections};
use sync::Sync;

const PAT_PID: u16 = 0;
const PAT_TABLE: u8 = 0;
const PMT_TABLE: u8 = 2;

/// A transport stream: its first program, of which the first video track and the first audio track that can be read,
/// or the audio track that is chosen.
#[derive(Default)]
pub(crate) struct TransportStream {
    sync: Sync,
    state: State,
}

#[derive(Default)]
struct State {
    pat: Sections,
    program: Option<Program>,
    clock: Clock,
    streams: Vec<Stream>,
    /// The audio track that is chosen, among those that can be read.
    audio: Option<u8>,
}

struct Program {
    number: u16,
    pid: u16,
    sections: Sections,
    /// The map that holds.
    map: Option<Section>,
}

struct Stream {
    pid: u16,
    kind: Kind,
    collector: Collector,
}

impl TransportStream {
    /// The pieces that are complete by these bytes.
    pub(super) fn push(&mut self, data: &[u8], notes: &mut Notes) -> Vec<Unit> {
        let Self { sync, state } = self;
        let mut units = Vec::new();
        let passed = sync.push(data, |bytes| {
            if let Some(packet) = Packet::try_new(bytes) {
                state.packet(&packet, &mut units, notes);
            }
        });
        if passed > 0 {
            notes.add("bytes between the packets of the transport stream are passed over");
        }
        units
    }

    /// Which audio track is read.
    pub(super) fn choose_audio(&mut self, track: Option<u8>) {
        self.state.audio = track;
    }

    /// What is held back; then everything but the choice is forgotten.
    pub(super) fn finish(&mut self) -> Vec<Unit> {
        let mut state = std::mem::take(self).state;
        self.state.audio = state.audio;
        let mut units = Vec::new();
        for stream in &mut state.streams {
            let held = stream.collector.finish();
            units.extend(held.map(|pes| unit(&mut state.clock, stream.kind, pes)));
        }
        units
    }
}

impl State {
    fn packet(&mut self, packet: &Packet<'_>, units: &mut Vec<Unit>, notes: &mut Notes) {
        if packet.transport_error_indicator() {
            return notes.add("packets that are marked as damaged are left out");
        }
        let pid = u16::from(packet.pid());
        if pid == PAT_PID {
            for section in self.pat.push(packet) {
                self.programs(&section, notes);
            }
        } else if let Some(program) = self.program.as_mut().filter(|program| program.pid == pid) {
            for section in program.sections.push(packet) {
                self.tracks(section, units, notes);
            }
        } else if let Some(stream) = self.streams.iter_mut().find(|stream| stream.pid == pid) {
            if packet.transport_scrambling_control().is_scrambled() {
                return notes.add("the transport stream is scrambled; send it in the clear");
            }
            let losses = stream.collector.losses;
            let done = stream.collector.push(packet);
            if stream.collector.losses > losses {
                notes.add(format!("packets of the {} are missing or damaged at times", stream.kind.media()));
            }
            units.extend(done.into_iter().map(|pes| unit(&mut self.clock, stream.kind, pes)));
        }
    }

    /// Follows the program that is read, or else begins with the first.
    fn programs(&mut self, section: &Section, notes: &mut Notes) {
        if section.table() != PAT_TABLE || !section.is_current() {
            return;
        }
        let programs: Vec<(u16, u16)> = PatSection::new(section.body())
            .programs()
            .filter_map(|program| match program {
                ProgramDescriptor::Program { program_number, pid } => Some((program_number, u16::from(pid))),
                ProgramDescriptor::Network { .. } => None,
            })
            .collect();
        if programs.len() > 1 {
            notes.add(format!("the transport stream has {} programs; the first one is read", programs.len()));
        }
        let current = self.program.as_ref().map(|program| (program.number, program.pid));
        if current.is_some_and(|current| programs.contains(&current)) {
            return;
        }
        let next = programs.iter().find(|(number, _)| current.is_some_and(|current| current.0 == *number));
        if let Some((number, pid)) = next.or(programs.first()) {
            self.program = Some(Program { number: *number, pid: *pid, sections: Sections::default(), map: None });
        }
    }

    /// Chooses the tracks that a program's map names. Tracks that are read already stay where they are.
    fn tracks(&mut self, section: Section, units: &mut Vec<Unit>, notes: &mut Notes) {
        let Some(program) = &mut self.program else { return };
        let ours = section.table() == PMT_TABLE && section.is_current() && section.extension() == program.number;
        if !ours || program.map.as_ref() == Some(&section) {
            return;
        }
        let Ok(map) = PmtSection::from_bytes(section.body()) else { return };
        let found: Vec<(u16, Option<Kind>, StreamType)> =
            map.streams().map(|info| (u16::from(info.elementary_pid()), kind(&info), info.stream_type())).collect();
        let mut before = std::mem::take(&mut self.streams);
        for media in ["video", "audio"] {
            let mut of_media = found.iter().filter_map(|(pid, kind, _)| Some((*pid, (*kind)?)));
            let mut of_media = of_media.by_ref().filter(|(_, kind)| kind.media() == media);
            let known = |(pid, kind): &(u16, Kind)| before.iter().any(|s| s.pid == *pid && s.kind == *kind);
            let candidates: Vec<_> = of_media.by_ref().collect();
            if candidates.len() > 1 {
                notes.add(format!("a further {media} track is left out: one of each is read"));
            }
            let chosen = match self.audio.filter(|_| media == "audio") {
                Some(track) => {
                    let chosen = candidates.get(usize::from(track));
                    if chosen.is_none() {
                        notes.add(missing(track, candidates.len()));
                    }
                    chosen
                }
                None => candidates.iter().find(|candidate| known(candidate)).or(candidates.first()),
            };
            let Some(&(pid, kind)) = chosen else { continue };
            let kept = before.iter().position(|s| s.pid == pid && s.kind == kind).map(|at| before.remove(at));
            self.streams.push(kept.unwrap_or_else(|| Stream { pid, kind, collector: Collector::default() }));
        }
        for (_, kind, stream_type) in &found {
            if kind.is_none() {
                notes.add(format!(
                    "a track is left out: {} in a transport stream is not read, only H.264, H.265 and AAC with ADTS",
                    name(*stream_type)
                ));
            }
        }
        for mut gone in before {
            let held = gone.collector.finish();
            units.extend(held.map(|pes| unit(&mut self.clock, gone.kind, pes)));
        }
        program.map = Some(section);
    }
}

fn unit(clock: &mut Clock, kind: Kind, pes: Pes) -> Unit {
    // The order matters: each time is placed near the one before it.
    let dts = pes.dts.map(|ticks| clock.place(ticks));
    let pts = pes.pts.map(|ticks| clock.place(ticks));
    Unit { kind, pts, dts, data: pes.data }
}

fn kind(info: &StreamInfo<'_>) -> Option<Kind> {
    match info.stream_type() {
        StreamType::H264 => Some(Kind::H264),
        StreamType::H265 => Some(Kind::H265),
        StreamType::ADTS => Some(Kind::Aac),
        _ => None,
    }
}

fn name(stream_type: StreamType) -> String {
    match stream_type {
        StreamType::H262 | StreamType::ISO_11172_VIDEO => "MPEG-2 video".to_owned(),
        StreamType::ISO_11172_AUDIO | StreamType::ISO_138183_AUDIO => "MP3 or MPEG audio".to_owned(),
        StreamType::LATM => "AAC in LATM".to_owned(),
        StreamType::ATSC_DOLBY_DIGITAL_AUDIO => "AC-3".to_owned(),
        StreamType::H222_0_PES_PRIVATE_DATA => "private data (Opus, AC-3, subtitles)".to_owned(),
        StreamType(other) => format!("stream type 0x{other:02x}"),
    }
}
