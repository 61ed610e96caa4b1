//! Multipart uploads.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::super::checks::{check_held, check_key, check_part, check_part_size, check_parts, no_upload};
use super::super::{ObjectError, ObjectResult, Part, Upload};
use super::reason::{failed, is_absent};
use super::{S3Store, SEND, patience};

/// Longest times in which a server may put an object together, at each try and at all; AWS speaks of minutes, others copy the bytes.
const COMPLETE: [Duration; 2] = [Duration::from_mins(15), Duration::from_hours(1)];

/// A part as the server lists it.
struct Listed {
    part: Part,
    at: Option<DateTime>,
    crc32: Option<String>,
}

pub(super) async fn create(store: &S3Store, key: &str, part_size: u64) -> ObjectResult<Upload> {
    check_part_size(key, part_size)?;
    let request = store.client.create_multipart_upload().bucket(&store.bucket).key(store.full(key)?);
    // With a checksum of checksums instead, a server would want to hear every part's again at the end; not all of them list these.
    let request = request.checksum_algorithm(ChecksumAlgorithm::Crc32).checksum_type(ChecksumType::FullObject);
    let answer = request.send().await.map_err(|error| failed("begin the upload of", key, error))?;
    let no_id = || ObjectError::Unavailable(format!("cannot begin the upload of {key}: the server gave it no id"));
    Ok(Upload { key: key.to_owned(), id: answer.upload_id.ok_or_else(no_id)?, part_size })
}

/// S3 keeps no part size: the caller gives the one that it would use, and sees by the parts' lengths whether they are its own.
pub(super) async fn find(store: &S3Store, key: &str, part_size: u64) -> ObjectResult<Option<Upload>> {
    let full = store.full(key)?;
    // The prefix also matches longer keys.
    let found = begun(store, &full, key).await?.into_iter().filter(|begun| begun.key == full);
    Ok(found.max_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id))).map(|begun| Upload {
        key: key.to_owned(),
        id: begun.id,
        part_size,
    }))
}

pub(super) async fn list(store: &S3Store, prefix: &str) -> ObjectResult<Vec<Upload>> {
    let found = begun(store, &format!("{}{prefix}", store.prefix), prefix).await?;
    let own = found.into_iter().filter_map(|Begun { key, id, .. }| {
        // Others may keep things in the bucket.
        let key = key.strip_prefix(&store.prefix).filter(|key| check_key(key).is_ok())?.to_owned();
        Some(Upload { key, id, part_size: 0 })
    });
    Ok(own.collect())
}

/// An unfinished upload as the server lists it.
struct Begun {
    key: String,
    at: Option<(i64, u32)>,
    id: String,
}

