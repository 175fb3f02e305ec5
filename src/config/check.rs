//! What settings must be for crest to work with them, and with which roles they go together.

use crest_core::units::Span;

use super::{BusKind, Config, Role, Roles};
use crate::usage::Usage;

/// Bounds that no part of crest can work without.
pub fn bounds(config: &Config) -> Result<(), Usage> {
    let counts = [
        ("segments.fragment_bytes", config.segments.fragment_bytes as u128),
        ("segments.fragment", config.segments.fragment.0.as_millis()),
        ("segments.segment", config.segments.segment.0.as_millis()),
        ("decoder.workers", config.decoder.workers as u128),
        ("decoder.queue", config.decoder.queue as u128),
        ("ingest.sampler_queue", config.ingest.sampler_queue as u128),
        ("chat.queue", config.chat.queue as u128),
        ("chat.twitch.channels", config.chat.twitch.channels as u128),
        ("chat.twitch.line_bytes", config.chat.twitch.line_bytes as u128),
        ("twitch.channels", config.twitch.channels as u128),
        ("twitch.look_again", config.twitch.look_again.0.as_millis()),
        ("twitch.timeout", config.twitch.timeout.0.as_millis()),
        ("twitch.longest_pause", config.twitch.longest_pause.0.as_millis()),
        ("twitch.refused", config.twitch.refused.0.as_millis()),
        ("twitch.message", u128::from(config.twitch.message.as_u64())),
        ("twitch.answer", u128::from(config.twitch.answer.as_u64())),
        ("forward.queue", config.forward.queue.0.as_millis()),
        ("forward.pause", config.forward.pause.0.as_millis()),
        ("forward.max_pause", config.forward.max_pause.0.as_millis()),
        ("forward.timeout", config.forward.timeout.0.as_millis()),
        ("forward.queue_bytes", u128::from(config.forward.queue_bytes.as_u64())),
        ("rtmp.max_connections", config.rtmp.max_connections as u128),
        ("pull.patience", config.pull.patience.0.as_millis()),
        ("pull.pause", config.pull.pause.0.as_millis()),
        ("pull.max_pause", config.pull.max_pause.0.as_millis()),
        ("pull.timeout", config.pull.timeout.0.as_millis()),
        ("pull.max_playlist", u128::from(config.pull.max_playlist.as_u64())),
        ("pull.max_segment", u128::from(config.pull.max_segment.as_u64())),
        ("pull.resolve_timeout", config.pull.resolve_timeout.0.as_millis()),
        ("srt.max_connections", config.srt.max_connections as u128),
        ("srt.idle", config.srt.idle.0.as_millis()),
        ("webrtc.max_sessions", config.webrtc.max_sessions as u128),
        ("webrtc.max_offer", u128::from(config.webrtc.max_offer.as_u64())),
        ("webrtc.idle", config.webrtc.idle.0.as_millis()),
        ("webrtc.keyframe_interval", config.webrtc.keyframe_interval.0.as_millis()),
        ("webrtc.queue", config.webrtc.queue as u128),
        ("http.max_connections", config.http.max_connections as u128),
        ("http.idle", config.http.idle.0.as_millis()),
        ("limits.burst", config.limits.burst.0.as_millis()),
        ("decoder.max_pixels", u128::from(config.decoder.max_pixels)),
        ("log.causes", config.log.causes as u128),
        ("api.max_page", u128::from(config.api.max_page)),
        ("api.max_body_bytes", config.api.max_body_bytes as u128),
        ("api.event_poll", config.api.event_poll.0.as_millis()),
        ("api.event_heartbeat", config.api.event_heartbeat.0.as_millis()),
        ("store.keep_events", config.store.keep_events.0.as_millis()),
        ("store.prune_interval", config.store.prune_interval.0.as_millis()),
        ("store.prune_batch", u128::from(config.store.prune_batch)),
        ("api.max_chat_messages", config.api.max_chat_messages as u128),
        ("clips.workers", config.clips.workers as u128),
        ("webhooks.concurrency", config.webhooks.concurrency as u128),
        ("webhooks.timeout", config.webhooks.timeout.0.as_millis()),
    ];
    if let Some((key, _)) = counts.iter().find(|(_, value)| *value == 0) {
        return Err(Usage(format!("{key} must be more than 0")));
    }
    if config.api.event_heartbeat > Span::secs(30) {
        return Err(Usage("api.event_heartbeat must be at most 30s: clients wait for a minute".to_owned()));
    }
    let speeds =
        [("pull.recorded_speed", config.pull.recorded_speed, 0.1), ("pull.live_speed", config.pull.live_speed, 1.1)];
    if let Some((key, _, least)) = speeds.iter().find(|(_, speed, least)| !(*least..=1000.0).contains(speed)) {
        return Err(Usage(format!("{key} must be {least} to 1000, times the speed at which media plays")));
    }
    let url = |key: &str, value: &Option<String>, schemes: [&str; 2]| match value {
        Some(value) if !schemes.iter().any(|scheme| value.starts_with(scheme)) => {
            Err(Usage(format!("{key} is '{value}', but must begin with {}", schemes.join(" or "))))
        }
        _ => Ok(()),
    };
    url("http.public_url", &config.http.public_url, ["http://", "https://"])?;
    url("rtmp.public_url", &config.rtmp.public_url, ["rtmp://", "rtmps://"])?;
    url("webrtc.public_url", &config.webrtc.public_url, ["http://", "https://"])?;
    url("rtmp.tls_public_url", &config.rtmp.tls_public_url, ["rtmps://", "rtmps://"])?;
    url("srt.public_url", &config.srt.public_url, ["srt://", "srt://"])?;
    match &config.srt.passphrase {
        Some(passphrase) if !(10..=79).contains(&passphrase.0.len()) => {
            Err(Usage("srt.passphrase must be 10 to 79 bytes".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Whether a process with these roles can do its part with this configuration.
pub fn fits(config: &Config, roles: &Roles) -> Result<(), Usage> {
    let refused = |reason: String| Err(Usage(reason));
    match config.bus.kind {
        BusKind::Embedded if !roles.all() => refused(format!(
            "--roles {roles}: the embedded bus lives in one process, which has to have all roles; several processes \
             need bus.kind = \"kafka\", bus.brokers, database.url and storage.url"
        )),
        BusKind::Kafka if config.bus.brokers.iter().all(|broker| broker.trim().is_empty()) => {
            refused("bus.kind is 'kafka', but bus.brokers names none; set it to one or more of host:port".to_owned())
        }
        BusKind::Kafka if !roles.all() && config.database.url.is_none() => refused(format!(
            "--roles {roles}: the other roles run in other processes, and the database in the data directory belongs \
             to one process alone; set database.url to a PostgreSQL database that all of them use"
        )),
        BusKind::Kafka if !roles.all() && !config.storage.is_remote() => refused(format!(
            "--roles {roles}: the other roles run in other processes, which do not see the files in this one's data \
             directory: no clip could be cut; set storage.url to a bucket that all of them use"
        )),
        // What they tell of has an address at the API, which is not theirs.
        BusKind::Kafka
            if !roles.has(Role::Api)
                && roles.has_any(&[Role::Ingest, Role::Fuse, Role::Deliver])
                && config.http.public_url.is_none() =>
        {
            refused(format!(
                "--roles {roles}: the events that this process makes link to the API, which another process serves; set \
                 http.public_url to where that is reached"
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::BusConfig;
    use super::*;

    fn said(kind: BusKind, brokers: &[&str], database: bool, storage: bool, roles: &str) -> String {
        let mut config = Config::default();
        config.http.public_url = Some("https://crest.example".to_owned());
        config.bus.kind = kind;
        config.bus.brokers = brokers.iter().map(|broker| (*broker).to_owned()).collect();
        config.database.url = database.then(|| "postgres://crest@db/crest".to_owned());
        config.storage.url = storage.then(|| "s3://bucket".to_owned());
        fits(&config, &Roles::parse(roles).unwrap()).map_or_else(|refused| refused.to_string(), |()| String::new())
    }

    #[test]
    fn roles_apart_need_what_they_share() {
        use BusKind::{Embedded, Kafka};
        let broker = ["127.0.0.1:9092"].as_slice();
        assert_eq!(said(Embedded, &[], false, false, "all"), "");
        assert_eq!(said(Embedded, &[], false, false, "ingest,analyze,fuse,deliver,api"), "", "those are all");
        assert!(said(Embedded, &[], true, true, "ingest,api").contains("bus.kind"));
        for none in [&[][..], &[""], &[" "]] {
            assert!(said(Kafka, none, true, true, "all").contains("bus.brokers"));
        }
        assert_eq!(said(Kafka, broker, false, false, "all"), "");
        assert!(said(Kafka, broker, false, true, "fuse").contains("database.url"));
        assert!(said(Kafka, broker, true, false, "fuse").contains("storage.url"));
        assert_eq!(said(Kafka, broker, true, true, "fuse"), "");
    }

    #[test]
    fn who_links_to_the_api_must_know_where_it_is() {
        let mut config = Config::default();
        config.bus = BusConfig { kind: BusKind::Kafka, brokers: vec!["kafka:9092".to_owned()], ..config.bus };
        config.database.url = Some("postgres://db/crest".to_owned());
        config.storage.url = Some("s3://bucket".to_owned());
        for (roles, needs) in [("ingest", true), ("analyze,fuse", true), ("analyze", false), ("deliver,api", false)] {
            let refused = fits(&config, &Roles::parse(roles).unwrap()).is_err_and(|e| e.0.contains("http.public_url"));
            assert_eq!(refused, needs, "{roles}");
        }
    }
}
