package scan

import (
	"bytes"
	"fmt"
	"strings"
)

// pickle is what an unpickler would do with a file, as far as it can be
// followed. Any file is asked: also a valid file of another format can be one.
type pickle struct {
	// is says that an unpickler would import and call, or read to a proper end.
	is      bool
	imports []string // "module.name", in order
	danger  string   // the first import that only an attack needs
}

// The bounds of following a pickle. What is beyond them isn't followed, and
// what isn't followed is blocked like every pickle.
const (
	maxOps      = 1 << 20
	maxDepth    = 8 // of pickles within pickles
	maxConstant = 64 << 10
	maxImports  = 1000
)

// probe follows every pickle that stands in f, one after the other: loaders of
// old torch files call load several times. A reader's failure is an error.
func probe(f File) (pickle, error) {
	p := pickle{}
	p.is = p.read(f, 0)
	head, err := newCursor(f).next(int(min(f.Size, 2)))
	if err != nil {
		return p, err
	}
	p.is = p.is || protocolHeader(head)
	return p, nil
}

// protocolHeader reports whether b starts as pickles of protocol 2 to 5 do.
func protocolHeader(b []byte) bool {
	return len(b) >= 2 && b[0] == opProto && b[1] >= 2 && b[1] <= 5
}

// read follows the pickles in f and reports whether there is a real one.
func (p *pickle) read(f File, depth int) bool {
	c, real := newCursor(f), false
	for ops := maxOps; ops > 0 && c.left() > 0; {
		m := machine{in: c, ops: ops}
		end := m.run()
		ops = m.ops
		p.note(m, depth)
		real = real || m.imports != nil && (m.calls > 0 || end == stopped) || end == stopped && restIsBlank(c)
		if end != stopped {
			break
		}
	}
	return real
}

// note keeps what a run imported, and looks into what it would unpickle itself.
func (p *pickle) note(m machine, depth int) {
	nested := false
	for _, g := range m.imports {
		name := g.module + "." + g.name
		if len(p.imports) < maxImports {
			p.imports = append(p.imports, name)
		}
		if p.danger == "" && g.dangerous() {
			p.danger = name
		}
		nested = nested || g.loads()
	}
	if !nested || depth == maxDepth {
		return
	}
	for _, b := range m.constants {
		p.read(File{Size: int64(len(b)), ReaderAt: bytes.NewReader(b)}, depth+1)
	}
}

// restIsBlank reports whether nothing but white space follows, which is how a
// text that ends as a pickle does is told from one that merely begins so.
func restIsBlank(c *cursor) bool {
	if c.left() > bufferSize {
		return false
	}
	b, err := c.peek(int(c.left()))
	return err == nil && len(bytes.TrimSpace(b)) == 0
}

func pickleRefused(p pickle) string {
	detail := "pickle is refused: loading one can run any code"
	if n := len(p.imports); n > 0 {
		shown := p.imports[:min(n, 3)]
		detail += fmt.Sprintf("; it imports %d names: %.120q", n, strings.Join(shown, " "))
	}
	return detail
}
