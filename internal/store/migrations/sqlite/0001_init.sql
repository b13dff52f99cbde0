-- Times are microseconds since the epoch, UTC; NULL is no time. Money is nano-units.
-- JSON is TEXT. STRICT makes the database refuse a value of another type.

-- +goose Up

-- Objects of every kind. labels is the JSON that is read; the table labels is
-- what is searched.
CREATE TABLE objects (
    uid        TEXT    NOT NULL PRIMARY KEY CHECK (uid <> ''),
    kind       TEXT    NOT NULL CHECK (kind <> ''),
    project    TEXT    NOT NULL,
    name       TEXT    NOT NULL CHECK (name <> ''),
    labels     TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    generation INTEGER NOT NULL CHECK (generation >= 1),
    revision   INTEGER NOT NULL CHECK (revision >= 1),
    phase      TEXT    NOT NULL CONSTRAINT objects_phase CHECK (phase IN (
        '', 'Pending', 'Queued', 'Starting', 'Running', 'Stopping', 'Succeeded', 'Failed', 'Stopped', 'Lost',
        'Preparing', 'Scanning', 'Ready', 'Degraded', 'Refused')),
    created_by TEXT    NOT NULL,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    spec       TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    UNIQUE (kind, project, name)
) STRICT;
CREATE INDEX objects_by_project ON objects (project, kind, uid);
CREATE INDEX objects_by_phase ON objects (kind, phase, uid);
CREATE INDEX objects_by_owner ON objects (owner, uid);
CREATE INDEX objects_retiring ON objects (uid) WHERE deleted_at IS NOT NULL;

