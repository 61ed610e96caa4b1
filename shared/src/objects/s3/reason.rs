//! What went wrong with a request, in one line: the server's code and message, or why no answer came.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::super::ObjectError;

/// Codes that come with a client-error status but may be gone at the next try.
const PASSING: [&str; 6] =
    ["ExpiredToken", "OperationAborted", "RequestTimeout", "SlowDown", "ThrottlingException", "TooManyRequests"];

/// The HTTP status, if there was an answer.
pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|answer| answer.status().as_u16())
}

/// The answer says that there is no such object or upload (and not that there is no such bucket).
pub(super) fn is_absent<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    // The answer to a HEAD has no body, and so no code but what the SDK makes of the status.
    status(error) == Some(404) && matches!(code, None | Some("NoSuchKey" | "NoSuchUpload" | "NotFound"))
}

/// The store's error for a request that failed, naming what was done to what.
pub(super) fn failed<E>(doing: &str, what: &str, error: SdkError<E, HttpResponse>) -> ObjectError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = status(&error);
    let code = error.as_service_error().and_then(|error| error.code());
    let reason = match error.as_service_error() {
        Some(service) => match (service.code(), service.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(said), None) | (None, Some(said)) => said.to_owned(),
            (None, None) => "no reason given".to_owned(),
        },
        None => one_line(&error),
    };
    let reason = match status {
        Some(status) => format!("cannot {doing} {what}: HTTP {status}: {reason}"),
        None => format!("cannot {doing} {what}: {reason}"),
    };
    let passing = matches!(status, Some(408 | 409 | 425 | 429)) || code.is_some_and(|code| PASSING.contains(&code));
    if status.is_some_and(|status| (400..500).contains(&status)) && !passing {
        ObjectError::Refused(squashed(&reason))
    } else {
        ObjectError::Unavailable(squashed(&reason))
    }
}

/// An error and its causes in one line, without saying anything twice.
pub(super) fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    for cause in std::iter::successors(Some(error), |&error| error.source()) {
        let cause = squashed(&cause.to_string());
        if !line.contains(&cause) {
            line = if line.is_empty() { cause } else { format!("{line}: {cause}") };
        }
    }
    line
}

/// Text on one line.
fn squashed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
