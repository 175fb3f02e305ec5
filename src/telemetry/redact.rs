//! The second line of defence against secrets in the log. The first is that nobody logs them.

use std::borrow::Cow;
use std::sync::RwLock;

/// What stands where a secret stood.
const MARK: &str = "…";

/// How keys and secrets begin that crest makes: API keys, stream keys, secrets of webhooks.
const PREFIXES: [&str; 3] = ["crest_sk_", "sk_live_", "whsec_"];

/// How credentials in an `Authorization` header begin, in any case.
const SCHEMES: [&str; 2] = ["bearer ", "basic "];

/// Shorter secrets are words: hiding them would blot out half the log.
const SHORTEST: usize = 6;

/// Secrets that have no shape of their own, the operator's key above all.
static KNOWN: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Hides `secret` from now on wherever it turns up in a line, unless it is shorter than 6 bytes.
pub fn hide(secret: &str) {
    let mut known = KNOWN.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    if secret.len() >= SHORTEST && !known.iter().any(|other| other == secret) {
        known.push(secret.to_owned());
    }
}

/// Replaces what looks like a secret: keys by their prefix, credentials, user information and queries
/// of addresses. One pass over the text, and one for each secret of `hide`.
pub fn redact(text: &str) -> Cow<'_, str> {
    let shaped = by_shape(text);
    let known = KNOWN.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    known.iter().fold(shaped, |text, secret| {
        if text.contains(secret.as_str()) { Cow::Owned(text.replace(secret.as_str(), MARK)) } else { text }
    })
}

/// Whether a field of this name holds a secret whatever its value looks like.
pub fn is_secret(field: &str) -> bool {
    field == "key"
        || field.ends_with("_key")
        || ["secret", "password", "token", "authorization", "signature"].iter().any(|word| field.contains(word))
}

fn by_shape(text: &str) -> Cow<'_, str> {
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while at < text.len() {
        let Some((kept, hidden)) = secret_at(&text.as_bytes()[at..]) else {
            at += 1;
            continue;
        };
        // What is shown is ASCII, and no run ends within a character, so these are borders of characters.
        out.push_str(&text[copied..at + kept]);
        out.push_str(MARK);
        at += kept + hidden;
        copied = at;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Whether a secret begins here: how many bytes of it may be shown, and how many after them not.
fn secret_at(rest: &[u8]) -> Option<(usize, usize)> {
    let (shown, hidden) = match rest.first()? {
        b'c' | b's' | b'w' => {
            let prefix = PREFIXES.iter().find(|prefix| rest.starts_with(prefix.as_bytes()))?;
            (prefix.len(), run(&rest[prefix.len()..], |b| b.is_ascii_alphanumeric() || b"_-+/=".contains(&b)))
        }
        b'b' | b'B' => {
            let scheme = SCHEMES.iter().find(|scheme| {
                rest.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
            })?;
            (scheme.len(), run(&rest[scheme.len()..], of_word))
        }
        // `scheme://user:password@host`
        b':' if rest.starts_with(b"://") => {
            let authority = run(&rest[3..], |b| of_word(b) && !b"/?#".contains(&b));
            (3, rest[3..3 + authority].iter().rposition(|b| *b == b'@')?)
        }
        // `?name=value&..`
        b'?' => {
            let name = run(&rest[1..], |b| b.is_ascii_alphanumeric() || b"_-.%".contains(&b));
            if name == 0 || rest.get(1 + name) != Some(&b'=') {
                return None;
            }
            (1, run(&rest[1..], of_word))
        }
        _ => return None,
    };
    (hidden > 0).then_some((shown, hidden))
}

/// What an address or a token consists of.
fn of_word(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && !byte.is_ascii_control() && !b"\"'`\\<>(){},;".contains(&byte)
}

fn run(bytes: &[u8], of: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|b| !of(*b)).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_credentials_are_hidden_and_the_rest_is_not() {
        let lines = [
            ("made crest_sk_abcDEF123 for it", "made crest_sk_… for it"),
            ("rtmp://h:1935/live/sk_live_abc123", "rtmp://h:1935/live/sk_live_…"),
            ("\"whsec_ab+c/d==\", and more", "\"whsec_…\", and more"),
            ("Authorization: Bearer not-a-key, Accept: */*", "Authorization: Bearer …, Accept: */*"),
            (r#"{\"authorization\": \"bearer x1\"}"#, r#"{\"authorization\": \"bearer …\"}"#),
            ("Basic dXNlcjpwYXNz", "Basic …"),
            ("https://user:pa@ss@example.org/a/b?token=1&b=2 failed", "https://…@example.org/a/b?… failed"),
            ("http://example.org:8080/hook", "http://example.org:8080/hook"),
            ("really? yes = no", "really? yes = no"),
            ("GET /v1/streams?api_key=abc", "GET /v1/streams?…"),
            ("keys begin with crest_sk_", "keys begin with crest_sk_"),
            ("größer, Bearer schlüssel ü", "größer, Bearer … ü"),
            ("crest_sk_acrest_sk_b whsec_", "crest_sk_… whsec_"),
            ("", ""),
        ];
        for (line, shown) in lines {
            assert_eq!(redact(line), shown);
        }
    }

    #[test]
    fn a_secret_without_a_shape_is_hidden_once_it_is_known() {
        assert_eq!(redact("it is correct-horse-battery"), "it is correct-horse-battery");
        hide("correct-horse-battery");
        hide("abc");
        assert_eq!(redact("it is correct-horse-battery, abc"), "it is …, abc");
    }

    #[test]
    fn fields_with_the_name_of_a_secret_are_known() {
        for name in ["key", "api_key", "stream_key", "secret", "authorization", "access_token"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["stream_id", "keyframes", "monkey", "reason", "message"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
