use super::*;

/// What a meter says after a body, the same however the body is cut.
fn read(dialect: AiDialect, shape: Shape, body: &str) -> (Usage, [bool; 3]) {
    let ask = |meter: &Meter| {
        let facts = [
            meter.has_content(),
            meter.is_terminated(),
            meter.has_error(),
        ];
        (meter.usage(11), facts)
    };
    let mut whole = Meter::new(dialect, shape);
    whole.push(body.as_bytes());
    let expected = ask(&whole);
    for at in 0..=body.len() {
        let (head, tail) = body.as_bytes().split_at(at);
        let mut meter = Meter::new(dialect, shape);
        meter.push(head);
        meter.push(tail);
        assert_eq!(ask(&meter), expected, "cut at {at}");
        assert_eq!(meter.events(), whole.events());
    }
    expected
}

fn counted(input: u64, cached: u64, cache_written: u64, output: u64) -> Usage {
    Usage {
        input,
        cached,
        cache_written,
        output,
        is_estimated: false,
    }
}

const CHAT: &str = concat!(
    r#"data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"c1","choices":[{"index":0,"delta":{"content":"Good \"day\""}}],"usage":null}"#,
    "\n\n: ping\n\n",
    r#"data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"c1","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":3,"total_tokens":23,"prompt_tokens_details":{"cached_tokens":16},"completion_tokens_details":{"reasoning_tokens":1}}}"#,
    "\n\ndata: [DONE]\n\n",
);

#[test]
fn a_chat_stream_is_counted_by_its_last_chunk() {
    let (usage, facts) = read(AiDialect::OpenAi, Shape::EventStream, CHAT);
    assert_eq!(usage, counted(20, 16, 0, 3));
    assert_eq!(facts, [true, true, false]);
}

#[test]
fn a_stream_that_is_left_is_estimated() {
    let cut = CHAT.find(": ping").unwrap();
    let (usage, facts) = read(AiDialect::OpenAi, Shape::EventStream, &CHAT[..cut]);
    assert_eq!(facts, [true, false, false]);
    assert_eq!(
        usage,
        Usage {
            input: 11,
            output: 3,
            is_estimated: true,
            ..Usage::default()
        }
    );
}

#[test]
fn the_first_chunk_has_no_content() {
    let cut = CHAT.find("\n\n").unwrap() + 2;
    let (_, facts) = read(AiDialect::OpenAi, Shape::EventStream, &CHAT[..cut]);
    assert_eq!(facts, [false; 3]);
    let calls = r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":""}}]}}]}"#;
    let (_, facts) = read(AiDialect::OpenAi, Shape::EventStream, calls);
    assert_eq!(facts, [true, false, false]);
    let thinks = r#"data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}"#;
    let (_, facts) = read(AiDialect::OpenAi, Shape::EventStream, thinks);
    assert_eq!(facts, [true, false, false]);
}

#[test]
fn a_response_stream_is_not_counted_twice() {
    let stream = concat!(
        "event: response.created\n",
        r#"data: {"type":"response.created","response":{"id":"r","status":"in_progress","output":[],"usage":null,"error":null}}"#,
        "\n\nevent: response.output_text.delta\n",
        r#"data: {"type":"response.output_text.delta","item_id":"m","output_index":0,"delta":"12345678"}"#,
        "\n\nevent: response.output_text.done\n",
        r#"data: {"type":"response.output_text.done","text":"12345678"}"#,
        "\n\nevent: response.completed\n",
        r#"data: {"type":"response.completed","response":{"output":[{"content":[{"type":"output_text","text":"12345678"}]}],"usage":USAGE}}"#,
        "\n\n",
    );
    let usage = r#"{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":2,"total_tokens":11}"#;
    let (found, facts) = read(
        AiDialect::OpenAi,
        Shape::EventStream,
        &stream.replace("USAGE", usage),
    );
    assert_eq!(found, counted(9, 4, 0, 2));
    assert_eq!(facts, [true, true, false]);
    let (found, _) = read(
        AiDialect::OpenAi,
        Shape::EventStream,
        &stream.replace("USAGE", "null"),
    );
    assert_eq!((found.output, found.is_estimated), (2, true));
}

