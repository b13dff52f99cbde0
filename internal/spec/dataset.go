package spec

import (
	"path"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// goSource is the one folder that a source may name without knowing where it is.
const goSource = "$GOROOT/src"

// standardShard is the size of a shard that a manifest leaves open, and
// minShard the smallest that is worth a file.
const (
	standardShard = 64 << 20
	minShard      = 1 << 10
)

func (c *checker) dataset(s *v1.DatasetSpec) {
	c.source(s.Source)
	defaulted(c, "spec.class", &s.Class, "internal")
	c.text("spec.residency", s.Residency, 0, 63)
	c.standardNeeds("spec.resources", &s.Resources)
	c.prepare(&s.Prepare)
}

func (c *checker) source(s v1.Source) {
	p := s.Path
	if p == goSource || strings.HasPrefix(p, goSource+"/") {
		p = strings.TrimPrefix(p, "$GOROOT")
	}
	switch {
	case strings.Contains(p, "$"):
		c.fault("spec.source.path", "", "%.80q: only %s is expanded", s.Path, goSource)
	case !strings.HasPrefix(p, "/") || strings.ContainsRune(p, 0):
		c.fault("spec.source.path", "write an absolute path, or "+goSource, "%.80q is not the absolute path of a folder", s.Path)
	case path.Clean(p) != p:
		c.fault("spec.source.path", "write it without '..', '.' and double '/'", "%.80q is not the shortest form of the path", s.Path)
	}
	c.globs("spec.source.include", s.Include)
	c.globs("spec.source.exclude", s.Exclude)
	atLeast(c, "spec.source.maxFiles", s.MaxFiles, 0)
}

func (c *checker) globs(field string, patterns []string) {
	for i, pattern := range patterns {
		c.inside(at(field, i), pattern)
		if _, err := path.Match(pattern, ""); err != nil {
			c.fault(at(field, i), `write for instance **/*.go; a \ is not read`, "%.80q is not a pattern", pattern)
		}
	}
}

func (c *checker) prepare(p *v1.Prepare) {
	atLeast(c, "spec.prepare.minBytes", p.MinBytes, 0)
	atLeast(c, "spec.prepare.maxBytes", p.MaxBytes, 0)
	if p.MaxBytes > 0 && p.MinBytes > p.MaxBytes {
		c.fault("spec.prepare.minBytes", "", "is %d, more than maxBytes, %d: every document would be dropped", p.MinBytes, p.MaxBytes)
	}
	defaulted(c, "spec.prepare.deduplicate", &p.Deduplicate, "none")
	defaulted(c, "spec.prepare.shardBytes", &p.ShardBytes, standardShard)
	between(c, "spec.prepare.shardBytes", p.ShardBytes, minShard, 1<<40)
	defaulted(c, "spec.prepare.format", &p.Format, "tokens-u16")
	if p.Format == "tokens-u16" {
		defaulted(c, "spec.prepare.tokeniser", &p.Tokeniser, "bytes")
	} else if p.Tokeniser != "" {
		c.fault("spec.prepare.tokeniser", "leave it out, or take the format tokens-u16", "the format %s holds text, not tokens", p.Format)
	}
	c.split(p)
}

func (c *checker) split(p *v1.Prepare) {
	const path = "spec.prepare.split"
	if len(p.Split) == 0 && !c.given(path) {
		p.Split = map[string]int{"train": 100}
	}
	sum := 0
	for _, part := range sortedKeys(p.Split) {
		share := p.Split[part]
		if err := penstock.CheckName(part); err != nil {
			c.wrap(under(path, part), err)
		}
		between(c, under(path, part), share, 1, 100)
		sum += min(max(share, 0), 101)
	}
	if sum != 100 {
		c.fault(path, "shares are hundredths, such as {train: 90, heldout: 10}", "the shares sum to %d, not to 100", sum)
	}
}
