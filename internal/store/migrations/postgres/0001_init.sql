-- Times are microseconds since the epoch, UTC; NULL is no time. Money is nano-units.
-- JSON is TEXT. Text that is ordered or compared is COLLATE "C": bytes decide, as in
-- Go and in SQLite, whatever language the database was made for.

-- +goose Up

-- Whoever writes locks this table before anything else, so writers queue at the
-- beginning, where waiting costs no repetition. It has nothing in it.
CREATE TABLE writer ();

-- A transaction that writes leaves its token here, so that one whose commit got
-- no answer can be looked for. Tokens go after some minutes.
CREATE TABLE commits (
    token TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    at    BIGINT           NOT NULL
);
CREATE INDEX commits_by_time ON commits (at);

-- Objects of every kind. labels is the JSON that is read; the table labels is
-- what is searched.
CREATE TABLE objects (
    uid        TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (uid <> ''),
    kind       TEXT COLLATE "C" NOT NULL CHECK (kind <> ''),
    project    TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL CHECK (name <> ''),
    labels     TEXT             NOT NULL,
    owner      TEXT COLLATE "C" NOT NULL,
    generation BIGINT           NOT NULL CHECK (generation >= 1),
    revision   BIGINT           NOT NULL CHECK (revision >= 1),
    phase      TEXT COLLATE "C" NOT NULL CONSTRAINT objects_phase CHECK (phase IN (
        '', 'Pending', 'Queued', 'Starting', 'Running', 'Stopping', 'Succeeded', 'Failed', 'Stopped', 'Lost',
        'Preparing', 'Scanning', 'Ready', 'Degraded', 'Refused')),
    created_by TEXT COLLATE "C" NOT NULL,
    created_at BIGINT,
    updated_at BIGINT,
    deleted_at BIGINT,
    spec       TEXT             NOT NULL,
    status     TEXT             NOT NULL,
    UNIQUE (kind, project, name)
);
CREATE INDEX objects_by_project ON objects (project, kind, uid);
CREATE INDEX objects_by_phase ON objects (kind, phase, uid);
CREATE INDEX objects_by_owner ON objects (owner, uid);
CREATE INDEX objects_retiring ON objects (uid) WHERE deleted_at IS NOT NULL;

CREATE TABLE labels (
    uid   TEXT COLLATE "C" NOT NULL REFERENCES objects (uid) ON DELETE CASCADE,
    key   TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (uid, key)
);
CREATE INDEX labels_by_value ON labels (key, value, uid);

-- Lineage. An edge goes with the object that it comes from; the object that it
-- points to can't go.
CREATE TABLE edges (
    from_uid TEXT COLLATE "C" NOT NULL REFERENCES objects (uid) ON DELETE CASCADE,
    to_uid   TEXT COLLATE "C" NOT NULL REFERENCES objects (uid) ON DELETE RESTRICT,
    relation TEXT COLLATE "C" NOT NULL CHECK (relation <> ''),
    PRIMARY KEY (from_uid, to_uid, relation),
    CHECK (from_uid <> to_uid)
);
CREATE INDEX edges_by_target ON edges (to_uid);

-- The change log: the columns of objects as they were after each revision.
-- Revisions have no gaps; old ones are trimmed.
CREATE TABLE changes (
    revision   BIGINT           NOT NULL PRIMARY KEY,
    op         TEXT COLLATE "C" NOT NULL CHECK (op IN ('created', 'updated', 'deleted')),
    uid        TEXT COLLATE "C" NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    project    TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    labels     TEXT             NOT NULL,
    owner      TEXT COLLATE "C" NOT NULL,
    generation BIGINT           NOT NULL,
    phase      TEXT COLLATE "C" NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    created_at BIGINT,
    updated_at BIGINT,
    deleted_at BIGINT,
    spec       TEXT             NOT NULL,
    status     TEXT             NOT NULL
);

-- Facts outlive their object, so they don't refer to it by a foreign key.
CREATE TABLE events (
    seq     BIGINT           PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at      BIGINT           NOT NULL,
    project TEXT COLLATE "C" NOT NULL,
    kind    TEXT COLLATE "C" NOT NULL,
    uid     TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    reason  TEXT COLLATE "C" NOT NULL,
    message TEXT             NOT NULL
);
CREATE INDEX events_by_object ON events (uid, project, at, seq);
CREATE INDEX events_by_project ON events (project, at, seq);
CREATE INDEX events_by_time ON events (at, seq);

CREATE TABLE metrics (
    seq     BIGINT           PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    job     TEXT COLLATE "C" NOT NULL,
    attempt BIGINT           NOT NULL,
    at      BIGINT           NOT NULL,
    step    BIGINT           NOT NULL,
    points  TEXT             NOT NULL
);
CREATE INDEX metrics_by_job ON metrics (job, at, seq);

CREATE TABLE checkpoints (
    job          TEXT COLLATE "C" NOT NULL,
    step         BIGINT           NOT NULL,
    attempt      BIGINT           NOT NULL,
    digest       TEXT COLLATE "C" NOT NULL CHECK (digest <> ''),
    files        TEXT             NOT NULL,
    bytes        BIGINT           NOT NULL CHECK (bytes >= 0),
    committed_at BIGINT,
    PRIMARY KEY (job, step)
);

