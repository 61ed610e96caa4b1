//! Processes that are killed while they write to a folder, and processes that finish one upload at once. The child processes are this test
//! program, started again with a job in its environment.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use adit_shared::objects::{ObjectError, ObjectStore, Part, Upload, open};
use bytes::Bytes;

use crate::place::{Place, content};

const JOB: &str = "ADIT_TEST_CHILD_JOB";
const URL: &str = "ADIT_TEST_CHILD_URL";
const KEY: &str = "packages/5/x.zip";
const SIZE: usize = 200_000;
const PARTS: u32 = 12;

/// Content that names the round that wrote it, in its first bytes.
fn round_content(number: u32, round: u64) -> Bytes {
    [&round.to_le_bytes(), &content(u64::from(number) * 1_000_000 + round, SIZE - 8)[..]].concat().into()
}

/// Whether bytes are those of one round, from the first to the last.
fn is_whole(number: u32, bytes: &[u8]) -> bool {
    let round = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    bytes == round_content(number, round)
}

struct Worker {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(job: &str, url: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "killed::work_of_a_child", "--ignored", "--nocapture"]);
        command.env(JOB, job).env(URL, url).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The next thing that the child says it has done.
    fn done(&mut self) -> String {
        let said = self.lines.find_map(|line| line.unwrap().split_once("done: ").map(|(_, what)| what.to_owned()));
        said.expect("the child ended before its time")
    }

    /// Lets it do `count` things and kills it (SIGKILL) in the middle of the next; gives what it did.
    fn kill_after(mut self, count: usize) -> Vec<String> {
        let done = (0..count).map(|_| self.done()).collect();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        done
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the work of a child process: the other tests here start it with a job"]
async fn work_of_a_child() {
    let Ok(job) = std::env::var(JOB) else { return };
    let store = open(&std::env::var(URL).unwrap()).await.unwrap();
    for round in 0.. {
        match job.as_str() {
            "put" => store.put(KEY, round_content(0, round)).await.unwrap(),
            "parts" => {
                put_parts(&*store, round).await;
                return wait();
            }
            "replace" => put_parts(&*store, round).await,
            "whole" => whole_upload(&*store, round).await,
            "complete" => return complete(&*store).await,
            other => panic!("no job {other}"),
        }
        println!("done: round {round}");
    }
}

/// Waits until the parent closes the standard input.
fn wait() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

async fn put_parts(store: &dyn ObjectStore, round: u64) {
    let upload = store.find_upload(KEY, SIZE as u64).await.unwrap().unwrap();
    for number in 1..=PARTS {
        let part = store.put_part(&upload, number, round_content(number, round)).await.unwrap();
        println!("done: {} {}", part.number, part.etag);
    }
}

async fn whole_upload(store: &dyn ObjectStore, round: u64) {
    let upload = store.create_upload(KEY, SIZE as u64).await.unwrap();
    let mut parts = Vec::new();
    for number in 1..=2 {
        parts.push(store.put_part(&upload, number, round_content(number, round)).await.unwrap());
    }
    if round % 3 == 2 {
        store.abort_upload(&upload).await.unwrap();
    } else {
        store.complete_upload(&upload, &parts).await.unwrap();
    }
}

async fn complete(store: &dyn ObjectStore) {
    let upload = store.find_upload(KEY, SIZE as u64).await.unwrap().unwrap();
    let parts = store.parts(&upload).await.unwrap();
    println!("done: ready");
    wait();
    match store.complete_upload(&upload, &parts).await {
        Ok(()) => println!("done: finished"),
        Err(ObjectError::NotFound(_)) => println!("done: not found"),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_put_leaves_a_whole_object() {
    let place = Place::folder().await;
    for count in [1, 2, 5, 9] {
        Worker::start("put", &place.url).kill_after(count);
        let store = place.reopen().await;
        assert!(is_whole(0, &store.get(KEY, None).await.unwrap()));
        assert_eq!(store.list("").await.unwrap(), [(KEY.to_owned(), SIZE as u64)]);
    }
}

/// Opens the store anew, puts the parts that are not told, and looks at every byte of the object that this makes. Gives the parts told.
async fn finish_and_look(place: &Place, made: &Upload) -> Vec<Part> {
    let store = place.reopen().await;
    let upload = store.find_upload(KEY, SIZE as u64).await.unwrap().unwrap();
    assert_eq!(upload, *made);
    let told = store.parts(&upload).await.unwrap();
    let mut parts = told.clone();
    for number in (1..=PARTS).filter(|number| told.iter().all(|part| part.number != *number)) {
        parts.push(store.put_part(&upload, number, round_content(number, 99)).await.unwrap());
    }
    parts.sort_by_key(|part| part.number);
    store.complete_upload(&upload, &parts).await.unwrap();
    let object = store.get(KEY, None).await.unwrap();
    assert!(object.chunks(SIZE).zip(1..).all(|(bytes, number)| is_whole(number, bytes)));
    assert_eq!(object.len(), SIZE * PARTS as usize);
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_upload_keeps_the_parts_that_were_stored() {
    for count in [1, 2, 3, 7, 12] {
        let place = Place::folder().await;
        let made = place.store.create_upload(KEY, SIZE as u64).await.unwrap();
        let stored = Worker::start("parts", &place.url).kill_after(count);
        let told = finish_and_look(&place, &made).await;
        let told: Vec<String> = told.iter().map(|part| format!("{} {}", part.number, part.etag)).collect();
        assert!(stored.iter().all(|part| told.contains(part)), "stored {stored:?}, told {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_while_it_replaces_parts_leaves_no_mixture() {
    for count in [13, 15, 20, 31, 44] {
        let place = Place::folder().await;
        let made = place.store.create_upload(KEY, SIZE as u64).await.unwrap();
        Worker::start("replace", &place.url).kill_after(count);
        let told = finish_and_look(&place, &made).await;
        assert!(told.len() >= PARTS as usize - 1, "only the part being replaced may be away: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_at_any_step_of_an_upload_leaves_what_can_go_on() {
    let place = Place::folder().await;
    for count in [1, 2, 3, 5, 8, 13] {
        Worker::start("whole", &place.url).kill_after(count);
        let store = place.reopen().await;
        let is_object = |object: &[u8]| object.chunks(SIZE).zip(1..).all(|(bytes, number)| is_whole(number, bytes));
        assert!(is_object(&store.get(KEY, None).await.unwrap()));
        while let Some(upload) = store.find_upload(KEY, SIZE as u64).await.unwrap() {
            assert!(store.parts(&upload).await.unwrap().len() <= 2);
            let mut parts = Vec::new();
            for number in 1..=2 {
                parts.push(store.put_part(&upload, number, round_content(number, 77)).await.unwrap());
            }
            store.complete_upload(&upload, &parts).await.unwrap();
            assert!(is_object(&store.get(KEY, None).await.unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_finishes_an_upload() {
    let place = Place::folder().await;
    for round in 0..5 {
        let upload = place.store.create_upload(KEY, SIZE as u64).await.unwrap();
        for number in 1..=2 {
            place.store.put_part(&upload, number, round_content(number, round)).await.unwrap();
        }
        let mut workers = [(); 2].map(|()| Worker::start("complete", &place.url));
        assert!(workers.iter_mut().all(|worker| worker.done() == "ready"));
        for worker in &mut workers {
            drop(worker.process.stdin.take());
        }
        let mut said = workers.each_mut().map(Worker::done);
        said.sort();
        assert_eq!(said, ["finished", "not found"]);
        for worker in &mut workers {
            assert!(worker.process.wait().unwrap().success());
        }
        let whole = [round_content(1, round), round_content(2, round)].concat();
        assert_eq!(place.store.get(KEY, None).await.unwrap(), whole);
    }
}
