//! The bounds of the API.

use crest_core::units::Span;
use serde::Deserialize;
use std::time::Duration;

/// What a request may ask for, and how long it may take.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Chat messages in one request.
    pub max_chat_messages: usize,
    /// Bytes of one chat message's text.
    pub max_chat_text_bytes: usize,
    /// Largest page of a list; a page without `limit` holds 50, or this if it is less.
    pub max_page: u32,
    /// Servers that one stream may be relayed to.
    pub max_forward_targets: usize,
    /// Webhook endpoints of one organization.
    pub max_webhooks: u32,
    /// Streams of one organization that are pulled and not over.
    pub max_pulled_streams: u64,
    /// Event streams that may be open at a time, of all organizations.
    pub max_event_streams: u32,
    /// Event streams that may be open at a time, of one organization.
    pub max_organization_event_streams: u32,
    /// Clips and thumbnails that may be on their way at a time, of one organization.
    pub max_organization_downloads: u32,
    /// How often new events are looked for while an event stream is open.
    pub event_poll: Span,
    /// After how long without an event a comment says that the stream is alive. Clients take a stream
    /// that says nothing for a minute for dead.
    pub event_heartbeat: Span,
    /// How far before a session's start a message or a mark may lie; it is moved to the start.
    pub early_tolerance: Span,
    /// How far ahead of the present a message or a mark may lie.
    pub max_ahead: Span,
    /// How long a request's body may take to arrive.
    pub body_timeout: Span,
    /// How long a request may take until its answer begins.
    pub request_timeout: Span,
    /// How long the database may take to answer `/readyz`.
    pub ready_timeout: Span,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            max_chat_messages: 1000,
            max_chat_text_bytes: 2000,
            max_page: 200,
            max_forward_targets: 4,
            max_webhooks: 200,
            max_pulled_streams: 200,
            max_event_streams: 256,
            max_organization_event_streams: 16,
            max_organization_downloads: 64,
            event_poll: Span(Duration::from_millis(100)),
            event_heartbeat: Span::secs(15),
            early_tolerance: Span::secs(5),
            max_ahead: Span::secs(12 * 3600),
            body_timeout: Span::secs(15),
            request_timeout: Span::secs(30),
            ready_timeout: Span::secs(2),
        }
    }
}
