//! What fusion decided when this was written, it decides still. A change of these figures is a change of what
//! users are told: it belongs into the changelog, and `STATE_VERSION` rises with it.

use crate::logs::{Shape, Written, broadcast, live, wild};
use crate::{decided, fingerprint};

fn whole(log: &[Written]) -> (usize, u64) {
    let (told, count) = decided(log.iter().map(|(_, batch)| batch));
    (count, fingerprint(told.as_bytes()))
}

#[test]
fn live_sessions() {
    let found: Vec<_> = (0..4).map(|seed| whole(&live(seed, 1, Shape::WHOLE))).collect();
    let known = [
        (24, 11_606_873_305_296_078_296),
        (36, 8_277_656_258_681_093_957),
        (28, 7_463_825_008_412_733_607),
        (32, 6_568_098_831_351_813_888),
    ];
    assert_eq!(found, known);
}

#[test]
fn broadcasts_of_all_shapes() {
    let all: Vec<_> = (0..40).map(|seed| whole(&broadcast(seed))).collect();
    let count = all.iter().map(|one| one.0).sum::<usize>();
    let prints: Vec<u8> = all.iter().flat_map(|one| one.1.to_le_bytes()).collect();
    assert_eq!((count, fingerprint(&prints)), (739, 10_098_585_615_147_470_647));
}

#[test]
fn logs_in_which_anything_stands() {
    let all: Vec<_> = (0..40).map(|seed| whole(&wild(seed, 4000))).collect();
    let count = all.iter().map(|one| one.0).sum::<usize>();
    let prints: Vec<u8> = all.iter().flat_map(|one| one.1.to_le_bytes()).collect();
    assert_eq!((count, fingerprint(&prints)), (4754, 4_088_098_841_178_431_508));
}
