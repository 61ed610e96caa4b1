//! What becomes of the verdict when something in a package is changed.

mod packages;

use std::fs;
use std::io::Write as _;

use adit_shared::domain::Layout;
use adit_shared::signing::SigningKey;
use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use self::packages::{Files, Saved, bag, bagged, describe, flat, payload, save, sharded, tables, tar_zst, zipped};
use super::*;

#[test]
fn whole_packages_pass_and_tell_what_was_checked() {
    for (saved, files) in [
        (flat(CompressionMethod::Stored), 4),
        (flat(CompressionMethod::Deflated), 4),
        (bag(), 9),
        (tar_zst(), 9),
        (sharded(), 9),
        (tables(), 6),
    ] {
        let report = saved.report();
        assert_eq!(report.faults, [], "{:?}", saved.target);
        let notes = report.notes.join("\n");
        assert_eq!(report.files, files, "{notes}");
        assert!(notes.contains("the receipt is signed with the trusted key "), "{notes}");
        assert!(notes.contains("4 documents were requested: 3 are included, 1 omitted"), "{notes}");
    }
}

/// Every so-manieth byte of every file, with another bit each.
fn flip_bytes(saved: &Saved, step: usize) {
    assert_eq!(saved.report().faults, []);
    for file in saved.files() {
        let name = file.display().to_string();
        for byte in (0..fs::metadata(&file).unwrap().len() as usize).step_by(step) {
            let faults = saved.flipped(&file, byte * 8 + byte % 8);
            let named = faults.iter().any(|fault| fault.to_string().contains(&name));
            assert!(named, "byte {byte} of {name}: {faults:?}");
        }
    }
}

#[test]
fn any_changed_byte_of_a_flat_package_is_found() {
    flip_bytes(&flat(CompressionMethod::Deflated), 1);
}

#[test]
fn any_changed_byte_of_a_bag_is_found() {
    flip_bytes(&bag(), 1);
}

#[test]
fn changed_bytes_of_a_tar_archive_are_found() {
    flip_bytes(&tar_zst(), 5);
}

#[test]
fn any_changed_byte_of_shards_is_found() {
    flip_bytes(&sharded(), 1);
}

#[test]
fn changed_bytes_of_tables_are_found() {
    flip_bytes(&tables(), 5);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_bit_is_found(which: prop::sample::Index, file: prop::sample::Index, at: prop::sample::Index) {
        let make: [fn() -> Saved; 4] = [|| flat(CompressionMethod::Stored), bag, tar_zst, sharded];
        let saved = which.get(&make)();
        let files = saved.files();
        let file = file.get(&files);
        let faults = saved.flipped(file, at.index(fs::metadata(file).unwrap().len() as usize * 8));
        prop_assert!(faults.iter().any(|fault| fault.to_string().contains(&file.display().to_string())), "{faults:?}");
    }
}

/// Every byte of an entry's header and data, without a manifest that knows the archive's hash.
#[test]
fn a_changed_byte_of_an_entry_names_the_entry() {
    let files = payload();
    let bytes = zipped(&files, CompressionMethod::Stored);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.zip");
    let mut at = 0;
    for (name, content) in &files {
        let end = at + 30 + name.len() + content.len();
        // What version it takes to unpack it (4.4.3) may differ from what the directory says, and does not matter.
        for byte in (at..end).filter(|byte| ![4, 5].contains(&(byte - at))) {
            let mut changed = bytes.clone();
            changed[byte] ^= 1 << (byte % 8);
            fs::write(&path, changed).unwrap();
            let report = examine(&VerifyArgs { paths: vec![path.clone()], ..VerifyArgs::default() }).unwrap();
            let named = report.faults.iter().any(|fault| fault.entry.as_ref() == Some(name));
            assert!(named, "byte {byte} of {name}: {:?}", report.faults);
        }
        at = end;
    }
}

#[test]
fn bytes_that_belong_to_nothing_are_found() {
    let files = payload();
    let bytes = zipped(&files, CompressionMethod::Deflated);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.zip");
    let faults = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        examine(&VerifyArgs { paths: vec![path.clone()], ..VerifyArgs::default() }).unwrap().faults
    };
    assert_eq!(faults(&bytes), []);
    assert_ne!(faults(&[b"#!/bin/sh\n", bytes.as_slice()].concat()), [], "before");
    assert_ne!(faults(&[bytes.as_slice(), b"\n"].concat()), [], "behind");
    assert_ne!(faults(&bytes[..bytes.len() - 1]), [], "cut");
    let directory = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    for at in [30 + files[0].0.len(), directory] {
        let mut longer = bytes.clone();
        longer.splice(at..at, [0; 3]);
        assert_ne!(faults(&longer), [], "between, at {at}");
    }
    for at in 0..bytes.len() {
        assert_ne!(faults(&[&bytes[..at], &bytes[at + 1..]].concat()), [], "without byte {at}");
    }
}

