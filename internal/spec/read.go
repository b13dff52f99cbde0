package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxTokens bounds the work of the YAML parser, which takes time in the square
// of the tokens for some inputs: this many take it a second at worst.
const maxTokens = 100_000

// read gives the documents of a file, without the empty ones.
func read(data []byte) ([]*node, []fault) {
	if len(data) > MaxBytes {
		return nil, []fault{{line: 1, msg: fmt.Sprintf("has %d bytes, more than %d", len(data), MaxBytes), hint: "split it into several files"}}
	}
	if i := badUTF8(data); i >= 0 {
		return nil, []fault{{
			line: 1 + bytes.Count(data[:i], []byte("\n")),
			msg:  fmt.Sprintf("byte %#02x is not UTF-8", data[i]), hint: "save the file as UTF-8",
		}}
	}
	if json.Valid(data) {
		n, err := readJSON(data)
		if err != nil {
			return nil, []fault{asFault(err)}
		}
		return []*node{n}, nil
	}
	return readYAML(data)
}

// badUTF8 is where data stops being UTF-8, or -1.
func badUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// syntaxError is a fault of the text itself.
type syntaxError struct {
	line      int
	msg, hint string
}

func (e *syntaxError) Error() string { return e.msg }

func asFault(err error) fault {
	var e *syntaxError
	if errors.As(err, &e) {
		return fault{line: e.line, msg: e.msg, hint: e.hint}
	}
	return fault{line: 1, msg: err.Error()}
}

// tooDeep is said before anything walks the tree, which it does by recursion.
func tooDeep(line int) error {
	return &syntaxError{line, fmt.Sprintf("nested deeper than %d levels", MaxDepth), ""}
}

// add keeps an entry of an object, or says that its key was there before.
func (n *node) add(seen map[string]int, key string, line int, value *node) error {
	if first, twice := seen[key]; twice {
		return &syntaxError{line, fmt.Sprintf("key %.60q is given twice, first in line %d", key, first), "remove one of them"}
	}
	seen[key] = line
	n.entries = append(n.entries, entry{key, line, value})
	return nil
}

// readJSON reads exactly one JSON value.
func readJSON(data []byte) (*node, error) {
	r := &jsonReader{
		data: data,
		d:    jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true)),
	}
	n, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if rest := bytes.TrimLeft(data[r.d.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, &syntaxError{r.line(), "more follows after the JSON value", ""}
	}
	return n, nil
}

type jsonReader struct {
	data    []byte
	d       *jsontext.Decoder
	counted int // bytes whose newlines are in newlines
	lines   int
}

// line is the line of the token just read. Offsets only grow.
func (r *jsonReader) line() int {
	offset := int(r.d.InputOffset())
	r.lines += bytes.Count(r.data[r.counted:offset], []byte("\n"))
	r.counted = offset
	return 1 + r.lines
}

func (r *jsonReader) value(depth int) (*node, error) {
	t, err := r.d.ReadToken()
	if err != nil {
		return nil, &syntaxError{r.line(), fmt.Sprintf("is not JSON: %s", err), ""}
	}
	n := &node{line: r.line()}
	switch t.Kind() {
	case 'n':
		return n, nil
	case '"':
		n.shape, n.text = text, t.String()
	case '0':
		n.shape, n.text = number, t.String()
	case 't', 'f':
		n.shape, n.text = boolean, t.String()
	case '{', '[':
		if depth >= MaxDepth {
			return nil, tooDeep(n.line)
		}
		if t.Kind() == '{' {
			return n, r.object(n, depth)
		}
		return n, r.list(n, depth)
	}
	return n, nil
}

func (r *jsonReader) object(n *node, depth int) error {
	n.shape = object
	for seen := map[string]int{}; r.d.PeekKind() != '}'; {
		key, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		value, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		if err := n.add(seen, key.text, key.line, value); err != nil {
			return err
		}
	}
	_, err := r.d.ReadToken()
	return err
}

