//! Numbers from a seed: the whole course of a test follows from it.

/// Splitmix64.
pub struct Seed {
    state: u64,
    /// How to run the same course again.
    pub told: String,
}

impl Seed {
    /// `CREST_TEST_SEED`, or the present; it is printed.
    pub fn new() -> Self {
        let given = std::env::var("CREST_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond().unsigned_abs());
        let told = format!("CREST_TEST_SEED={seed}");
        println!("{told}");
        Self { state: seed, told }
    }

    /// The next number, from 0 to below this.
    pub fn draw(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}
