//! When a delivery is tried again, and when no more.

use std::time::Duration;

use crest_core::webhook::{AttemptOutcome, Delivery};
use crest_core::{WallTime, WebhookId};

use super::request::Answer;
use crate::config::WebhooksConfig;
use crate::millis;

/// What follows from how an attempt went. `delivery.attempts` counts those before this one.
pub(crate) fn decide(answer: &Answer, delivery: &Delivery, config: &WebhooksConfig, now: WallTime) -> AttemptOutcome {
    let (reason, asked) = match answer {
        Answer::Status { status: status @ 200..=299, .. } => return AttemptOutcome::Delivered { status: *status },
        Answer::Status { status: 410, .. } => {
            return AttemptOutcome::GaveUp { reason: "answered 410: the endpoint is gone".to_owned() };
        }
        Answer::Status { status: status @ 300..=399, .. } => {
            (format!("answered {status}: redirects are not followed"), None)
        }
        Answer::Status { status: status @ (429 | 503), retry_after } => {
            let asked = retry_after.as_deref().and_then(|text| parse_retry_after(text, now));
            (format!("answered {status}"), asked)
        }
        Answer::Status { status, .. } => (format!("answered {status}"), None),
        Answer::None { reason } => (reason.clone(), None),
    };
    let attempt = delivery.attempts.saturating_add(1);
    let Some(pause) = config.retry.get(delivery.attempts as usize) else {
        return AttemptOutcome::GaveUp { reason: format!("{reason}; that was attempt {attempt}, the last") };
    };
    let pause = spread(pause.0, &delivery.id, attempt);
    let pause = asked.map_or(pause, |asked| pause.max(asked.min(config.retry_after_max.0)));
    AttemptOutcome::Retry { at: now.plus_millis(millis(pause)), reason }
}

/// `pause`, up to 20 % shorter or longer: endpoints that failed together are not tried together. By
/// hash, so that deciding again decides the same.
fn spread(pause: Duration, id: &WebhookId, attempt: u32) -> Duration {
    // FNV-1a, then a multiplication that carries the last bytes into the high bits.
    let bytes = id.as_str().bytes().chain(attempt.to_be_bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (hash ^ (hash >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let unit = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
    Duration::try_from_secs_f64(pause.as_secs_f64() * (0.8 + 0.4 * unit)).unwrap_or(pause)
}

/// `Retry-After` as a pause: seconds, or an HTTP date.
fn parse_retry_after(text: &str, now: WallTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    let ahead = at.as_millisecond().saturating_sub(now.0);
    Some(Duration::from_millis(u64::try_from(ahead).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crest_core::event::EventType;
    use crest_core::units::Span;
    use crest_core::webhook::DeliveryState;
    use crest_core::{EndpointId, EventId, OrganizationId};

    const NOW: WallTime = WallTime(1_795_000_000_000);

    fn delivery(id: &str, attempts: u32) -> Delivery {
        Delivery {
            id: WebhookId::from_raw(id),
            event_id: EventId::from_raw("evt_a"),
            event_type: EventType::HighlightReady,
            endpoint_id: EndpointId::from_raw("whe_a"),
            organization_id: OrganizationId::from_raw("org_a"),
            sequence: 1,
            body: String::new(),
            state: DeliveryState::Pending,
            attempts,
            next_attempt_at: NOW,
            last_outcome: None,
            created_at: NOW,
        }
    }

    fn status(status: u16, retry_after: Option<&str>) -> Answer {
        Answer::Status { status, retry_after: retry_after.map(str::to_owned) }
    }

    /// The pause in milliseconds before the next attempt; `None` where it gave up.
    fn pause(answer: &Answer, attempts: u32, config: &WebhooksConfig) -> Option<i64> {
        match decide(answer, &delivery("msg_a", attempts), config, NOW) {
            AttemptOutcome::Retry { at, .. } => Some(at.0 - NOW.0),
            _ => None,
        }
    }

    #[test]
    fn a_2xx_delivers_410_ends_and_the_rest_is_tried_again() {
        let config = WebhooksConfig::default();
        for code in [200, 201, 204, 299] {
            let outcome = decide(&status(code, None), &delivery("msg_a", 0), &config, NOW);
            assert_eq!(outcome, AttemptOutcome::Delivered { status: code });
        }
        let gone = decide(&status(410, None), &delivery("msg_a", 0), &config, NOW);
        assert!(matches!(gone, AttemptOutcome::GaveUp { .. }));
        for code in [100, 301, 302, 400, 401, 404, 409, 429, 500, 503] {
            assert!(pause(&status(code, None), 0, &config).is_some(), "{code}");
        }
        assert!(pause(&Answer::None { reason: "connection refused".to_owned() }, 0, &config).is_some());
    }

    #[test]
    fn pauses_follow_the_list_within_a_fifth_and_end_with_it() {
        let config = WebhooksConfig::default();
        for (attempts, span) in config.retry.iter().enumerate() {
            let planned = millis(span.0);
            let pause = pause(&status(500, None), attempts as u32, &config).unwrap_or(0);
            assert!(pause >= planned * 8 / 10 && pause <= planned * 12 / 10, "{attempts}: {pause} of {planned}");
        }
        assert_eq!(pause(&status(500, None), config.retry.len() as u32, &config), None);
        assert_eq!(pause(&status(500, None), 0, &WebhooksConfig { retry: Vec::new(), ..config }), None);
    }

    #[test]
    fn the_spread_is_repeatable_and_differs_between_deliveries() {
        let of = |id: &str| spread(Duration::from_secs(100), &WebhookId::from_raw(id), 1);
        assert_eq!(of("msg_a"), of("msg_a"));
        let all: Vec<Duration> = (0..200).map(|n| of(&format!("msg_{n}"))).collect();
        assert!(all.iter().any(|pause| *pause < Duration::from_secs(85)));
        assert!(all.iter().any(|pause| *pause > Duration::from_secs(115)));
        assert!(all.iter().all(|pause| (80..=120).contains(&pause.as_secs())));
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_bound() {
        let config =
            WebhooksConfig { retry: vec![Span::secs(5)], retry_after_max: Span::secs(600), ..Default::default() };
        assert_eq!(pause(&status(429, Some("120")), 0, &config), Some(120_000));
        assert_eq!(pause(&status(503, Some("86400")), 0, &config), Some(600_000));
        let date = jiff::fmt::rfc2822::DateTimePrinter::new();
        let at = jiff::Timestamp::from_millisecond(NOW.0 + 90_000).ok();
        let text = at.and_then(|at| date.timestamp_to_rfc9110_string(&at).ok()).unwrap_or_default();
        assert_eq!(pause(&status(503, Some(&text)), 0, &config), Some(90_000), "{text}");
        // Not a reason to come sooner, or to believe nonsense.
        for text in ["0", "soon", "-5", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            let pause = pause(&status(503, Some(text)), 0, &config).unwrap_or(0);
            assert!((4_000..=6_000).contains(&pause), "{text}: {pause}");
        }
        assert!(pause(&status(500, Some("120")), 0, &config).unwrap_or(0) <= 6_000);
    }
}
