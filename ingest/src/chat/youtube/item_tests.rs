#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::json;

const NOW: WallTime = WallTime(1_795_000_000_000);

fn item(kind: &str, details: Value) -> Value {
    let mut item = json!({
        "kind": "youtube#liveChatMessage", "id": "m1",
        "snippet": {"type": kind, "publishedAt": "2026-11-18T10:26:40.500+00:00", "authorChannelId": "UC1",
            "hasDisplayContent": true, "displayMessage": "x"},
        "authorDetails": {"channelId": "UC1", "displayName": "@viewer", "isChatSponsor": false},
    });
    let (to, from) = (item["snippet"].as_object_mut().unwrap(), details.as_object().unwrap().clone());
    to.extend(from);
    item
}

fn said(kind: &str, details: Value) -> Said {
    match read(&item(kind, details), NOW).unwrap() {
        Some(Heard::Said(said)) => said,
        other => panic!("{other:?}"),
    }
}

#[test]
fn texts_payments_and_members_are_told_apart() {
    let text = said("textMessageEvent", json!({"textMessageDetails": {"messageText": "that goal"}}));
    assert_eq!((text.id.as_str(), text.user.as_str(), text.author.as_str()), ("m1", "@viewer", "UC1"));
    assert_eq!((text.text.as_str(), text.kind, text.at), ("that goal", ChatKind::Message, WallTime(1_794_997_600_500)));
    let paid = |micros: Value, currency: &str| {
        let details = json!({"amountMicros": micros, "currency": currency, "userComment": "yes", "tier": 2});
        let said = said("superChatEvent", json!({"superChatDetails": details}));
        assert_eq!((said.kind, said.text.as_str()), (ChatKind::Bits, "yes"));
        said.bits
    };
    assert_eq!(paid(json!("5000000"), "USD"), Some(500));
    assert_eq!(paid(json!(1_990_000), "EUR"), Some(199));
    assert_eq!(paid(json!("200000000"), "JPY"), Some(200));
    assert_eq!(paid(json!("18446744073709551615"), "USD"), Some(u32::MAX));
    assert_eq!(paid(json!("much"), "USD"), None);
    let sticker =
        said("superStickerEvent", json!({"superStickerDetails": {"amountMicros": "990000", "currency": "USD"}}));
    assert_eq!((sticker.kind, sticker.bits), (ChatKind::Bits, Some(99)));
    let milestone = said("memberMilestoneChatEvent", json!({"memberMilestoneChatDetails": {"userComment": "a year"}}));
    assert_eq!((milestone.kind, milestone.text.as_str()), (ChatKind::Sub, "a year"));
    for kind in ["newSponsorEvent", "membershipGiftingEvent"] {
        assert_eq!(said(kind, json!({})).kind, ChatKind::Sub);
    }
}

#[test]
fn removals_and_the_end_are_understood_and_the_rest_is_left_out() {
    let read = |kind: &str, details| read(&item(kind, details), NOW);
    let removed = |heard| match heard {
        Ok(Some(Heard::Removed(removal))) => removal.what,
        other => panic!("{other:?}"),
    };
    let deleted = read("messageDeletedEvent", json!({"messageDeletedDetails": {"deletedMessageId": "m0"}}));
    assert_eq!(removed(deleted), Removed::Message("m0".into()));
    let banned = json!({"userBannedDetails": {"bannedUserDetails": {"channelId": "UC9"}, "banType": "permanent"}});
    assert_eq!(removed(read("userBannedEvent", banned)), Removed::Author("UC9".into()));
    assert_eq!(read("chatEndedEvent", json!({})), Ok(Some(Heard::State(State::Over))));
    for kind in ["giftMembershipReceivedEvent", "tombstone", "pollEvent", "ofALaterYear"] {
        assert_eq!(read(kind, json!({})), Ok(None), "{kind}");
    }
    for (kind, details) in
        [("messageDeletedEvent", json!({})), ("", json!({})), ("textMessageEvent", json!({"publishedAt": 5}))]
    {
        assert_eq!(read(kind, details), Err(()), "{kind}");
    }
    assert_eq!(super::read(&json!("nonsense"), NOW), Err(()));
}
