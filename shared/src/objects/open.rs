//! A store out of its URL. The forms of the URL live here; what is behind them does not.

use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use super::checks::check_key;
use super::folder::FolderStore;
use super::s3::{S3Settings, S3Store};
use super::{ObjectError, ObjectStore};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is not one of a store; the text says which part of it, and what to write instead. It shows no passwords.
    #[error("object store URL: {0}")]
    Url(String),
    /// The URL is right, but the store does not answer as it should.
    #[error("cannot use the object store {place}")]
    Store {
        /// The store, as its URL names it.
        place: String,
        /// What happened when it was tried.
        #[source]
        reason: ObjectError,
    },
}

/// Opens the store of a URL and tries it, so that a mistake shows at start and not in the middle of a job:
/// - `file:///path`: a folder, made if there is none;
/// - `s3://bucket/prefix?endpoint=http://host:port&region=name`: a bucket, which must exist; `/prefix` and both parameters may be left out.
///   With `endpoint` the bucket is addressed by path; without, it is one of AWS. Credentials come from the standard chain
///   (`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, profiles, web identity, the machine's role).
///
/// # Errors
/// [`OpenError::Url`] names the part of the URL that is wrong; [`OpenError::Store`] says why the store cannot be used.
pub async fn open(url: &str) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let at = |place: String| move |reason| OpenError::Store { place, reason };
    match parse(url).map_err(OpenError::Url)? {
        Place::Folder(root) => Ok(Arc::new(FolderStore::open(&root).await.map_err(at(root.display().to_string()))?)),
        Place::S3(settings) => {
            let place = settings.to_string();
            Ok(Arc::new(S3Store::connect(settings).await.map_err(at(place))?))
        }
    }
}

/// What a URL leads to.
#[derive(Debug, PartialEq)]
enum Place {
    Folder(PathBuf),
    S3(S3Settings),
}

fn parse(text: &str) -> Result<Place, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; write file:///path or s3://bucket/prefix"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds credentials; give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned());
    }
    if url.fragment().is_some() {
        return Err("it ends in a #fragment, which means nothing here".to_owned());
    }
    match url.scheme() {
        "file" => parse_folder(text, &url),
        "s3" => parse_s3(&url).map(Place::S3),
        other => Err(format!("scheme {other:?} is unknown; write file:///path or s3://bucket/prefix")),
    }
}

fn parse_folder(text: &str, url: &Url) -> Result<Place, String> {
    if url.query().is_some() {
        return Err("a file:// URL has no parameters".to_owned());
    }
    // The parser would silently turn `file:data` into `/data`.
    let absolute = text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("file:///"));
    let path = absolute.then(|| url.to_file_path().ok()).flatten();
    path.map(Place::Folder).ok_or_else(|| "a folder is written with its whole path: file:///path".to_owned())
}

fn parse_s3(url: &Url) -> Result<S3Settings, String> {
    let bucket = url.host_str().filter(|host| !host.is_empty()).ok_or("the bucket is missing: s3://bucket/prefix")?;
    if let Some(port) = url.port() {
        return Err(format!(
            "port {port} stands behind the bucket; a server's address goes into ?endpoint=http://host:port"
        ));
    }
    let prefix = url.path().trim_matches('/');
    // Servers and tools disagree on who escapes what: a prefix does without.
    if prefix.contains('%') || !(prefix.is_empty() || check_key(prefix).is_ok()) {
        return Err(format!("prefix {prefix:?} is not a path of plain ASCII segments"));
    }
    let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
    let mut settings = S3Settings { bucket, prefix, endpoint: None, region: None };
    for (name, value) in url.query_pairs() {
        let place = match &*name {
            "endpoint" => &mut settings.endpoint,
            "region" => &mut settings.region,
            _ => return Err(format!("parameter {name:?} is unknown; there are endpoint and region")),
        };
        if value.is_empty() || place.replace(value.into_owned()).is_some() {
            return Err(format!("parameter {name:?} is empty or given twice"));
        }
    }
    settings.endpoint.as_deref().map_or(Ok(()), check_endpoint)?;
    Ok(settings)
}

fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let url = Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| format!("endpoint {endpoint:?} is not http://host:port or https://host:port"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("endpoint holds credentials; give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("endpoint {endpoint:?} has parameters; write them behind & in the store's URL"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(bucket: &str, prefix: &str, endpoint: Option<&str>, region: Option<&str>) -> Place {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Place::S3(S3Settings {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: owned(endpoint),
            region: owned(region),
        })
    }

    #[test]
    fn urls_of_stores_are_read() {
        assert_eq!(parse("file:///var/lib/a%20b"), Ok(Place::Folder("/var/lib/a b".into())));
        assert_eq!(parse("s3://corpus"), Ok(s3("corpus", "", None, None)));
        assert_eq!(parse("s3://my_bucket/a/b/"), Ok(s3("my_bucket", "a/b", None, None)));
        assert_eq!(
            parse("s3://b/p?endpoint=http://127.0.0.1:8333&region=eu-west-1"),
            Ok(s3("b", "p", Some("http://127.0.0.1:8333"), Some("eu-west-1")))
        );
    }

    #[test]
    fn a_wrong_url_is_refused_by_the_part_that_is_wrong() {
        let refusals = [
            ("data", "relative URL without a base; write file:///path or s3://bucket/prefix"),
            ("http://host/", "scheme \"http\" is unknown; write file:///path or s3://bucket/prefix"),
            ("file:data", "a folder is written with its whole path: file:///path"),
            ("file://data/x", "a folder is written with its whole path: file:///path"),
            ("file:///data?x=1", "a file:// URL has no parameters"),
            ("file:///data#x", "it ends in a #fragment, which means nothing here"),
            ("s3:///prefix", "the bucket is missing: s3://bucket/prefix"),
            (
                "s3://b:9000/p",
                "port 9000 stands behind the bucket; a server's address goes into ?endpoint=http://host:port",
            ),
            ("s3://b/a//b", "prefix \"a//b\" is not a path of plain ASCII segments"),
            ("s3://b/bü", "prefix \"b%C3%BC\" is not a path of plain ASCII segments"),
            ("s3://b?regoin=x", "parameter \"regoin\" is unknown; there are endpoint and region"),
            ("s3://b?region=", "parameter \"region\" is empty or given twice"),
            ("s3://b?region=x&region=y", "parameter \"region\" is empty or given twice"),
            ("s3://b?endpoint=host:9000", "endpoint \"host:9000\" is not http://host:port or https://host:port"),
        ];
        for (url, reason) in refusals {
            assert_eq!(parse(url), Err(reason.to_owned()), "{url}");
        }
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_repeated() {
        for url in ["s3://AKIA:hunter2@b/p", "s3://b/p?endpoint=http://AKIA:hunter2@h"] {
            let reason = parse(url).unwrap_err();
            assert!(reason.contains("AWS_SECRET_ACCESS_KEY") && !reason.contains("hunter2"), "{reason}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = open(&format!("file://{}/store", file.display())).await.unwrap_err();
        assert!(error.to_string().contains(&format!("{}/store", file.display())), "{error}");
        assert!(matches!(error, OpenError::Store { reason: ObjectError::Refused(_), .. }));
    }
}
