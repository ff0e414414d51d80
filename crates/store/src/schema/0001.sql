-- Both databases understand every line: TEXT and BIGINT, no types of their own.
CREATE TABLE proxies (
    id TEXT NOT NULL PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL
);

-- Outlives the row, so that a deleted one can come back.
CREATE TABLE proxy_history (
    id TEXT NOT NULL,
    version BIGINT NOT NULL,
    kind TEXT NOT NULL,
    author TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    path TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (id, version)
);

-- `sealed` is base64; see seal.rs.
CREATE TABLE secrets (
    name TEXT NOT NULL,
    environment TEXT NOT NULL DEFAULT 'global',
    sealed TEXT NOT NULL,
    key_id TEXT NOT NULL,
    updated_ms BIGINT NOT NULL,
    author TEXT NOT NULL,
    PRIMARY KEY (name, environment)
);

CREATE TABLE spending (
    identity TEXT NOT NULL,
    window_kind TEXT NOT NULL,
    window_start BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    micro_cost BIGINT NOT NULL,
    PRIMARY KEY (identity, window_kind, window_start)
);

CREATE INDEX spending_by_window ON spending (window_start);
