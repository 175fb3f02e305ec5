//! `crest listen`: an organization's events on a machine that nobody can reach from outside, printed
//! or forwarded to a local URL as webhooks.
//!
//! An event counts as taken when it was printed, or answered with a 2xx. Whatever breaks before that,
//! it comes again, under the same `webhook-id`.

mod forward;
mod secret;
mod server;
mod sse;
mod text;

use reqwest::Url;
use serde_json::Value;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use crate::stop::StopSignal;
use crate::usage::Usage;
use forward::Forward;
use server::{Server, Stream, Trouble};

/// What the command line asks for.
#[derive(Debug)]
pub struct Options {
    /// Where crest is.
    pub url: String,
    /// An API key of the organization.
    pub key: Option<String>,
    /// Where events go; without it, they are printed only.
    pub forward: Option<String>,
    /// The types that are wanted; empty means all.
    pub types: Vec<String>,
    /// The id of the last event that was taken.
    pub after: Option<String>,
    /// What forwarded events are signed with.
    pub secret: Option<String>,
    /// How events are printed.
    pub format: Format,
}

/// How events are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line for people
    Text,
    /// A line of JSON: the body of the webhook, and the event's `id`
    Json,
}

/// Listens until it is asked to stop, or until trying again cannot help. Wrong usage is told before
/// anything is sent.
pub async fn run(options: Options) -> anyhow::Result<bool> {
    let mut listener = Listener::new(options)?;
    let mut stop = StopSignal::listen()?;
    let ended = tokio::select! {
        ended = listener.run() => ended,
        _ = stop.asked() => Ok(()),
    };
    if let Some(cursor) = listener.cursor.as_deref() {
        say(&format!("to go on from here: --after {cursor}"));
    }
    match ended {
        // Whoever reads the events has enough of them.
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) => {
            Ok(true)
        }
        ended => ended.map(|()| true),
    }
}

/// What the program says of itself goes to standard error; events alone are on standard output.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Pauses that grow with each failure in a row.
#[derive(Debug)]
struct Pauses {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pauses {
    fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }
    fn reset(&mut self) {
        self.next = self.first;
    }
    /// The pause before the next attempt.
    fn grow(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

/// Where events go.
#[derive(Debug)]
enum Target {
    Print,
    /// Forwarding waits for the first answer of the server, which says whose secret is needed.
    Planned {
        url: Url,
        secret: Option<String>,
    },
    Forward(Forward),
}

struct Listener {
    server: Server,
    target: Target,
    format: Format,
    /// The id of the last event that was taken, or where the stream began.
    cursor: Option<String>,
    /// Whether the server has answered that it knows the cursor.
    known: bool,
    /// The `sequence` of the last event; `None` where only some types are asked for.
    sequence: Option<u64>,
    all_types: bool,
}

impl Listener {
    fn new(options: Options) -> anyhow::Result<Self> {
        let Options { url, key, forward, types, after, secret, format } = options;
        let key = key.filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| Usage("an API key is needed: set CREST_API_KEY, or give --key".to_owned()))?;
        if let Some(secret) = &secret {
            secret::check(secret).map_err(|why| Usage(format!("--secret: {why}")))?;
        }
        let target = match forward {
            Some(url) => Target::Planned { url: http_url("--forward", &url)?, secret },
            None if secret.is_some() => {
                return Err(Usage("--secret signs what is forwarded; give --forward too".to_owned()).into());
            }
            None => Target::Print,
        };
        let all_types = types.is_empty();
        let server = Server::new(http_url("--url", &url)?, &key, types)?;
        Ok(Self { server, target, format, cursor: after, known: false, sequence: None, all_types })
    }

    async fn run(&mut self) -> anyhow::Result<()> {
        let mut pauses = Pauses::new(Duration::from_millis(500), Duration::from_secs(15));
        loop {
            let why = match self.server.open(self.cursor.as_deref()).await {
                Ok(stream) => {
                    self.greet(&stream)?;
                    self.follow(stream, &mut pauses).await?
                }
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::UnknownCursor(detail)) => self.forget_cursor(&detail)?,
                Err(Trouble::Passing(why)) => why,
            };
            let pause = pauses.grow();
            say(&format!("{why}; trying again in {pause:?}"));
            tokio::time::sleep(pause).await;
        }
    }

