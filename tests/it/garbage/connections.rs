//! RTMP connections that are none, or that announce more than they may.

use anyhow::{Context, Result, ensure};
use std::time::Duration;

use super::client::{self, AUDIO, COMMAND, Client, SET_CHUNK_SIZE, VIDEO, message, null, number, object, text};
use super::stage::Stage;
use crate::harness::run;

const FAILED: &str = "crest_rtmp_connections_failed_total";

/// The beginning of a TLS connection, as a publisher of `rtmps://` sends it.
const CLIENT_HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[test]
fn what_is_not_rtmp_is_closed_at_once_and_counted() -> Result<()> {
    run(async {
        let stage = Stage::set(&[("CREST_RTMP__HANDSHAKE", "3s")]).await?;
        let rtmp = &stage.server.rtmp;
        let noise: Vec<u8> = (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 | 4).collect();
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".as_slice();
        for (index, hello) in [request, &CLIENT_HELLO, &noise].into_iter().enumerate() {
            let mut stranger = Client::connect(rtmp).await?;
            stranger.shout(hello).await;
            assert_eq!(stranger.closed().await?, "", "nothing is said to whoever does not speak RTMP");
            stage.counted(FAILED, "not_rtmp", 1.0 + index as f64).await?;
        }
        // The right first byte, and noise for chunks.
        let mut stranger = Client::open(rtmp).await?;
        stranger.shout(&noise).await;
        stranger.closed().await?;
        // Nothing at all, half a handshake, and one that is never finished.
        drop(Client::connect(rtmp).await?);
        let mut half = Client::connect(rtmp).await?;
        half.send(&[3; 700]).await?;
        drop(half);
        let mut slow = Client::connect(rtmp).await?;
        slow.send(&[3]).await?;
        let dribble = async {
            loop {
                slow.shout(&[0]).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                if stage.metric(FAILED, "silent").await? >= 1.0 {
                    return anyhow::Ok(());
                }
            }
        };
        tokio::time::timeout(client::ANSWER, dribble).await.context("a handshake may take for ever")??;
        slow.closed().await?;
        stage.unharmed().await
    })
}

#[test]
fn commands_beyond_all_bounds_end_their_connection_alone() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let connect = [text("connect"), number(1.0)].concat();
        let array = |count: u32, element: &[u8]| {
            let elements = element.repeat(if element.is_empty() { 0 } else { count as usize });
            [&[0x0a][..], &count.to_be_bytes(), &elements].concat()
        };
        let deep = |open: &[u8]| open.repeat(60_000 / open.len());
        // What is sent, and the cause that is counted; the library refuses what only breaks off.
        let bombs: [(&str, Vec<u8>, &str); 8] = [
            ("4 GB of text", [0x0c, 0xff, 0xff, 0xff, 0xff, b'a'].to_vec(), "broken"),
            ("2^32 elements", array(u32::MAX, &[]), "broken"),
            ("2^32 properties", [0x08, 0xff, 0xff, 0xff, 0xff, 0, 1, b'a'].to_vec(), "broken"),
            ("objects in objects", deep(b"\x03\x00\x01a"), "amf"),
            ("arrays in arrays", deep(&array(1, &[])), "amf"),
            (
                "references to references",
                [array(999, &[5]), array(999, &[7, 0, 0]), array(999, &[7, 0, 1])].concat(),
                "amf",
            ),
            ("sixty thousand values", vec![5; 60_000], "amf"),
            ("invalid UTF-8", vec![2, 0, 2, 0xff, 0xfe], "broken"),
        ];
        for (what, bomb, cause) in bombs {
            let before = stage.metric(FAILED, cause).await?;
            let mut stranger = Client::open(&stage.server.rtmp).await?;
            let payload = [connect.clone(), bomb].concat();
            stranger.shout(&message(3, COMMAND, 0, 0, &payload, 128)).await;
            let closed = stranger.closed().await.with_context(|| what.to_owned())?;
            ensure!(!closed.contains("Success"), "{what}: {closed}");
            stage.counted(FAILED, cause, before + 1.0).await.with_context(|| what.to_owned())?;
        }
        // Commands without end, from somebody who may publish.
        let (_, key) = stage.stream().await?;
        let mut publisher = Client::publish(&stage.server.rtmp, &key).await?;
        let command = [text("createStream"), number(4.0), null()].concat();
        publisher.shout(&message(3, COMMAND, 0, 0, &command, 4096).repeat(3000)).await;
        publisher.closed().await?;
        stage.counted(FAILED, "commands", 1.0).await?;
        stage.unharmed().await
    })
}

#[test]
fn chunks_and_chunk_streams_are_bounded() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let rtmp = &stage.server.rtmp;
        // Ten thousand chunk streams, each with a message begun.
        let mut many = Client::open(rtmp).await?;
        let begin = |id: u32| {
            let [low, high, ..] = id.to_le_bytes();
            [&[1, low, high][..], &[0, 0, 0, 0, 1, 0, VIDEO, 1, 0, 0, 0], &[0; 128]].concat()
        };
        many.shout(&(0..10_000).flat_map(begin).collect::<Vec<u8>>()).await;
        many.closed().await?;
        stage.counted(FAILED, "chunk_streams", 1.0).await?;
        // 16 MB, which no stranger may announce.
        let mut large = Client::open(rtmp).await?;
        large.shout(&[6, 0, 0, 0, 0xff, 0xff, 0xff, VIDEO, 1, 0, 0, 0, 0]).await;
        large.closed().await?;
        stage.counted(FAILED, "too_large", 1.0).await?;
        // No chunk size at all.
        let mut none = Client::open(rtmp).await?;
        none.shout(&message(2, SET_CHUNK_SIZE, 0, 0, &[0; 4], 128)).await;
        none.closed().await?;
        stage.counted(FAILED, "malformed", 1.0).await?;

        // The smallest and the largest chunk are odd, and legal.
        for size in [1, 0x7fff_ffff] {
            let (stream, key) = stage.stream().await?;
            let mut publisher = Client::publish(rtmp, &key).await?;
            publisher.set_chunk_size(size).await?;
            let tags = client::tags_of(crate::broadcast::file().await?, 2).await?;
            publisher.tags(&tags).await?;
            stage.becomes(&stream, "live").await?;
        }
        stage.unharmed().await
    })
}

