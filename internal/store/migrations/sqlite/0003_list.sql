-- A list of a kind, page by page in order of creation.

-- +goose Up

CREATE INDEX objects_by_kind ON objects (kind, uid);
