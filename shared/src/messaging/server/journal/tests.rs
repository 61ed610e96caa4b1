//! The journal on a real file: what it gives back after any end, how it grows and shrinks, how it fails.

use std::time::SystemTime;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::message::Message;
use super::super::state::tests::{Players, ops};
use super::*;

fn stored(id: u64, size: usize) -> Stored {
    let headers = vec![("content-type".to_owned(), "text/plain".to_owned()), ("sequence".to_owned(), id.to_string())];
    let message = Message { headers, body: Bytes::from(vec![0xFF; size]), persistent: true, expires: Some(77) };
    Stored { id, deliveries: 0, queue: "package/5".into(), message: Arc::new(message) }
}

fn size(folder: &Path) -> u64 {
    fs::metadata(folder.join(FILE)).unwrap().len()
}

#[test]
fn what_was_not_done_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, kept) = Journal::open(folder.path()).unwrap();
    assert!(kept.is_empty());
    for id in 1..=3 {
        journal.append(&[Change::Enqueued(stored(id, 10))]);
    }
    journal.append(&[Change::Done(2), Change::Delivered(3), Change::Delivered(3)]);
    drop(journal);
    let (_, kept) = Journal::open(folder.path()).unwrap();
    assert_eq!(kept, [stored(1, 10), Stored { deliveries: 2, ..stored(3, 10) }]);
}

#[tokio::test]
async fn a_record_is_durable_when_progress_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let records: Vec<u64> = (1..=100).map(|id| journal.append(&[Change::Enqueued(stored(id, 100))])).collect();
    journal.progress().wait_for(|progress| progress.durable >= records[99]).await.unwrap();
    // What a killed process leaves is what is in the file now.
    let journal = fs::read(folder.path().join(FILE)).unwrap();
    assert_eq!(record::replay(&journal).messages.len(), 100);
}

#[tokio::test]
async fn a_mostly_dead_file_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let survivor = stored(1, 1000);
    journal.append(&[Change::Enqueued(survivor.clone())]);
    let mut rewritten = 0;
    for id in 2..=20 {
        journal.append(&[Change::Enqueued(stored(id, 1 << 20))]);
        let record = journal.append(&[Change::Done(id)]);
        if journal.mostly_dead(survivor.message.cost()) {
            journal.rewrite(vec![survivor.clone()]);
            rewritten += 1;
        }
        journal.progress().wait_for(|progress| progress.durable >= record).await.unwrap();
        assert!(size(folder.path()) < COMPACT_FROM + (2 << 20), "{}", size(folder.path()));
    }
    assert_eq!(rewritten, 4);
    drop(journal);
    assert_eq!(Journal::open(folder.path()).unwrap().1, [survivor]);
}

#[test]
fn a_folder_belongs_to_one_broker() {
    let folder = tempfile::tempdir().unwrap();
    let first = Journal::open(folder.path()).unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::InUse(_))));
    drop(first);
    Journal::open(folder.path()).unwrap();
}

#[test]
fn a_foreign_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), "something of value").unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::Foreign(_))));
    assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), b"something of value");
}

#[tokio::test]
async fn a_failed_disk_confirms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    fs::remove_dir_all(folder.path()).unwrap();
    journal.rewrite(vec![]);
    let record = journal.append(&[Change::Enqueued(stored(1, 1))]);
    let progress = journal.progress().wait_for(|progress| progress.failed.is_some()).await.unwrap().clone();
    assert!(progress.durable < record, "{progress:?}");
    assert!(journal.failure().unwrap().contains("failed"));
    journal.append(&[Change::Enqueued(stored(2, 1))]);
    assert!(journal.shared.lock().bytes.is_empty(), "nothing is collected for a thread that has ended");
}

#[test]
fn a_flipped_bit_ends_the_journal_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = record::MAGIC.to_vec();
    for id in 1..=3 {
        record::encode(&[Change::Enqueued(stored(id, 10))], &mut bytes);
    }
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    fs::write(folder.path().join(FILE), &bytes).unwrap();
    assert_eq!(Journal::open(folder.path()).unwrap().1, [stored(1, 10), stored(2, 10)]);
}

/// The ids that a journal of the messages 1 to 5 gives back after `damage`, and the copies that are kept of it. It is told
/// the records' beginnings.
fn after(damage: impl FnOnce(&mut Vec<u8>, &[usize])) -> (Vec<u64>, Vec<Vec<u8>>) {
    let folder = tempfile::tempdir().unwrap();
    let (mut bytes, mut begins) = (record::MAGIC.to_vec(), Vec::new());
    for id in 1..=5 {
        begins.push(bytes.len());
        record::encode(&[Change::Enqueued(stored(id, 100))], &mut bytes);
    }
    damage(&mut bytes, &begins);
    fs::write(folder.path().join(FILE), &bytes).unwrap();
    let is_damaged = find_journal_damage(folder.path()).unwrap().is_some();
    let (journal, kept) = Journal::open(folder.path()).unwrap();
    drop(journal);
    assert_eq!(find_journal_damage(folder.path()).unwrap(), None, "it is written anew");
    assert_eq!(Journal::open(folder.path()).unwrap().1, kept, "and nothing else is lost");
    let paths = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let copies = paths.filter(|path| path.display().to_string().contains(".damaged-"));
    let copies: Vec<_> = copies.map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(is_damaged, !copies.is_empty());
    assert!(copies.iter().all(|copy| *copy == bytes));
    (kept.iter().map(|message| message.id).collect(), copies)
}

