package telemetry

// The names of attributes in the log. One thing has one name everywhere, so
// that a search for it finds all of it.
const (
	KeyError    = "error"    // what went wrong, with causes
	KeyPlace    = "place"    // where in the loop or the request
	KeyProject  = "project"  // name
	KeyKind     = "kind"     // of an object
	KeyName     = "name"     // of an object
	KeyUID      = "uid"      // of an object
	KeyJob      = "job"      // name
	KeyAttempt  = "attempt"  // number
	KeyRank     = "rank"     // of a task
	KeyPool     = "pool"     // name
	KeyNode     = "node"     // name
	KeyEndpoint = "endpoint" // name
	KeyPhase    = "phase"    // that an object is in now
	KeyReason   = "reason"   // code of a Reason or an event
	KeyActor    = "actor"    // id of the credential, never the token
	KeyRequest  = "request"  // id of the call
	KeyStatus   = "status"   // HTTP
	KeyAddress  = "address"  // host:port
	KeyTook     = "took"     // duration
	KeyAssert   = "assertion"
)