#[test]
fn archives_of_other_programs_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.zip");
    // As they write it who do not know a file's length before: CRC-32 and lengths behind the data.
    let mut zip = ZipWriter::new_stream(Vec::new());
    zip.add_directory("folder", SimpleFileOptions::default()).unwrap();
    for (name, large) in [("folder/a.txt", false), ("folder/b.txt", true)] {
        zip.start_file(name, SimpleFileOptions::default().large_file(large)).unwrap();
        zip.write_all(b"some text").unwrap();
    }
    zip.set_comment("a comment").unwrap();
    fs::write(&path, zip.finish().unwrap().into_inner()).unwrap();
    let report = examine(&VerifyArgs { paths: vec![path], ..VerifyArgs::default() }).unwrap();
    assert_eq!((report.faults, report.files), (vec![], 2));
}

#[test]
fn what_is_missing_or_does_not_belong_is_named() {
    let saved = sharded();
    let first = saved.path("bag-1-00001-of-00002.zip");
    fs::rename(&first, saved.path("moved.zip")).unwrap();
    let faults = saved.report().faults;
    let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(text[0].contains("bag-1-00001-of-00002.zip: is missing"), "{text:?}");
    assert!(text.iter().any(|fault| fault.contains("bag-1/data/a.txt: is named in manifest-sha256.txt, but missing")));

    // It may have any name, if it is the only one that is sought.
    let mut args = saved.args();
    args.paths.push(saved.path("moved.zip"));
    assert_eq!(examine(&args).unwrap().faults, []);
    fs::write(saved.path("other.zip"), zipped(&payload(), CompressionMethod::Stored)).unwrap();
    args.paths.push(saved.path("other.zip"));
    assert!(examine(&args).unwrap().faults[0].to_string().contains("other.zip: is not among the assets"));
}

#[test]
fn nothing_is_claimed_that_was_not_checked() {
    let saved = bag();
    let notes = |args: &VerifyArgs| {
        let report = examine(args).unwrap();
        assert_eq!(report.faults, []);
        report.notes.join("\n")
    };
    let faults = |args: &VerifyArgs| examine(args).unwrap().faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    let trusted = saved.args();
    let trusting_nobody = VerifyArgs { keys: None, ..saved.args() };
    assert!(notes(&trusting_nobody).contains("the receipt was not checked"));

    let other = saved.path("other.json");
    fs::write(&other, PublicKeys::from_iter([SigningKey::generate().unwrap().public()]).to_string()).unwrap();
    let found = faults(&VerifyArgs { keys: Some(other), ..saved.args() });
    assert!(found.len() == 1 && found[0].contains("not among the trusted ones"), "{found:?}");

    let proof = Proof::beside(&saved.target);
    fs::remove_file(&proof.receipt).unwrap();
    assert!(notes(&trusting_nobody).contains("there is no receipt"));
    assert!(faults(&trusted)[0].contains("nothing proves the manifest without it"));
    fs::remove_file(&proof.manifest).unwrap();
    assert!(notes(&trusting_nobody).contains("checked from inside only"));
    assert!(faults(&trusted)[0].contains("there is no manifest"));
}

/// A manifest that is signed, but wrong: only a packager can write it.
#[test]
fn a_manifest_that_does_not_fit_its_archives_is_a_fault() {
    type Change = fn(&mut PackageManifest);
    let of = |layout, archive: Vec<u8>, change: Change| {
        let mut manifest = describe(layout, false);
        change(&mut manifest);
        save(manifest, &[("bag-1.zip", archive, None)]).report().faults
    };
    let flat: [Change; 5] = [
        |_| {},
        |m| m.payload.files = 5,
        |m| m.payload.bytes = 1,
        |m| m.package = m.docset,
        |m| m.formats = vec!["txt".parse().unwrap()],
    ];
    for (index, change) in flat.into_iter().enumerate() {
        let found = of(Layout::Flat, zipped(&payload(), CompressionMethod::Stored), change);
        assert_eq!(found.len(), usize::from(index > 0), "{index}: {found:?}");
    }
    let changes: [Change; 6] = [
        |_| {},
        |m| m.payload.files = 5,
        |m| m.payload.bytes = 1,
        |m| m.package = m.docset,
        |m| m.docset = m.package,
        |m| m.documents = ManifestDocuments { requested: 3, included: 3, ..ManifestDocuments::default() },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let archive = zipped(&bagged(payload(), &describe(Layout::Bag, false)), CompressionMethod::Stored);
        let found = of(Layout::Bag, archive, change);
        assert_eq!(found.len(), usize::from(index > 0), "{index}: {found:?}");
    }
    let found = of(Layout::Bag, zipped(&payload(), CompressionMethod::Stored), |_| {});
    assert!(found[0].reason.contains("hold no bag"), "{found:?}");
}