#[test]
fn a_damaged_record_costs_no_other_and_a_copy_is_kept() {
    let (kept, copies) = after(|bytes, begins| bytes[begins[1] + 60] ^= 1);
    assert_eq!((kept, copies.len()), (vec![1, 3, 4, 5], 1));
    // Two in a row, one of them in its head: where it says its length.
    let (kept, copies) = after(|bytes, begins| {
        bytes[begins[1] + 60] ^= 1;
        bytes[begins[2] + 1] ^= 1;
    });
    assert_eq!((kept, copies.len()), (vec![1, 4, 5], 1));
    // The head seems to tell of a record that reaches beyond the end.
    let (kept, copies) = after(|bytes, begins| bytes[begins[2] + 2] ^= 8);
    assert_eq!((kept, copies.len()), (vec![1, 2, 4, 5], 1));
    let (kept, copies) = after(|bytes, begins| bytes[begins[4] + 60] ^= 1);
    assert_eq!((kept, copies.len()), (vec![1, 2, 3, 4], 1), "the last one is whole by its length");
}

#[test]
fn what_may_be_no_record_is_not_read_but_kept() {
    // A message whose body is a record, in a record without a head: the record in it does not reach the end.
    let (kept, copies) = after(|bytes, begins| {
        let mut inner = Vec::new();
        record::encode(&[Change::Enqueued(stored(99, 1))], &mut inner);
        bytes.truncate(begins[3]);
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&inner);
        bytes.extend_from_slice(&[7; 30]);
    });
    assert_eq!((kept, copies.len()), (vec![1, 2, 3], 1));
    // A torn end is no damage.
    let (kept, copies) = after(|bytes, begins| bytes.truncate(begins[4] + 60));
    assert_eq!((kept, copies.len()), (vec![1, 2, 3, 4], 0));
}

#[test]
fn a_few_copies_of_damaged_journals_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let mut bytes = record::MAGIC.to_vec();
        record::encode(&[Change::Enqueued(stored(round, 10))], &mut bytes);
        let at = bytes.len() - 3;
        bytes[at] ^= 1;
        fs::write(folder.path().join(FILE), &bytes).unwrap();
        let before = SystemTime::now();
        repair_journal(folder.path()).unwrap();
        // Each has the time in its name, in milliseconds.
        while before.elapsed().unwrap_or_default().as_millis() < 2 {
            std::thread::yield_now();
        }
    }
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("broker.journal.damaged-")).count(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After every record, the messages that a restart must bring back are exactly those that the broker holds: what was
    /// confirmed and not settled, in order. So whatever is cut off the end, the rest is such a moment.
    #[test]
    fn a_journal_cut_anywhere_gives_back_a_moment_of_the_past(ops in ops(), cut in any::<prop::sample::Index>()) {
        let mut players = Players::new();
        let mut bytes = record::MAGIC.to_vec();
        let mut moments = vec![(0, vec![])];
        for op in &ops {
            players.play(op);
            let changes = players.state.effects().changes;
            if !changes.is_empty() {
                record::encode(&changes, &mut bytes);
                moments.push((bytes.len(), players.state.persistent()));
            }
        }
        let cut = cut.index(bytes.len() + 1);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), &bytes[..cut]).unwrap();
        let (journal, kept) = Journal::open(folder.path()).unwrap();
        let expected = &moments.iter().rfind(|(end, _)| *end <= cut).unwrap().1;
        prop_assert_eq!(&kept, expected);
        // It goes on from there.
        journal.append(&[Change::Enqueued(stored(u64::MAX, 1))]);
        drop(journal);
        prop_assert_eq!(Journal::open(folder.path()).unwrap().1.len(), expected.len() + 1);
    }

    #[test]
    fn garbage_is_read_without_harm(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = record::MAGIC.to_vec();
        bytes.extend_from_slice(&garbage);
        prop_assert!(record::replay(&bytes).messages.is_empty());
        let mut framed = record::MAGIC.to_vec();
        framed.extend_from_slice(&u32::try_from(garbage.len()).unwrap().to_le_bytes());
        framed.extend_from_slice(&crc32fast::hash(&garbage).to_le_bytes());
        framed.extend_from_slice(&garbage);
        record::replay(&framed);
    }
}
