//! Settings of feeds that are pulled.

use bytesize::ByteSize;
use crest_core::units::Span;
use serde::Deserialize;
use std::path::PathBuf;

/// How feeds are pulled.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PullConfig {
    /// Whether tenants may name sources at private and reserved addresses. Leave it `false` where tenants are
    /// strangers: they could have crest knock at your own services.
    pub allow_private: bool,
    /// Networks that may be pulled from although they are private: `192.168.1.0/24`, or a single address.
    pub allow: Vec<String>,
    /// How long a source may be away before its stream is over; also how long a source that has never answered is
    /// tried.
    pub patience: Span,
    /// Pause before a source that failed is tried again; it doubles with each failure, up to `max_pause`, and is
    /// drawn anew between half of that and all of it.
    pub pause: Span,
    /// The longest pause between two tries.
    pub max_pause: Span,
    /// How long a server may be silent, when it is connected to and while it sends.
    pub timeout: Span,
    /// Redirects that are followed.
    pub max_redirects: usize,
    /// The largest playlist that is read.
    pub max_playlist: ByteSize,
    /// The largest media segment that is read.
    pub max_segment: ByteSize,
    /// The largest file that is fetched; it is read from the data directory.
    pub max_file: ByteSize,
    /// The folder whose files may be named as `file:///..`; none unless it is set.
    pub files: Option<PathBuf>,
    /// Of the variants of a broadcast, the best of at most so many lines is taken.
    pub max_height: u32,
    /// How many segments before its end a live playlist is begun at.
    pub live_segments: usize,
    /// How much faster than it plays recorded media is taken. At 1 it is as if it were live.
    pub recorded_speed: f64,
    /// How much faster than it plays live media is taken, which arrives a segment at a time: a bound on the load
    /// that one feed can cause at once.
    pub live_speed: f64,
    /// Programs that find out where a page's broadcast is, the first that has the page's domain.
    pub resolvers: Vec<ResolverConfig>,
    /// How many such programs run at a time; others wait.
    pub resolving: usize,
    /// How many files are fetched at a time; others wait. Of one organization at most half as many, and at least one.
    pub fetching: usize,
    /// Bytes a second at which a file that is fetched has to come, on the average of three times `timeout`: what
    /// drips keeps others waiting. At 0 none is asked for.
    pub min_rate: ByteSize,
    /// How long such a program may take.
    pub resolve_timeout: Span,
    /// What a program found is asked for anew when it is so old, or earlier where it says when it expires, for it
    /// contains tokens. What is read goes over to it without a break.
    pub resolve_again: Span,
}

/// A program that finds out where the broadcast on a page is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolverConfig {
    /// Pages on these domains, and on those below them.
    pub domains: Vec<String>,
    /// The program and its arguments; `{url}` stands for the page. The last line that it prints which is an address
    /// is taken.
    pub command: Vec<String>,
}

impl Default for PullConfig {
    fn default() -> Self {
        let resolver = |domains: &[&str], command: &[&str]| ResolverConfig {
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        };
        Self {
            allow_private: false,
            allow: Vec::new(),
            patience: Span::secs(600),
            pause: Span::secs(1),
            max_pause: Span::secs(30),
            timeout: Span::secs(10),
            max_redirects: 5,
            max_playlist: ByteSize::mib(4),
            max_segment: ByteSize::mib(64),
            max_file: ByteSize::gib(4),
            files: None,
            max_height: 1080,
            live_segments: 3,
            recorded_speed: 1.0,
            live_speed: 8.0,
            resolvers: vec![
                resolver(&["twitch.tv"], &["streamlink", "--stream-url", "{url}", "best"]),
                resolver(
                    &["youtube.com", "youtu.be"],
                    &["yt-dlp", "--get-url", "--no-playlist", "--format", "best[protocol^=m3u8]/best", "--", "{url}"],
                ),
            ],
            resolving: 4,
            fetching: 8,
            min_rate: ByteSize::kib(64),
            resolve_timeout: Span::secs(60),
            resolve_again: Span::secs(3600),
        }
    }
}
