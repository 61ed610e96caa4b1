//! The object store that is a bucket of any S3 server, or a prefix in one.
//!
//! What S3 servers agree on is little; this keeps to it: path-style addresses for a given endpoint, part bodies as buffers in memory,
//! CRC-32 checksums named on every upload and every part, no conditional writes.
//! Here lives the client and what is done with whole objects; parts are in `uploads`, error texts in `reason`.

mod reason;
mod uploads;

use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use async_stream::try_stream;
use async_trait::async_trait;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, Delete, ObjectIdentifier};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;

use self::reason::{failed, is_absent, one_line, status};
use super::checks::{check_key, check_prefix, check_range};
use super::{ObjectError, ObjectResult, ObjectStore, Part, Upload, content_disposition};

/// Most keys that one DeleteObjects request takes.
const DELETE_BATCH: usize = 1000;
/// Longest times to an answer's first byte, of one try and of all: somebody waits for the answer, and wants to hear which part is away.
const ANSWER: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(25)];
/// The same for a request that sends bytes (64 MiB at 5 Mbit/s), or has the server delete many.
const SEND: [Duration; 2] = [Duration::from_secs(120), Duration::from_secs(8 * 60)];
/// How long a body may stand still before the connection is given up.
const STALL: Duration = Duration::from_secs(20);
/// Times that a request is tried, with growing pauses.
const ATTEMPTS: u32 = 4;
/// The pause before the rest of an answer that broke off is asked for; each is as much longer.
const BROKEN_PAUSE: Duration = Duration::from_millis(100);

/// Where a bucket is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct S3Settings {
    pub(super) bucket: String,
    /// Stands before every key, without slashes at its ends; may be empty.
    pub(super) prefix: String,
    /// The server's URL; AWS if there is none.
    pub(super) endpoint: Option<String>,
    /// The region; by the environment if there is none.
    pub(super) region: Option<String>,
}

impl fmt::Display for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{} at {}", self.bucket, self.prefix, self.endpoint.as_deref().unwrap_or("AWS"))
    }
}

/// The store of one bucket and prefix.
#[derive(Debug, Clone)]
pub(super) struct S3Store {
    client: Client,
    bucket: String,
    /// Empty, or ends in a slash.
    prefix: String,
}

impl S3Store {
    /// Makes a client and lists one key, to see that the bucket is there and may be used.
    pub(super) async fn connect(settings: S3Settings) -> ObjectResult<Self> {
        let prefix = if settings.prefix.is_empty() { String::new() } else { format!("{}/", settings.prefix) };
        let store = Self { client: client(&settings).await?, bucket: settings.bucket, prefix };
        let probe = store.client.list_objects_v2().bucket(&store.bucket).prefix(&store.prefix).max_keys(1);
        probe.send().await.map_err(|error| failed("list", "the bucket", error))?;
        Ok(store)
    }

    /// The key as the server knows it.
    fn full(&self, key: &str) -> ObjectResult<String> {
        check_key(key)?;
        Ok(format!("{}{key}", self.prefix))
    }

    /// Begins to read a range, of the content with that tag if one is named.
    async fn fetch_range(&self, key: &str, range: Option<Range<u64>>, tag: Option<String>) -> ObjectResult<Fetched> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.full(key)?).set_if_match(tag);
        if let Some(range) = range.as_ref().filter(|range| range.is_empty()) {
            // HTTP has no words for an empty range.
            let size = self.size(key).await?.ok_or_else(|| ObjectError::NotFound(key.to_owned()))?;
            let nothing = Fetched { body: ByteStream::default(), start: range.start, length: 0, tag: None };
            return check_range(key, Some(range.clone()), size).map(|_| nothing);
        }
        let header = range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        let out_of_range = |range: &Range<u64>| ObjectError::OutOfRange { key: key.to_owned(), range: range.clone() };
        let answer = match request.set_range(header).send().await {
            Err(error) if is_absent(&error) => return Err(ObjectError::NotFound(key.to_owned())),
            Err(error) => match range.as_ref().filter(|_| status(&error) == Some(416)) {
                Some(range) => return Err(out_of_range(range)),
                None => return Err(failed("read", key, error)),
            },
            Ok(answer) => answer,
        };
        let length = answer.content_length.and_then(|length| u64::try_from(length).ok());
        // "bytes 0-3/4": the object's length stands behind the slash.
        let size = answer.content_range.as_deref().and_then(|text| text.rsplit('/').next()?.parse::<u64>().ok());
        let fetched = |start, length| Fetched { body: answer.body, start, length, tag: answer.e_tag };
        match (length, &range) {
            (Some(length), None) => Ok(fetched(0, length)),
            (Some(length), Some(wanted)) if length == wanted.end - wanted.start => Ok(fetched(wanted.start, length)),
            (_, Some(wanted)) if size.is_some_and(|size| size < wanted.end) => Err(out_of_range(wanted)),
            _ => Err(ObjectError::Unavailable(format!(
                "reading {key}: {length:?} bytes came where {range:?} was wanted"
            ))),
        }
    }
}