/// Lists the unfinished uploads of keys that begin with `full`, of which errors speak as `about`.
async fn begun(store: &S3Store, full: &str, about: &str) -> ObjectResult<Vec<Begun>> {
    let mut found = Vec::new();
    let (mut key_marker, mut id_marker) = (None, None);
    loop {
        let request = store.client.list_multipart_uploads().bucket(&store.bucket).prefix(full);
        let request = request.set_key_marker(key_marker).set_upload_id_marker(id_marker);
        let page = request.send().await.map_err(|error| failed("list the uploads of", about, error))?;
        found.extend(page.uploads.unwrap_or_default().into_iter().filter_map(|upload| {
            let at = upload.initiated.map(|at| (at.secs(), at.subsec_nanos()));
            Some(Begun { key: upload.key?, at, id: upload.upload_id? })
        }));
        (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
        if page.is_truncated != Some(true) || key_marker.is_none() {
            return Ok(found);
        }
    }
}

pub(super) async fn put_part(store: &S3Store, upload: &Upload, number: u32, bytes: Bytes) -> ObjectResult<Part> {
    let size = bytes.len() as u64;
    check_part(upload, number, size)?;
    let request = store.client.upload_part().bucket(&store.bucket).key(store.full(&upload.key)?);
    let request = request.upload_id(&upload.id).part_number(wire_number(number));
    let request = request.checksum_algorithm(ChecksumAlgorithm::Crc32).body(ByteStream::from(bytes));
    match request.customize().config_override(patience(SEND)).send().await {
        Ok(answer) => Ok(Part { number, size, etag: bare(answer.e_tag) }),
        Err(error) if is_absent(&error) => Err(no_upload(upload)),
        Err(error) => Err(failed(&format!("put part {number} of"), &upload.key, error)),
    }
}

pub(super) async fn parts(store: &S3Store, upload: &Upload) -> ObjectResult<Vec<Part>> {
    Ok(newest(&listed(store, upload).await?))
}

/// The newest of each part: some servers list a part that was put again as often as it was put. Where two that differ have one
/// time (in seconds, on such servers) neither is told, so that the caller puts the part once more rather than take the wrong one.
fn newest(listed: &[Listed]) -> Vec<Part> {
    let same_part = listed.chunk_by(|a, b| a.part.number == b.part.number);
    let newest = same_part.filter_map(|tries| {
        let (last, others) = tries.split_last()?;
        others.iter().all(|other| other.part == last.part || other.at < last.at).then(|| last.part.clone())
    });
    newest.collect()
}

/// Everything that the server lists of an upload, by number and time.
async fn listed(store: &S3Store, upload: &Upload) -> ObjectResult<Vec<Listed>> {
    let request = store.client.list_parts().bucket(&store.bucket).key(store.full(&upload.key)?);
    let mut pages = request.upload_id(&upload.id).into_paginator().send();
    let mut listed = Vec::new();
    while let Some(page) = pages.next().await {
        let page = match page {
            Err(error) if is_absent(&error) => return Err(no_upload(upload)),
            page => page.map_err(|error| failed("list the parts of", &upload.key, error))?,
        };
        for part in page.parts.unwrap_or_default() {
            let number = part.part_number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
            let size = part.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
            let told = Part { number, size, etag: bare(part.e_tag) };
            listed.push(Listed { part: told, at: part.last_modified, crc32: part.checksum_crc32 });
        }
    }
    listed.sort_by_key(|listed| (listed.part.number, listed.at));
    Ok(listed)
}

pub(super) async fn complete(store: &S3Store, upload: &Upload, parts: &[Part]) -> ObjectResult<()> {
    check_parts(upload, parts)?;
    // Servers that list checksums may want to hear them again; and none says as clearly which part is wrong.
    let held: BTreeMap<(u32, String), Option<String>> =
        listed(store, upload).await?.into_iter().map(|l| ((l.part.number, l.part.etag), l.crc32)).collect();
    let id = |part: &Part| (part.number, part.etag.clone());
    check_held(upload, parts, |part| held.contains_key(&id(part)))?;
    let named = parts.iter().map(|part| {
        let named = CompletedPart::builder().part_number(wire_number(part.number));
        let crc32 = held.get(&id(part)).cloned().flatten();
        named.e_tag(format!("\"{}\"", part.etag)).set_checksum_crc32(crc32).build()
    });
    let named = CompletedMultipartUpload::builder().set_parts(Some(named.collect())).build();
    let request = store.client.complete_multipart_upload().bucket(&store.bucket).key(store.full(&upload.key)?);
    let request = request.upload_id(&upload.id).multipart_upload(named);
    match request.customize().config_override(patience(COMPLETE)).send().await {
        Ok(_) => Ok(()),
        Err(error) if is_absent(&error) => Err(no_upload(upload)),
        Err(error) => Err(failed("complete the upload of", &upload.key, error)),
    }
}

pub(super) async fn abort(store: &S3Store, upload: &Upload) -> ObjectResult<()> {
    let request = store.client.abort_multipart_upload().bucket(&store.bucket).key(store.full(&upload.key)?);
    let request = request.upload_id(&upload.id).customize().config_override(patience(SEND));
    match request.send().await {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(number: u32, at: i64, etag: &str) -> Listed {
        let part = Part { number, size: 5, etag: etag.to_owned() };
        Listed { part, at: Some(DateTime::from_secs(at)), crc32: None }
    }

    #[test]
    fn of_a_part_that_is_listed_twice_the_newest_is_told_or_none() {
        let list = [listed(1, 7, "a"), listed(2, 5, "b"), listed(2, 6, "c"), listed(2, 6, "c"), listed(3, 1, "d")];
        let told: Vec<String> = newest(&list).into_iter().map(|part| part.etag).collect();
        assert_eq!(told, ["a", "c", "d"]);
        let list = [listed(1, 5, "a"), listed(1, 6, "b"), listed(1, 6, "c"), listed(2, 6, "d")];
        let told: Vec<String> = newest(&list).into_iter().map(|part| part.etag).collect();
        assert_eq!(told, ["d"]);
        assert_eq!(newest(&[]), []);
    }
}
