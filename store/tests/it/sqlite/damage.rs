//! A loss of power in the middle of a write, and a file that is damaged for good.

use std::fs;
use std::path::Path;

use crest_core::store::Tenants;
use crest_store::SqliteStore;

use super::world::{NOW, World};

type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);

/// Copies the database as it lies there, and damages the copy's log.
fn copy(from: &Path, to: &Path, damage: impl Fn(&mut Vec<u8>)) {
    fs::copy(from.join("crest.db"), to.join("crest.db")).unwrap();
    let mut log = fs::read(from.join("crest.db-wal")).unwrap();
    damage(&mut log);
    fs::write(to.join("crest.db-wal"), log).unwrap();
}

/// How many of the tenants are there that were made one after the other.
async fn tenants(store: &SqliteStore, of: usize) -> usize {
    let mut found = Vec::new();
    for n in 0..of {
        found.push(store.organization_of_key(&format!("crest_sk_{n}")).await.unwrap().is_some());
    }
    let there = found.iter().filter(|there| **there).count();
    assert!(found[..there].iter().all(|there| *there), "a commit is missing in the middle: {found:?}");
    there
}

#[tokio::test]
async fn whatever_the_end_of_the_log_looks_like_what_was_committed_before_it_is_there() {
    const COMMITS: usize = 6;
    let world = World::new().await;
    let mut ends = Vec::new();
    for n in 0..COMMITS {
        world.store.create_organization("tenant", &format!("crest_sk_{n}"), NOW).await.unwrap();
        ends.push(fs::metadata(world.home.folder.path().join("crest.db-wal")).unwrap().len() as usize);
    }
    let last = ends[COMMITS - 1];
    for at in (ends[0]..last).step_by((last - ends[0]) / 7).chain([last - 1, last - 2000]) {
        let before = ends.iter().filter(|end| **end <= at).count();
        for (how, damage) in [
            ("cut off", (|log, at| log.truncate(at)) as fn(&mut Vec<u8>, usize)),
            ("zeros", |log, at| log[at..].fill(0)),
            ("a flipped bit", |log, at| log[at] ^= 4),
        ] {
            let folder = tempfile::tempdir().unwrap();
            copy(world.home.folder.path(), folder.path(), |log| damage(log, at));
            let store = SqliteStore::open(&folder.path().join("crest.db")).await.unwrap();
            assert_eq!(tenants(&store, COMMITS).await, before, "{how} at {at} of {ends:?}");
            store.create_organization("later", "crest_sk_later", NOW).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_what_to_do() {
    let world = World::new().await;
    world.store.close().await;
    let path = world.home.folder.path().join("crest.db");
    let whole = fs::read(&path).unwrap();
    let page = |n: usize| n * 4096..(n + 1) * 4096;
    let damages: [(&str, Damage<'_>); 4] = [
        ("no database", &|file| file[..4096].fill(b'x')),
        ("a page of something else", &|file| file[page(3)].fill(0x5a)),
        ("a page of zeros", &|file| file[page(2)].fill(0)),
        ("cut in the middle", &|file| file.truncate(file.len() / 2 / 4096 * 4096)),
    ];
    for (how, damage) in damages {
        let mut file = whole.clone();
        damage(&mut file);
        fs::write(&path, &file).unwrap();
        let Err(error) = SqliteStore::open(&path).await else { panic!("{how}: it was opened") };
        assert!(error.message.contains("damaged") && error.message.contains("backup"), "{how}: {error}");
        assert!(error.message.contains("crest doctor"), "{how}: {error}");
        assert_eq!(fs::read(&path).unwrap(), file, "{how}: it was changed");
    }
    fs::write(&path, whole).unwrap();
    SqliteStore::open(&path).await.unwrap();
}
