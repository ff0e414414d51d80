//! The pages of the demo: the playground, the market screen, and the tokens for both.

use console::{Asset, Face};
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH, LOCATION,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, StatusCode};

use super::origin;
use super::reply::{self, Reply};
use super::routes::{Asked, refuse};
use super::websocket::bearer;

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
        if matches!(path, "/" | "/market" | "/market/") {
            let message = "not found: playground and market screen are part of the demo, which \
                           is off (demo.enabled)";
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
            // A connection keeps its user: whoever shows the token it has goes on with that one.
            let minted = demo(bearer(asked.request.headers()));
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
        "/market" => {
            let mut there = reply::empty(StatusCode::PERMANENT_REDIRECT);
            let headers = there.headers_mut();
            headers.insert(LOCATION, HeaderValue::from_static("/market/"));
            return there;
        }
        path => {
            let below = path.strip_prefix("/market/");
            match below.and_then(|below| console::find(Face::Market, below)) {
                Some(asset) => embedded(asked, &asset),
                None => return refuse(asked, StatusCode::NOT_FOUND, "path", "not found"),
            }
        }
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return refuse(asked, status, "method", "method is not allowed");
    }
    secured(page)
}

/// A file of a built page, or word that the browser has it.
fn embedded(asked: &Asked, asset: &Asset) -> Reply {
    let known = asked.request.headers().get(IF_NONE_MATCH);
    let is_known = known
        .and_then(|known| known.to_str().ok())
        .is_some_and(|known| known.split(',').any(|tag| tag.trim() == asset.etag));
    let mut page = if is_known {
        reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        reply::content(asset.content_type, asset.bytes)
    };
    let headers = page.headers_mut();
    if asset.gzip && !is_known {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(ETAG, HeaderValue::from_static(asset.etag));
    let keep = if asset.immutable {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    let policy = HeaderValue::from_static(console::CONTENT_SECURITY_POLICY);
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    page
}

/// Adds what keeps a page from loading or running anything that is not its own.
fn secured(mut page: Reply) -> Reply {
    let headers = page.headers_mut();
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
        ));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    page
}
