//! What any home must do.

use super::{listed, noise, part, s3, whole};
use bytes::Bytes;
use crest_core::Fault;
use crest_core::objects::{Method, Objects, SharedObjects};
use crest_store::objects::{StorageConfig, open};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

fn folder(root: &Path) -> SharedObjects {
    open(&StorageConfig::default(), root).unwrap()
}

#[tokio::test]
async fn a_folder_keeps_the_rules() {
    let root = tempfile::tempdir().unwrap();
    let objects = folder(root.path());
    assert_eq!(objects.folder(), Some(root.path()));
    holds(&*objects).await;
    assert_eq!(objects.signed_url("clips/org_a/hl_a.mp4", Method::Get, Duration::from_secs(60)).await, Ok(None));
}

#[tokio::test]
async fn a_bucket_keeps_the_rules() {
    let objects = s3();
    assert_eq!(objects.folder(), None);
    holds(&*objects).await;
}

async fn holds(objects: &dyn Objects) {
    objects.ping().await.unwrap();
    let key = "media/org_a/str_a/00001/segment-000000.mp4";
    assert_eq!(objects.size(key).await, Ok(None));
    assert_eq!(whole(objects, key).await.unwrap_err().fault, Fault::NotFound);
    objects.delete(key).await.unwrap();
    assert!(listed(objects, "media").await.is_empty());

    objects.put(key, Bytes::from_static(b"0123456789")).await.unwrap();
    assert_eq!(objects.size(key).await, Ok(Some(10)));
    assert_eq!(whole(objects, key).await.unwrap(), b"0123456789");
    assert_eq!(part(objects, key, 3..7).await.unwrap(), b"3456");
    assert_eq!(part(objects, key, 9..10).await.unwrap(), b"9");
    assert!(part(objects, key, 4..4).await.unwrap().is_empty());
    for beyond in [5..11, 10..11, 100..200] {
        let error = part(objects, key, beyond.clone()).await.unwrap_err();
        assert_eq!(error.fault, Fault::NotFound, "{beyond:?}: {error}");
    }

    objects.put(key, Bytes::from_static(b"another")).await.unwrap();
    assert_eq!(whole(objects, key).await.unwrap(), b"another", "replaced");
    objects.put("claims/signals/1", Bytes::new()).await.unwrap();
    assert_eq!(objects.size("claims/signals/1").await, Ok(Some(0)));

    // A file, small and in several parts, the last of them short.
    let files = tempfile::tempdir().unwrap();
    for (name, bytes) in [("small", noise(100_000)), ("large", noise((12 << 20) + 12_345)), ("none", Vec::new())] {
        let (file, key) = (files.path().join(name), format!("clips/org_a/{name}.mp4"));
        fs::write(&file, &bytes).unwrap();
        objects.put_file(&key, &file).await.unwrap();
        assert!(file.exists(), "it is copied");
        assert_eq!(objects.size(&key).await, Ok(Some(bytes.len() as u64)));
        if !bytes.is_empty() {
            assert!(whole(objects, &key).await.unwrap() == bytes, "{name} came back differently");
        }
    }
    let across = part(objects, "clips/org_a/large.mp4", (5 << 20) - 10..(10 << 20) + 10).await.unwrap();
    assert!(across == noise((10 << 20) + 10)[(5 << 20) - 10..], "a range over parts");
    let missing = objects.put_file("clips/org_a/a.mp4", &files.path().join("missing")).await.unwrap_err();
    assert_eq!(missing.fault, Fault::NotFound);

    let odd = [
        "clips/org_b/a b.jpg",
        "clips/org_b/ä+ö&c=d;e.jpg",
        "clips/org_b/100%25 #1?x=y.jpg",
        "clips/org_b/'\"()[]{}!*~.jpg",
        "clips/org_b/..hidden..jpg",
    ];
    for key in odd {
        objects.put(key, Bytes::copy_from_slice(key.as_bytes())).await.unwrap();
        assert_eq!(whole(objects, key).await.unwrap(), key.as_bytes(), "{key}");
    }
    assert!(
        listed(objects, "clips/org_b").await.keys().eq(odd.iter().copied().collect::<std::collections::BTreeSet<_>>())
    );

    // A prefix is a folder, not the beginning of a name.
    let clips: Vec<_> = listed(objects, "clips/org_a/").await.into_iter().collect();
    let sizes = [("large.mp4", (12 << 20) + 12_345), ("none.mp4", 0), ("small.mp4", 100_000)];
    assert_eq!(clips, sizes.map(|(name, size)| (format!("clips/org_a/{name}"), size)));
    assert!(listed(objects, "clips/org").await.is_empty());
    assert_eq!(listed(objects, "media").await.len(), 1);

    for key in odd {
        objects.delete(key).await.unwrap();
    }
    objects.delete(odd[0]).await.unwrap();
    assert!(listed(objects, "clips/org_b").await.is_empty());
    assert_eq!(objects.size(odd[1]).await, Ok(None));

    for unsafe_key in ["../secret", "media/../../secret", "/etc/passwd", "crest.db", "media//a", "media", ""] {
        let refused = [
            objects.put(unsafe_key, Bytes::new()).await,
            objects.put_file(unsafe_key, &files.path().join("small")).await,
            objects.size(unsafe_key).await.map(drop),
            objects.read(unsafe_key, 0..1).await.map(drop),
            objects.delete(unsafe_key).await,
            objects.signed_url(unsafe_key, Method::Get, Duration::from_secs(1)).await.map(drop),
        ];
        assert!(refused.iter().all(|done| done.as_ref().is_err_and(|e| e.fault == Fault::Ours)), "{unsafe_key}");
    }
    assert!(objects.list("..").await.is_err() && objects.list("").await.is_err());
}

#[tokio::test]
async fn many_objects_are_listed_to_the_last() {
    let root = tempfile::tempdir().unwrap();
    for objects in [folder(root.path()), s3()] {
        // More than one page of S3.
        let puts = (0..1100).map(|n| {
            let objects = objects.clone();
            async move { objects.put(&format!("claims/{}/{n}", n % 3), Bytes::from_static(b"x")).await.unwrap() }
        });
        use futures::StreamExt;
        futures::stream::iter(puts).buffer_unordered(16).collect::<Vec<_>>().await;
        assert_eq!(listed(&*objects, "claims").await.len(), 1100);
        assert_eq!(listed(&*objects, "claims/0").await.len(), 367);
    }
}

#[tokio::test]
async fn in_a_folder_keys_are_paths_and_what_lies_there_does_not_move() {
    let root = tempfile::tempdir().unwrap();
    let objects = folder(root.path());
    objects.put("clips/org_a/a.mp4", Bytes::from_static(b"abc")).await.unwrap();
    let path = root.path().join("clips/org_a/a.mp4");
    assert_eq!(fs::read(&path).unwrap(), b"abc");
    let before = fs::metadata(&path).unwrap();
    objects.put_file("clips/org_a/a.mp4", &path).await.unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    // What a writer that was killed left is no object.
    fs::write(root.path().join("clips/org_a/.a.mp4.1-1.part"), "half").unwrap();
    assert_eq!(listed(&*objects, "clips").await.len(), 1);
    assert_eq!(fs::read_dir(root.path().join("clips/org_a")).unwrap().count(), 2, "no more than these two");
    // Other files of the data directory are out of reach.
    fs::write(root.path().join("crest.db"), "rows").unwrap();
    assert!(objects.size("crest.db").await.is_err());
}
