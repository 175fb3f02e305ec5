//! Entrances for `fuzz/`: what must hold of headers, access units and segment files, whatever their bytes.

mod containers;
mod headers;
mod segments;

pub use containers::container;
pub use headers::{access_unit, decoder_config, sps};
pub use segments::{segment_file, segmenter};

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder of one run, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("crest-fuzz-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(path)
    }
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::{replay, seed};

    #[test]
    fn kept_inputs_pass() {
        replay("sps", super::sps);
        replay("decoder_config", super::decoder_config);
        replay("access_unit", super::access_unit);
        replay("segment_file", super::segment_file);
        replay("segmenter", super::segmenter);
        replay("container", super::container);
    }

    #[test]
    fn damaged_containers_are_survived() {
        let (_, file) = super::segments::stored();
        let adts: Vec<u8> =
            (0..40_u8).flat_map(|at| [&[0xff, 0xf1, 0x4c, 0x40, 0x02, 0x1f, 0xfc][..], &[at; 9]].concat()).collect();
        for (kind, data) in [(1, &file[..]), (2, &adts)] {
            let whole = [&[kind + 30][..], data].concat();
            seed("container", &format!("whole-{kind}"), &whole, super::container);
            for at in (1..whole.len()).step_by(13) {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x91;
                super::container(&damaged);
            }
        }
    }

    #[test]
    fn a_stored_file_passes_whole_cut_and_damaged() {
        let (index, file) = super::segments::stored();
        let whole = [&index[..], &file].concat();
        seed("segment_file", "whole", &whole, super::segment_file);
        seed("segment_file", "cut", &whole[..whole.len() - 40], super::segment_file);
        for at in (6..whole.len()).step_by(17) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x81;
            super::segment_file(&damaged);
        }
    }
}
