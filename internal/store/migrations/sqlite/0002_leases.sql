-- +goose Up

-- Who leads. Every commit of a leader reads its row, so the beats, which are
-- many, are kept beside it: they don't get in the way of those commits.
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
