//go:build !race

package runtest

// raceFlags build the agent with the race detector where the tests have it.
var raceFlags []string
