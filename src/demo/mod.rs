//! x
#![allow(dead_code)]
mod api; mod chat; mod console; mod publish; mod receiver; mod rng; mod script; mod server; mod synth;
pub async fn make_only(seed: u64, out: std::path::PathBuf) -> anyhow::Result<()> {
    std::fs::create_dir_all(&out)?;
    let s = script::Script::of(seed);
    println!("{s:#?}");
    let c = console::Console::default();
    let t = std::time::Instant::now();
    synth::make(&s, &out.join("broadcast.mp4"), &c.progress(1, "making")).await?;
    println!("{:?}", t.elapsed());
    chat::write(&chat::lines(&s), &out.join("chat.jsonl"))
}
