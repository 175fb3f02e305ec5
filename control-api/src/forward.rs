//! Servers that a stream is relayed to: what is asked for, and how it is shown.

use crest_core::stream::{ForwardState, ForwardTarget, SourceKind, Stream, StreamState};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use url::Url;
use utoipa::ToSchema;

use crate::Shared;
use crate::codes::Code;
use crate::names;
use crate::problem::Problem;

/// The longest address or key of a server.
const MAX_BYTES: usize = 2000;

/// A server that the feed is relayed to, or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "forward: a server {\"url\", \"stream_key\"}, or a list of servers")]
pub enum NewForward {
    /// One.
    One(NewTarget),
    /// Several.
    Several(Vec<NewTarget>),
}

/// A server that the feed is relayed to as it comes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTarget {
    /// Server and application, over `rtmp` or `rtmps`; with the stream key at its end, or without.
    #[schema(example = "rtmps://live.example/app")]
    url: String,
    /// The stream key there; left out, it is what the address ends with.
    stream_key: Option<String>,
}

/// Without the key and the address, which may end with one.
impl std::fmt::Debug for NewTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewTarget").finish_non_exhaustive()
    }
}

/// A server that the feed is relayed to, and how it is doing.
#[derive(Debug, Serialize, ToSchema)]
pub struct ForwardView {
    /// Server and application; `…` stands for the stream key.
    #[schema(example = "rtmps://live.example/app/…")]
    url: String,
    /// How the server is doing: `idle` while nobody publishes, `connecting`, `live`, or `waiting` where it failed and
    /// is tried again. A second old at most.
    #[schema(value_type = names::ForwardStateName)]
    state: ForwardState,
    /// What went wrong last, where something did.
    reason: Option<String>,
    /// Since when it is in this state, RFC 3339 UTC; null while `idle`.
    since: Option<String>,
}

/// The targets that a new stream asks for, as they are kept: the key apart from the address.
pub(crate) fn targets(
    api: &Shared,
    source: SourceKind,
    forward: Option<NewForward>,
) -> Result<Vec<ForwardTarget>, Problem> {
    let targets = match forward {
        None => return Ok(Vec::new()),
        Some(NewForward::One(target)) => vec![target],
        Some(NewForward::Several(targets)) => targets,
    };
    if !targets.is_empty() && source != SourceKind::Rtmp {
        return Err(Problem::new(
            Code::InvalidRequest,
            "forward: only what is pushed over RTMP is relayed, as it comes; leave it out, or take source.kind 'rtmp'.",
        ));
    }
    let most = api.config.max_forward_targets;
    if targets.len() > most {
        return Err(Problem::new(Code::InvalidRequest, format!("forward: at most {most} servers for one stream.")));
    }
    let targets: Vec<ForwardTarget> = targets.into_iter().map(target).collect::<Result<_, _>>()?;
    let different: HashSet<&ForwardTarget> = targets.iter().collect();
    if different.len() < targets.len() {
        return Err(Problem::new(Code::InvalidRequest, "forward: the same server and stream key twice."));
    }
    Ok(targets)
}

fn target(new: NewTarget) -> Result<ForwardTarget, Problem> {
    let wrong = |what: &str| Problem::new(Code::InvalidUrl, format!("forward.url: {what}."));
    let url = new.url.trim();
    if url.len() > MAX_BYTES || new.stream_key.as_ref().is_some_and(|key| key.len() > MAX_BYTES) {
        return Err(wrong(&format!("address and key have at most {MAX_BYTES} bytes")));
    }
    let parsed = Url::parse(url).map_err(|_| wrong("it is no address; write rtmp://HOST/APPLICATION"))?;
    if !matches!(parsed.scheme(), "rtmp" | "rtmps") {
        return Err(wrong(&format!("{}:// is not relayed to; rtmp and rtmps are", parsed.scheme())));
    }
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err(wrong("it names no host"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() || parsed.fragment().is_some() {
        return Err(wrong("it has credentials or a fragment, which RTMP does not know; the key goes into stream_key"));
    }
    let (address, key) = match new.stream_key.as_deref().map(str::trim) {
        Some(key) => (url.to_owned(), key.to_owned()),
        None => apart(url),
    };
    let address = address.trim_end_matches('/').to_owned();
    let application = Url::parse(&address).is_ok_and(|address| !address.path().trim_matches('/').is_empty());
    if key.is_empty() || !application {
        return Err(wrong("write server and application there, rtmp://HOST/APPLICATION, and the key into stream_key"));
    }
    if [&key, &address].iter().any(|text| text.chars().any(char::is_control)) {
        return Err(wrong("address or key have characters that nobody can type"));
    }
    Ok(ForwardTarget { url: address, stream_key: Some(key) })
}

/// An address that ends with the key: what is before the last part of its path, and that part with the query.
fn apart(url: &str) -> (String, String) {
    let (path, query) = url.find('?').map_or((url, ""), |at| url.split_at(at));
    let (address, key) = path.trim_end_matches('/').rsplit_once('/').unwrap_or((path, ""));
    // `rtmp://HOST` has no path: what is left has no application then, and is refused.
    (address.to_owned(), format!("{key}{query}"))
}

/// The targets of a stream as they are shown.
pub(crate) fn view(stream: &Stream) -> Vec<ForwardView> {
    // What a process noted that is gone means nothing.
    let noted = if stream.state == StreamState::Live { stream.forwarded.as_slice() } else { &[] };
    let mut noted = noted.iter();
    let shown = |target: &ForwardTarget| {
        let status = noted.next();
        ForwardView {
            url: target.shown(),
            state: status.map_or(ForwardState::Idle, |status| status.state),
            reason: status.and_then(|status| status.reason.clone()),
            since: status.map(|status| status.since.rfc3339()),
        }
    };
    stream.forward.iter().map(shown).collect()
}
