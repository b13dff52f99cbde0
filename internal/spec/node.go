package spec

import "fmt"

// node is a value of a manifest before anybody knows what it should be: the
// one form that YAML and JSON are both read into.
type node struct {
	shape   shape
	line    int
	text    string  // of a scalar, as it was written; of text without its quotes
	entries []entry // of an object, in order, without duplicates
	items   []*node // of a list
}

type entry struct {
	key   string
	line  int
	value *node
}

type shape int

const (
	null shape = iota
	text
	number
	boolean
	object
	list
)

func (s shape) String() string {
	return [...]string{"nothing", "text", "a number", "true or false", "an object", "a list"}[s]
}

// describe tells what was given, with the value where it is short and no secret.
func (c *checker) describe(n *node) string {
	switch {
	case c.hideValues:
	case n.shape == text:
		return fmt.Sprintf("the text %.40q", n.text)
	case n.shape == number || n.shape == boolean:
		return fmt.Sprintf("%.40s", n.text)
	}
	return n.shape.String()
}
