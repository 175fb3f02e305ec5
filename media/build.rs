//! Compiles `src/decode/libav.c` against the headers of the libraries that it uses.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=src/decode/libav.c");
    let mut shim = cc::Build::new();
    shim.file("src/decode/libav.c").std("c11").warnings(true).extra_warnings(true).opt_level(2);
    for library in ["libavcodec", "libswscale", "libavutil"] {
        match pkg_config::Config::new().probe(library) {
            Ok(found) => {
                shim.includes(found.include_paths);
            }
            Err(e) => panic!("{library} and its headers are needed (Debian: {library}-dev; `make setup`): {e}"),
        }
        // Another release has other layouts: what was compiled against the one before is of no use.
        let headers = pkg_config::get_variable(library, "includedir").unwrap_or_default();
        for version in ["version.h", "version_major.h"] {
            let header = Path::new(&headers).join(library).join(version);
            if header.exists() {
                println!("cargo::rerun-if-changed={}", header.display());
            }
        }
    }
    shim.compile("crest_libav");
}
