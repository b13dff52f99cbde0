package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/penstock/penstock"
)

// yamlParser is goccy's YAML for koanf.
type yamlParser struct{}

// Unmarshal reads a mapping.
func (yamlParser) Unmarshal(data []byte) (map[string]any, error) {
	var out map[string]any
	err := yaml.Unmarshal(data, &out)
	return out, err
}

// Marshal writes a mapping.
func (yamlParser) Marshal(m map[string]any) ([]byte, error) { return yaml.Marshal(m) }

// scanFile refuses a file that is no mapping of known settings, and notes at
// which line each setting stands.
func scanFile(path string, data []byte, places map[string]string) error {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return yamlError(path, err)
	}
	if len(file.Docs) > 1 {
		return &penstock.Error{Code: penstock.Invalid, Where: path, Msg: fmt.Sprintf("the settings file has %d YAML documents", len(file.Docs)), Hint: "keep one, without a line ---"}
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil
	}
	s := scan{path: path, settings: Settings(), places: places}
	return s.mapping("", file.Docs[0].Body)
}

type scan struct {
	path     string
	settings []Setting
	places   map[string]string
}

// mapping goes through the settings below a section, "" for the whole file.
func (s scan) mapping(section string, n ast.Node) error {
	var entries []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	case *ast.NullNode, *ast.CommentGroupNode:
		return nil
	default:
		f := fault{key: section, msg: "a section has settings below it, not a value", hint: "indent the settings below it"}
		if section == "" {
			f.msg, f.hint = "the settings file is not a mapping", "write lines such as listen: 127.0.0.1:7070"
		}
		return f.in(s.place(n))
	}
	for _, e := range entries {
		if err := s.entry(section, e); err != nil {
			return err
		}
	}
	return nil
}

func (s scan) place(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, n.GetToken().Position.Line)
}

func (s scan) entry(section string, e *ast.MappingValueNode) error {
	name := e.Key.GetToken().Value
	key := strings.TrimPrefix(section+"."+name, ".")
	where := s.place(e.Key)
	s.places[key] = where
	if strings.Contains(name, ".") {
		return unknownKey(key, s.settings).in(where)
	}
	for _, setting := range s.settings {
		here, within := setting.stands(key)
		switch {
		case here && !setting.Map, setting.Map && section == setting.Key:
			return nil
		case here, within:
			return s.mapping(key, e.Value)
		}
	}
	return unknownKey(key, s.settings).in(where)
}

func unknownKey(key string, settings []Setting) fault {
	keys := make([]string, len(settings))
	for i, s := range settings {
		keys[i] = strings.ReplaceAll(s.Key, "*", "NAME")
	}
	f := fault{key: key, msg: "there is no such setting", hint: "docs/config.md lists the settings"}
	if hit := nearest(key, keys); hit != "" {
		f.hint = "did you mean " + hit + "?"
	}
	return f
}

// yamlError is a fault of YAML itself, at its line.
func yamlError(path string, err error) error {
	e := &penstock.Error{Code: penstock.Invalid, Where: path, Msg: "the settings file is not valid YAML", Err: err}
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil {
		e.Where = fmt.Sprintf("%s:%d", path, y.GetToken().Position.Line)
		e.Msg = y.GetMessage()
	}
	return e
}

// scanEnviron finds the variables that are settings, by name. A variable that
// nearly is one, or that names a setting of a section that there is, is an
// error; others with our prefix are for other programs (the contract with a
// workload, the command line). An empty variable counts as not given.
func scanEnviron(environ []string, places map[string]string) (map[string]string, error) {
	settings, found := Settings(), map[string]string{}
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(name, prefix) || value == "" {
			continue
		}
		key, err := variableKey(name, settings)
		if err != nil {
			return nil, err
		}
		if key != "" {
			found[name], places[key] = key, name
		}
	}
	return found, nil
}

// variableKey is the setting that a variable gives, "" for none of ours.
func variableKey(name string, settings []Setting) (string, error) {
	var names []string
	inSection := false
	for _, s := range settings {
		if s.Env == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(name, s.Env+"_"); s.Map && ok && rest != "" {
			return s.Key + "." + strings.ToLower(strings.ReplaceAll(rest, "_", "-")), nil
		}
		if s.Env == name && !s.Map {
			return s.Key, nil
		}
		names = append(names, s.Env)
		if section, _, ok := strings.Cut(s.Key, "."); ok || s.Map {
			inSection = inSection || strings.HasPrefix(name+"_", variable(section)+"_")
		}
	}
	hit := nearest(name, names)
	if hit == "" && !inSection {
		return "", nil
	}
	e := &penstock.Error{Code: penstock.Invalid, Where: name, Msg: "there is no such setting", Hint: "docs/config.md lists the variables"}
	if hit != "" {
		e.Hint = "did you mean " + hit + "?"
	}
	return "", e
}
