package cli

import (
	"fmt"
	"strings"

	"github.com/penstock/penstock"
)

// shortKinds are the usual short forms.
var shortKinds = map[string]penstock.Kind{
	"ds": penstock.KindDataset, "dsv": penstock.KindDatasetVersion, "mv": penstock.KindModelVersion, "ep": penstock.KindEndpoint,
}

// parseKind reads a kind as people type it: job, jobs, Job.
func parseKind(s string) (penstock.Kind, error) {
	lower := strings.ToLower(s)
	if k, ok := shortKinds[lower]; ok {
		return k, nil
	}
	names := make([]string, 0, len(penstock.Kinds()))
	for _, k := range penstock.Kinds() {
		name := strings.ToLower(string(k))
		if lower == name || lower == name+"s" {
			return k, nil
		}
		names = append(names, name)
	}
	return "", &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%q is not a kind", s), Hint: "kinds: " + strings.Join(names, ", ")}
}

// ref names an object in this session's project.
func (s *session) ref(k penstock.Kind, name string) penstock.Ref {
	if k.Global() {
		return penstock.Ref{Kind: k, Name: name}
	}
	return penstock.Ref{Kind: k, Project: s.projectName(), Name: name}
}

// parseRef reads name, or kind/name; without a kind it is fallback.
func (s *session) parseRef(arg string, fallback penstock.Kind) (penstock.Ref, error) {
	kind, name, found := strings.Cut(arg, "/")
	if !found {
		return s.ref(fallback, arg), nil
	}
	k, err := parseKind(kind)
	if err != nil {
		return penstock.Ref{}, err
	}
	if project, rest, more := strings.Cut(name, "/"); more {
		return penstock.Ref{Kind: k, Project: project, Name: rest}, nil
	}
	return s.ref(k, name), nil
}
