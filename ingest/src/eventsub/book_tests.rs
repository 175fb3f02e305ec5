#![allow(clippy::unwrap_used)]

use super::*;

const REFUSED: Duration = Duration::from_secs(300);

fn wanted(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Answers what is asked as Twitch would: all channels exist, none is live, each subscription costs one of `most`.
fn answer(book: &mut Book, task: Task, cost: &mut u64, most: u64, now: Instant) -> News {
    let done = match task {
        Task::Users(names) => {
            let found = names.iter().map(|name| (name.clone(), format!("id-{name}"))).collect();
            Done::Users(names, Ok(found))
        }
        Task::Look(names) => Done::Look(names, Ok(HashSet::new())),
        Task::Subscribe { channel, user, kind } => {
            assert_eq!(user, format!("id-{channel}"));
            *cost += 1;
            let id = format!("{channel}-{kind:?}");
            Done::Subscribed(channel, kind, Ok(Subscribed { id, cost: *cost, most }))
        }
        Task::Unsubscribe(_) => {
            *cost -= 1;
            Done::Unsubscribed
        }
    };
    book.learn(done, now).unwrap()
}

/// Everything that is asked until nothing is left to ask.
fn asked(book: &mut Book, wanted: &BTreeSet<String>, cost: &mut u64, most: u64, now: Instant) -> Vec<Task> {
    let mut all = Vec::new();
    while let Some(task) = book.next(wanted, now) {
        all.push(task.clone());
        answer(book, task, cost, most, now);
        assert!(all.len() < 1000, "asked for ever: {:?}", &all[990..]);
    }
    all
}

fn subscribed(tasks: &[Task]) -> Vec<String> {
    let of = |task: &Task| match task {
        Task::Subscribe { channel, kind, .. } => Some(format!("{channel} {kind:?}")),
        _ => None,
    };
    tasks.iter().filter_map(of).collect()
}

#[test]
fn a_channel_is_named_subscribed_and_asked_about_and_left_again() {
    let (mut book, mut cost, now) = (Book::new(REFUSED), 0, Instant::now());
    let tasks = asked(&mut book, &wanted(&["a", "b"]), &mut cost, 10, now);
    assert_eq!(subscribed(&tasks), ["a Online", "b Online", "a Offline", "b Offline"]);
    let looked = tasks.iter().position(|task| matches!(task, Task::Look(names) if names.len() == 2)).unwrap();
    assert!(looked > 2, "asked about after it is told of: nothing falls between");
    assert_eq!(book.channel_of("id-b"), Some("b"));
    let left = asked(&mut book, &wanted(&["a"]), &mut cost, 10, now);
    let left: BTreeSet<_> = left.iter().map(|task| format!("{task:?}")).collect();
    assert_eq!(left, ["Unsubscribe(\"b-Offline\")", "Unsubscribe(\"b-Online\")"].map(str::to_owned).into());
    assert_eq!(cost, 2);
}

#[test]
fn subscriptions_stay_within_what_twitch_allows_and_the_rest_is_asked_about() {
    let (mut book, mut cost, now) = (Book::new(REFUSED), 0, Instant::now());
    let names: Vec<String> = (0..150).map(|number| format!("c{number:03}")).collect();
    let all: BTreeSet<String> = names.iter().cloned().collect();
    let tasks = asked(&mut book, &all, &mut cost, 10, now);
    assert_eq!(subscribed(&tasks).len(), 10, "the cost");
    let looked = tasks.iter().filter_map(|task| if let Task::Look(names) = task { Some(names.len()) } else { None });
    assert_eq!(looked.collect::<Vec<_>>(), [100, 50]);
    // Once one is left, another takes its room.
    let fewer: BTreeSet<String> = names[1..].iter().cloned().collect();
    assert_eq!(subscribed(&asked(&mut book, &fewer, &mut cost, 10, now)), ["c010 Online"]);
    let (mut book, mut cost) = (Book::new(REFUSED), 0);
    let many: BTreeSet<String> = (0..400).map(|number| format!("c{number}")).collect();
    assert_eq!(subscribed(&asked(&mut book, &many, &mut cost, 10_000, now)).len(), 300, "a connection's");
}

#[test]
fn what_is_refused_is_asked_for_again_after_a_while() {
    let (mut book, now) = (Book::new(REFUSED), Instant::now());
    let one = wanted(&["a"]);
    let Some(Task::Users(asked)) = book.next(&one, now) else { panic!() };
    assert_eq!(book.learn(Done::Users(asked, Ok(HashMap::new())), now).unwrap(), News::None);
    assert_eq!(book.next(&one, now), None, "there is no such channel, live or not");
    assert!(matches!(book.next(&one, now + REFUSED), Some(Task::Users(_))));
    let found = HashMap::from([("a".to_owned(), "7".to_owned())]);
    book.learn(Done::Users(vec!["a".to_owned()], Ok(found)), now).unwrap();
    let full = || Err(Refusal::Full("429".to_owned()));
    book.learn(Done::Subscribed("a".to_owned(), Kind::Online, full()), now).unwrap();
    assert!(matches!(book.next(&one, now), Some(Task::Look(_))));
    assert_eq!(book.next(&one, now), None);
    assert!(matches!(book.next(&one, now + REFUSED), Some(Task::Subscribe { kind: Kind::Online, .. })));
    let made = Subscribed { id: "s".to_owned(), cost: 1, most: 10 };
    let done = Done::Subscribed("a".to_owned(), Kind::Online, Ok(made));
    assert_eq!(book.learn(done, now).unwrap(), News::Watched("a".to_owned()));
    assert_eq!(book.revoked("s", now), Some("a".to_owned()));
    assert_eq!(book.revoked("s", now), None);
    let token = Err(Refusal::Token("401".to_owned()));
    assert!(book.learn(Done::Look(vec!["a".to_owned()], token), now).is_err());
}

#[test]
fn one_name_that_twitch_does_not_take_is_found_and_the_others_are_asked_for() {
    let (mut book, now) = (Book::new(REFUSED), Instant::now());
    let names: Vec<String> = (0..50).map(|number| format!("c{number:02}")).collect();
    let all: BTreeSet<String> = names.iter().cloned().collect();
    let wrong = |names: &[String]| names.iter().any(|name| name == "c17");
    let (mut cost, mut tries, mut looked) = (0, 0, 0);
    while let Some(task) = book.next(&all, now) {
        tries += 1;
        assert!(tries < 200, "asked for ever");
        match task {
            Task::Users(names) if wrong(&names) => {
                let refusal = Refusal::Wrong("400".to_owned());
                assert_eq!(book.learn(Done::Users(names, Err(refusal)), now), Ok(News::None));
            }
            Task::Look(names) => {
                looked += names.len();
                answer(&mut book, Task::Look(names), &mut cost, 10, now);
            }
            task => drop(answer(&mut book, task, &mut cost, 10, now)),
        }
    }
    assert_eq!((cost, looked), (10, 49), "all others are subscribed to, or looked at");
    assert!(matches!(book.next(&all, now + REFUSED), Some(Task::Users(names)) if names == ["c17"]));
}

#[test]
fn a_channel_going_live_comes_before_another_going_away() {
    let (mut book, mut cost, now) = (Book::new(REFUSED), 0, Instant::now());
    let tasks = asked(&mut book, &wanted(&["a", "b"]), &mut cost, 4, now);
    assert_eq!(subscribed(&tasks), ["a Online", "b Online"], "no room for as many again");
    let tasks = asked(&mut book, &wanted(&["a"]), &mut cost, 4, now);
    assert_eq!(subscribed(&tasks), ["a Offline"]);
    let tasks = asked(&mut book, &wanted(&["a", "b", "c", "d"]), &mut cost, 4, now);
    assert_eq!(subscribed(&tasks), ["b Online", "c Online", "d Online"]);
    assert!(tasks.contains(&Task::Unsubscribe("a-Offline".to_owned())));
    assert_eq!(cost, 4);
    // What Twitch ended costs nothing any more.
    assert_eq!(book.revoked("b-Online", now), Some("b".to_owned()));
    cost -= 1;
    let tasks = asked(&mut book, &wanted(&["a", "b", "c", "d", "e"]), &mut cost, 4, now);
    assert_eq!(subscribed(&tasks), ["e Online"]);
}

#[test]
fn names_and_refusals_outlast_a_session_and_subscriptions_do_not() {
    let (mut book, mut cost, now) = (Book::new(REFUSED), 0, Instant::now());
    asked(&mut book, &wanted(&["a", "b"]), &mut cost, 10, now);
    assert_eq!(book.revoked("b-Online", now), Some("b".to_owned()));
    book.learn(Done::Subscribed("a".to_owned(), Kind::Offline, Err(Refusal::Full("429".to_owned()))), now).unwrap();
    assert!(book.is_subscribed() && book.again(now) == Some(now + REFUSED));
    // Those of the session that is over make room.
    book.session_over(Instant::now());
    assert!(!book.is_subscribed());
    let mut cost = 0;
    let tasks = asked(&mut book, &wanted(&["a", "b"]), &mut cost, 10, now);
    assert_eq!(subscribed(&tasks), ["a Online", "a Offline"], "the other was taken back a moment ago");
    assert!(!tasks.iter().any(|task| matches!(task, Task::Users(_))), "{tasks:?}");
    // Where it had none, there is no more room than before; and whom nobody waits for is forgotten.
    let mut book = Book::new(REFUSED);
    assert!(matches!(book.next(&wanted(&["a"]), now), Some(Task::Users(_))));
    let found = HashMap::from([("a".to_owned(), "7".to_owned())]);
    book.learn(Done::Users(vec!["a".to_owned()], Ok(found)), now).unwrap();
    book.learn(Done::Subscribed("a".to_owned(), Kind::Online, Err(Refusal::Full("429".to_owned()))), now).unwrap();
    book.session_over(Instant::now());
    book.look_at_all();
    assert_eq!(book.next(&wanted(&["a"]), now), Some(Task::Look(vec!["a".to_owned()])));
    assert_eq!((book.next(&wanted(&["a"]), now), book.again(now)), (None, Some(now + REFUSED)));
    assert!(book.next(&wanted(&["a"]), now + REFUSED).is_some_and(|task| task.needs_session()));
    assert_eq!(book.next(&wanted(&[]), now), None);
    assert!(matches!(book.next(&wanted(&["a"]), now), Some(Task::Users(_))));
}

#[test]
fn what_the_last_session_had_is_still_counted_for_a_while() {
    let (mut book, mut cost, now) = (Book::new(REFUSED), 0, Instant::now());
    asked(&mut book, &wanted(&["a"]), &mut cost, 10, now);
    book.session_over(now);
    let full = |book: &mut Book, now: Instant| {
        let refused = Err(Refusal::Full("429".to_owned()));
        book.learn(Done::Subscribed("a".to_owned(), Kind::Online, refused), now).unwrap();
        book.again(now)
    };
    assert_eq!(full(&mut book, now), Some(now + LINGERING_PAUSE));
    let later = now + LINGERING;
    assert_eq!(full(&mut book, later), Some(later + REFUSED));
}

#[test]
fn a_name_whose_id_was_refused_is_looked_up_anew() {
    let (mut book, all, now) = (Book::new(REFUSED), wanted(&["a"]), Instant::now());
    let is = |id: &str| Ok(HashMap::from([("a".to_owned(), id.to_owned())]));
    assert!(matches!(book.next(&all, now), Some(Task::Users(_))));
    book.learn(Done::Users(vec!["a".to_owned()], is("7")), now).unwrap();
    let wrong = Err(Refusal::Wrong("404".to_owned()));
    book.learn(Done::Subscribed("a".to_owned(), Kind::Online, wrong), now).unwrap();
    assert_eq!(book.next(&all, now), Some(Task::Look(vec!["a".to_owned()])), "it is asked about meanwhile");
    let later = now + REFUSED;
    assert_eq!(book.next(&all, later), Some(Task::Users(vec!["a".to_owned()])));
    book.learn(Done::Users(vec!["a".to_owned()], is("8")), later).unwrap();
    assert!(matches!(book.next(&all, later), Some(Task::Subscribe { user, .. }) if user == "8"));
}
