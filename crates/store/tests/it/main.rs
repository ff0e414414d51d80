//! The store on both databases, and under kills.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod kill;
mod outage;
mod place;
mod suite;

use place::Place;

/// Each case of the suite on each database.
macro_rules! on_both {
    ($($case:ident: $($of:ident)::+),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::suite::$($of)::+::$case(&crate::Place::sqlite()).await;
            })*
        }
        mod postgresql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::suite::$($of)::+::$case(&crate::Place::postgres()).await;
            })*
        }
    };
}

on_both! {
    row_lives_from_creation_to_deletion: records,
    path_belongs_to_one_row: records,
    stale_versions_are_refused_and_change_nothing: records,
    every_version_can_be_had_back: records,
    deleted_row_comes_back: records,
    history_is_read_in_pages_and_keeps_the_latest: records,
    what_does_not_fit_is_refused: records,
    text_comes_back_as_it_was: records,
    one_of_many_writers_wins_each_version: races,
    one_of_many_gets_the_path: races,
    snapshots_are_never_half: races,
    store_is_opened_by_many_at_once: races,
    secrets_are_shown_to_nobody: secrets,
    mask_is_never_stored: secrets,
    wrong_key_says_what_to_do: secrets,
    keys_can_be_changed: secrets,
    secret_of_another_name_does_not_open: secrets,
    spending_adds_up: spending,
    changes_are_heard_by_others: changes,
    refused_change_is_heard_by_nobody: changes,
    newer_schema_is_refused: schema,
    rows_outlive_the_process: schema,
}
