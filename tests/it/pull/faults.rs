//! Sources that are none, that never end, or that must not be asked.

use anyhow::Result;
use reqwest::Method;
use serde_json::json;

use super::origin::{Mood, Origin};
use super::stage::Stage;
use crate::harness::run;

#[test]
fn what_cannot_be_pulled_says_why() -> Result<()> {
    run(async {
        let (origin, stage) = (Origin::start().await?, Stage::set(&[("CREST_PULL__PATIENCE", "2s")]).await?);
        origin.write("page.html", &"<html><body>nothing to see</body></html>".repeat(50))?;
        let itself = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=640x360\nitself.m3u8\n";
        origin.write("itself.m3u8", itself)?;
        origin.write("piece.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\npiece.m3u8\n#EXTINF:2,\npiece.m3u8\n#EXTINF:2,\npiece.m3u8\n#EXT-X-ENDLIST\n")?;
        origin.write(
            "secret.m3u8",
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n",
        )?;
        origin.write("large.m3u8", &format!("#EXTM3U\n{}", "#".repeat(5 << 20)))?;
        let cases = [
            (origin.url("page.html"), "holds no video"),
            (origin.url("itself.m3u8"), "name playlists"),
            (origin.url("piece.m3u8"), "no media"),
            (origin.url("secret.m3u8"), "encrypted"),
            (origin.url("large.m3u8"), "pull.max_playlist"),
            ("http://10.1.2.3/live.m3u8".to_owned(), "private"),
            ("http://localhost.localdomain.invalid/live.m3u8".to_owned(), "cannot be reached"),
            ("file:///etc/passwd".to_owned(), "pull.files"),
        ];
        let mut streams = Vec::new();
        for (url, why) in cases {
            streams.push((stage.pull(&url).await?, url, why));
        }
        for (stream, url, why) in streams {
            let shown = stage.until_state(&stream, "failed").await?;
            let reason = shown["state_reason"].as_str().unwrap_or_default();
            assert!(why.split('|').any(|why| reason.contains(why)), "{url}: {reason}");
        }
        origin.set(Mood::RedirectsForEver);
        let stream = stage.pull(&origin.url("round.m3u8")).await?;
        let shown = stage.until_state(&stream, "failed").await?;
        assert!(shown["state_reason"].as_str().is_some_and(|why| why.contains("redirects")), "{shown}");
        Ok(())
    })
}

#[test]
fn a_redirect_leads_no_further_inside_than_an_address() -> Result<()> {
    run(async {
        let (origin, stage) = (Origin::start().await?, Stage::set(&[("CREST_PULL__PATIENCE", "2s")]).await?);
        for to in ["http://10.1.2.3/", "http://169.254.169.254/"] {
            origin.set(Mood::RedirectsTo(to.to_owned()));
            let stream = stage.pull(&origin.url("live.m3u8")).await?;
            let shown = stage.until_state(&stream, "failed").await?;
            assert!(shown["state_reason"].as_str().is_some_and(|why| why.contains("private")), "{to}: {shown}");
        }
        Ok(())
    })
}

#[test]
fn an_address_that_is_none_is_refused_when_the_stream_is_created() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        for (source, code) in [
            (json!({ "kind": "url" }), "invalid_request"),
            (json!({ "kind": "url", "url": "not an address" }), "invalid_url"),
            (json!({ "kind": "url", "url": "gopher://live.example/" }), "invalid_url"),
            (json!({ "kind": "url", "url": format!("http://live.example/{}", "x".repeat(5000)) }), "invalid_url"),
            (json!({ "kind": "rtmp", "url": "http://live.example/" }), "invalid_request"),
        ] {
            let body = json!({ "name": "pulled", "source": source });
            let answer = stage.api.send(Method::POST, "/v1/streams", Some(body)).await?;
            assert_eq!(answer.json()["code"], code, "{source}");
        }
        Ok(())
    })
}
