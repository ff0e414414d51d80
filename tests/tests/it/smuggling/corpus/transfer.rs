//! Two framings at once, and spellings of `Transfer-Encoding` that one server takes for
//! `chunked` and another does not.

use super::super::case::{Case, EVIL, last, passed, post, refused};

/// Lines that some server takes for `Transfer-Encoding: chunked`, or does not.
const SPELLINGS: &[(&str, &[u8])] = &[
    ("xchunked", b"Transfer-Encoding: xchunked"),
    ("identity", b"Transfer-Encoding: identity"),
    ("gzip then chunked", b"Transfer-Encoding: gzip, chunked"),
    (
        "chunked then identity",
        b"Transfer-Encoding: chunked, identity",
    ),
    ("chunked then gzip", b"Transfer-Encoding: chunked, gzip"),
    (
        "chunked twice in a list",
        b"Transfer-Encoding: chunked, chunked",
    ),
    ("trailing comma", b"Transfer-Encoding: chunked,"),
    ("leading comma", b"Transfer-Encoding: ,chunked"),
    ("parameter", b"Transfer-Encoding: chunked;q=1"),
    ("semicolon", b"Transfer-Encoding: chunked;"),
    ("double quotes", b"Transfer-Encoding: \"chunked\""),
    ("single quotes", b"Transfer-Encoding: 'chunked'"),
    ("empty value", b"Transfer-Encoding:"),
    ("space before colon", b"Transfer-Encoding : chunked"),
    ("tab before colon", b"Transfer-Encoding\t: chunked"),
    (
        "vertical tab before value",
        b"Transfer-Encoding:\x0bchunked",
    ),
    (
        "vertical tab behind value",
        b"Transfer-Encoding: chunked\x0b",
    ),
    ("form feed before value", b"Transfer-Encoding:\x0cchunked"),
    (
        "no-break space before value",
        b"Transfer-Encoding: \xa0chunked",
    ),
    (
        "carriage return before value",
        b"Transfer-Encoding:\rchunked",
    ),
    (
        "carriage return behind value",
        b"Transfer-Encoding: chunked\r",
    ),
    ("zero byte before value", b"Transfer-Encoding: \0chunked"),
    ("zero byte behind value", b"Transfer-Encoding: chunked\0"),
    ("zero byte in name", b"Transfer-Encoding\0: chunked"),
    ("byte ff behind value", b"Transfer-Encoding: chunked\xff"),
    ("folded value", b"Transfer-Encoding:\r\n chunked"),
    ("folded value with tab", b"Transfer-Encoding:\r\n\tchunked"),
    ("folded behind value", b"Transfer-Encoding: chunked\r\n x"),
    ("folded name", b"Transfer-\r\n Encoding: chunked"),
    ("leading space", b" Transfer-Encoding: chunked"),
    ("leading tab", b"\tTransfer-Encoding: chunked"),
    ("leading carriage return", b"\rTransfer-Encoding: chunked"),
    ("behind a line feed", b"X-A: b\nTransfer-Encoding: chunked"),
    (
        "behind a carriage return",
        b"X-A: b\rTransfer-Encoding: chunked",
    ),
    ("underscore", b"Transfer_Encoding: chunked"),
    ("space for hyphen", b"Transfer Encoding: chunked"),
    ("equals sign", b"Transfer-Encoding= chunked"),
    (
        "doubled field",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ),
    (
        "doubled, then identity",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ),
    (
        "doubled, then nonsense",
        b"Transfer-Encoding: chunked\r\nTransfer-encoding: x",
    ),
    (
        "doubled, nonsense first",
        b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    ),
    (
        "split in two",
        b"Transfer-Encoding: chu\r\nTransfer-Encoding: nked",
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let end_and_evil = format!("0\r\n\r\n{EVIL}");
    let mut cases = vec![
        refused(
            "CL.TE",
            "length first",
            400,
            post(
                "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\nG",
            ),
        ),
        refused(
            "CL.TE",
            "coding first",
            400,
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
                "0\r\n\r\nG",
            ),
        ),
        refused(
            "CL.TE",
            "whole request behind",
            400,
            post(
                "Content-Length: 60\r\nTransfer-Encoding: chunked\r\n",
                &end_and_evil,
            ),
        ),
        refused(
            "CL.TE",
            "length of zero",
            400,
            post(
                "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
                &end_and_evil,
            ),
        ),
        refused(
            "CL.TE",
            "other case",
            400,
            post(
                "content-length: 6\r\nTRANSFER-ENCODING: Chunked\r\n",
                "0\r\n\r\nG",
            ),
        ),
        refused(
            "CL.TE",
            "coding is named by connection",
            400,
            post(
                "Connection: transfer-encoding\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\nG",
            ),
        ),
        refused(
            "CL.TE",
            "length is named by connection",
            400,
            post(
                "Connection: content-length\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\nG",
            ),
        ),
        refused(
            "TE.CL",
            "whole request in a chunk",
            400,
            post(
                "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
                format!("2c\r\n{EVIL}\r\n0\r\n\r\n"),
            ),
        ),
        refused(
            "TE.CL",
            "coding first",
            400,
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                format!("2c\r\n{EVIL}\r\n0\r\n\r\n"),
            ),
        ),
        passed(
            "TE.0",
            "chunked is read as chunks",
            &["POST /a hello"],
            post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ),
        passed(
            "TE.0",
            "chunked in other case",
            &["POST /a hello"],
            post("tRANSFER-eNCODING: cHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ),
        passed(
            "TE.0",
            "white space around the value",
            &["POST /a hello"],
            post(
                "Transfer-Encoding: \t chunked\t \r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
        ),
        passed(
            "TE.0",
            "request behind the last chunk is made plainly",
            &["POST /a", "GET /evil"],
            post("Transfer-Encoding: chunked\r\n", &end_and_evil),
        ),
        passed(
            "TE.0",
            "GET with chunks",
            &["GET /a GET /x HTTP/1.1"],
            "GET %P/a HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\nf\r\nGET /x HTTP/1.1\r\n0\r\n\r\n",
        ),
        passed(
            "TE.0",
            "OPTIONS with chunks",
            &["OPTIONS /a GET /x HTTP/1.1"],
            "OPTIONS %P/a HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\nf\r\nGET /x HTTP/1.1\r\n0\r\n\r\n",
        ),
        refused(
            "TE.0",
            "with HTTP/1.0",
            400,
            format!(
                "POST %P/a HTTP/1.0\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n{end_and_evil}"
            ),
        ),
        refused(
            "TE.0",
            "with HTTP/1.0 that stays",
            400,
            format!(
                "POST %P/a HTTP/1.0\r\nHost: gate.test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n{end_and_evil}"
            ),
        ),
        last(
            "TE.0",
            "coding is named by connection",
            &["POST /a hello"],
            post(
                "Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
                format!("5\r\nhello\r\n0\r\n\r\n{EVIL}"),
            ),
        ),
        passed(
            "TE.0",
            "field with a longer name",
            &["POST /a 0\r\n\r\n"],
            post(
                "X-Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                "0\r\n\r\n",
            ),
        ),
    ];
    for (name, line) in SPELLINGS {
        let alone = [line, &b"\r\n"[..]].concat();
        let with_length = [b"Content-Length: 5\r\n", &alone[..]].concat();
        cases.push(refused("TE.TE", name, 400, post(&alone, &end_and_evil)));
        cases.push(refused(
            "TE.TE with length",
            name,
            400,
            post(with_length, &end_and_evil),
        ));
    }
    cases
}