/// Body of an answer, which has the length that is told, unless it breaks off.
#[derive(Debug)]
struct Fetched {
    body: ByteStream,
    /// Where in the object it begins.
    start: u64,
    /// In bytes.
    length: u64,
    /// The store's tag of the object's content.
    tag: Option<String>,
}

/// A client with the settings that every S3 server can live with, and with credentials.
async fn client(settings: &S3Settings) -> ObjectResult<Client> {
    let mut config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts(ANSWER))
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALL).build());
    if let Some(region) = &settings.region {
        config = config.region(Region::new(region.clone()));
    } else if settings.endpoint.is_some() {
        // Other servers seldom care, and asking a cloud's metadata service, as the default does, takes seconds elsewhere.
        let environment = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
        config = config.region(environment.or_else(Region::from_static("us-east-1")));
    }
    let config = config.load().await;
    if config.region().is_none() {
        let reason = "no region: write ?region=name into the URL, or set AWS_REGION";
        return Err(ObjectError::Refused(reason.to_owned()));
    }
    if let Some(chain) = config.credentials_provider() {
        let remedy = "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
        let refused = |error| ObjectError::Refused(format!("{remedy} ({})", one_line(&error)));
        chain.provide_credentials().await.map_err(refused)?;
    }
    let mut config = aws_sdk_s3::config::Builder::from(&config);
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint).force_path_style(true);
    }
    Ok(Client::from_conf(config.build()))
}

/// HTTP with TLS by rustls and the system's root certificates.
fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// Time limits of a request whose answer must begin within the first time at each try, and within the second at all.
fn timeouts([attempt, all]: [Duration; 2]) -> TimeoutConfig {
    let limits = TimeoutConfig::builder().connect_timeout(Duration::from_secs(5));
    limits.read_timeout(attempt).operation_attempt_timeout(attempt).operation_timeout(all).build()
}

/// Gives one request other limits than [`ANSWER`].
fn patience(limits: [Duration; 2]) -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::config::Builder::new().timeout_config(timeouts(limits))
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, key: &str, bytes: Bytes) -> ObjectResult<()> {
        let request = self.client.put_object().bucket(&self.bucket).key(self.full(key)?);
        let request = request.checksum_algorithm(ChecksumAlgorithm::Crc32).body(ByteStream::from(bytes));
        let request = request.customize().config_override(patience(SEND));
        request.send().await.map(drop).map_err(|error| failed("put", key, error))
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> ObjectResult<Bytes> {
        let fetched = self.fetch_range(key, range, None).await?;
        let mut bytes = BytesMut::with_capacity(usize::try_from(fetched.length).unwrap_or(0));
        let mut chunks = self.clone().resuming_chunks(fetched, key);
        while let Some(chunk) = chunks.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> ObjectResult<BoxStream<'static, ObjectResult<Bytes>>> {
        let fetched = self.fetch_range(key, range, None).await?;
        Ok(self.clone().resuming_chunks(fetched, key))
    }

    async fn size(&self, key: &str) -> ObjectResult<Option<u64>> {
        match self.client.head_object().bucket(&self.bucket).key(self.full(key)?).send().await {
            Ok(answer) => Ok(answer.content_length.and_then(|length| u64::try_from(length).ok())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed("look at", key, error)),
        }
    }

    async fn delete(&self, keys: &[String]) -> ObjectResult<()> {
        let full = keys.iter().map(|key| self.full(key)).collect::<ObjectResult<Vec<_>>>()?;
        for batch in full.chunks(DELETE_BATCH) {
            self.delete_batch(batch).await?;
        }
        Ok(())
    }

    async fn list(&self, prefix: &str) -> ObjectResult<Vec<(String, u64)>> {
        check_prefix(prefix)?;
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(format!("{}{prefix}", self.prefix));
        let mut pages = request.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            for object in page.map_err(|error| failed("list", prefix, error))?.contents.unwrap_or_default() {
                let key = object.key.as_deref().and_then(|key| key.strip_prefix(&self.prefix));
                // Others may keep things in the bucket, such as keys ending in a slash that stand for folders.
                let key = key.filter(|key| check_key(key).is_ok());
                let size = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
                found.extend(key.map(|key| (key.to_owned(), size)));
            }
        }
        // Servers that keep objects in folders sort "a/b" before "a-b".
        found.sort_unstable();
        Ok(found)
    }

    async fn create_upload(&self, key: &str, part_size: u64) -> ObjectResult<Upload> {
        uploads::create(self, key, part_size).await
    }

    async fn find_upload(&self, key: &str, part_size: u64) -> ObjectResult<Option<Upload>> {
        uploads::find(self, key, part_size).await
    }

    async fn list_uploads(&self, prefix: &str) -> ObjectResult<Vec<Upload>> {
        check_prefix(prefix)?;
        uploads::list(self, prefix).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> ObjectResult<Part> {
        uploads::put_part(self, upload, number, bytes).await
    }

    async fn parts(&self, upload: &Upload) -> ObjectResult<Vec<Part>> {
        uploads::parts(self, upload).await
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part]) -> ObjectResult<()> {
        uploads::complete(self, upload, parts).await
    }

    async fn abort_upload(&self, upload: &Upload) -> ObjectResult<()> {
        uploads::abort(self, upload).await
    }

    async fn presign(&self, key: &str, file_name: &str, seconds: u64) -> ObjectResult<Option<String>> {
        let lifetime = PresigningConfig::expires_in(Duration::from_secs(seconds));
        let lifetime = lifetime.map_err(|error| ObjectError::Refused(format!("a link for {seconds} s: {error}")))?;
        let request = self.client.get_object().bucket(&self.bucket).key(self.full(key)?);
        let request = request.response_content_disposition(content_disposition(file_name));
        let signed = request.presigned(lifetime).await.map_err(|error| failed("sign a link to", key, error))?;
        Ok(Some(signed.uri().to_owned()))
    }
}

