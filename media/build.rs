//! Compiles `src/decode/libav.c` against the headers of the libraries that it uses.

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
    }
    shim.compile("crest_libav");
}
