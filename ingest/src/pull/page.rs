//! A page whose broadcast a program finds, and how long what it found can be used.

use crest_core::WallTime;
use reqwest::Url;
use std::time::Duration;
use tokio::time::Instant;

use super::resolve::Resolver;
use super::source::Sources;
use super::{Trouble, now};

/// What is found is looked up anew so long before it expires, or a fifth of its time before.
const BEFORE: Duration = Duration::from_secs(300);

/// A page.
#[derive(Clone, Copy)]
pub(super) struct Page<'a> {
    pub(super) sources: &'a Sources,
    pub(super) resolver: &'a dyn Resolver,
    pub(super) url: &'a Url,
}

/// Where its broadcast is.
#[derive(Clone)]
pub(super) struct Found<'a> {
    pub(super) page: Page<'a>,
    pub(super) url: Url,
    /// When that is looked up anew: it contains tokens that expire.
    pub(super) until: Instant,
}

impl<'a> Page<'a> {
    /// Asks the program, when it is this page's turn.
    pub(super) async fn find(self) -> Result<Found<'a>, Trouble> {
        // The semaphore is never closed.
        let _turn = self.sources.resolving.acquire().await;
        let url = self.resolver.resolve(self.url).await?;
        let left = usable(&url, now()).map_or(Duration::MAX, |left| left.saturating_sub(BEFORE.min(left / 5)));
        let until = Instant::now() + left.min(self.sources.config.resolve_again.0);
        Ok(Found { page: self, url, until })
    }
}

/// How long an address can be used, as far as it says so itself: a time in seconds after `expire`, `expires` or `exp`,
/// in its path or its query, which may lie in another parameter.
fn usable(url: &Url, now: WallTime) -> Option<Duration> {
    let text = percent_encoding::percent_decode_str(url.as_str()).decode_utf8_lossy().to_ascii_lowercase();
    let times = ["expire", "expires", "exp"].iter().flat_map(|name| {
        text.match_indices(name).filter_map(|(at, name)| {
            let begins = text[..at].ends_with(|before: char| !before.is_ascii_alphanumeric());
            // As `expires=1`, `/expire/1`, or `"expires":1`.
            let rest = text[at + name.len()..].trim_start_matches('"').strip_prefix(['=', '/', ':'])?;
            let digits = &rest[..rest.find(|after: char| !after.is_ascii_digit()).unwrap_or(rest.len())];
            (begins && digits.len() == 10).then(|| digits.parse::<i64>().ok())?
        })
    });
    let left = times.min()?.saturating_mul(1000).saturating_sub(now.0);
    Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)).max(BEFORE / 5))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_when_it_expires() {
        let now = WallTime(1_700_000_000_000);
        let usable = |url: &str| usable(&Url::parse(url).unwrap(), now).map(|left| left.as_secs());
        for url in [
            "https://cdn.example/a.m3u8?Expires=1700003600&Signature=x",
            "https://manifest.example/hls/expire/1700003600/ei/x/file/index.m3u8",
            "https://cdn.example/a.m3u8?hdnts=st=1699990000~exp=1700003600~acl=/*",
            "https://usher.example/a.m3u8?token=%7B%22expires%22%3A1700003600%2C%22x%22%3A1%7D",
        ] {
            assert_eq!(usable(url), Some(3600), "{url}");
        }
        assert_eq!(usable("https://cdn.example/a.m3u8?expires=1600000000"), Some(60), "not again and again");
        for url in ["https://cdn.example/a.m3u8", "https://cdn.example/?texp=1700003600", "https://a.example/?exp=3600"]
        {
            assert_eq!(usable(url), None, "{url}");
        }
    }
}
