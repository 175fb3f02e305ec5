//! Closed sets of names, as the API description lists them. The types are core's, and so are their
//! names; these stand for them in schemas alone.

use crest_core::chat::ChatKind;
use crest_core::event::EventType;
use crest_core::highlight::HighlightState;
use crest_core::stream::StreamState;
use crest_core::webhook::DeliveryState;
use std::borrow::Cow;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

macro_rules! named {
    ($($(#[$doc:meta])* $type:ident $name:literal $names:expr;)*) => {$(
        $(#[$doc])*
        pub struct $type;

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new().schema_type(Type::String).enum_values(Some($names)).build().into()
            }
        }
        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    )*};
}

named! {
    /// Kinds of sources.
    SourceKindName "SourceKind" ["rtmp", "whip", "srt", "url"];
    /// States of streams.
    StreamStateName "StreamState" {
        use StreamState::{Created, Ended, Failed, Interrupted, Live};
        [Created, Live, Interrupted, Ended, Failed].map(StreamState::name)
    };
    /// States of servers that a stream is relayed to.
    ForwardStateName "ForwardState" ["idle", "connecting", "live", "waiting"];
    /// States of highlights.
    HighlightStateName "HighlightState" {
        use HighlightState::{Deleted, Failed, Final, Provisional, Ready};
        [Provisional, Final, Ready, Failed, Deleted].map(HighlightState::name)
    };
    /// States of deliveries.
    DeliveryStateName "DeliveryState" {
        use DeliveryState::{Delivered, Failed, Pending};
        [Pending, Delivered, Failed].map(DeliveryState::name)
    };
    /// Kinds of chat messages.
    ChatKindName "ChatKind" {
        use ChatKind::{Bits, Deletion, Message, Raid, Sub};
        [Message, Sub, Bits, Raid, Deletion].map(ChatKind::name)
    };
    /// Event types.
    EventTypeName "EventType" EventType::ALL.map(EventType::name);
}
