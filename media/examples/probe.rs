fn main() {
    let mut r = crest_media::FileReader::open(&std::env::args().nth(1).unwrap()).unwrap();
    println!("dur {:?}", r.duration());
    while let Some(e) = r.next_event().unwrap() {
        match e { crest_core::codec::MediaEvent::Video(p) => println!("V {} {} {} {}", p.pts, p.dts, p.keyframe, p.data.len()),
         crest_core::codec::MediaEvent::Audio(p) => println!("A {} {} {}", p.pts, p.dts, p.data.len()), o => println!("{o:?}") }
    }
    println!("{:?}", r.notes());
}
