//! A process that is killed in the middle of its work.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use crest_core::bus::{Bus, Next, SharedBus, Start};

use super::{Home, T, acknowledge_all, append, next, number, subscribe, take};

/// What the child does, and the address of its home.
const TASK: &str = "CREST_TEST_BUS_CHILD";

/// The last record that the child acknowledges.
const ACKNOWLEDGED: u64 = 200;

/// A process of this test binary; it does not outlive the test.
pub struct Running(Child, Lines<BufReader<ChildStdout>>);

impl Running {
    /// Starts it.
    pub fn start<H: Home>(home: &H, task: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", H::CHILD, "--ignored", "--nocapture"])
            .env(TASK, format!("{task} {}", home.address()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self(child, lines)
    }

    /// The number in the next line that begins with this word.
    pub fn says(&mut self, word: &str) -> Option<u64> {
        self.1.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
    }

    /// Kills it, and returns the rest of what it said.
    fn kill(&mut self) -> Vec<String> {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        self.1.by_ref().map_while(Result::ok).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a child process does.
pub fn child<H: Home>() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (task, address) = task.split_once(' ').unwrap();
    let home = H::at(address);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        match task {
            "work" => work(home.open().await).await,
            "idle" => super::bounds::idle(home.open().await).await,
            other => panic!("no such task: {other}"),
        }
    });
}

/// Appends and reads until it is killed.
async fn work(bus: SharedBus) {
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    tokio::spawn(async move {
        for n in 0.. {
            append(&*bus, "a", n..n + 1).await;
            println!("appended {n}");
        }
    });
    loop {
        let Next::Records(records) = next(&mut reader, 10).await else { continue };
        for received in &records {
            println!("handled {}", number(received));
        }
        let (done, _) = records.split_at(records.partition_point(|r| number(r) <= ACKNOWLEDGED));
        acknowledge_all(&mut reader, done).await;
    }
}

pub async fn nothing_is_lost_when_a_process_is_killed(home: &impl Home) {
    let mut child = Running::start(home, "work");
    while child.says("handled").expect("it works") < ACKNOWLEDGED + 50 {}
    let rest = child.kill();
    // The pipe still held what the child said before it died.
    let appended = rest.iter().filter_map(|line| line.strip_prefix("appended ")?.parse().ok()).max();
    let appended: u64 = appended.unwrap_or(0).max(ACKNOWLEDGED + 50);

    let bus = home.open().await;
    append(&*bus, "a", [u64::MAX].into_iter()).await;
    let mut reader = subscribe(&*bus, T, "g", Start::Acknowledged).await;
    let mut again = Vec::new();
    loop {
        match number(&take(&mut reader, 1).await[0]) {
            u64::MAX => break,
            n => again.push(n),
        }
    }
    let first = *again.first().expect("what was not acknowledged comes again");
    assert!(first <= ACKNOWLEDGED + 1, "record {first} is the first to come again");
    let last = *again.last().unwrap();
    assert!(last >= appended, "{appended} was appended, {last} is the last that is there");
    assert_eq!(again, (first..=last).collect::<Vec<_>>());
    let bus: &dyn Bus = &*bus;
    bus.flush().await.unwrap();
}
