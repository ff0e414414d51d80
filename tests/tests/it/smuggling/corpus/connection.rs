//! Connections: what ends them, what becomes of them, what comes behind.

use super::super::case::{Case, EVIL, answered, behind, get, last, partly, passed, post, refused};

/// A WebSocket handshake's fields.
const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn on_open_route(fields: &str, behind: &str) -> String {
    format!("GET /-/w/c%N/status=400 HTTP/1.1\r\nHost: gate.test\r\n{fields}\r\n{behind}")
}

pub(super) fn cases() -> Vec<Case> {
    let bad = "GET %P/bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    vec![
        passed(
            "pipeline",
            "three",
            &["GET /a", "GET /evil", "GET /evil"],
            format!("GET %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\n{EVIL}{EVIL}"),
        ),
        passed(
            "pipeline",
            "behind a body",
            &["POST /a hello", "GET /evil"],
            post("Content-Length: 5\r\n", format!("hello{EVIL}")),
        ),
        passed(
            "pipeline",
            "empty line between",
            &["POST /a hello", "GET /evil"],
            post("Content-Length: 5\r\n", format!("hello\r\n{EVIL}")),
        ),
        partly(
            "pipeline",
            "behind one that is refused",
            &["GET /a"],
            400,
            format!("GET %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\n{bad}{EVIL}"),
        ),
        refused("pipeline", "first is refused", 400, format!("{bad}{EVIL}")),
        passed(
            "pipeline",
            "one byte too much",
            &["POST /a hello", "XGET /evil"],
            post("Content-Length: 5\r\n", format!("helloX{EVIL}")),
        ),
        partly(
            "pipeline",
            "text behind",
            &["GET /a"],
            400,
            format!("GET %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\nhello\r\n\r\n{EVIL}"),
        ),
        partly(
            "pipeline",
            "framing doubled in the second",
            &["GET /a"],
            400,
            format!(
                "GET %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\n{}",
                "POST %P/b HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        answered(
            "pipeline",
            "behind what is not the proxy's",
            404,
            "GET /nothing HTTP/1.1\r\nHost: gate.test\r\n\r\n",
        ),
        refused(
            "pipeline",
            "two framings outside of the proxy",
            400,
            format!(
                "POST /nothing HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{EVIL}"
            ),
        ),
        behind(
            "other parser",
            "GET before",
            404,
            &["GET /evil"],
            format!("GET /nothing HTTP/1.1\r\nHost: gate.test\r\n\r\n{EVIL}"),
        ),
        behind(
            "other parser",
            "body before",
            404,
            &["GET /evil"],
            format!(
                "POST /nothing HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 5\r\n\r\nhello{EVIL}"
            ),
        ),
        behind(
            "other parser",
            "chunks before",
            404,
            &["GET /evil"],
            format!(
                "POST /nothing HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-A: b\r\n\r\n{EVIL}"
            ),
        ),
        behind(
            "other parser",
            "body before that is a request",
            404,
            &[],
            "POST /nothing HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 54\r\n\r\nGET /-/o/nobody/evil HTTP/1.1\r\nHost: gate.test\r\n\r\n1234",
        ),
        behind(
            "other parser",
            "chunk before that is a request",
            404,
            &[],
            "POST /nothing HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n32\r\nGET /-/o/nobody/evil HTTP/1.1\r\nHost: gate.test\r\n\r\n\r\n0\r\n\r\n",
        ),
        refused(
            "other parser",
            "odd chunk before",
            404,
            format!(
                "POST /nothing HTTP/1.1\r\nHost: gate.test\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{EVIL}"
            ),
        ),
        refused(
            "other parser",
            "line feeds before",
            400,
            format!("GET /nothing HTTP/1.1\nHost: gate.test\n\n{EVIL}"),
        ),
        refused(
            "other parser",
            "two lengths before",
            400,
            format!(
                "POST /nothing HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\nhello{EVIL}"
            ),
        ),
        partly(
            "other parser",
            "behind the proxy's",
            &["GET /a"],
            404,
            format!(
                "GET %P/a HTTP/1.1\r\nHost: gate.test\r\n\r\nGET /nothing HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n\r\n{EVIL}"
            ),
        ),
        last(
            "other parser",
            "start of HTTP/2 behind a request",
            &["GET /a"],
            "GET %P/a HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ),
        last(
            "connection",
            "close",
            &["GET /a"],
            format!(
                "{}{EVIL}",
                "GET %P/a HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n\r\n"
            ),
        ),
        last(
            "connection",
            "close among others",
            &["GET /a"],
            format!(
                "{}{EVIL}",
                "GET %P/a HTTP/1.1\r\nHost: gate.test\r\nConnection: keep-alive, , Close\r\n\r\n"
            ),
        ),
        last(
            "connection",
            "close in the second field",
            &["GET /a"],
            format!(
                "{}{EVIL}",
                "GET %P/a HTTP/1.1\r\nHost: gate.test\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n"
            ),
        ),
        last(
            "connection",
            "HTTP/1.0",
            &["GET /a"],
            format!("GET %P/a HTTP/1.0\r\nHost: gate.test\r\n\r\n{EVIL}"),
        ),
        passed(
            "connection",
            "HTTP/1.0 that stays",
            &["GET /a", "GET /evil"],
            format!("GET %P/a HTTP/1.0\r\nHost: gate.test\r\nConnection: keep-alive\r\n\r\n{EVIL}"),
        ),
        last(
            "connection",
            "HTTP/1.0 that stays and closes",
            &["GET /a"],
            format!(
                "GET %P/a HTTP/1.0\r\nHost: gate.test\r\nConnection: keep-alive, close\r\n\r\n{EVIL}"
            ),
        ),
        last(
            "connection",
            "HTTP/1.0 with another's keep-alive",
            &["GET /a"],
            format!(
                "GET %P/a HTTP/1.0\r\nHost: gate.test\r\nProxy-Connection: keep-alive\r\n\r\n{EVIL}"
            ),
        ),
        passed(
            "connection",
            "proxy-connection does not close",
            &["GET /a"],
            get("Proxy-Connection: close\r\n"),
        ),
        passed(
            "connection",
            "names who the client is",
            &["GET /a"],
            get("Connection: x-forwarded-for, forwarded, via\r\nX-Forwarded-For: 1.2.3.4\r\n"),
        ),
        passed(
            "connection",
            "names host",
            &["GET /a"],
            get("Connection: host\r\n"),
        ),
        passed(
            "connection",
            "names authorization and cookie",
            &["GET /a"],
            get(
                "Connection: authorization, cookie\r\nAuthorization: Basic YTpi\r\nCookie: a=b\r\n",
            ),
        ),
        passed(
            "connection",
            "names fields of its own",
            &["GET /a"],
            get(
                "Connection: x-a, TE, keep-alive\r\nKeep-Alive: timeout=9\r\nTE: trailers\r\nX-A: b\r\nX-B: c\r\n",
            ),
        ),
        refused("connection", "no tokens", 400, get("Connection: a b\r\n")),
        refused(
            "connection",
            "zero byte",
            400,
            get("Connection: close\0\r\n"),
        ),
        passed(
            "upgrade",
            "h2c is passed over",
            &["GET /a", "GET /evil"],
            format!(
                "{}{EVIL}",
                "GET %P/a HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
            ),
        ),
        passed(
            "upgrade",
            "h2c with a body",
            &["POST /a hello"],
            post(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 5\r\n",
                "hello",
            ),
        ),
        passed(
            "upgrade",
            "h2c without connection",
            &["GET /a"],
            get("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
        ),
        passed(
            "upgrade",
            "unknown protocol",
            &["GET /a", "GET /evil"],
            format!(
                "{}{EVIL}",
                "GET %P/a HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: fax/2\r\n\r\n"
            ),
        ),
        refused(
            "upgrade",
            "unknown protocol with a body",
            400,
            post(
                "Connection: Upgrade\r\nUpgrade: fax/2\r\nContent-Length: 5\r\n",
                format!("hello{EVIL}"),
            ),
        ),
        passed(
            "upgrade",
            "list",
            &["GET /a", "GET /evil"],
            format!(
                "{}{EVIL}",
                "GET %P/a HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n"
            ),
        ),
        passed(
            "upgrade",
            "doubled",
            &["GET /a", "GET /evil"],
            format!(
                "{}{EVIL}",
                "GET %P/a HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c, x\r\n\r\n"
            ),
        ),
        passed(
            "upgrade",
            "websocket without connection",
            &["GET /a", "GET /evil"],
            format!(
                "{}{EVIL}",
                "GET %P/a HTTP/1.1\r\nHost: gate.test\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ),
        ),
        answered(
            "upgrade",
            "websocket where it is not let through",
            501,
            get(WEBSOCKET),
        ),
        refused(
            "upgrade",
            "websocket with a body",
            400,
            on_open_route(
                &format!("{WEBSOCKET}Content-Length: 5\r\n"),
                &format!("hello{EVIL}"),
            ),
        ),
        refused(
            "upgrade",
            "websocket with chunks",
            400,
            on_open_route(
                &format!("{WEBSOCKET}Transfer-Encoding: chunked\r\n"),
                &format!("0\r\n\r\n{EVIL}"),
            ),
        ),
        passed(
            "upgrade",
            "upstream answers 400, request behind",
            &["GET /a/status=400", "GET /evil"],
            format!(
                "GET /-/w/c%N/a/status=400 HTTP/1.1\r\nHost: gate.test\r\n{WEBSOCKET}\r\n{EVIL}"
            ),
        ),
        passed(
            "upgrade",
            "upstream answers 200, request behind",
            &["GET /a", "GET /evil"],
            format!("GET /-/w/c%N/a HTTP/1.1\r\nHost: gate.test\r\n{WEBSOCKET}\r\n{EVIL}"),
        ),
        passed(
            "upgrade",
            "upstream answers 426 to another version",
            &["GET /a/status=426", "GET /evil"],
            format!(
                "GET /-/w/c%N/a/status=426 HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 1337\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n{EVIL}"
            ),
        ),
        answered(
            "upgrade",
            "websocket without key",
            400,
            "GET /-/w/c%N/a HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
        ),
        answered(
            "upgrade",
            "websocket by POST",
            400,
            format!("POST /-/w/c%N/a HTTP/1.1\r\nHost: gate.test\r\n{WEBSOCKET}\r\n"),
        ),
        last(
            "upgrade",
            "websocket with HTTP/1.0",
            &["GET /a"],
            format!("GET /-/w/c%N/a HTTP/1.0\r\nHost: gate.test\r\n{WEBSOCKET}\r\n{EVIL}"),
        ),
        refused(
            "wait",
            "body that does not come",
            408,
            post("Content-Length: 5000\r\n", "hell"),
        ),
        refused(
            "wait",
            "chunk that does not come",
            408,
            post("Transfer-Encoding: chunked\r\n", "5000\r\nhell"),
        ),
        refused(
            "wait",
            "head that does not end",
            408,
            "GET %P/a HTTP/1.1\r\nHost: gate",
        ),
    ]
}