CREATE TABLE alias_moves (
    seq         BIGINT           PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    project     TEXT COLLATE "C" NOT NULL,
    model       TEXT COLLATE "C" NOT NULL,
    alias       TEXT COLLATE "C" NOT NULL,
    from_digest TEXT COLLATE "C" NOT NULL,
    to_digest   TEXT COLLATE "C" NOT NULL,
    moved_by    TEXT COLLATE "C" NOT NULL,
    at          BIGINT           NOT NULL,
    note        TEXT             NOT NULL
);
CREATE INDEX alias_moves_by_model ON alias_moves (project, model, seq);

CREATE TABLE audit (
    seq     BIGINT           NOT NULL PRIMARY KEY CHECK (seq >= 1),
    at      BIGINT           NOT NULL,
    actor   TEXT COLLATE "C" NOT NULL,
    role    TEXT COLLATE "C" NOT NULL,
    verb    TEXT COLLATE "C" NOT NULL,
    target  TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    detail  TEXT             NOT NULL,
    prev    TEXT COLLATE "C" NOT NULL UNIQUE,
    hash    TEXT COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE answers (
    actor   TEXT COLLATE "C" NOT NULL,
    key     TEXT COLLATE "C" NOT NULL,
    request TEXT COLLATE "C" NOT NULL,
    status  BIGINT           NOT NULL,
    body    BYTEA            NOT NULL,
    at      BIGINT,
    PRIMARY KEY (actor, key)
);

CREATE TABLE usage (
    id       TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    project  TEXT COLLATE "C" NOT NULL,
    job      TEXT COLLATE "C" NOT NULL,
    job_name TEXT COLLATE "C" NOT NULL,
    attempt  BIGINT           NOT NULL,
    rank     BIGINT           NOT NULL,
    pool     TEXT COLLATE "C" NOT NULL,
    node     TEXT COLLATE "C" NOT NULL,
    resource TEXT COLLATE "C" NOT NULL,
    amount   BIGINT           NOT NULL CHECK (amount >= 0),
    from_at  BIGINT           NOT NULL,
    to_at    BIGINT           NOT NULL,
    labels   TEXT             NOT NULL,
    outcome  TEXT COLLATE "C" NOT NULL CONSTRAINT usage_outcome CHECK (outcome IN ('succeeded', 'failed', 'lost', 'stopped')),
    CONSTRAINT usage_interval CHECK (from_at <= to_at)
);
CREATE INDEX usage_by_end ON usage (to_at);

-- A negative price is one that isn't known.
CREATE TABLE rates (
    seq      BIGINT           PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    pool     TEXT COLLATE "C" NOT NULL,
    resource TEXT COLLATE "C" NOT NULL,
    price    BIGINT           NOT NULL,
    capacity BIGINT           NOT NULL CHECK (capacity >= 0),
    from_at  BIGINT           NOT NULL
);
CREATE INDEX rates_by_time ON rates (from_at, seq);

-- Requests of the gateway: open until settled. ttft is nanoseconds.
CREATE TABLE requests (
    id                TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    credential        TEXT COLLATE "C" NOT NULL,
    project           TEXT COLLATE "C" NOT NULL,
    endpoint          TEXT COLLATE "C" NOT NULL,
    endpoint_name     TEXT COLLATE "C" NOT NULL,
    version           TEXT COLLATE "C" NOT NULL,
    route             TEXT COLLATE "C" NOT NULL,
    started           BIGINT           NOT NULL,
    reserved          BIGINT           NOT NULL CHECK (reserved >= 0),
    ended             BIGINT,
    prompt_tokens     BIGINT           NOT NULL DEFAULT 0 CHECK (prompt_tokens >= 0),
    completion_tokens BIGINT           NOT NULL DEFAULT 0 CHECK (completion_tokens >= 0),
    ttft              BIGINT           NOT NULL DEFAULT 0,
    outcome           TEXT COLLATE "C" NOT NULL DEFAULT '' CHECK (outcome IN ('', 'ok', 'aborted', 'failed', 'swept')),
    source            TEXT COLLATE "C" NOT NULL DEFAULT '' CHECK (source IN ('', 'upstream', 'counted', 'estimated')),
    status            BIGINT           NOT NULL DEFAULT 0,
    CONSTRAINT requests_settled CHECK ((outcome = '') = (ended IS NULL))
);
CREATE INDEX requests_by_endpoint ON requests (endpoint, started, id);
CREATE INDEX requests_by_credential ON requests (credential, started, id);
CREATE INDEX requests_by_start ON requests (started, id);
CREATE INDEX requests_by_end ON requests (ended);

-- The sums of a key's requests, so that a limit is checked without adding up:
-- used is what was settled, held what is reserved by open requests.
CREATE TABLE balances (
    credential TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    used       BIGINT           NOT NULL CHECK (used >= 0),
    held       BIGINT           NOT NULL CHECK (held >= 0)
);

CREATE TABLE credentials (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    hash        TEXT COLLATE "C" NOT NULL UNIQUE CHECK (hash <> ''),
    use         TEXT COLLATE "C" NOT NULL CHECK (use IN ('access', 'gateway', 'agent')),
    subject     TEXT COLLATE "C" NOT NULL,
    project     TEXT COLLATE "C" NOT NULL,
    role        TEXT COLLATE "C" NOT NULL,
    attempt     TEXT COLLATE "C" NOT NULL,
    endpoints   TEXT             NOT NULL,
    token_limit BIGINT           NOT NULL,
    rate        BIGINT           NOT NULL,
    created     BIGINT,
    expires     BIGINT,
    revoked     BIGINT
);
CREATE INDEX credentials_by_project ON credentials (project, id);
