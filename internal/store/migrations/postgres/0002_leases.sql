-- +goose Up

-- Who leads. Every commit of a leader reads its row, so the beats, which are
-- many, are kept beside it: they don't get in the way of those commits.
CREATE TABLE leases (
    name   TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (name <> ''),
    holder TEXT COLLATE "C" NOT NULL,
    token  BIGINT           NOT NULL CHECK (token >= 1),
    since  BIGINT           NOT NULL
);

CREATE TABLE beats (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES leases (name) ON DELETE CASCADE,
    beat BIGINT           NOT NULL CHECK (beat >= 1)
);