CREATE TABLE labels (
    uid   TEXT NOT NULL REFERENCES objects (uid) ON DELETE CASCADE,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (uid, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX labels_by_value ON labels (key, value, uid);

-- Lineage. An edge goes with the object that it comes from; the object that it
-- points to can't go.
CREATE TABLE edges (
    from_uid TEXT NOT NULL REFERENCES objects (uid) ON DELETE CASCADE,
    to_uid   TEXT NOT NULL REFERENCES objects (uid) ON DELETE RESTRICT,
    relation TEXT NOT NULL CHECK (relation <> ''),
    PRIMARY KEY (from_uid, to_uid, relation),
    CHECK (from_uid <> to_uid)
) STRICT, WITHOUT ROWID;
CREATE INDEX edges_by_target ON edges (to_uid);

-- The change log: the columns of objects as they were after each revision.
-- Revisions have no gaps; old ones are trimmed.
CREATE TABLE changes (
    revision   INTEGER NOT NULL PRIMARY KEY,
    op         TEXT    NOT NULL CHECK (op IN ('created', 'updated', 'deleted')),
    uid        TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    project    TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    labels     TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    phase      TEXT    NOT NULL,
    created_by TEXT    NOT NULL,
    created_at INTEGER,
    updated_at INTEGER,
    deleted_at INTEGER,
    spec       TEXT    NOT NULL,
    status     TEXT    NOT NULL
) STRICT;

-- Facts outlive their object, so they don't refer to it by a foreign key.
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    project TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    uid     TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    reason  TEXT    NOT NULL,
    message TEXT    NOT NULL
) STRICT;
CREATE INDEX events_by_object ON events (uid, project, at, seq);
CREATE INDEX events_by_project ON events (project, at, seq);
CREATE INDEX events_by_time ON events (at, seq);

CREATE TABLE metrics (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    job     TEXT    NOT NULL,
    attempt INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    step    INTEGER NOT NULL,
    points  TEXT    NOT NULL
) STRICT;
CREATE INDEX metrics_by_job ON metrics (job, at, seq);

CREATE TABLE checkpoints (
    job          TEXT    NOT NULL,
    step         INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    digest       TEXT    NOT NULL CHECK (digest <> ''),
    files        TEXT    NOT NULL,
    bytes        INTEGER NOT NULL CHECK (bytes >= 0),
    committed_at INTEGER,
    PRIMARY KEY (job, step)
) STRICT;

CREATE TABLE alias_moves (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    project     TEXT    NOT NULL,
    model       TEXT    NOT NULL,
    alias       TEXT    NOT NULL,
    from_digest TEXT    NOT NULL,
    to_digest   TEXT    NOT NULL,
    moved_by    TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    note        TEXT    NOT NULL
) STRICT;
CREATE INDEX alias_moves_by_model ON alias_moves (project, model, seq);

CREATE TABLE audit (
    seq     INTEGER NOT NULL PRIMARY KEY CHECK (seq >= 1),
    at      INTEGER NOT NULL,
    actor   TEXT    NOT NULL,
    role    TEXT    NOT NULL,
    verb    TEXT    NOT NULL,
    target  TEXT    NOT NULL,
    outcome TEXT    NOT NULL,
    detail  TEXT    NOT NULL,
    prev    TEXT    NOT NULL UNIQUE,
    hash    TEXT    NOT NULL UNIQUE
) STRICT;

CREATE TABLE answers (
    actor   TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    request TEXT    NOT NULL,
    status  INTEGER NOT NULL,
    body    BLOB    NOT NULL,
    at      INTEGER,
    PRIMARY KEY (actor, key)
) STRICT;

CREATE TABLE usage (
    id       TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    project  TEXT    NOT NULL,
    job      TEXT    NOT NULL,
    job_name TEXT    NOT NULL,
    attempt  INTEGER NOT NULL,
    rank     INTEGER NOT NULL,
    pool     TEXT    NOT NULL,
    node     TEXT    NOT NULL,
    resource TEXT    NOT NULL,
    amount   INTEGER NOT NULL CHECK (amount >= 0),
    from_at  INTEGER NOT NULL,
    to_at    INTEGER NOT NULL,
    labels   TEXT    NOT NULL,
    outcome  TEXT    NOT NULL CONSTRAINT usage_outcome CHECK (outcome IN ('succeeded', 'failed', 'lost', 'stopped')),
    CONSTRAINT usage_interval CHECK (from_at <= to_at)
) STRICT;
CREATE INDEX usage_by_end ON usage (to_at);

-- A negative price is one that isn't known.
CREATE TABLE rates (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    pool     TEXT    NOT NULL,
    resource TEXT    NOT NULL,
    price    INTEGER NOT NULL,
    capacity INTEGER NOT NULL CHECK (capacity >= 0),
    from_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX rates_by_time ON rates (from_at, seq);

-- Requests of the gateway: open until settled. ttft is nanoseconds.
CREATE TABLE requests (
    id                TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    credential        TEXT    NOT NULL,
    project           TEXT    NOT NULL,
    endpoint          TEXT    NOT NULL,
    endpoint_name     TEXT    NOT NULL,
    version           TEXT    NOT NULL,
    route             TEXT    NOT NULL,
    started           INTEGER NOT NULL,
    reserved          INTEGER NOT NULL CHECK (reserved >= 0),
    ended             INTEGER,
    prompt_tokens     INTEGER NOT NULL DEFAULT 0 CHECK (prompt_tokens >= 0),
    completion_tokens INTEGER NOT NULL DEFAULT 0 CHECK (completion_tokens >= 0),
    ttft              INTEGER NOT NULL DEFAULT 0,
    outcome           TEXT    NOT NULL DEFAULT '' CHECK (outcome IN ('', 'ok', 'aborted', 'failed', 'swept')),
    source            TEXT    NOT NULL DEFAULT '' CHECK (source IN ('', 'upstream', 'counted', 'estimated')),
    status            INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT requests_settled CHECK ((outcome = '') = (ended IS NULL))
) STRICT;
CREATE INDEX requests_by_endpoint ON requests (endpoint, started, id);
CREATE INDEX requests_by_credential ON requests (credential, started, id);
CREATE INDEX requests_by_start ON requests (started, id);
CREATE INDEX requests_by_end ON requests (ended);

-- The sums of a key's requests, so that a limit is checked without adding up:
-- used is what was settled, held what is reserved by open requests.
CREATE TABLE balances (
    credential TEXT    NOT NULL PRIMARY KEY,
    used       INTEGER NOT NULL CHECK (used >= 0),
    held       INTEGER NOT NULL CHECK (held >= 0)
) STRICT;

CREATE TABLE credentials (
    id          TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    hash        TEXT    NOT NULL UNIQUE CHECK (hash <> ''),
    use         TEXT    NOT NULL CHECK (use IN ('access', 'gateway', 'agent')),
    subject     TEXT    NOT NULL,
    project     TEXT    NOT NULL,
    role        TEXT    NOT NULL,
    attempt     TEXT    NOT NULL,
    endpoints   TEXT    NOT NULL,
    token_limit INTEGER NOT NULL,
    rate        INTEGER NOT NULL,
    created     INTEGER,
    expires     INTEGER,
    revoked     INTEGER
) STRICT;
CREATE INDEX credentials_by_project ON credentials (project, id);
