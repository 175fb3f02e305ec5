use crest_media::*; use crest_core::*; use std::path::Path;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let root = Path::new("/tmp/w/media/root"); let _ = std::fs::remove_dir_all(root);
    let mut r = FileReader::open(&a[1]).unwrap();
    let mut s = Segmenter::new(root, OrganizationId::from_raw("org_a"), StreamId::from_raw("str_a"), Session::new(1), SegmenterConfig::default());
    let mut f = vec![];
    while let Some(e) = r.next_event().unwrap() { f.extend(s.push(&e).unwrap()); }
    f.extend(s.finish().unwrap());
    for x in &f { println!("{} {} {} {} {} {}", x.object, x.offset, x.bytes, x.start, x.end, x.keyframe); }
    let t = |i: usize| MediaTime::from_secs_f64(a[i].parse().unwrap());
    println!("{:?}", cut(root, &f, t(2), t(3), Path::new("/tmp/w/media/clip.mp4")));
    println!("{:?}", thumbnail(root, &f, t(2), Path::new("/tmp/w/media/clip.jpg")));
}
