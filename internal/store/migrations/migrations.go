// Package migrations holds the schema of the state, one SQL file for each
// released version, in the form of goose (github.com/pressly/goose). They only
// go forward; a file that was released is never changed. A version has the same
// number in every dialect, and a file in each.
package migrations

import "embed"

// SQLite has the folder "sqlite".
//
//go:embed sqlite/*.sql
var SQLite embed.FS

// PostgreSQL has the folder "postgres".
//
//go:embed postgres/*.sql
var PostgreSQL embed.FS
