//! The topics of the bus.

/// Names of consumer groups: the roles that read.
pub mod group {
    /// The analyzers.
    pub const ANALYZE: &str = "analyze";
    /// Fusion.
    pub const FUSE: &str = "fuse";
}

/// A topic: what it carries, whether it is durable, and its schema version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Each media fragment as it closes: where it lies and what it spans.
    MediaSegments,
    /// Encoded frame sizes, and pictures of sampled frames.
    MediaVideo,
    /// 16 kHz mono f32 windows.
    MediaAudio,
    /// Chat messages and what else happens in a chat.
    ChatMessages,
    /// Manual marks.
    Marks,
    /// The log that fusion is a function of.
    Signals,
    /// Requests for a closer look at a span of media.
    Inspections,
    /// Decisions and their revisions.
    Highlights,
    /// Stream and tenant configuration.
    Control,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Topic; 9] = [
        Topic::MediaSegments,
        Topic::MediaVideo,
        Topic::MediaAudio,
        Topic::ChatMessages,
        Topic::Marks,
        Topic::Signals,
        Topic::Inspections,
        Topic::Highlights,
        Topic::Control,
    ];

    /// Its name on the wire, in metrics and in docs.
    pub const fn name(self) -> &'static str {
        match self {
            Topic::MediaSegments => "media.segments",
            Topic::MediaVideo => "media.video",
            Topic::MediaAudio => "media.audio",
            Topic::ChatMessages => "chat.messages",
            Topic::Marks => "marks",
            Topic::Signals => "signals",
            Topic::Inspections => "inspections",
            Topic::Highlights => "highlights",
            Topic::Control => "control",
        }
    }

    /// Whether its records must survive a crash. The others are rings that drop their oldest.
    pub const fn durable(self) -> bool {
        !matches!(self, Topic::MediaVideo | Topic::MediaAudio)
    }

    /// The consumer groups that read it.
    pub const fn groups(self) -> &'static [&'static str] {
        match self {
            Topic::MediaVideo | Topic::MediaAudio | Topic::ChatMessages | Topic::Marks => &[group::ANALYZE],
            Topic::Signals => &[group::FUSE],
            _ => &[],
        }
    }

    /// The schema version that this build writes and the newest it reads.
    pub const fn schema_version(self) -> u16 {
        1
    }
}