func (r *jsonReader) list(n *node, depth int) error {
	n.shape = list
	for r.d.PeekKind() != ']' {
		item, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	_, err := r.d.ReadToken()
	return err
}

func readYAML(data []byte) ([]*node, []fault) {
	tokens := lexer.Tokenize(string(data))
	if err := bounded(tokens); err != nil {
		return nil, []fault{asFault(err)}
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, []fault{yamlFault(err)}
	}
	var nodes []*node
	for _, d := range file.Docs {
		if d.Body == nil || d.Body.Type() == ast.NullType {
			continue
		}
		n, err := fromYAML(d.Body, 0)
		if err != nil {
			return nil, []fault{asFault(err)}
		}
		if nodes = append(nodes, n); len(nodes) > MaxDocuments {
			return nil, []fault{{line: n.line, msg: fmt.Sprintf("more than %d documents", MaxDocuments), hint: "split it into several files"}}
		}
	}
	return nodes, nil
}

// yamlFault leaves out the piece of source that the library's own message shows:
// it would put a secret on the screen.
func yamlFault(err error) fault {
	var e yaml.Error
	if !errors.As(err, &e) {
		return fault{line: 1, msg: "is not YAML"}
	}
	f := fault{line: 1, msg: "is not YAML: " + e.GetMessage()}
	if t := e.GetToken(); t != nil && t.Position != nil {
		f.line = t.Position.Line
	}
	return f
}

// bounded refuses, before the parser recurses, what is nested too deep, and the
// parts of YAML by which a small file can mean a huge or a surprising one.
func bounded(tokens token.Tokens) error {
	if len(tokens) > maxTokens {
		return &syntaxError{tokens[maxTokens].Position.Line, fmt.Sprintf("has more than %d words and marks", maxTokens), "split it into several files"}
	}
	flow, columns := 0, []int{}
	for _, t := range tokens {
		column := t.Position.Column
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return &syntaxError{t.Position.Line, "anchors, aliases and merges are not read", "write the value out"}
		case token.TagType:
			return &syntaxError{t.Position.Line, "tags are not read", "put text in quotes instead"}
		case token.DirectiveType:
			return &syntaxError{t.Position.Line, "directives are not read", "leave the line out"}
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow = max(0, flow-1)
		case token.DocumentHeaderType:
			columns = columns[:0]
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType:
			if t.Type == token.MappingValueType && t.Prev != nil {
				column = min(column, t.Prev.Position.Column)
			}
			for len(columns) > 0 && columns[len(columns)-1] >= column {
				columns = columns[:len(columns)-1]
			}
			columns = append(columns, column)
		}
		if flow+len(columns) > 2*MaxDepth {
			return tooDeep(t.Position.Line)
		}
	}
	return nil
}

// jsonNumber is what YAML's core schema and JSON both read as a number.
var jsonNumber = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

// fromYAML turns the library's tree into nodes.
func fromYAML(from ast.Node, depth int) (*node, error) {
	n := &node{line: lineOf(from)}
	if depth > MaxDepth {
		return nil, tooDeep(n.line)
	}
	switch v := from.(type) {
	case *ast.NullNode:
	case *ast.StringNode:
		n.shape, n.text = text, v.Value
		if v.Token.Type == token.StringType && jsonNumber.MatchString(v.Value) {
			n.shape = number // the library takes 1e3 and very long numbers for text
		}
	case *ast.LiteralNode:
		n.shape, n.text = text, v.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		n.shape, n.text = number, v.GetToken().Value
	case *ast.BoolNode:
		n.shape, n.text = boolean, v.GetToken().Value
	case *ast.MappingNode:
		return n, fromMapping(n, v.Values, depth)
	case *ast.MappingValueNode:
		return n, fromMapping(n, []*ast.MappingValueNode{v}, depth)
	case *ast.SequenceNode:
		n.shape = list
		for _, item := range v.Values {
			child, err := fromYAML(item, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, child)
		}
	default:
		return nil, &syntaxError{n.line, fmt.Sprintf("a %s is not read here", from.Type()), ""}
	}
	return n, nil
}

func fromMapping(n *node, values []*ast.MappingValueNode, depth int) error {
	n.shape = object
	seen := map[string]int{}
	for _, v := range values {
		line := lineOf(v.Key)
		key := v.Key.GetToken().Value
		switch k := v.Key.(type) {
		case *ast.StringNode:
			key = k.Value
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		default:
			return &syntaxError{line, "a key must be one plain word", ""}
		}
		value, err := fromYAML(v.Value, depth+1)
		if err != nil {
			return err
		}
		if err := n.add(seen, key, line, value); err != nil {
			return err
		}
	}
	return nil
}

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return max(1, t.Position.Line)
	}
	return 1
}
