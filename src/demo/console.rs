//! What the person in front of the terminal sees: lines that stay, and one status line that moves.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Colours, by what they are for.
#[derive(Debug, Clone, Copy)]
pub enum Tint {
    /// Headings and results.
    Bold,
    /// What happens on air: background information.
    Dim,
    /// Something was seen.
    Yellow,
    /// Something is good.
    Green,
    /// Something is wrong.
    Red,
}

/// The terminal. Colours and the status line appear only where there is one.
pub struct Console {
    bar: ProgressBar,
    colour: bool,
}

impl Default for Console {
    fn default() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(spinner());
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { bar, colour }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Console {
    /// A text in a colour.
    pub fn paint(&self, tint: Tint, text: &str) -> String {
        let code = match tint {
            Tint::Bold => "1",
            Tint::Dim => "2",
            Tint::Yellow => "33",
            Tint::Green => "32",
            Tint::Red => "31",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A line that stays.
    pub fn line(&self, text: impl AsRef<str>) {
        if self.bar.message().is_empty() {
            println!("{}", text.as_ref());
        } else {
            self.bar.suspend(|| println!("{}", text.as_ref()));
        }
    }

    /// What is being waited for.
    pub fn status(&self, text: impl Into<String>) {
        if self.bar.is_finished() {
            self.bar.reset();
        }
        self.bar.enable_steady_tick(Duration::from_millis(120));
        self.bar.set_message(text.into());
    }

    /// No more waiting.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// A bar for something of known length.
    pub fn progress(&self, length: u64, what: &str) -> ProgressBar {
        let bar = ProgressBar::new(length);
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}%");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what.to_owned());
        bar
    }
}

/// Seconds of the broadcast as `mm:ss.t`.
pub fn clock(seconds: f64) -> String {
    let tenths = (seconds.max(0.0) * 10.0).round() as u64;
    format!("{:02}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10)
}
