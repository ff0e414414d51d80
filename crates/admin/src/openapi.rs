//! OpenAPI 3.1 documents of this listener, kept by hand beside the code.
//!
//! They are served without credentials; a test holds them to the routes.

/// Where [`SERVER_API`] is served.
pub const SERVER_API_PATH: &str = "/api/openapi.json";
/// Where [`ADMIN`] is served.
pub const ADMIN_PATH: &str = "/admin/openapi.json";

/// The server API.
pub const SERVER_API: &str = include_str!("../openapi/server-api.json");
/// Health, metrics and `/admin`.
pub const ADMIN: &str = include_str!("../openapi/admin.json");

#[cfg(test)]
mod tests;
