//! The catalogue of problem codes: stable names that programs may compare.

use axum::http::StatusCode;

macro_rules! codes {
    ($($variant:ident $name:literal $status:ident $title:literal;)*) => {
        /// A kind of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// Its stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
            /// The status it is answered with.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }
            /// What it means, the same each time.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

codes! {
    BadRequest "bad_request" BAD_REQUEST "The request cannot be understood";
    InvalidJson "invalid_json" BAD_REQUEST "The body is not JSON";
    InvalidParameter "invalid_parameter" BAD_REQUEST "A query parameter is wrong";
    InvalidCursor "invalid_cursor" BAD_REQUEST "The cursor does not belong to this list";
    Unauthorized "unauthorized" UNAUTHORIZED "A valid API key is needed";
    OperatorOnly "operator_only" FORBIDDEN "Only the operator may do this";
    NotFound "not_found" NOT_FOUND "There is no such thing";
    PathNotFound "path_not_found" NOT_FOUND "There is nothing at this path";
    ClipNotAvailable "clip_not_available" NOT_FOUND "This highlight has no such file";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "This path does not know this method";
    BodyTimeout "body_timeout" REQUEST_TIMEOUT "The body did not arrive in time";
    Conflict "conflict" CONFLICT "Not possible in the present state";
    StreamNotLive "stream_not_live" CONFLICT "The stream has not begun";
    StreamOver "stream_over" CONFLICT "The stream is over";
    ClipNotReady "clip_not_ready" CONFLICT "The clip is not ready yet";
    LimitReached "limit_reached" CONFLICT "There are as many as there may be";
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The body is too large";
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The body must be sent as JSON";
    RangeNotSatisfiable "range_not_satisfiable" RANGE_NOT_SATISFIABLE "The file does not have these bytes";
    InvalidBody "invalid_body" UNPROCESSABLE_ENTITY "The body is JSON but not what is expected here";
    InvalidRequest "invalid_request" UNPROCESSABLE_ENTITY "The request asks for something that cannot be";
    NotSupportedYet "not_supported_yet" UNPROCESSABLE_ENTITY "This version cannot do that yet";
    ChatNotConfigured "chat_not_configured" UNPROCESSABLE_ENTITY "This server cannot follow chats there";
    InvalidUrl "invalid_url" UNPROCESSABLE_ENTITY "The address cannot be used";
    UnknownEventType "unknown_event_type" UNPROCESSABLE_ENTITY "There is no such event type";
    TooManyMessages "too_many_messages" UNPROCESSABLE_ENTITY "Too many messages in one request";
    InvalidMessage "invalid_message" UNPROCESSABLE_ENTITY "A message cannot be accepted";
    InvalidTime "invalid_time" UNPROCESSABLE_ENTITY "The time does not lie on the stream's timeline";
    TooManyDownloads "too_many_downloads" TOO_MANY_REQUESTS "As many downloads are under way as there may be";
    TooManyEventStreams "too_many_event_streams" TOO_MANY_REQUESTS "As many event streams are open as there may be";
    Internal "internal" INTERNAL_SERVER_ERROR "crest failed";
    Unavailable "unavailable" SERVICE_UNAVAILABLE "Something that crest needs does not answer";
    NotReady "not_ready" SERVICE_UNAVAILABLE "crest is not ready";
    NoIngest "no_ingest" SERVICE_UNAVAILABLE "Nobody takes feeds at the moment";
    Timeout "timeout" SERVICE_UNAVAILABLE "The answer took too long";
    StorageFull "storage_full" INSUFFICIENT_STORAGE "The server has no room for this";
}
