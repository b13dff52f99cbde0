CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
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
CREATE TABLE labels (
    uid   TEXT NOT NULL REFERENCES objects (uid) ON DELETE CASCADE,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (uid, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE edges (
    from_uid TEXT NOT NULL REFERENCES objects (uid) ON DELETE CASCADE,
    to_uid   TEXT NOT NULL REFERENCES objects (uid) ON DELETE RESTRICT,
    relation TEXT NOT NULL CHECK (relation <> ''),
    PRIMARY KEY (from_uid, to_uid, relation),
    CHECK (from_uid <> to_uid)
) STRICT, WITHOUT ROWID;
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
CREATE TABLE metrics (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    job     TEXT    NOT NULL,
    attempt INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    step    INTEGER NOT NULL,
    points  TEXT    NOT NULL
) STRICT;
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
CREATE TABLE rates (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    pool     TEXT    NOT NULL,
    resource TEXT    NOT NULL,
    price    INTEGER NOT NULL,
    capacity INTEGER NOT NULL CHECK (capacity >= 0),
    from_at  INTEGER NOT NULL
) STRICT;
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
CREATE TABLE leases (
    name   TEXT    NOT NULL PRIMARY KEY CHECK (name <> ''),
    holder TEXT    NOT NULL,
    token  INTEGER NOT NULL CHECK (token >= 1),
    since  INTEGER NOT NULL
) STRICT;
CREATE TABLE beats (
    name TEXT    NOT NULL PRIMARY KEY REFERENCES leases (name) ON DELETE CASCADE,
    beat INTEGER NOT NULL CHECK (beat >= 1)
) STRICT;
CREATE INDEX objects_by_project ON objects (project, kind, uid);
CREATE INDEX objects_by_phase ON objects (kind, phase, uid);
CREATE INDEX objects_by_owner ON objects (owner, uid);
CREATE INDEX objects_retiring ON objects (uid) WHERE deleted_at IS NOT NULL;
CREATE INDEX labels_by_value ON labels (key, value, uid);
CREATE INDEX edges_by_target ON edges (to_uid);
CREATE INDEX events_by_object ON events (uid, project, at, seq);
CREATE INDEX events_by_project ON events (project, at, seq);
CREATE INDEX events_by_time ON events (at, seq);
CREATE INDEX metrics_by_job ON metrics (job, at, seq);
CREATE INDEX alias_moves_by_model ON alias_moves (project, model, seq);
CREATE INDEX usage_by_end ON usage (to_at);
CREATE INDEX rates_by_time ON rates (from_at, seq);
CREATE INDEX requests_by_endpoint ON requests (endpoint, started, id);
CREATE INDEX requests_by_credential ON requests (credential, started, id);
CREATE INDEX requests_by_start ON requests (started, id);
CREATE INDEX requests_by_end ON requests (ended);
CREATE INDEX credentials_by_project ON credentials (project, id);
CREATE INDEX objects_by_kind ON objects (kind, uid);
INSERT INTO goose_db_version VALUES (1, 0, 1, '2026-11-25 04:22:21');
INSERT INTO goose_db_version VALUES (2, 1, 1, '2026-11-25 04:22:21');
INSERT INTO goose_db_version VALUES (3, 2, 1, '2026-11-25 04:22:21');
INSERT INTO goose_db_version VALUES (4, 3, 1, '2026-11-25 04:22:21');
INSERT INTO objects VALUES ('019ca8bb-b63c-7000-8000-000000000001', 'Job', 'vision', 'train', 'null', '', 1, 1, 'Pending', 'ann', 1772357460123456, 1772357460123456, NULL, '{"priority":1}', '');
INSERT INTO objects VALUES ('019ca8bb-b63d-7000-8000-000000000002', 'Job', 'vision', 'tune', 'null', '', 1, 2, 'Pending', 'ann', 1772357520123456, 1772357520123456, NULL, '{"priority":1}', '');
INSERT INTO edges VALUES ('019ca8bb-b63d-7000-8000-000000000002', '019ca8bb-b63c-7000-8000-000000000001', 'job');
INSERT INTO changes VALUES (1, 'created', '019ca8bb-b63c-7000-8000-000000000001', 'Job', 'vision', 'train', 'null', '', 1, 'Pending', 'ann', 1772357460123456, 1772357460123456, NULL, '{"priority":1}', '');
INSERT INTO changes VALUES (2, 'created', '019ca8bb-b63d-7000-8000-000000000002', 'Job', 'vision', 'tune', 'null', '', 1, 'Pending', 'ann', 1772357520123456, 1772357520123456, NULL, '{"priority":1}', '');
INSERT INTO events VALUES (1, 1772357460123456, 'vision', 'Job', '019ca8bb-b63c-7000-8000-000000000001', 'train', 'Started', 'on node a');
INSERT INTO metrics VALUES (1, '019ca8bb-b63c-7000-8000-000000000001', 1, 1772357460123456, 1, '{"loss":0.5}');
INSERT INTO checkpoints VALUES ('019ca8bb-b63c-7000-8000-000000000001', 10, 1, 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '[{"path":"weights/0","size":3,"digest":"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}]', 3, 1772358000123456);
INSERT INTO alias_moves VALUES (1, 'vision', 'resnet', 'prod', 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'ann', 1772357460123456, 'better');
INSERT INTO audit VALUES (1, 1772357460123456, 'ann', 'admin', 'create', 'job/vision/train', 'ok', 'a <b> & ü', '0000000000000000000000000000000000000000000000000000000000000000', '8212ea4963fe083177696f0995c16b87437d1bf89f1fc592aa16c5c3f71308b7');
INSERT INTO answers VALUES ('ann', 'k1', 'sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 201, X'7B2278223AFF007D', 1772357460123456);
INSERT INTO usage VALUES ('u1', 'vision', '019ca8bb-b63c-7000-8000-000000000001', 'train', 2, 3, 'local', 'a', 'h100', 9223372036854775807, 1772357400123456, 1772361000123456, '{"team":"red"}', 'succeeded');
INSERT INTO rates VALUES (1, 'local', 'h100', 2500000001, 8000, 1772357400123456);
INSERT INTO requests VALUES ('r1', 'key', 'vision', '019ca8bb-b63c-7000-8000-000000000001', 'chat', 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'chat', 1772357400123456, 100, 1772357460123456, 20, 30, 123456789, 'ok', 'upstream', 200);
INSERT INTO requests VALUES ('r2', 'key', 'vision', '019ca8bb-b63c-7000-8000-000000000001', 'chat', 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'chat', 1772357400123456, 100, NULL, 0, 0, 0, '', '', 0);
INSERT INTO balances VALUES ('key', 50, 100);
INSERT INTO credentials VALUES ('c1', 'hash of c1', 'gateway', 'ann', 'vision', 'viewer', '019ca8bb-b63e-7000-8000-000000000003', '["chat","embed"]', 1099511627776, 60, 1772357460123456, 1772357520123456, NULL);
