//! `/console/…`: the operators' console. Its files hold no data; what they show they ask
//! for with the token that whoever looks has given them.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use console::{Asset, Face};

/// The path without the slash at the end, which leads to the one with it.
const BARE: &str = "/console";
const ROOT: &str = "/console/";

pub(crate) fn routes() -> Router {
    Router::new()
        .route(BARE, get(redirect))
        .route(ROOT, get(async |request: Request| serve(&request)))
        .route(
            "/console/{*path}",
            get(async |request: Request| serve(&request)),
        )
}

/// Whether a path is the console's.
pub(crate) fn is_page(path: &str) -> bool {
    path == BARE || path.starts_with(ROOT)
}

async fn redirect() -> Response {
    let place = [(header::LOCATION, ROOT)];
    (StatusCode::PERMANENT_REDIRECT, place).into_response()
}

fn serve(request: &Request) -> Response {
    let path = request.uri().path();
    let below = path.strip_prefix(ROOT).unwrap_or_default();
    match console::find(Face::Console, below) {
        Some(asset) => embedded(request, &asset),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A file, or word that the browser has it.
fn embedded(request: &Request, asset: &Asset) -> Response {
    let known = request.headers().get(header::IF_NONE_MATCH);
    let is_known = known
        .and_then(|known| known.to_str().ok())
        .is_some_and(|known| known.split(',').any(|tag| tag.trim() == asset.etag));
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Body::from(asset.bytes).into_response(),
    };
    let keep = match asset.immutable {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let headers = response.headers_mut();
    if !is_known {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(asset.content_type),
        );
        if asset.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    for (name, value) in [
        (header::ETAG, asset.etag),
        (header::CACHE_CONTROL, keep),
        (
            header::CONTENT_SECURITY_POLICY,
            console::CONTENT_SECURITY_POLICY,
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