    /// The first time, says what is needed to use what comes.
    fn greet(&mut self, stream: &Stream) -> anyhow::Result<()> {
        self.known = true;
        say(&format!("listening to the events of {} at {}", stream.organization, self.server.name()));
        if let Target::Planned { url, secret } = &self.target {
            let secret = match secret {
                Some(secret) => secret.clone(),
                None => secret::of(&secret::folder()?, &self.server.name(), &stream.organization)?,
            };
            say(&format!("forwarding to {url}, signed with {secret}"));
            self.target = Target::Forward(Forward::new(url.clone(), &secret)?);
        }
        Ok(())
    }

    /// A cursor that the user gave is wrong usage; one that the server handed out before means that
    /// its data is not what it was, and that everything in it is new.
    fn forget_cursor(&mut self, detail: &str) -> anyhow::Result<String> {
        if !self.known {
            return Err(Usage(format!("--after: {detail}")).into());
        }
        self.cursor = Some("0".to_owned());
        self.sequence = None;
        Ok("the server does not know the last event any more, its data was replaced: taking what it has".to_owned())
    }

    /// Takes events until the stream ends; says why it did.
    async fn follow(&mut self, mut stream: Stream, pauses: &mut Pauses) -> anyhow::Result<String> {
        loop {
            match stream.next().await {
                Ok(messages) => {
                    pauses.reset();
                    for message in messages {
                        self.take(message).await?;
                    }
                }
                Err(why) => return Ok(why),
            }
        }
    }

    async fn take(&mut self, message: sse::Message) -> anyhow::Result<()> {
        if let Some(body) = message.data {
            match serde_json::from_str::<Value>(&body) {
                Ok(event) => {
                    self.look_for_a_gap(&event);
                    self.pass_on(message.id.as_deref(), &body, event).await?;
                }
                Err(error) => say(&format!("an event that is no JSON is left out: {error}")),
            }
        }
        if let Some(id) = message.id.filter(|id| !id.is_empty()) {
            self.cursor = Some(id);
        }
        Ok(())
    }

    async fn pass_on(&self, id: Option<&str>, body: &str, mut event: Value) -> anyhow::Result<()> {
        let answered = match &self.target {
            Target::Forward(forward) => Some(forward.insist(id.unwrap_or(body), body).await),
            Target::Planned { .. } | Target::Print => None,
        };
        let mut line = match self.format {
            Format::Text => text::line(&event, &jiff::Zoned::now()),
            Format::Json => {
                if let Value::Object(map) = &mut event {
                    map.insert("id".to_owned(), id.into());
                }
                event.to_string()
            }
        };
        if let (Format::Text, Some(status)) = (self.format, answered) {
            line.push_str(&format!("  -> {status}"));
        }
        line.push('\n');
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    fn look_for_a_gap(&mut self, event: &Value) {
        let Some(now) = event["data"]["sequence"].as_u64() else { return };
        if let Some(before) = self.sequence.filter(|before| self.all_types && now > before + 1) {
            let missing = now - before - 1;
            say(&format!("{missing} events in between are older than what the server keeps (store.keep_events)"));
        }
        self.sequence = Some(now);
    }
}

fn http_url(name: &str, text: &str) -> Result<Url, Usage> {
    let wrong = |why: String| Usage(format!("{name} '{text}' cannot be used: {why}"));
    let url = Url::parse(text).map_err(|e| wrong(format!("{e}; write http://host:port")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(wrong(format!("'{other}' is not http or https"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_again() {
        let mut pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(5));
        let taken: Vec<u64> = (0..5).map(|_| pauses.grow().as_secs()).collect();
        assert_eq!(taken, [1, 2, 4, 5, 5]);
        pauses.reset();
        assert_eq!(pauses.grow().as_secs(), 1);
    }
}
