// Package feed hands a task its training samples in an order that nothing but
// the seed, the epoch and the data decides. There is no cursor and no state
// file: whoever asks for a step gets the samples of that step, on any machine,
// after any crash, at any number of ranks that divides the batch.
//
// # Samples
//
// The tokens of all shards of a split, in the order of the manifest, are one
// stream. Sample s is the window tokens from s·window on: windows don't overlap,
// and one may begin in one shard and end in the next, as it may hold the end of
// one document and the beginning of another. So samples don't depend on the
// size of shards, and only the last tokens of the stream, fewer than window, are
// never handed out.
//
// # Order
//
// Epoch e is a permutation of the samples, made of seed, e and the version's
// digest (see Order), and the epochs follow each other without a gap. With n
// samples, position p of that endless sequence is sample order(p mod n) of epoch
// p / n. Step t takes the positions from t·batch to (t+1)·batch; a batch may
// begin in one epoch and end in the next, so that every sample comes exactly
// once in each epoch. Rank r of w takes the r-th of w equal parts of the batch.
// So the batches of all ranks, one after the other, are the same sequence for
// every w.
//
// # Protocol
//
// HTTP/1.1 over the Unix socket whose path is in PENSTOCK_FEED; the host name
// doesn't matter. There is no state on the connection; it may be kept open.
//
//	GET /batch?step=N      N from 0 on, decimal
//
//	200 OK
//	Content-Type: application/octet-stream
//	Content-Length: 2·batch/world·window
//	X-Penstock-Epoch: the epoch, from 0 on, of the first sample of the whole batch
//	X-Penstock-CRC32C: the body's CRC-32C (RFC 3720, appendix B.4), 8 lower-case hexadecimal digits
//
// The body is this rank's part: batch/world samples of window tokens, each a
// little-endian uint16, without a gap: an array [batch/world][window].
//
//	GET /info
//
//	200 OK
//	Content-Type: application/json
//
//	{"samples":1200,"window":257,"batch":8,"world":2,"rank":0,"steps_per_epoch":150,"seed":7,"digest":"sha256:…"}
//
// steps_per_epoch is samples / batch, rounded down. All else is refused with a
// status from 400 on and a v1.Problem as application/problem+json: 422 for a
// step that isn't one, 500 with code "corrupt" where a shard isn't any more what
// it was. A batch is read whole before its first byte is sent, so a body is
// right or there is none.
package feed
