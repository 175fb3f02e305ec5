//! The test broadcast: 76 s of H.264 and AAC with two moments in them, made by ffmpeg. Quiet play is a
//! test pattern and low noise; a moment is faster motion, hard cuts and bursts of loud noise.

use anyhow::{Context, Result};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use tokio::sync::OnceCell;

use crate::harness::succeed;

/// First and last second of each moment.
pub const MOMENTS: [(f64, f64); 2] = [(30.0, 38.0), (54.0, 62.0)];
/// Seconds of the whole.
pub const LENGTH: f64 = 76.0;

/// The broadcast as a file.
pub async fn file() -> Result<&'static Path> {
    static MADE: OnceCell<PathBuf> = OnceCell::const_new();
    MADE.get_or_try_init(make).await.map(PathBuf::as_path)
}

/// Kept between runs under a name that changes with the recipe.
async fn make() -> Result<PathBuf> {
    let moment = MOMENTS.map(|(from, to)| format!("between(t,{from},{to})")).join("+");
    let filter = format!(
        "[0:v][1:v]overlay=enable='{moment}',negate=enable='({moment})*lt(mod(t,1.4),0.7)',format=yuv420p[v];\
         [3:a]volume='if({moment},0.35+0.65*gt(sin(19*t),0),0)':eval=frame[loud];\
         [2:a][loud]amix=inputs=2:normalize=0[a]"
    );
    let inputs = [
        format!("testsrc2=size=640x360:rate=30:duration={LENGTH}"),
        "life=size=160x90:rate=30:ratio=0.3:mold=8:seed=5:life_color=orange:death_color=navy,scale=640:360:flags=neighbor"
            .to_owned(),
        format!("anoisesrc=color=pink:amplitude=0.02:sample_rate=48000:seed=1:duration={LENGTH}"),
        "anoisesrc=color=white:amplitude=0.5:sample_rate=48000:seed=2".to_owned(),
    ];
    let mut args: Vec<String> = ["-nostdin", "-v", "error", "-y"].map(str::to_owned).into();
    for input in inputs {
        args.extend(["-f".into(), "lavfi".into(), "-i".into(), input]);
    }
    args.extend(["-filter_complex".into(), filter, "-t".into(), LENGTH.to_string()]);
    let encoding = "-map [v] -map [a] -c:v libx264 -preset veryfast -bf 2 -g 60 -crf 27 -c:a aac -b:a 128k -f mp4";
    args.extend(encoding.split(' ').map(str::to_owned));

    let mut recipe = DefaultHasher::new();
    args.hash(&mut recipe);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("broadcast-{:016x}.mp4", recipe.finish()));
    if !path.exists() {
        std::fs::create_dir_all(folder)?;
        let unfinished = path.with_extension(format!("{}", std::process::id()));
        args.push(unfinished.display().to_string());
        succeed("ffmpeg", &args).await.context("making the test broadcast")?;
        std::fs::rename(&unfinished, &path)?;
    }
    Ok(path)
}
