//go:build race

package runtest

// Race says that the tests, and the agents that BuildAgent makes for them, have
// the race detector: such a program is neither static nor small.
const Race = true
