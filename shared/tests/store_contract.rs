//! What every implementation of `Store` must do, run on SQLite always and on PostgreSQL where `ADIT_TEST_POSTGRES_URL`
//! names a database (whose user may make schemas; each test has one of its own and drops it).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what was skipped or measured"
)]

mod store_contract {
    pub(crate) mod allowances;
    pub(crate) mod connections;
    pub(crate) mod docsets;
    pub(crate) mod docsets_made;
    pub(crate) mod harness;
    pub(crate) mod holdings;
    pub(crate) mod imports;
    pub(crate) mod keys;
    pub(crate) mod leases;
    pub(crate) mod members;
    pub(crate) mod opening;
    pub(crate) mod packages;
    pub(crate) mod reindex;
    pub(crate) mod rights;
    pub(crate) mod samples;
    pub(crate) mod watches;
}

/// Makes of each case one test for each database.
macro_rules! contract {
    ($($group:ident: $($case:ident),+ $(,)?;)+) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    crate::store_contract::harness::on_sqlite(crate::store_contract::$group::$case).await;
                }
            )+)+
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    crate::store_contract::harness::on_postgres(crate::store_contract::$group::$case).await;
                }
            )+)+
        }
    };
}

contract! {
    allowances:
        an_exchange_grants_what_is_left_and_small_leases_at_the_end,
        a_lease_of_a_clock_that_was_ahead_is_waited_for_by_nobody,
        exchanges_at_once_never_take_more_than_there_is,
        minutes_are_forgotten_and_days_are_not,
        a_package_is_paid_for_once_or_not_at_all,
        what_was_used_before_there_were_allowances_stays_used;
    connections:
        who_writes_waits_while_all_connections_are_in_use;
    holdings:
        limits_on_holdings_are_of_roles_and_of_keys,
        a_key_makes_no_more_docsets_than_it_may,
        a_key_has_no_more_packages_than_it_may,
        a_document_is_recorded_as_charged_once,
        a_package_can_be_paid_for_after_it_was_built,
        a_deleted_docset_stays_for_packages_of_others;
    opening:
        many_can_open_a_new_database_at_once,
        what_is_stored_outlives_the_process,
        a_trial_of_writing_changes_nothing_that_is_read,
        versions_from_before_imports_were_recorded_stay,
        a_schema_from_the_future_is_refused,
        errors_tell_neither_statements_nor_values;
    keys:
        a_key_is_found_by_its_hash_and_number_whatever_its_state,
        a_key_is_narrowed_and_expires,
        the_last_use_of_a_key_is_the_latest,
        a_key_that_nothing_belongs_to_is_removed,
        keys_from_before_they_had_scopes_may_do_as_much_as_before,
        a_keys_own_limits_go_before_those_of_its_role,
        a_secret_is_made_once_for_all;
    leases:
        one_import_holds_a_collection,
        an_overtaken_import_changes_nothing,
        what_a_dead_import_left_is_removed,
        an_aborted_import_leaves_nothing,
        a_commit_may_be_asked_for_again,
        a_corpus_version_names_the_import_that_made_it,
        who_begins_while_another_commits_stands_on_what_that_one_made,
        only_one_of_many_gets_the_lease,
        a_lease_further_ahead_than_it_can_be_is_void,
        a_lease_is_shown_and_can_be_broken;
    imports:
        nothing_is_visible_before_the_commit,
        a_new_version_replaces_the_old_one_from_its_corpus_version_on,
        an_import_without_changes_keeps_the_corpus_version,
        every_field_comes_back_as_it_was,
        names_belong_to_one_ref,
        version_ids_are_never_given_out_twice,
        version_ids_run_out,
        imports_into_two_collections_run_at_once,
        totals_stay_true_over_many_imports,
        a_version_tells_when_it_was_imported,
        collections_are_listed_by_slug;
    members:
        members_come_in_order_with_the_wanted_files,
        pages_of_every_shape_give_every_member_once,
        a_missing_member_is_an_error,
        described_members_come_with_their_metadata,
        members_are_found_by_ref_in_their_docset_only,
        a_waiting_consumer_holds_no_connection;
    docsets:
        a_docset_comes_back_as_it_was_made,
        a_docset_belongs_to_its_owner,
        docsets_are_listed_newest_first,
        a_million_members_are_one_small_row,
        deleting_a_docset_deletes_its_packages,
        no_id_is_used_again;
    docsets_made:
        summaries_are_what_the_documents_are,
        a_docset_is_measured_as_its_members_are,
        summaries_go_with_what_was_staged,
        thousands_of_refs_are_found_at_once,
        the_newest_versions_stand_for_their_works,
        a_docset_says_how_it_was_made,
        equal_docsets_are_found_for_their_owner,
        a_link_opens_a_docset_until_it_ends;
    packages:
        equal_requests_share_one_package,
        what_cannot_be_fetched_is_not_reused,
        equal_requests_at_once_make_one_package,
        one_of_many_may_send_a_request,
        a_claim_that_is_given_back_leaves_no_trace,
        a_package_keeps_the_salt_that_no_other_has,
        statuses_are_taken_in_by_their_sequence,
        statuses_out_of_order_end_with_the_newest,
        a_finished_package_stays_as_it_is,
        dismissing_and_erasing_are_for_the_owner,
        expired_packages_are_found,
        packages_of_one_fingerprint_are_found_for_their_owner,
        packages_that_nobody_speaks_of_are_found,
        a_package_needs_its_docset_and_owner;
    rights:
        a_key_is_entitled_until_it_is_denied,
        closed_documents_are_told_by_their_access_level,
        the_newest_version_decides_who_may_have_all_versions,
        a_package_keeps_what_was_withheld_of_it,
        a_collection_tells_its_terms,
        a_withdrawn_work_is_current_no_more_from_the_next_version_on,
        a_withdrawal_that_is_undone_leaves_no_trace;
    watches:
        a_watch_belongs_to_its_owner,
        what_is_new_begins_at_one_id,
        a_watch_looks_at_a_version_once,
        an_attempt_is_made_by_one_and_counted,
        who_wants_no_more_is_told_no_more;
    reindex:
        a_corpus_version_can_be_new_by_its_index_alone,
        an_index_holds_what_is_current;
}
