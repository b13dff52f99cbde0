// Package dataset makes versions of datasets: it collects files, cleans them,
// drops duplicates, splits, tokenises and packs them into shards.
//
// A version is a pure function of the files below the source folder and the
// spec: no clock, no order of a directory, no name of a machine gets into it.
// So the same input has the same digest everywhere, and a preparation may be
// repeated at any time.
//
// A document is a regular file whose path matches the source's patterns, taken
// in order of the paths' bytes; symbolic links are not followed. Each document
// ends in exactly one split or is counted under the first reason to drop it:
//
//	unreadable      it can't be opened or read
//	too_large       over maxBytes after cleaning, over 32 MiB before it, or
//	                longer than a shard in a format whose documents can't be cut
//	binary          it holds a zero byte
//	not_utf8        its bytes are not UTF-8
//	empty           nothing but white space is left after cleaning
//	too_small       under minBytes after cleaning
//	duplicate       an earlier document has the same cleaned content
//	near_duplicate  MinHash puts it into the cluster of an earlier document
//
// Cleaning removes the spaces, tabs and carriage returns at the end of each
// line, which makes LF of CRLF.
//
// The source is read twice, a document at a time, so memory is bounded by the
// largest document and some hundred bytes for each document.
package dataset
