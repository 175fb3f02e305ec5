//! What GLib, GStreamer and its plugins say on their own, as lines of crest's log.

use gstreamer as gst;
use gstreamer::DebugLevel;
use gstreamer::glib::{self, LogField, LogLevel, LogWriterOutput};
use std::sync::Once;

/// Sends what GLib and GStreamer would write to standard error to `tracing`, with the targets `glib`
/// and `gstreamer`. GStreamer says as much as the variable `GST_DEBUG` asks for, nothing without it;
/// with `GST_DEBUG_FILE` it goes there, as ever. Calling it again changes nothing.
pub fn log_through_tracing() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        glib::log_set_writer_func(of_glib);
        glib::set_printerr_handler(|text| tracing::warn!(target: "glib", "{}", text.trim_end()));
        if std::env::var_os("GST_DEBUG_FILE").is_none() {
            gst::log::remove_default_log_function();
            gst::log::add_log_function(|category, level, _, _, _, object, message| {
                let Some(text) = message.get() else { return };
                let object = object.map(ToString::to_string);
                of_gstreamer(level, category.name(), object.as_deref(), text.as_str());
            });
        }
    });
}

fn of_glib(level: LogLevel, fields: &[LogField<'_>]) -> LogWriterOutput {
    let field = |name: &str| fields.iter().find(|field| field.key() == name).and_then(LogField::value_str);
    let (domain, message) = (field("GLIB_DOMAIN").unwrap_or("none"), field("MESSAGE").unwrap_or_default());
    match level {
        LogLevel::Error | LogLevel::Critical => tracing::error!(target: "glib", domain, "{message}"),
        LogLevel::Warning => tracing::warn!(target: "glib", domain, "{message}"),
        // GLib itself shows these only when asked to.
        LogLevel::Message | LogLevel::Info | LogLevel::Debug => tracing::debug!(target: "glib", domain, "{message}"),
    }
    LogWriterOutput::Handled
}

fn of_gstreamer(level: DebugLevel, category: &str, object: Option<&str>, message: &str) {
    match level {
        DebugLevel::Error => tracing::error!(target: "gstreamer", category, object, "{message}"),
        DebugLevel::Warning => tracing::warn!(target: "gstreamer", category, object, "{message}"),
        DebugLevel::Fixme | DebugLevel::Info => tracing::info!(target: "gstreamer", category, object, "{message}"),
        DebugLevel::Debug => tracing::debug!(target: "gstreamer", category, object, "{message}"),
        _ => tracing::trace!(target: "gstreamer", category, object, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex, PoisonError};
    use tracing::field::{Field, Visit};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> Layer<S> for Said {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let mut line = Line(format!("{} {}", event.metadata().level(), event.metadata().target()));
            event.record(&mut line);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
        }
    }

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0 += &format!(" {field}={value:?}");
        }
    }

    #[test]
    fn warnings_of_glib_and_gstreamer_are_events() -> crest_core::Result<()> {
        log_through_tracing();
        crate::init()?;
        let category = gst::DebugCategory::new("crest-test", gst::DebugColorFlags::empty(), None);
        category.set_threshold(DebugLevel::Warning);
        let said = Said::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(said.clone()), || {
            glib::g_warning!("some-domain", "a warning with {} parts", 2);
            glib::g_critical!("some-domain", "worse");
            gst::warning!(category, "of a plugin");
            gst::debug!(category, "not asked for");
        });
        let said = said.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let expected = [
            "WARN glib message=a warning with 2 parts domain=\"some-domain\"",
            "ERROR glib message=worse domain=\"some-domain\"",
            "WARN gstreamer message=of a plugin category=\"crest-test\"",
        ];
        assert_eq!(said, expected);
        Ok(())
    }
}
