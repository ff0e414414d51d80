//! health, metrics, the server API and operator endpoints.