#[test]
fn a_thousand_connections_that_say_nothing_lock_nobody_out() -> Result<()> {
    run(async {
        let stage = Stage::set(&[("CREST_RTMP__HANDSHAKE", "10m")]).await?;
        // A publisher on its way in, from elsewhere, whom the crowd does not push out.
        let mut visitor = Client::connect_from("127.0.0.2", &stage.server.rtmp).await?;
        let mut silent = Vec::new();
        for _ in 0..1000 {
            silent.push(Client::connect(&stage.server.rtmp).await?);
        }
        stage.counted(FAILED, "crowded", 740.0).await?;
        stage.within_the_limit().await?;
        visitor.shake().await?;
        visitor.command("connect", 1.0, &[object(&[("app", text("live"))])]).await?;
        visitor.until("NetConnection.Connect.Success").await?;
        // While they are still there.
        stage.unharmed().await?;
        drop(silent);
        stage.goes_on().await
    })
}

#[test]
fn odd_orders_of_commands_end_the_one_connection_with_a_reason() -> Result<()> {
    run(async {
        let stage = Stage::set(&[]).await?;
        let rtmp = &stage.server.rtmp;
        let tags = client::tags_of(crate::broadcast::file().await?, 2).await?;
        let delete = [null(), number(1.0)];

        // Two publishers with one key: the second is told why, the first goes on.
        let (stream, key) = stage.stream().await?;
        let mut first = Client::publish(rtmp, &key).await?;
        first.tags(&tags).await?;
        stage.becomes(&stream, "live").await?;
        let second = Client::publish(rtmp, &key).await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(second.contains("fed already"), "{second}");
        // Twice on one connection: an error that says so.
        first.ask_to_publish(&key).await?;
        let said = first.closed().await?;
        ensure!(said.contains("publishes already"), "{said}");
        stage.becomes(&stream, "interrupted").await?;

        // It comes back, breaks off in the middle of a tag, and comes back again.
        let mut again = Client::publish(rtmp, &key).await?;
        again.tags(&tags).await?;
        stage.becomes(&stream, "live").await?;
        let keyframe = tags.iter().max_by_key(|tag| tag.body.len()).context("no tags")?;
        let broken = message(6, VIDEO, 1, 2000, &keyframe.body, 4096);
        again.send(broken.get(..broken.len() / 2).unwrap_or_default()).await?;
        drop(again);
        stage.becomes(&stream, "interrupted").await?;

        // Media after its end, ends without a beginning, an end that names another stream.
        let mut odd = Client::publish(rtmp, &key).await?;
        odd.tags(&tags).await?;
        stage.becomes(&stream, "live").await?;
        odd.command("FCUnpublish", 6.0, &[null(), text("another key")]).await?;
        odd.command("deleteStream", 7.0, &[null(), number(f64::NAN)]).await?;
        odd.command("deleteStream", 7.0, &[null(), text("one")]).await?;
        odd.tag(&tags.last().context("no tags")?.at(2100)).await?;
        stage.goes_on().await?;
        stage.becomes(&stream, "live").await?;
        odd.command("deleteStream", 8.0, &delete).await?;
        stage.becomes(&stream, "interrupted").await?;
        odd.shout(&message(4, AUDIO, 1, 2200, &[0xaf, 1, 0], 4096)).await;
        odd.closed().await?;

        // Media from somebody who never asked to publish; an end before any beginning.
        let mut early = Client::open(rtmp).await?;
        early.command("deleteStream", 1.0, &delete).await?;
        early.command("FCUnpublish", 1.0, &[null(), text(&key)]).await?;
        early.shout(&message(4, AUDIO, 1, 0, &[0xaf, 1, 0], 128)).await;
        early.closed().await?;
        stage.unharmed().await
    })
}

#[test]
fn ten_thousand_connections_that_say_little_lock_nobody_out() -> Result<()> {
    run(async {
        let stage = Stage::set(&[("CREST_RTMP__HANDSHAKE", "10m")]).await?;
        let rtmp = &stage.server.rtmp;
        let mut before: Vec<Client> = Vec::new();
        for wave in 0..10_usize {
            let mut silent = Vec::with_capacity(1000);
            for index in 0..1000 {
                let mut stranger = Client::connect(rtmp).await?;
                // Nothing, the version alone, and half a handshake.
                stranger.shout(&[3; 700][..[0, 1, 700][index % 3]]).await;
                silent.push(stranger);
            }
            // Those of the wave before hang on until this one is there.
            before = silent;
            stage.counted(FAILED, "crowded", (wave * 1000 + 700) as f64).await?;
            stage.within_the_limit().await?;
            if wave % 3 == 0 {
                // Somebody with business gets through, and memory is bounded, while they are there.
                stage.unharmed().await?;
            }
        }
        drop(before);
        stage.goes_on().await
    })
}
