//! Pages on which a broadcast is shown -> where the broadcast is. Sites change how they do that all the time;
//! programs that are kept up with them find out, and run as child processes.

use async_trait::async_trait;
use reqwest::Url;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::Trouble;
use super::config::ResolverConfig;

/// Bytes that are read of what a program prints.
const OUTPUT: u64 = 256 * 1024;

/// Finds out where the broadcast on a page is.
#[async_trait]
pub(super) trait Resolver: Send + Sync {
    /// Whether the page is one of those that it knows.
    fn knows(&self, page: &Url) -> bool;
    /// Where its broadcast is.
    async fn resolve(&self, page: &Url) -> Result<Url, Trouble>;
}

/// A program.
#[derive(Debug)]
pub(super) struct Program {
    config: ResolverConfig,
    timeout: Duration,
}

impl Program {
    pub(super) fn new(config: ResolverConfig, timeout: Duration) -> Self {
        Self { config, timeout }
    }

    fn failed(&self, name: &str, page: &Url, said: &[u8]) -> Trouble {
        // The last line is the error; those before tell what was tried.
        let said = String::from_utf8_lossy(said);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it does not say why").trim();
        let host = page.host_str().unwrap_or_default();
        // Queries of addresses are tokens as often as not.
        let words = last.split_whitespace().map(|word| match word.split_once('?') {
            Some((address, _)) if address.contains("://") => address,
            _ => word,
        });
        let last: String = words.collect::<Vec<_>>().join(" ").chars().take(300).collect();
        Trouble::Passing(format!("{name} finds no broadcast on this page of {host}: {last}"))
    }
}

#[async_trait]
impl Resolver for Program {
    fn knows(&self, page: &Url) -> bool {
        let Some(host) = page.host_str() else { return false };
        let below = |domain: &String| host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'));
        self.config.domains.iter().any(|domain| host == domain || below(domain))
    }

    async fn resolve(&self, page: &Url) -> Result<Url, Trouble> {
        let words: Vec<String> = self.config.command.iter().map(|word| word.replace("{url}", page.as_str())).collect();
        let Some((name, arguments)) = words.split_first() else {
            return Err(Trouble::Final("pull.resolvers: a resolver without a command".to_owned()));
        };
        let mut command = Command::new(name);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // Its settings, secrets among them, are none of the program's business.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CREST_")) {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Trouble::Final(absent(name, page)),
            _ => Trouble::Passing(format!("{name} cannot be started: {error}")),
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let run = async { tokio::join!(read(stdout), read(stderr), child.wait()) };
        let Ok((printed, said, status)) = tokio::time::timeout(self.timeout, run).await else {
            let seconds = self.timeout.as_secs_f64();
            return Err(Trouble::Passing(format!("{name} took longer than {seconds} s (pull.resolve_timeout)")));
        };
        if !status.is_ok_and(|status| status.success()) {
            // streamlink prints its errors where others print what they found.
            return Err(self.failed(name, page, if said.trim_ascii().is_empty() { &printed } else { &said }));
        }
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let found = printed.lines().rev().find_map(|line| Url::parse(line.trim()).ok().filter(|url| url.has_host()));
        found.ok_or_else(|| self.failed(name, page, said.as_slice()))
    }
}

/// What to do where the program is missing.
pub(super) fn absent(name: &str, page: &Url) -> String {
    let host = page.host_str().unwrap_or_default();
    if name.contains('/') {
        return format!("{host} needs the program {name}, which is not there on the server; correct pull.resolvers");
    }
    format!(
        "{host} needs the program {name}, which is not installed on the server; install it (apt install {name}, or \
         pipx install {name} for a newer one), or name another in pull.resolvers"
    )
}

async fn read(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some(from) = from {
        // What cannot be read any more is not missed: its status tells how it went.
        let _ = from.take(OUTPUT).read_to_end(&mut all).await;
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn program(command: &[&str]) -> Program {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let domains = vec!["site.example".to_owned()];
        Program::new(ResolverConfig { domains, command }, Duration::from_secs(20))
    }

    fn page() -> Url {
        Url::parse("https://www.site.example/channel?a=1&b=2").unwrap()
    }

    #[test]
    fn a_page_is_known_by_its_domain() {
        let program = program(&["true"]);
        for (page, known) in [
            ("https://site.example/x", true),
            ("https://www.site.example/x", true),
            ("https://notsite.example/x", false),
            ("https://site.example.evil.test/x", false),
            ("https://evil.test/site.example", false),
        ] {
            assert_eq!(program.knows(&Url::parse(page).unwrap()), known, "{page}");
        }
    }

    #[tokio::test]
    async fn the_last_address_that_it_prints_is_taken_and_nothing_of_the_page_is_a_command() {
        let found = program(&["printf", "%s\\n", "[info] looking", "http://cdn.example/a.m3u8", "{url}"]);
        assert_eq!(found.resolve(&page()).await, Ok(page()), "one argument, whatever is in it");
        let said = program(&["sh", "-c", "echo one >&2; echo 'error: channel is offline' >&2; exit 1"]);
        assert!(
            matches!(said.resolve(&page()).await, Err(Trouble::Passing(why)) if why.contains("channel is offline"))
        );
        let token =
            program(&["sh", "-c", "echo 'error: Unable to open URL: https://a.example/b?sig=secret (404)'; exit 1"]);
        let why = token.resolve(&page()).await;
        assert!(
            matches!(&why, Err(Trouble::Passing(why)) if why.contains("a.example/b (404)") && !why.contains("secret"))
        );
        let nothing = program(&["true"]).resolve(&page()).await;
        assert!(matches!(nothing, Err(Trouble::Passing(why)) if why.contains("does not say why")));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_said_with_how_to_get_it() {
        let absent = program(&["no-such-program-xyz", "{url}"]).resolve(&page()).await;
        assert!(matches!(absent, Err(Trouble::Final(why)) if why.contains("apt install no-such-program-xyz")));
        let elsewhere = program(&["/opt/no-such-program-xyz", "{url}"]).resolve(&page()).await;
        assert!(matches!(elsewhere, Err(Trouble::Final(why)) if why.ends_with("correct pull.resolvers")));
    }
}
