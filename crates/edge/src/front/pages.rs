//! The playground, and the tokens it is given while the demo is on.

use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, StatusCode};

use super::origin;
use super::reply::{self, Reply};
use super::routes::{Asked, refuse};

/// The files as they are on disk; they need no build.
const INDEX: &str = include_str!("../../playground/index.html");
const SCRIPT: &str = include_str!("../../playground/playground.js");
const STYLE: &str = include_str!("../../playground/style.css");

/// Answers what is no client transport.
pub(super) fn answer(asked: &Asked, path: &str) -> Reply {
    // Browsers ask for it unasked; no page of ours has one.
    if path == "/favicon.ico" {
        return reply::empty(StatusCode::NO_CONTENT);
    }
    let Some(demo) = &asked.live.demo else {
        if path == "/" {
            let message =
                "not found: the playground is part of the demo, which is off (demo.enabled)";
            return refuse(asked, StatusCode::NOT_FOUND, "path", message);
        }
        return refuse(asked, StatusCode::NOT_FOUND, "path", "not found");
    };
    let method = asked.request.method();
    let page = match path {
        "/" | "/index.html" => reply::content("text/html; charset=utf-8", INDEX),
        "/playground.js" => reply::content("text/javascript; charset=utf-8", SCRIPT),
        "/style.css" => reply::content("text/css; charset=utf-8", STYLE),
        "/demo/token" if method == Method::POST => {
            if !origin::is_admitted(&asked.live, asked.request.headers()) {
                return refuse(
                    asked,
                    StatusCode::FORBIDDEN,
                    "origin",
                    "origin is not allowed",
                );
            }
            let minted = demo();
            let body = serde_json::json!({
                "token": minted.token,
                "user": minted.user,
                "expires_in": minted.expires_in,
            });
            return reply::content("application/json", body.to_string());
        }
        "/demo/token" => {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return refuse(asked, status, "method", "method is not allowed");
        }
        _ => return refuse(asked, StatusCode::NOT_FOUND, "path", "not found"),
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return refuse(asked, status, "method", "method is not allowed");
    }
    secured(page)
}

/// Adds what keeps a page from loading or running anything that is not its own.
fn secured(mut page: Reply) -> Reply {
    let headers = page.headers_mut();
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'self'; frame-ancestors 'none'; base-uri 'none'"),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    page
}
