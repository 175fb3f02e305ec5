//! Replays the kept inputs of a fuzz target in the ordinary tests. Included by the `fuzzing` module of
//! each crate that has targets.

// Not every crate makes seeds.
#![allow(dead_code)]

use std::path::Path;

/// Runs everything in `fuzz/corpus/<target>` and `fuzz/findings/<target>` through `entrance`. What fails
/// is named before the panic goes on.
pub fn replay(target: &str, entrance: fn(&[u8])) {
    // Every crate lies one folder below the root.
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = if crates.join("fuzz").is_dir() { crates } else { crates.parent().unwrap_or(crates) };
    let mut count = 0;
    for kind in ["corpus", "findings"] {
        let folder = root.join("fuzz").join(kind).join(target);
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let input = std::fs::read(entry.path()).unwrap_or_else(|e| panic!("{}: {e}", entry.path().display()));
            let named = Named(entry.path().display().to_string());
            entrance(&input);
            std::mem::forget(named);
            count += 1;
        }
    }
    assert!(count > 0, "no inputs for {target} below {}", root.join("fuzz").display());
}

/// Runs an input that the test made; with `CREST_FUZZ_SEEDS=FOLDER` it is written there too, as a seed.
pub fn seed(target: &str, name: &str, input: &[u8], entrance: fn(&[u8])) {
    entrance(input);
    if let Some(folder) = std::env::var_os("CREST_FUZZ_SEEDS") {
        let folder = Path::new(&folder).join(target);
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(name), input));
        written.unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    }
}

/// Says which input it was, when the stack unwinds.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        eprintln!("this input fails: {}", self.0);
    }
}
