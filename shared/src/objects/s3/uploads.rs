//! Multipart uploads.

use std::time::Duration;

use aws_sdk_s3::config::Builder;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::super::checks::{check_held, check_part, check_part_size, check_parts, no_upload};
use super::super::{ObjectError, ObjectResult, Part, Upload};
use super::S3Store;
use super::reason::{failed, is_absent};

/// Longest time in which a server may put an object together; AWS speaks of minutes, others copy the bytes.
const COMPLETE: Duration = Duration::from_mins(15);

/// A part that the server holds, with the checksum that it wants to hear again when the upload is completed.
pub(super) struct Held {
    pub(super) part: Part,
    crc32: Option<String>,
}

pub(super) async fn create(store: &S3Store, key: &str, part_size: u64) -> ObjectResult<Upload> {
    check_part_size(key, part_size)?;
    let request = store.client.create_multipart_upload().bucket(&store.bucket).key(store.full(key)?);
    let request = request.checksum_algorithm(ChecksumAlgorithm::Crc32);
    let answer = request.send().await.map_err(|error| failed("begin the upload of", key, error))?;
    let no_id = || ObjectError::Unavailable(format!("cannot begin the upload of {key}: the server gave it no id"));
    Ok(Upload { key: key.to_owned(), id: answer.upload_id.ok_or_else(no_id)?, part_size })
}

/// S3 keeps no part size: the caller gives the one that it would use, and sees by the parts' lengths whether they are its own.
pub(super) async fn find(store: &S3Store, key: &str, part_size: u64) -> ObjectResult<Option<Upload>> {
    let full = store.full(key)?;
    let mut newest = None;
    let (mut key_marker, mut id_marker) = (None, None);
    loop {
        let request = store.client.list_multipart_uploads().bucket(&store.bucket).prefix(&full);
        let request = request.set_key_marker(key_marker).set_upload_id_marker(id_marker);
        let page = request.send().await.map_err(|error| failed("list the uploads of", key, error))?;
        for upload in page.uploads.unwrap_or_default() {
            // The prefix also matches longer keys.
            if let (Some(id), true) = (upload.upload_id, upload.key.as_deref() == Some(&full)) {
                newest = newest.max(Some((upload.initiated.map(|at| (at.secs(), at.subsec_nanos())), id)));
            }
        }
        (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
        if page.is_truncated != Some(true) || key_marker.is_none() {
            break;
        }
    }
    Ok(newest.map(|(_, id)| Upload { key: key.to_owned(), id, part_size }))
}

pub(super) async fn put_part(store: &S3Store, upload: &Upload, number: u32, bytes: Bytes) -> ObjectResult<Part> {
    let size = bytes.len() as u64;
    check_part(upload, number, size)?;
    let request = store.client.upload_part().bucket(&store.bucket).key(store.full(&upload.key)?);
    let request = request.upload_id(&upload.id).part_number(wire_number(number));
    let request = request.checksum_algorithm(ChecksumAlgorithm::Crc32).body(ByteStream::from(bytes));
    match request.send().await {
        Ok(answer) => Ok(Part { number, size, etag: bare(answer.e_tag) }),
        Err(error) if is_absent(&error) => Err(no_upload(upload)),
        Err(error) => Err(failed(&format!("put part {number} of"), &upload.key, error)),
    }
}

/// The parts that the server holds, in order of number.
pub(super) async fn held(store: &S3Store, upload: &Upload) -> ObjectResult<Vec<Held>> {
    let request = store.client.list_parts().bucket(&store.bucket).key(store.full(&upload.key)?);
    let mut pages = request.upload_id(&upload.id).into_paginator().send();
    let mut parts = Vec::new();
    while let Some(page) = pages.next().await {
        let page = match page {
            Err(error) if is_absent(&error) => return Err(no_upload(upload)),
            page => page.map_err(|error| failed("list the parts of", &upload.key, error))?,
        };
        for part in page.parts.unwrap_or_default() {
            let number = part.part_number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
            let size = part.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
            parts.push(Held { part: Part { number, size, etag: bare(part.e_tag) }, crc32: part.checksum_crc32 });
        }
    }
    parts.sort_unstable_by_key(|held| held.part.number);
    Ok(parts)
}

pub(super) async fn complete(store: &S3Store, upload: &Upload, parts: &[Part]) -> ObjectResult<()> {
    check_parts(upload, parts)?;
    // AWS wants to hear every part's checksum again, which callers do not keep; and no server says as clearly which part is wrong.
    let held = held(store, upload).await?;
    check_held(upload, parts, held.iter().map(|held| &held.part))?;
    let named = held.into_iter().take(parts.len()).map(|Held { part, crc32 }| {
        let named = CompletedPart::builder().part_number(wire_number(part.number));
        named.e_tag(format!("\"{}\"", part.etag)).set_checksum_crc32(crc32).build()
    });
    let listed = CompletedMultipartUpload::builder().set_parts(Some(named.collect())).build();
    let request = store.client.complete_multipart_upload().bucket(&store.bucket).key(store.full(&upload.key)?);
    let request = request.upload_id(&upload.id).multipart_upload(listed);
    let patience = TimeoutConfig::builder().read_timeout(COMPLETE).operation_attempt_timeout(COMPLETE).build();
    match request.customize().config_override(Builder::new().timeout_config(patience)).send().await {
        Ok(_) => Ok(()),
        Err(error) if is_absent(&error) => Err(no_upload(upload)),
        Err(error) => Err(failed("complete the upload of", &upload.key, error)),
    }
}

pub(super) async fn abort(store: &S3Store, upload: &Upload) -> ObjectResult<()> {
    let request = store.client.abort_multipart_upload().bucket(&store.bucket).key(store.full(&upload.key)?);
    match request.upload_id(&upload.id).send().await {
        Err(error) if !is_absent(&error) => Err(failed("abort the upload of", &upload.key, error)),
        _ => Ok(()),
    }
}

/// An entity tag without its quotes, which some servers leave out in some answers.
fn bare(etag: Option<String>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}

/// A part's number as the SDK wants it; checked before to be one of 1 to 10,000.
fn wire_number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
