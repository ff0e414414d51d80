//! Recovery as the client sees it; `session::recovery` decides.

use super::play::{play, play_with};

#[test]
fn what_was_missed_comes_with_the_reply() {
    play(
        r#"
        as alice
        stream news:a 3
        > {"id":2,"subscribe":{"channel":"news:a","recoverable":true,"recover":true,"epoch":"epoch","offset":1}}
        asked news:a positioned recover
        < {"id":2,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"recovered":true,"epoch":"epoch","offset":1,"publications":[{"data":0,"offset":2},{"data":0,"offset":3}]}}
        "#,
    );
}

#[test]
fn client_from_the_start_gets_the_whole_stream() {
    play(
        r#"
        as alice
        stream news:a 1
        > {"id":2,"subscribe":{"channel":"news:a","recoverable":true,"recover":true}}
        < {"id":2,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"recovered":true,"epoch":"epoch","publications":[{"data":0,"offset":1}]}}
        "#,
    );
}

#[test]
fn lost_position_is_not_recovered_and_the_top_is_told() {
    play(
        r#"
        as alice
        stream news:a 3
        lose news:a
        stream news:a 2
        > {"id":2,"subscribe":{"channel":"news:a","recoverable":true,"recover":true,"epoch":"epoch","offset":1}}
        < {"id":2,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"epoch":"other","offset":2}}
        stream news:b 3
        forget news:b
        stream news:b 1
        > {"id":3,"subscribe":{"channel":"news:b","recoverable":true,"recover":true,"epoch":"epoch","offset":2}}
        < {"id":3,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"epoch":"epoch","offset":4}}
        # What SDKs send after the state was invalidated.
        > {"id":4,"subscribe":{"channel":"news:c","recoverable":true,"recover":true,"epoch":"_"}}
        < {"id":4,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"epoch":"epoch"}}
        "#,
    );
}

#[test]
fn more_than_the_limit_is_not_recovered() {
    play_with(
        |settings| settings.client.recovery_max_publication_limit = 2,
        r#"
        as alice
        stream news:a 3
        > {"id":2,"subscribe":{"channel":"news:a","recoverable":true,"recover":true,"epoch":"epoch"}}
        < {"id":2,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"epoch":"epoch","offset":3}}
        > {"id":3,"unsubscribe":{"channel":"news:a"}}
        left news:a
        < {"id":3,"unsubscribe":{}}
        > {"id":4,"subscribe":{"channel":"news:a","recoverable":true,"recover":true,"epoch":"epoch","offset":1}}
        < {"id":4,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"recovered":true,"epoch":"epoch","offset":1,"publications":[{"data":0,"offset":2},{"data":0,"offset":3}]}}
        "#,
    );
}

#[test]
fn flag_turns_not_recovered_into_an_error_that_leaves_nothing() {
    let play = play(
        r#"
        as alice
        stream news:a 1
        > {"id":2,"subscribe":{"channel":"news:a","recoverable":true,"recover":true,"epoch":"_","flag":3}}
        left news:a
        < {"id":2,"error":{"code":112,"message":"unrecoverable position"}}
        > {"id":3,"subscribe":{"channel":"news:a","recoverable":true,"recover":true,"epoch":"epoch","flag":3}}
        < {"id":3,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"recovered":true,"epoch":"epoch","publications":[{"data":0,"offset":1}]}}
        # Bit 1 alone means nothing.
        > {"id":4,"subscribe":{"channel":"news:b","recoverable":true,"recover":true,"epoch":"_","flag":1}}
        < {"id":4,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"epoch":"epoch"}}
        # A channel without history recovers nothing either.
        > {"id":5,"subscribe":{"channel":"open:a","recover":true,"epoch":"epoch","offset":4,"flag":2}}
        < {"id":5,"error":{"code":112,"message":"unrecoverable position"}}
        > {"id":6,"subscribe":{"channel":"open:a","recover":true,"epoch":"epoch","offset":4}}
        < {"id":6,"subscribe":{}}
        "#,
    );
    assert_eq!(play.session.subscriptions().len(), 3);
}

#[test]
fn cache_gives_the_latest_unasked() {
    play(
        r#"
        as alice
        > {"id":2,"subscribe":{"channel":"cache:empty"}}
        < {"id":2,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"epoch":"epoch"}}
        stream cache:a 3
        > {"id":3,"subscribe":{"channel":"cache:a"}}
        < {"id":3,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"recovered":true,"epoch":"epoch","offset":3,"publications":[{"data":0,"offset":3}]}}
        > {"id":4,"unsubscribe":{"channel":"cache:a"}}
        left cache:a
        < {"id":4,"unsubscribe":{}}
        # The client that has it already does not get it again.
        > {"id":5,"subscribe":{"channel":"cache:a","recover":true,"epoch":"epoch","offset":3}}
        < {"id":5,"subscribe":{"recoverable":true,"positioned":true,"was_recovering":true,"recovered":true,"epoch":"epoch","offset":3}}
        "#,
    );
}
