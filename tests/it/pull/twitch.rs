//! Channels at Twitch that are waited for. A server of the tests speaks as Twitch documents EventSub and its API; a
//! script stands in for streamlink.

use anyhow::{Result, ensure};

use super::origin::{self, LENGTH, Origin};
use super::stage::Stage;
use crate::eventsub::{CLIENT_ID, EventSubServer, TOKEN};
use crate::harness::run;
use crate::stored::span;

/// Notes each try in a file `tries`, and finds the broadcast once there is a file `live`.
const FINDS: &str =
    "echo $2 >> $0/tries; test -f $0/live && echo $1 || { echo 'error: No playable streams found' >&2; exit 1; }";

async fn stage(origin: &Origin, twitch: &EventSubServer, patience: &str, more: &str) -> Result<Stage> {
    let (folder, url, (eventsub, api)) = (origin.folder.path().display(), origin.url("show.m3u8"), twitch.urls());
    Stage::configured(&format!(
        "[twitch]\nclient_id = \"{CLIENT_ID}\"\ntoken = \"{TOKEN}\"\neventsub_url = \"{eventsub}\"\napi_url = \"{api}\"\n{more}\n\
         [pull]\nallow = [\"127.0.0.0/8\"]\npause = \"200ms\"\nmax_pause = \"400ms\"\npatience = \"{patience}\"\nrecorded_speed = 6\n\
         [[pull.resolvers]]\ndomains = [\"twitch.tv\"]\n\
         command = [\"sh\", \"-c\", \"{FINDS}\", \"{folder}\", \"{url}\", \"{{url}}\"]\n",
    ))
    .await
}

#[test]
fn a_channel_that_goes_live_starts_its_stream_without_anybodys_hand() -> Result<()> {
    run(async {
        let (origin, twitch) = (Origin::start().await?, EventSubServer::start(&["show"], 10).await);
        origin::cut(origin::source().await?, &origin.path("show.m3u8"), &[]).await?;
        let stage = stage(&origin, &twitch, "10s", "").await?;
        let stream = stage.pull("https://www.twitch.tv/Show").await?;
        let reason = "the channel show is not live; waiting for it to go live";
        let waiting = stage.until(&stream, "a reason", |shown| shown["state_reason"] == reason).await?;
        assert_eq!(waiting["state"], "created");
        twitch.until("the channel is watched", |twitch| twitch.subscribed().contains("show stream.online")).await;
        ensure!(!origin.path("tries").exists(), "the page is not looked at while Twitch says that there is nothing");
        origin.write("live", "")?;
        // Until it is told, nothing is tried for five minutes (twitch.look_again).
        twitch.online("show", "it-is-on");
        let shown = stage.until_state(&stream, "ended").await?;
        assert_eq!(shown["state_reason"], "the recording is over");
        twitch.until("nothing is watched any more", |twitch| twitch.connections() == (1, 0)).await;
        assert!(stage.api.counter("crest_twitch_notifications_total").await? >= 1.0);
        ensure!(!stage.server.log_tail().contains(TOKEN), "the token is in the log");
        Ok(())
    })
}

#[test]
fn a_channel_is_waited_for_without_end() -> Result<()> {
    run(async {
        let (origin, twitch) = (Origin::start().await?, EventSubServer::start(&["show"], 10).await);
        let stage = stage(&origin, &twitch, "2s", "").await?;
        let stream = stage.pull("https://www.twitch.tv/show").await?;
        // One that does not exist is tried as any other source.
        let absent = stage.pull("https://www.twitch.tv/nobody_of_this_name").await?;
        stage.until_state(&absent, "failed").await?;
        let tries = std::fs::read_to_string(origin.path("tries"))?;
        ensure!(tries.contains("nobody_of") && !tries.contains("/show"), "{tries}");
        assert_eq!(stage.shown(&stream).await?["state"], "created");
        Ok(())
    })
}

#[test]
fn a_broadcast_that_is_over_already_is_not_the_one_that_is_waited_for() -> Result<()> {
    run(async {
        let origin = Origin::start().await?;
        origin::cut(origin::source().await?, &origin.path("show.m3u8"), &[]).await?;
        origin.write("live", "")?;
        // Nothing tells whether the channel is live: what its page leads to has to.
        let stage = Stage::configured(&format!(
            "[pull]\nallow = [\"127.0.0.0/8\"]\npause = \"200ms\"\nmax_pause = \"400ms\"\nlive_segments = 100\n\
             [[pull.resolvers]]\ndomains = [\"twitch.tv\"]\n\
             command = [\"sh\", \"-c\", \"{FINDS}\", \"{}\", \"{}\", \"{{url}}\"]\n",
            origin.folder.path().display(),
            origin.url("show.m3u8"),
        ))
        .await?;
        let stream = stage.pull("https://www.twitch.tv/show").await?;
        let reason = "the broadcast that is there is over; waiting for the next one";
        let waiting = stage.until(&stream, "a reason", |shown| shown["state_reason"] == reason).await?;
        assert_eq!(waiting["state"], "created");
        // The next one begins, and is taken to its end.
        let over = std::fs::read_to_string(origin.path("show.m3u8"))?;
        origin.write("show.m3u8", &over.replace("#EXT-X-ENDLIST\n", ""))?;
        stage.until_state(&stream, "live").await?;
        origin.write("show.m3u8", &over)?;
        let shown = stage.until_state(&stream, "ended").await?;
        assert_eq!((&shown["state_reason"], &shown["session"]), (&"the broadcast is over".into(), &1.into()));
        ensure!(span(&stage.times(&stream, "v").await?) > LENGTH - 0.5, "{}", stage.server.log_tail());
        Ok(())
    })
}
