//! What is made of answers, and silences, that no server in order gives.

use aws_sdk_s3::config::{Builder, Credentials};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A store behind a server that gives one answer, whatever it is asked: what no server in order can be brought to say.
async fn store_that_answers(answer: &'static str) -> S3Store {
    store_that_answers_after(Duration::ZERO, answer).await
}

/// The same where it takes its time. The client waits for half a second, unless the request says otherwise.
async fn store_that_answers_after(thought: Duration, answer: &'static str) -> S3Store {
    store_that_answers_in_turn(thought, vec![answer]).await
}

/// The same where it gives these answers one after the other, and then the last one always.
async fn store_that_answers_in_turn(thought: Duration, answers: Vec<&'static str>) -> S3Store {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for number in 0.. {
            let answer = answers[number.min(answers.len() - 1)];
            let (mut connection, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(connection.read_u8().await.unwrap());
                }
                tokio::time::sleep(thought).await;
                // Who has given up waiting has closed it.
                let _ = connection.write_all(answer.as_bytes()).await;
            });
        }
    });
    let config = Builder::new().behavior_version_latest().http_client(http_client());
    let config = config.credentials_provider(Credentials::new("key", "secret", None, None, "test"));
    let config = config.region(Region::from_static("us-east-1")).endpoint_url(endpoint).force_path_style(true);
    let config = config.timeout_config(timeouts([Duration::from_millis(500); 2]));
    let config = config.retry_config(RetryConfig::disabled()).build();
    S3Store { client: Client::from_conf(config), bucket: "b".to_owned(), prefix: String::new() }
}

/// What a read of bytes 0 to 10 comes to.
async fn read_ten(answer: &'static str) -> String {
    let store = store_that_answers(answer).await;
    let got = store.get("k", Some(0..10)).await;
    let streamed = match store.read("k", Some(0..10)).await {
        Ok(chunks) => chunks.try_collect::<Vec<Bytes>>().await.map(|chunks| chunks.concat().into()),
        Err(error) => Err(error),
    };
    let [got, streamed] = [got, streamed].map(|result| format!("{:?}", result.map_err(|error| error.to_string())));
    assert_eq!(got, streamed);
    got
}

#[tokio::test]
async fn a_body_that_is_not_what_was_asked_for_is_an_error() {
    let whole =
        "HTTP/1.1 206 x\r\nContent-Length: 10\r\nContent-Range: bytes 0-9/20\r\nConnection: close\r\n\r\n0123456789";
    assert_eq!(read_ten(whole).await, "Ok(b\"0123456789\")");
    let broken = "HTTP/1.1 206 x\r\nContent-Length: 10\r\nContent-Range: bytes 0-9/20\r\nConnection: close\r\n\r\n0123";
    assert!(read_ten(broken).await.starts_with("Err(\"the object store failed: reading k: "));
    let cut = "HTTP/1.1 206 x\r\nContent-Length: 4\r\nContent-Range: bytes 0-3/4\r\nConnection: close\r\n\r\n0123";
    assert!(read_ten(cut).await.contains("shorter than the wanted range 0..10"));
    let unasked = "HTTP/1.1 200 x\r\nContent-Length: 20\r\nConnection: close\r\n\r\n01234567890123456789";
    assert!(read_ten(unasked).await.contains("Some(20) bytes came where Some(0..10) was wanted"));
}

#[tokio::test]
async fn the_rest_of_an_answer_that_breaks_off_is_asked_for() {
    let first = "HTTP/1.1 200 x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123";
    let second = "HTTP/1.1 206 x\r\nContent-Length: 6\r\nContent-Range: bytes 4-9/10\r\nConnection: close\r\n\r\n45";
    let third = "HTTP/1.1 206 x\r\nContent-Length: 4\r\nContent-Range: bytes 6-9/10\r\nConnection: close\r\n\r\n6789";
    let answers = || store_that_answers_in_turn(Duration::ZERO, vec![first, second, third]);
    assert_eq!(answers().await.get("k", None).await.unwrap(), "0123456789");
    let chunks = answers().await.read("k", None).await.unwrap().try_collect::<Vec<Bytes>>().await.unwrap();
    assert_eq!(chunks.concat(), b"0123456789");
}

#[tokio::test]
async fn the_rest_of_another_object_is_not_taken_for_it() {
    let first = "HTTP/1.1 200 x\r\nContent-Length: 10\r\nETag: \"a\"\r\nConnection: close\r\n\r\n0123";
    let second = "HTTP/1.1 412 x\r\nConnection: close\r\n\r\n<Error><Code>PreconditionFailed</Code></Error>";
    let store = store_that_answers_in_turn(Duration::ZERO, vec![first, second]).await;
    let error = store.get("k", None).await.unwrap_err();
    assert!(matches!(&error, ObjectError::Unavailable(reason) if reason.starts_with("reading k: ")), "{error}");
}

#[tokio::test]
async fn a_question_is_given_up_while_a_sending_is_still_waited_for() {
    let answer = "HTTP/1.1 200 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let store = store_that_answers_after(Duration::from_secs(1), answer).await;
    assert!(matches!(store.size("k").await, Err(ObjectError::Unavailable(_))));
    assert!(matches!(store.list("k/").await, Err(ObjectError::Unavailable(_))));
    assert!(matches!(store.get("k", None).await, Err(ObjectError::Unavailable(_))));
    store.put("k", Bytes::new()).await.unwrap();
    let upload = Upload { key: "k".to_owned(), id: "1".to_owned(), part_size: 5 << 20 };
    store.abort_upload(&upload).await.unwrap();
}

#[tokio::test]
async fn refusals_are_told_from_failures_in_one_line() {
    let answers = [
        (
            "HTTP/1.1 503 x\r\nConnection: close\r\n\r\n<Error><Code>SlowDown</Code><Message>Please\n wait</Message></Error>",
            "the object store failed: cannot read k: HTTP 503: SlowDown: Please wait",
        ),
        (
            "HTTP/1.1 403 x\r\nConnection: close\r\n\r\n<Error><Code>AccessDenied</Code><Message>No</Message></Error>",
            "the object store refused: cannot read k: HTTP 403: AccessDenied: No",
        ),
        (
            "HTTP/1.1 404 x\r\nConnection: close\r\n\r\n<Error><Code>NoSuchBucket</Code></Error>",
            "the object store refused: cannot read k: HTTP 404: NoSuchBucket",
        ),
        ("HTTP/1.1 502 x\r\nConnection: close\r\n\r\n<html>", "the object store failed: cannot read k: HTTP 502: "),
    ];
    for (answer, reason) in answers {
        let error = store_that_answers(answer).await.get("k", None).await.unwrap_err().to_string();
        assert!(error.starts_with(reason) && !error.contains('\n'), "{error}");
    }
}
