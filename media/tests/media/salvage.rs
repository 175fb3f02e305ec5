//! What a file tells without its index, and what is not whole in it.

use crest_core::segment::Fragment;
use crest_media::{cut, make_durable, remove_unfinished, salvage};
use std::fs;

use crate::support::{Bench, complaints, events, ms, store};

/// Fragments of a feed with pictures out of order and sound, and their file.
fn stored(bench: &Bench) -> (Vec<Fragment>, std::path::PathBuf) {
    let fragments = store(bench.dir.path(), &events(&bench.sample(4, "-bf 2", "in.mp4")));
    let file = bench.dir.path().join(&fragments[0].object);
    assert_eq!(fragments.len(), 4);
    (fragments, file)
}

#[test]
fn a_file_tells_what_the_index_would() {
    let bench = Bench::new();
    let (fragments, _) = stored(&bench);
    let last = &fragments[3];
    for known in 0..4 {
        let from = if known == 0 { 0 } else { fragments[known].offset };
        let found = salvage(bench.dir.path(), &last.object, from).unwrap();
        assert_eq!(found.len(), 4 - known);
        for (found, fragment) in found.iter().zip(&fragments[known..]) {
            // Times went through ticks.
            let near = |a: crest_core::MediaTime, b: crest_core::MediaTime| (a - b).nanos().abs() < 4_000_000;
            assert!(near(found.start, fragment.start) && near(found.end, fragment.end), "{found:?} {fragment:?}");
            assert_eq!(Fragment { start: fragment.start, end: fragment.end, ..found.clone() }, *fragment);
        }
    }
    assert!(salvage(bench.dir.path(), &last.object, last.offset + last.bytes).unwrap().is_empty());
    make_durable(bench.dir.path(), &fragments[0]).unwrap();
    let gone = Fragment { object: "media/org_t/str_t/00001/segment-000009.mp4".into(), ..fragments[0].clone() };
    assert!(make_durable(bench.dir.path(), &gone).is_err());

    let found = salvage(bench.dir.path(), &last.object, 0).unwrap();
    let clip = bench.path("clip.mp4");
    cut(bench.dir.path(), &found, ms(500), ms(3500), &clip).unwrap();
    assert_eq!(complaints(&clip), "");
}

#[test]
fn what_is_cut_short_or_was_never_written_ends_it() {
    let bench = Bench::new();
    let (fragments, file) = stored(&bench);
    let whole = fs::read(&file).unwrap();
    let (third, last) = (&fragments[2], &fragments[3]);
    let ends = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        salvage(bench.dir.path(), &last.object, 0).unwrap().len()
    };
    for cut in [1, 9, last.bytes as usize / 2, last.bytes as usize - 1] {
        assert_eq!(ends(&whole[..whole.len() - cut]), 3, "{cut} bytes are missing");
        let mut zeros = whole.clone();
        zeros[whole.len() - cut..].fill(0);
        assert!(cut < 10 || ends(&zeros) == 3, "{cut} bytes are zeros");
    }
    let mut garbage = whole.clone();
    garbage[third.offset as usize..].fill(0xff);
    assert_eq!(ends(&garbage), 2);
    for header in [0, 1, 20, fragments[0].header_bytes as usize - 1] {
        assert_eq!(ends(&whole[..header]), 0, "{header} bytes of a header");
    }
    assert_eq!(ends(&whole), 4);
}

#[test]
fn unfinished_files_go_and_others_stay() {
    let bench = Bench::new();
    let clips = bench.path("clips");
    assert_eq!(remove_unfinished(&clips).unwrap(), 0, "there is no folder yet");
    fs::create_dir_all(clips.join("org_a")).unwrap();
    for name in ["hl.mp4", ".hl.mp4.77-0.part", ".hl.jpg.77-1.part", "mine.part", ".hidden"] {
        fs::write(clips.join("org_a").join(name), "x").unwrap();
    }
    assert_eq!(remove_unfinished(&clips).unwrap(), 2);
    assert_eq!(fs::read_dir(clips.join("org_a")).unwrap().count(), 3);
}
