package spec

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/penstock/penstock/api/v1"
)

// Marshal writes objects as YAML documents, with the fields in the order in
// which their types have them, status and metadata included. Parse reads it
// back as the same objects, less what the server sets.
//
// It has its own writer, because the promise is that each text stays that text
// for any reader of YAML: what isn't a plain word is put in double quotes.
func Marshal(objs []v1.Object) ([]byte, error) {
	var w yamlWriter
	for i, o := range objs {
		b, err := json.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", o.Ref(), err)
		}
		n, err := readJSON(b)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", o.Ref(), err)
		}
		if i > 0 {
			w.WriteString("---\n")
		}
		w.object(n, 0)
	}
	return []byte(w.String()), nil
}

type yamlWriter struct{ strings.Builder }

// flowWidth is how long a list of words may be to stand in one line.
const flowWidth = 100

func (w *yamlWriter) object(n *node, indent int) {
	for i, e := range n.entries {
		if i > 0 {
			w.pad(indent)
		}
		w.WriteString(plain(e.key) + ":")
		switch v := e.value; {
		case len(v.entries) > 0:
			w.WriteByte('\n')
			w.pad(indent + 2)
			w.object(v, indent+2)
		case len(v.items) > 0 && flow(v) == "":
			w.WriteByte('\n')
			w.list(v, indent)
		default:
			w.WriteString(" " + inline(v) + "\n")
		}
	}
}

func (w *yamlWriter) list(n *node, indent int) {
	for _, item := range n.items {
		w.pad(indent)
		switch {
		case len(item.entries) > 0:
			w.WriteString("- ")
			w.object(item, indent+2)
		case len(item.items) > 0 && flow(item) == "":
			w.WriteString("-\n")
			w.list(item, indent+2)
		default:
			w.WriteString("- " + inline(item) + "\n")
		}
	}
}

func (w *yamlWriter) pad(n int) { w.WriteString(strings.Repeat(" ", n)) }

// inline is a value that fits in a line.
func inline(n *node) string {
	switch n.shape {
	case text:
		return plain(n.text)
	case number, boolean:
		return n.text
	case object:
		return "{}"
	case list:
		return flow(n)
	}
	return "null"
}

// flow is a short list of scalars in one line, or "".
func flow(n *node) string {
	words := make([]string, len(n.items))
	for i, item := range n.items {
		if item.shape == object || item.shape == list {
			return ""
		}
		words[i] = inline(item)
	}
	line := "[" + strings.Join(words, ", ") + "]"
	if len(line) > flowWidth {
		return ""
	}
	return line
}

// plainWord is text that every YAML reader takes for itself without quotes, but
// for the words of notText; plainAmount is an amount or a duration with its unit.
var (
	plainWord = regexp.MustCompile(`^(\./|--?)?[A-Za-z/_$][A-Za-z0-9/_.$@+=-]*([ :]?[A-Za-z0-9/_.$@+=-]+)*$`)

	plainAmount = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(h|ms|m|s|[KMGT]i|k|M|G|T))+$`)
)

// notText are words that YAML 1.1 or 1.2 reads as something else.
var notText = []string{"null", "true", "false", "yes", "no", "on", "off", "y", "n"}

// plain quotes with Go's escapes, each of which YAML has too.
func plain(s string) string {
	if plainAmount.MatchString(s) || plainWord.MatchString(s) && !slices.Contains(notText, strings.ToLower(s)) {
		return s
	}
	return strconv.Quote(s)
}
