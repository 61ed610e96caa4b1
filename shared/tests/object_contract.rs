//! The contract of `ObjectStore`, run on every implementation: on a folder always, on S3 when `ADIT_TEST_S3_URL` names a bucket
//! (`s3://bucket/prefix?endpoint=http://host:port`, credentials by `AWS_*`). Each check has a place of its own and may run beside all others.
//! `killed` adds what can only be shown on a folder: processes that die at any moment.

#[cfg(test)]
#[path = "object_contract/killed.rs"]
mod killed;
#[cfg(test)]
#[path = "object_contract/objects.rs"]
mod objects;
#[cfg(test)]
#[path = "object_contract/place.rs"]
mod place;
#[cfg(test)]
#[path = "object_contract/uploads.rs"]
mod uploads;

/// Makes a test of every check for every kind of store. A check that is not in the list is an unused function, which the lints refuse.
macro_rules! contract {
    ($($module:ident: $($check:ident)*;)*) => {
        #[cfg(test)]
        mod folder {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                super::$module::$check(&super::place::Place::folder().await).await;
            })*)*
        }

        #[cfg(test)]
        mod s3 {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                if let Some(place) = super::place::Place::s3().await {
                    super::$module::$check(&place).await;
                    place.clear().await;
                }
            })*)*
        }
    };
}

contract! {
    objects:
        an_object_is_read_as_it_was_put
        an_object_is_replaced_whole
        what_is_not_there_is_not_found
        ranges_are_exact_at_the_edges
        a_long_object_is_streamed
        unsafe_keys_are_refused_by_every_call
        keys_of_any_script_and_sign_are_kept
        keys_are_listed_by_prefix_in_order
        a_prefix_is_no_object
        ten_thousand_keys_are_listed_and_deleted
        a_link_gives_the_object_under_its_file_name
        a_recorder_counts_calls_and_bytes;
    uploads:
        parts_put_at_once_in_any_order_make_the_object
        a_part_put_again_replaces_the_first
        an_upload_may_be_one_short_or_empty_part
        an_upload_goes_on_after_a_crash
        parts_that_make_no_object_are_refused
        an_upload_is_finished_once
        an_upload_replaces_an_object
        an_aborted_upload_is_gone
        uploads_of_similar_keys_are_told_apart
        a_thousand_parts_and_more_are_told
        a_thousand_uploads_and_more_are_searched;
}
