//! What a caller names its stream: the stream key alone, or SRT's access control syntax (`docs/features/access-control`
//! of libsrt): `#!::r=<stream key>,m=publish`.

/// Begins the access control syntax.
const SYNTAX: &str = "#!::";
/// Longer is no stream key.
const LONGEST_KEY: usize = 256;

/// Why a stream id is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the stream id is missing; add streamid=<stream key> to the address")]
    Missing,
    #[error("the stream id cannot be read; use streamid=<stream key>, or #!::r=<stream key>,m=publish")]
    Unreadable,
    #[error("this server takes streams and plays none; call with m=publish")]
    NotPublishing,
}

impl Refused {
    /// The rejection code (`access_control.h`): the caller's library shows it.
    pub(super) fn code(self) -> i32 {
        match self {
            Self::Missing | Self::Unreadable => 1400,
            Self::NotPublishing => 1405,
        }
    }

    /// In metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Missing => "no_stream_id",
            Self::Unreadable => "stream_id",
            Self::NotPublishing => "mode",
        }
    }
}

/// The stream key in a stream id.
pub(super) fn key(text: &str) -> Result<&str, Refused> {
    let text = text.trim();
    let Some(pairs) = text.strip_prefix(SYNTAX) else {
        return match text {
            "" => Err(Refused::Missing),
            key if key.starts_with("#!") || key.len() > LONGEST_KEY => Err(Refused::Unreadable),
            key => Ok(key),
        };
    };
    let mut key = None;
    for pair in pairs.split(',').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').ok_or(Refused::Unreadable)? {
            ("r", "") => return Err(Refused::Missing),
            ("r", resource) => key = Some(resource),
            ("m", "publish") => {}
            ("m", _) => return Err(Refused::NotPublishing),
            // Users, hosts, sessions and types say nothing here.
            _ => {}
        }
    }
    key.filter(|key| key.len() <= LONGEST_KEY).ok_or(Refused::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_in_both_forms() {
        assert_eq!(key("sk_abc"), Ok("sk_abc"));
        assert_eq!(key("#!::r=sk_abc,m=publish"), Ok("sk_abc"));
        assert_eq!(key("#!::u=me,m=publish,r=sk_abc,t=stream"), Ok("sk_abc"));
        assert_eq!(key("#!::r=sk_abc"), Ok("sk_abc"));
    }

    #[test]
    fn what_does_not_publish_a_stream_is_refused() {
        assert_eq!(key(""), Err(Refused::Missing));
        assert_eq!(key("#!::m=publish"), Err(Refused::Missing));
        assert_eq!(key("#!::r=sk_abc,m=request"), Err(Refused::NotPublishing));
        assert_eq!(key("#!::r=sk_abc,m=play"), Err(Refused::NotPublishing));
        assert_eq!(key("#!:{r=sk_abc}"), Err(Refused::Unreadable));
        assert_eq!(key("#!::sk_abc"), Err(Refused::Unreadable));
        assert_eq!(key(&"k".repeat(300)), Err(Refused::Unreadable));
    }
}