const MESSAGES: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"m","role":"assistant","content":[],"usage":{"input_tokens":5,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":1}}}"#,
    "\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    "\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello there, you"}}"#,
    "\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}"#,
    "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

#[test]
fn a_message_stream_is_counted_with_its_cache() {
    let (usage, facts) = read(AiDialect::Anthropic, Shape::EventStream, MESSAGES);
    assert_eq!(usage, counted(1105, 1000, 100, 15));
    assert_eq!(facts, [true, true, false]);
    let pings = MESSAGES.find("event: content_block_delta").unwrap();
    let (usage, facts) = read(AiDialect::Anthropic, Shape::EventStream, &MESSAGES[..pings]);
    assert_eq!(
        (usage.input, usage.output, usage.is_estimated),
        (1105, 1, true)
    );
    assert_eq!(facts, [false; 3]);
    let cut = MESSAGES.find("event: message_delta").unwrap();
    let (usage, _) = read(AiDialect::Anthropic, Shape::EventStream, &MESSAGES[..cut]);
    assert_eq!((usage.output, usage.is_estimated), (4, true));
}

#[test]
fn errors_in_a_stream_are_seen() {
    for (dialect, event) in [
        (
            AiDialect::Anthropic,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"full\"}}\n\n",
        ),
        (
            AiDialect::OpenAi,
            "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n",
        ),
        (
            AiDialect::OpenAi,
            "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"x\"}}}\n\n",
        ),
    ] {
        let (_, [_, _, has_error]) = read(dialect, Shape::EventStream, event);
        assert!(has_error, "{event}");
    }
    let none = "data: {\"choices\":[],\"error\":null}\n\n";
    let (_, facts) = read(AiDialect::OpenAi, Shape::EventStream, none);
    assert_eq!(facts, [false; 3]);
}

#[test]
fn an_error_instead_of_an_answer_uses_nothing() {
    let error = r#"{"error":{"message":"no such model","type":"invalid_request_error"}}"#;
    let (usage, facts) = read(AiDialect::OpenAi, Shape::Json, error);
    assert_eq!((usage, facts), (Usage::default(), [false, true, true]));
}

#[test]
fn a_stream_without_its_last_word_ends_with_the_reason() {
    let cut = CHAT.find(r#"data: {"id":"c1","choices":[],"#).unwrap();
    let (_, facts) = read(AiDialect::OpenAi, Shape::EventStream, &CHAT[..cut]);
    assert_eq!(facts, [true, true, false]);
    let cut = MESSAGES.find("event: message_stop").unwrap();
    let (_, facts) = read(AiDialect::Anthropic, Shape::EventStream, &MESSAGES[..cut]);
    assert_eq!(facts, [true, true, false]);
}

#[test]
fn documents_of_each_api_are_counted() {
    for (dialect, document, expected) in [
        (
            AiDialect::OpenAi,
            r#"{"choices":[{"message":{"role":"assistant","content":"hi"}}],"usage":{"prompt_tokens":2,"completion_tokens":1}}"#,
            (counted(2, 0, 0, 1), true),
        ),
        (
            AiDialect::OpenAi,
            r#"{"usage":{"prompt_tokens":2,"completion_tokens":1},"choices":[{"text":"hi"}]}"#,
            (counted(2, 0, 0, 1), true),
        ),
        (
            AiDialect::OpenAi,
            r#"{"output":[{"type":"message","content":[{"type":"output_text","text":"hi"}]}],"usage":{"input_tokens":3,"output_tokens":1}}"#,
            (counted(3, 0, 0, 1), true),
        ),
        (
            AiDialect::OpenAi,
            r#"{"object":"list","data":[{"embedding":[0.25,-1e-3]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            (counted(8, 0, 0, 0), false),
        ),
        (
            AiDialect::Anthropic,
            r#"{"content":[{"type":"tool_use","name":"f","input":{"city":"Kiel"}}],"usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":6}}"#,
            (counted(7, 4, 0, 6), true),
        ),
    ] {
        let (usage, [has_content, is_terminated, has_error]) = read(dialect, Shape::Json, document);
        assert_eq!((usage, has_content), expected, "{document}");
        assert!(is_terminated && !has_error, "{document}");
    }
}

#[test]
fn a_document_that_is_cut_is_estimated_from_what_came() {
    let cut = r#"{"choices":[{"message":{"content":"12345678"#;
    let (usage, facts) = read(AiDialect::OpenAi, Shape::Json, cut);
    assert_eq!(
        (usage.input, usage.output, usage.is_estimated),
        (11, 2, true)
    );
    assert_eq!(facts, [true, false, false]);
}

#[test]
fn usage_after_a_very_long_text_is_found() {
    let text = "x".repeat(3_000_000);
    let event = format!(
        "data: {{\"type\":\"response.completed\",\"response\":{{\"output\":[{{\"content\":[{{\"text\":\"{text}\"}}]}}],\"usage\":{{\"input_tokens\":1,\"output_tokens\":750000}}}}}}\n\n"
    );
    let mut meter = Meter::new(AiDialect::OpenAi, Shape::EventStream);
    for chunk in event.as_bytes().chunks(1000) {
        meter.push(chunk);
    }
    assert_eq!(meter.usage(0), counted(1, 0, 0, 750_000));
}
