//! Which lines have the same cause.
//!
//! The place in the code and the texts are the cause, with everything left out of the texts that is
//! another each time: numbers, ids, addresses, and what is quoted. Then the stream, the endpoint and
//! the organization: two streams that fail are two lines. Sessions, highlights, deliveries, peers and
//! requests are not: they come and go, so that nothing would ever repeat. News of a highlight (`info`)
//! is news each time; trouble with highlights is one cause for each stream.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use tracing::Level;

use super::line::{Line, Value};
use super::throttle::Cause;

/// Fields that are part of the cause as they stand.
const KEPT: [&str; 4] = ["stream_id", "endpoint_id", "organization_id", "status"];

/// Fields that are no part of it.
const PASSING: [&str; 9] =
    ["session", "highlight_id", "webhook_id", "event_id", "job_id", "peer", "path", "request_id", "object"];

/// The cause of a line that comes from `place`.
pub fn cause(random: &RandomState, place: &impl Hash, line: &Line) -> Cause {
    let mut hasher = random.build_hasher();
    place.hash(&mut hasher);
    // Libraries that use `log` have one place for all; their targets tell them apart.
    line.target.hash(&mut hasher);
    let of_place = hasher.finish();
    shape(&line.message, &mut hasher);
    for (name, value) in &line.fields {
        let news = *name == "highlight_id" && line.level == Level::INFO;
        if PASSING.contains(name) && !news {
            continue;
        }
        name.hash(&mut hasher);
        match value {
            Value::Text(text) if news || KEPT.contains(name) => text.hash(&mut hasher),
            Value::Text(text) => shape(text, &mut hasher),
            Value::Bool(yes) => yes.hash(&mut hasher),
            Value::Unsigned(number) if KEPT.contains(name) => number.hash(&mut hasher),
            Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) => {}
        }
    }
    Cause { key: hasher.finish(), place: of_place }
}

/// Hashes a text without what is another each time.
fn shape(text: &str, hasher: &mut impl Hasher) {
    let mut rest = text.chars().peekable();
    let (mut word, mut before) = (String::new(), ' ');
    while let Some(c) = rest.next() {
        let opens = "'\"`".contains(c) && !before.is_alphanumeric();
        before = c;
        if opens {
            // To the end of the quotation, or of the text.
            for quoted in rest.by_ref() {
                if quoted == c {
                    break;
                }
            }
            '#'.hash(hasher);
        } else if in_word(c) {
            word.push(c);
            if rest.peek().is_none_or(|next| !in_word(*next)) {
                let passing = word.contains(|c: char| c.is_ascii_digit());
                if passing {
                    '#'.hash(hasher)
                } else {
                    word.hash(hasher)
                }
                word.clear();
            }
        } else {
            c.hash(hasher);
        }
    }
    0xffu8.hash(hasher);
}

/// Ids, numbers with a fraction and addresses are one word each.
fn in_word(c: char) -> bool {
    c.is_alphanumeric() || "_-.:".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &Line, b: &Line) -> bool {
        let random = RandomState::new();
        cause(&random, &1, a).key == cause(&random, &1, b).key
    }

    fn warn(error: &str) -> Line {
        Line::new(Level::WARN, "crest", "it failed").with("error", error)
    }

    #[test]
    fn numbers_ids_addresses_and_quotations_make_no_other_cause() {
        let pairs = [
            ("no answer from 10.0.0.1:80 in 1.5s", "no answer from 192.168.7.254:65000 in 22.75s"),
            ("no answer from [::1]:80", "no answer from [fe80::7]:9"),
            ("job 0198c2 is gone", "job ab-9f is gone"),
            ("no application 'live'", "no application 'other'"),
            ("unknown field `a b`, expected x", "unknown field `c`, expected x"),
        ];
        for (a, b) in pairs {
            assert!(same(&warn(a), &warn(b)), "{a} / {b}");
        }
        assert!(!same(&warn("no space left"), &warn("permission denied")));
        assert!(!same(&warn("the stream's key is wrong"), &warn("the stream's state is wrong")));
    }

    #[test]
    fn streams_endpoints_organizations_and_states_tell_causes_apart() {
        for name in ["stream_id", "endpoint_id", "organization_id", "state"] {
            let (a, b) = (warn("x").with(name, "ab"), warn("x").with(name, "cd"));
            assert!(!same(&a, &b), "{name}");
        }
        let status = |n| {
            let mut line = warn("x");
            line.fields.push(("status", Value::Unsigned(n)));
            line
        };
        assert!(!same(&status(200), &status(500)));
    }

    #[test]
    fn what_comes_and_goes_makes_no_other_cause_but_news_of_a_highlight_is_news() {
        for name in ["session", "highlight_id", "webhook_id", "peer", "path"] {
            assert!(same(&warn("x").with(name, "ab"), &warn("x").with(name, "cd")), "{name}");
        }
        let news = |id: &str| Line::new(Level::INFO, "crest", "decided").with("highlight_id", id);
        assert!(!same(&news("a1"), &news("a2")));
        assert!(same(&news("a1"), &news("a1")));
    }

    #[test]
    fn another_place_is_another_cause() {
        let (random, line) = (RandomState::new(), warn("x"));
        assert_ne!(cause(&random, &1, &line), cause(&random, &2, &line));
    }
}