impl S3Store {
    /// Streams a body. Where it breaks off, the rest is asked for: the client tries again by itself
    /// only until an answer's head has come. A body that stood still for long is not asked for again.
    fn resuming_chunks(self, fetched: Fetched, key: &str) -> BoxStream<'static, ObjectResult<Bytes>> {
        let Fetched { body, start, length, tag } = fetched;
        let (key, end) = (key.to_owned(), start + length);
        try_stream! {
            let (mut chunks, mut at, mut tries, mut heard) = (body_chunks(body, length, &key), start, 1, Instant::now());
            while let Some(chunk) = chunks.next().await {
                let error = match chunk {
                    Ok(chunk) => {
                        (at, heard) = (at + chunk.len() as u64, Instant::now());
                        yield chunk;
                        continue;
                    }
                    Err(error) => error,
                };
                if tries == ATTEMPTS || heard.elapsed() > ANSWER[0] {
                    Err(error.clone())?;
                }
                tokio::time::sleep(BROKEN_PAUSE * tries).await;
                tries += 1;
                // Another object may stand there now.
                let rest = self.fetch_range(&key, Some(at..end), tag.clone()).await.map_err(|_| error)?;
                chunks = body_chunks(rest.body, rest.length, &key);
            }
        }
        .boxed()
    }

    /// Deletes up to [`DELETE_BATCH`] keys, as the server knows them.
    async fn delete_batch(&self, keys: &[String]) -> ObjectResult<()> {
        let about = "objects";
        let named = |key: &String| ObjectIdentifier::builder().key(key).build();
        let objects = keys.iter().map(named).collect::<Result<Vec<_>, _>>();
        let delete = objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).quiet(true).build());
        let delete = delete.map_err(|error| ObjectError::Refused(one_line(&error)))?;
        let request = self.client.delete_objects().bucket(&self.bucket).delete(delete);
        let request = request.customize().config_override(patience(SEND));
        let answer = request.send().await.map_err(|error| failed("delete", about, error))?;
        let failures: Vec<_> =
            answer.errors.unwrap_or_default().into_iter().filter(|error| error.code() != Some("NoSuchKey")).collect();
        let Some(first) = failures.first() else { return Ok(()) };
        let key = first.key.as_deref().unwrap_or_default();
        let key = key.strip_prefix(&self.prefix).unwrap_or(key);
        let (code, message) = (first.code().unwrap_or("no code"), first.message().unwrap_or("no reason given"));
        let (count, all) = (failures.len(), keys.len());
        Err(ObjectError::Unavailable(format!(
            "{count} of {all} objects not deleted, among them {key}: {code}: {message}"
        )))
    }
}

/// A body as a stream of chunks that ends in an error unless exactly `length` bytes come.
fn body_chunks(mut body: ByteStream, length: u64, key: &str) -> BoxStream<'static, ObjectResult<Bytes>> {
    let key = key.to_owned();
    let broken = move |reason: &str| ObjectError::Unavailable(format!("reading {key}: {reason}"));
    let mut left = length;
    try_stream! {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| broken(&one_line(&error)))?;
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| broken("the body is too long"))?;
            yield chunk;
        }
        if left > 0 {
            Err(broken("the body ended too early"))?;
        }
    }
    .boxed()
}

#[cfg(test)]
mod tests;
