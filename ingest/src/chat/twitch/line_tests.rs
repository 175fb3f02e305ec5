#![allow(clippy::unwrap_used)]

use super::*;

const NOW: WallTime = WallTime(1_795_000_000_000);

fn heard(line: &str) -> Heard {
    match read(line, NOW).unwrap() {
        Line::Heard(channel, heard) => {
            assert_eq!(channel, "show");
            heard
        }
        other => panic!("{other:?}"),
    }
}

fn message(line: &str) -> Said {
    let Heard::Said(said) = heard(line) else { panic!("{line}") };
    said
}

#[test]
fn a_message_has_its_time_its_emotes_and_its_bits() {
    let said = message(
        "@badges=;bits=100;color=#FF0000;display-name=Viewer;emotes=25:4-8,14-18/30259:10-12;id=b34;tmi-sent-ts=1795000001234;\
         user-id=1 :viewer!viewer@viewer.tmi.twitch.tv PRIVMSG #show :ж 😱 Kappa :-) Kappa",
    );
    assert_eq!((said.id.as_str(), said.user.as_str(), said.at), ("b34", "viewer", WallTime(1_795_000_001_234)));
    assert_eq!(said.emotes, ["Kappa", "Kappa", ":-)"]);
    assert_eq!((said.kind, said.bits), (ChatKind::Bits, Some(100)));
}

#[test]
fn what_is_missing_or_malformed_is_made_do_without() {
    // What the typed readers of the library panic at: a colour that is no ASCII, places out of order.
    for line in [
        "@color=#éééx;emotes=1:9-2,18446744073709551615-18446744073709551615;id=a :v!v@v PRIVMSG #show :hello",
        "@emotes=nonsense;bits=none;tmi-sent-ts=late;id=a :v!v@v PRIVMSG #show :hello",
        "@id=a :v!v@v PRIVMSG #show :\u{1}ACTION hello\u{1}",
    ] {
        let said = message(line);
        assert_eq!(
            (said.text.as_str(), said.kind, said.bits, said.at),
            ("hello", ChatKind::Message, None, NOW),
            "{line}"
        );
        assert!(said.emotes.is_empty(), "{line}");
    }
    for line in [
        "",
        "@id=a",
        ":v!v@v PRIVMSG #show :no id",
        "@id=a PRIVMSG #show :no user",
        "@id=a :v!v@v PRIVMSG #",
        "@id=a :v!v@v PRIVMSG show :x",
    ] {
        assert_eq!(read(line, NOW), None, "{line}");
    }
}

#[test]
fn subscriptions_raids_and_announcements_are_told_apart_and_the_rest_is_left_out() {
    let notice = |id: &str| {
        format!(
            "@id=n;login=giver;msg-id={id};system-msg=x\\sy;tmi-sent-ts=1795000000001 :tmi.twitch.tv USERNOTICE #show"
        )
    };
    for (id, kind) in [
        ("sub", ChatKind::Sub),
        ("resub", ChatKind::Sub),
        ("subgift", ChatKind::Sub),
        ("submysterygift", ChatKind::Sub),
        ("raid", ChatKind::Raid),
        ("announcement", ChatKind::Message),
    ] {
        let said = message(&notice(id));
        assert_eq!((said.kind, said.user.as_str(), said.text.as_str()), (kind, "giver", ""), "{id}");
    }
    assert_eq!(message(&format!("{} :thank you", notice("resub"))).text, "thank you");
    for id in ["unraid", "bitsbadgetier", "of a later year"] {
        assert_eq!(read(&notice(&id.replace(' ', "_")), NOW), Some(Line::Other));
    }
}

#[test]
fn removals_carry_no_text() {
    let removed = |line: &str| match heard(line) {
        Heard::Removed(Removal { what, at }) => (what, at.0),
        other => panic!("{other:?}"),
    };
    let one = "@login=v;target-msg-id=b34;tmi-sent-ts=1795000000009 :tmi.twitch.tv CLEARMSG #show :the removed text";
    assert_eq!(removed(one), (Removed::Message("b34".into()), 1_795_000_000_009));
    let ban = "@ban-duration=600;target-user-id=7;tmi-sent-ts=1795000000009 :tmi.twitch.tv CLEARCHAT #show :v";
    assert_eq!(removed(ban).0, Removed::Author("v".into()));
    assert_eq!(removed("@tmi-sent-ts=1795000000009 :tmi.twitch.tv CLEARCHAT #show").0, Removed::All);
}

#[test]
fn the_server_is_understood() {
    let line = |line| read(line, NOW);
    assert_eq!(line("PING :tmi.twitch.tv"), Some(Line::Ping("tmi.twitch.tv".into())));
    assert_eq!(line(":tmi.twitch.tv 001 justinfan1 :Welcome, GLHF!"), Some(Line::Welcome));
    let told = Line::Told("Login unsuccessful".into());
    assert_eq!(line(":tmi.twitch.tv NOTICE * :Login unsuccessful"), Some(told));
    assert_eq!(line(":tmi.twitch.tv RECONNECT"), Some(Line::Reconnect));
    assert_eq!(line(":justinfan1!justinfan1@justinfan1.tmi.twitch.tv JOIN #show"), Some(Line::Joined("show".into())));
    assert_eq!(line(":tmi.twitch.tv 353 justinfan1 = #show :justinfan1"), Some(Line::Other));
    let suspended =
        "@msg-id=msg_channel_suspended :tmi.twitch.tv NOTICE #show :This channel does not exist or has been suspended.";
    let Some(Line::Refused(channel, reason)) = line(suspended) else { panic!() };
    assert_eq!((channel.as_str(), reason.contains("does not exist")), ("show", true));
    assert_eq!(line("@msg-id=slow_on :tmi.twitch.tv NOTICE #show :This room is now in slow mode."), Some(Line::Other));
}