/// Writes files into a folder.
fn unpack(files: &Files, folder: &Path) {
    for (path, content) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[test]
fn an_unpacked_bag_is_checked_by_its_own_manifests() {
    let manifest = describe(Layout::Bag, false);
    let files = bagged(payload(), &manifest);
    let saved = bag();
    unpack(&files, saved.folder.path());
    let root = saved.path("bag-1");
    let args = VerifyArgs { paths: vec![root.clone()], ..VerifyArgs::default() };
    let report = examine(&args).unwrap();
    assert_eq!((report.faults, report.bag, report.files), (vec![], true, 9));
    let with_manifest =
        VerifyArgs { manifest: Some(Proof::beside(&saved.target).manifest), keys: Some(saved.keys.clone()), ..args };
    let report = examine(&with_manifest).unwrap();
    assert_eq!(report.faults, []);
    assert!(report.notes.iter().any(|note| note.contains("proves archives, not a folder")));

    for (path, content) in &files {
        for byte in 0..content.len() {
            let mut changed = content.clone();
            changed[byte] ^= 1;
            fs::write(saved.path(path), changed).unwrap();
            let report = examine(&VerifyArgs { paths: vec![root.clone()], ..VerifyArgs::default() }).unwrap();
            assert_ne!(report.faults, [], "byte {byte} of {path}");
        }
        fs::write(saved.path(path), content).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", root.join("data/link")).unwrap();
    let report = examine(&VerifyArgs { paths: vec![root], ..VerifyArgs::default() }).unwrap();
    assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
}

#[test]
fn a_dehydrated_bag_tells_how_much_it_lacks() {
    let manifest = PackageManifest { dehydrated: true, ..describe(Layout::Bag, false) };
    let mut files = bagged(payload(), &manifest);
    let mut fetch = String::new();
    files.retain(|(path, content)| {
        let payload = path.strip_prefix("bag-1/").filter(|path| path.starts_with("data/"));
        fetch.extend(payload.map(|path| format!("http://x/y {} {path}\n", content.len())));
        payload.is_none()
    });
    let with = |fetch: String| {
        let mut files = files.clone();
        files.push(("bag-1/fetch.txt".to_owned(), fetch.into_bytes()));
        let manifest = PackageManifest { dehydrated: true, ..describe(Layout::Bag, false) };
        save(manifest, &[("bag-1.zip", zipped(&files, CompressionMethod::Deflated), None)]).report()
    };
    let report = with(fetch.clone());
    assert_eq!(report.faults, []);
    assert!(report.notes[0].ends_with("; 4 more are still to be fetched"), "{:?}", report.notes);
    for wrong in [
        fetch.replace("a.txt", "c.txt"),
        fetch.replace(" 32 ", " 33 "),
        fetch.lines().skip(1).collect::<Vec<_>>().join("\n"),
        format!("{fetch}{}", fetch.lines().next().unwrap()),
        format!("{fetch}x\n"),
    ] {
        assert_ne!(with(wrong.clone()).faults, [], "{wrong}");
    }
}

#[test]
fn arguments_that_do_not_go_together_are_refused() {
    let (one, two) = (bag(), bag());
    let refused = |args: VerifyArgs| examine(&args).unwrap_err().to_string();
    let both = vec![one.target.clone(), two.target.clone()];
    assert!(refused(VerifyArgs { paths: both, ..VerifyArgs::default() }).contains("several packages"));
    let empty = tempfile::tempdir().unwrap();
    let paths = vec![empty.path().to_owned()];
    assert!(refused(VerifyArgs { paths, ..VerifyArgs::default() }).contains("no manifest.json"));
    let sha256 = Some(Sha256::of(b""));
    let shards = sharded();
    let folder = vec![shards.target.clone()];
    assert!(refused(VerifyArgs { paths: folder, sha256, ..VerifyArgs::default() }).contains("--sha256"));
    let keys = Some(one.target.clone());
    assert!(refused(VerifyArgs { paths: vec![one.target.clone()], keys, ..VerifyArgs::default() }).contains("--keys"));
}

#[test]
fn a_manifest_that_unpacks_without_end_is_a_fault() {
    let files = vec![
        ("bagit.txt".to_owned(), b"BagIt-Version: 1.0\n".to_vec()),
        ("manifest-sha256.txt".to_owned(), vec![b' '; 10 << 20]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.zip");
    fs::write(&path, zipped(&files, CompressionMethod::Deflated)).unwrap();
    let faults = examine(&VerifyArgs { paths: vec![path], ..VerifyArgs::default() }).unwrap().faults;
    assert!(faults[0].reason.starts_with("is longer than"), "{faults:?}");
}

/// Archives that are small and become large, in one way or another: each is told of soon, and
/// memory stays small.
#[test]
fn a_bomb_is_told_of_and_not_set_off() {
    let zeros = |writer: &mut dyn std::io::Write, megabytes: usize| {
        (0..megabytes).for_each(|_| writer.write_all(&[0; 1 << 20]).unwrap());
    };
    let zip = |list: bool| {
        let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file(if list { "manifest-sha256.txt" } else { "zeros" }, SimpleFileOptions::default()).unwrap();
        zeros(&mut zip, 100);
        zip.finish().unwrap().into_inner()
    };
    // A tar archive whose file, or whose extended header or long name, has a gigabyte of zeros.
    let tar = |kind: tar::EntryType| {
        let mut packed = zstd::Encoder::new(Vec::new(), 3).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_entry_type(kind);
        header.set_size(1 << 30);
        header.set_cksum();
        packed.write_all(header.as_bytes()).unwrap();
        zeros(&mut packed, 1 << 10);
        packed.finish().unwrap()
    };
    let cases = [
        ("a.zip", zip(false), "100 times its length"),
        ("a.zip", zip(true), "the most that a list may have"),
        ("a.tar.zst", tar(tar::EntryType::Regular), "far more than its length"),
        ("a.tar.zst", tar(tar::EntryType::XHeader), "longer headers"),
        ("a.tar.zst", tar(tar::EntryType::GNULongName), "longer headers"),
        ("a.tar.zst", tar(tar::EntryType::Symlink), "far more than its length"),
    ];
    for (name, bytes, told) in cases {
        assert!(bytes.len() < 1 << 20, "{name} is small on the wire: {}", bytes.len());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let faults = examine(&VerifyArgs { paths: vec![path], ..VerifyArgs::default() }).unwrap().faults;
        assert!(faults.iter().any(|fault| fault.reason.contains(told)), "{told}: {faults:?}");
    }
}

#[test]
fn entries_over_the_same_bytes_are_named_and_not_read_again() {
    const COPIES: u16 = 1000;
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("a.txt", SimpleFileOptions::default()).unwrap();
    zip.write_all(&vec![b'a'; 1 << 20]).unwrap();
    let mut archive = zip.finish().unwrap().into_inner();
    // The end record is the last 22 bytes: the directory's entries, length and place (APPNOTE
    // 4.3.16).
    let mut end = archive.split_off(archive.len() - 22);
    let directory = archive.split_off(u32::from_le_bytes(end[16..20].try_into().unwrap()) as usize);
    archive.extend(directory.repeat(COPIES.into()));
    end[8..10].copy_from_slice(&COPIES.to_le_bytes());
    end[10..12].copy_from_slice(&COPIES.to_le_bytes());
    end[12..16].copy_from_slice(&(directory.len() as u32 * u32::from(COPIES)).to_le_bytes());
    archive.extend(end);
    let (mut contents, mut faults) = (Contents::default(), Vec::new());
    let limits = crate::miner::limits::UnpackLimits::of_archive(archive.len() as u64);
    let mut reading = contents::Reading::new(Path::new("bomb.zip"), &mut contents, &mut faults, limits);
    reading.take_archive(std::io::Cursor::new(&archive), archive.len() as u64, Kind::Zip).unwrap();
    let within = faults.iter().filter(|fault| fault.reason.contains("within the entry before it")).count();
    assert_eq!((within, faults.len(), contents.files.len()), (usize::from(COPIES) - 1, usize::from(COPIES) - 1, 1));
}
