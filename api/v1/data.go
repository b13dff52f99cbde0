package v1

import (
	"time"

	"github.com/penstock/penstock"
)

// Dataset is a source and the steps that make it fit for training.
type Dataset = Resource[DatasetSpec, DatasetStatus]

// DatasetSpec declares where the data comes from and what is done to it.
type DatasetSpec struct {
	Source    Source  `json:"source"`
	Prepare   Prepare `json:"prepare,omitzero"`
	Class     string  `json:"class,omitempty" enum:"public,internal,confidential,regulated"` // how far it may be shown
	Residency string  `json:"residency,omitempty"`                                           // the jurisdiction that it belongs to
	// Resources are what the preparation takes.
	Resources penstock.Resources `json:"resources,omitempty"`
}

// Source is a tree of files.
type Source struct {
	// Path is a folder on the machine that prepares. "$GOROOT/src" is the Go
	// standard library of that machine; no other variable is expanded.
	Path string `json:"path"`
	// Include and Exclude are glob patterns on the path below Path, with "**"
	// for any number of folders. Without Include, every file counts.
	Include []string `json:"include,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
	// MaxFiles bounds how many files are taken, in order of their path; 0 is
	// no bound.
	MaxFiles int `json:"maxFiles,omitempty"`
}

// Prepare is the recipe, in the order in which it is done: clean, deduplicate,
// split, tokenise, pack.
type Prepare struct {
	// MinBytes and MaxBytes drop documents by their size after cleaning.
	MinBytes int64 `json:"minBytes,omitempty"`
	MaxBytes int64 `json:"maxBytes,omitempty"`
	// Deduplicate drops documents: "exact" by the digest of their cleaned
	// content, "near" also by MinHash (5-word shingles, 14 bands of 8).
	Deduplicate string `json:"deduplicate,omitempty" enum:"none,exact,near"`
	// Split names the parts and their shares in hundredths, as in
	// {"train": 90, "heldout": 10}. A document's part depends on its content
	// and Seed alone.
	Split map[string]int `json:"split,omitempty"`
	Seed  int64          `json:"seed,omitempty"` // of the split
	// Tokeniser turns text into tokens: "bytes" (token = byte + 3, with 1 before
	// and 2 after each document).
	Tokeniser string `json:"tokeniser,omitempty" enum:"bytes"`
	// Format is how shards are written: "tokens-u16" (raw little-endian uint16)
	// or "jsonl" (one document a line, {"path":…,"text":…}).
	Format string `json:"format,omitempty" enum:"tokens-u16,jsonl"`
	// ShardBytes is the size that a shard may not pass.
	ShardBytes int64 `json:"shardBytes,omitempty"`
}

// DatasetStatus tells the newest version.
type DatasetStatus struct {
	Version    penstock.Digest `json:"version,omitempty"`
	Job        string          `json:"job,omitempty"`
	Generation int64           `json:"generation,omitempty"`
	Counts     *Counts         `json:"counts,omitempty"`
	Conditions []Condition     `json:"conditions,omitempty"`
}

// DatasetVersion is one immutable result of a preparation. Its name is the
// dataset's name, a dash, and the first 12 digits of Digest.
type DatasetVersion = Resource[DatasetVersionSpec, struct{}]

// DatasetVersionSpec is the version's manifest. Digest is the SHA-256 of its
// canonical JSON without Digest and Dataset, so equal data has equal digests,
// whatever it is called.
type DatasetVersionSpec struct {
	Dataset string                `json:"dataset"`
	Digest  penstock.Digest       `json:"digest,omitempty"`
	Splits  map[string]SplitFiles `json:"splits"`
	Counts  Counts                `json:"counts"`
	// Recipe is the digest of source patterns and Prepare: which recipe made it.
	Recipe penstock.Digest `json:"recipe"`
	Format string          `json:"format"`
}

// SplitFiles is one part of a version: its shards in order.
type SplitFiles struct {
	Shards    []File `json:"shards"`
	Documents int64  `json:"documents"`
	Tokens    int64  `json:"tokens"`
}

// Counts accounts for every document: In = Out + the sum of Dropped.
type Counts struct {
	In      int64            `json:"in"`
	Out     int64            `json:"out"`
	Dropped map[string]int64 `json:"dropped,omitempty"`
	Bytes   int64            `json:"bytes"`
}

// Checkpoint is one committed step of a job: all its files, or nothing.
type Checkpoint struct {
	Job       penstock.UID    `json:"job"`
	Step      int64           `json:"step"`
	Attempt   int             `json:"attempt"`
	Digest    penstock.Digest `json:"digest"` // of the canonical JSON of Files
	Files     []File          `json:"files"`
	Bytes     int64           `json:"bytes"`
	Committed time.Time       `json:"committedAt"`
}
