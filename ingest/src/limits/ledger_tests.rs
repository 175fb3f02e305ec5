//! What is given back, to whom, and who is refused.

use super::*;
use crest_core::units::Span;
use proptest::prelude::*;

fn tenant(name: &str) -> OrganizationId {
    OrganizationId::from_raw(name)
}

fn config() -> LimitsConfig {
    LimitsConfig {
        feeds: 3,
        pixels_per_second: 100,
        bits_per_second: 100,
        tenant_feeds: 2,
        tenant_pixels_per_second: 60,
        tenant_bits_per_second: 60,
        ..LimitsConfig::default()
    }
}

fn cause<T>(result: Result<T, Excess>) -> Option<&'static str> {
    result.err().map(|excess| excess.limit)
}

#[test]
fn places_are_counted_per_tenant_and_for_all_and_the_operator_has_no_quota() {
    let ledger = Ledger::new(config());
    let (a, b) = (tenant("org_a"), tenant("org_b"));
    let first = ledger.admit(Some(&a)).unwrap();
    let second = ledger.admit(Some(&a)).unwrap();
    let refused = ledger.admit(Some(&a)).unwrap_err();
    assert!(refused.reason.contains("limits.tenant_feeds"), "{refused:?}");
    let third = ledger.admit(Some(&b)).unwrap();
    assert_eq!(cause(ledger.admit(Some(&b))), Some("feeds"), "the machine is full");
    drop((first, second));
    let operators: Vec<_> = (0..2).map(|_| ledger.admit(None).unwrap()).collect();
    assert_eq!(cause(ledger.admit(None)), Some("feeds"), "the machine's limits are the operator's too");
    drop((operators, third));
    assert_eq!(ledger.lock().all, Taken::default());
    assert!(ledger.lock().tenants.is_empty(), "tenants without feeds are forgotten");
}

#[test]
fn a_claim_is_refused_to_the_one_that_makes_it() {
    let ledger = Ledger::new(config());
    let (a, b) = (tenant("org_a"), tenant("org_b"));
    let mut one = ledger.admit(Some(&a)).unwrap();
    let mut other = ledger.admit(Some(&b)).unwrap();
    let rate = |pixels, bits| Rate { pixels, bits };
    one.claim(rate(50, 10)).unwrap();
    assert_eq!(cause(one.claim(rate(61, 10))), Some("tenant_pixels_per_second"));
    assert_eq!(one.rate(), rate(50, 10), "it keeps what it has");
    assert_eq!(cause(other.claim(rate(51, 10))), Some("pixels_per_second"));
    other.claim(rate(50, 60)).unwrap();
    assert_eq!(cause(one.claim(rate(50, 41))), Some("bits_per_second"));
    // Nothing is left to show a newcomer.
    assert_eq!(cause(ledger.admit(Some(&a))), Some("pixels_per_second"));
    one.claim(rate(5, 5)).unwrap();
    drop(other);
    one.claim(rate(60, 60)).unwrap();
}

#[test]
fn whoever_was_cut_off_waits_and_reads_why() {
    let stream = StreamId::from_raw("str_a");
    let ledger = Ledger::new(config());
    ledger.note_cut_off(&stream, &Excess::new("feed_bits_per_second", "too much"));
    let refused = ledger.may_return(&stream).unwrap_err();
    assert!(refused.reason.starts_with("too much") && refused.reason.contains("limits.pause"), "{refused:?}");
    assert!(ledger.may_return(&StreamId::from_raw("str_b")).is_ok());
    let forgiving = Ledger::new(LimitsConfig { pause: Span(std::time::Duration::ZERO), ..config() });
    forgiving.note_cut_off(&stream, &Excess::new("feed_bits_per_second", "too much"));
    assert!(forgiving.may_return(&stream).is_ok());
    for n in 0..MOST + 5 {
        ledger.note_cut_off(&StreamId::from_raw(format!("str_{n}")), &Excess::new("feed_bits_per_second", ""));
    }
    assert_eq!(ledger.lock().cut_off.len(), MOST, "what is remembered is bounded");
}

proptest! {
    /// Whatever is admitted, claimed and dropped in whatever order: no limit is passed, and at the end nothing is
    /// taken.
    #[test]
    fn the_books_balance(steps in prop::collection::vec((0..4_usize, 0..4_usize, 0..80_u64, 0..80_u64), 1..100)) {
        let ledger = Ledger::new(config());
        let tenants = [None, Some(tenant("org_a")), Some(tenant("org_b")), Some(tenant("org_c"))];
        let mut permits: Vec<Permit> = Vec::new();
        for (what, which, pixels, bits) in steps {
            match what {
                0 => permits.extend(ledger.admit(tenants[which].as_ref())),
                1 if !permits.is_empty() => drop(permits.swap_remove(which % permits.len())),
                _ => {
                    let at = which % permits.len().max(1);
                    if let Some(permit) = permits.get_mut(at) {
                        let _ = permit.claim(Rate { pixels, bits });
                    }
                }
            }
            let books = ledger.lock();
            let sum = permits.iter().fold((0, 0), |sum, p| (sum.0 + p.rate.pixels, sum.1 + p.rate.bits));
            prop_assert_eq!((books.all.rate.pixels, books.all.rate.bits), sum);
            prop_assert_eq!(books.all.feeds, permits.len());
            prop_assert!(books.all.feeds <= 3 && sum.0 <= 100 && sum.1 <= 100);
            prop_assert!(books.tenants.values().all(|t| t.feeds <= 2 && t.rate.pixels <= 60 && t.rate.bits <= 60));
        }
        permits.clear();
        prop_assert_eq!(ledger.lock().all, Taken::default());
        prop_assert!(ledger.lock().tenants.is_empty());
    }
}
