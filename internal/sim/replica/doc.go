// Package replica holds one kind of test: three processes on one real PostgreSQL
// lead by a lease and claim jobs from one queue, while the leader is killed or
// frozen, the database restarted, connections cut in the midst of a commit, and
// commits refused as not serializable. All that they did goes through
// porcupine, which looks for an order in which a single process could have done
// it: nothing lost, nothing claimed twice, no commit of a leader after its
// successor's takeover.
//
// It prints its seed and what took longest; two variables change it:
//
//	PENSTOCK_CHAOS_SEED    the seed of what happens to whom, and when
//	PENSTOCK_CHAOS_ROUNDS  how many rounds; default 15
package replica
