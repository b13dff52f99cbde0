package scan

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
)

// machine follows the opcodes of one pickle (Python's pickletools, protocols 0
// to 5) with a stack and a memo of what matters: texts, which may become names,
// and marks. It runs nothing.
type machine struct {
	in  *cursor
	ops int // how many more opcodes it may follow

	stack     []value
	memo      map[uint64]value
	imports   []global
	calls     int
	constants [][]byte // what a pickle within it would be read from
	kept      int      // bytes in constants
}

// ending is how a run ended.
type ending int

const (
	broken  ending = iota // an unpickler would raise here
	stopped               // STOP with a result
	spent                 // a bound was reached
)

// value is what lies on the stack: text is set for what may become a name.
type value struct {
	kind kind
	text string
}

type kind int

const (
	nothing kind = iota
	object
	text
	mark
)

// The opcodes that need more than a row of the table.
const (
	opMark, opStop, opPop, opPopMark, opDup            = '(', '.', '0', '1', '2'
	opGet, opBinGet, opLongGet                         = 'g', 'h', 'j'
	opPut, opBinPut, opLongPut, opMemoize              = 'p', 'q', 'r', 0x94
	opGlobal, opInst, opObj, opStackGlobal             = 'c', 'i', 'o', 0x93
	opExt1, opExt2, opExt4                             = 0x82, 0x83, 0x84
	opInt, opLong, opFloat, opString, opUnicode, opPid = 'I', 'L', 'F', 'S', 'V', 'P'
	opProto                                            = 0x80
)

// opcode is what one opcode takes and leaves.
type opcode struct {
	fixed  int  // bytes of argument
	prefix int  // width of the length that stands before the argument
	lines  int  // arguments that end with a newline
	toMark bool // takes all down to the mark, and the mark
	takes  int  // takes so many, below the mark if there is one
	leaves kind
	calls  bool // calls something that the pickle chose
}

// opcodes are the 68 opcodes of protocols 0 to 5.
var opcodes = map[byte]opcode{
	opMark: {leaves: mark}, opStop: {takes: 1}, opPop: {}, opPopMark: {toMark: true}, opDup: {},
	opProto: {fixed: 1}, 0x95: {fixed: 8},
	opInt: {lines: 1, leaves: object}, opLong: {lines: 1, leaves: object}, opFloat: {lines: 1, leaves: object},
	'J': {fixed: 4, leaves: object}, 'K': {fixed: 1, leaves: object}, 'M': {fixed: 2, leaves: object}, 'G': {fixed: 8, leaves: object},
	0x8a: {prefix: 1, leaves: object}, 0x8b: {prefix: 4, leaves: object},
	'N': {leaves: object}, 0x88: {leaves: object}, 0x89: {leaves: object},
	opString: {lines: 1, leaves: text}, opUnicode: {lines: 1, leaves: text},
	'T': {prefix: 4, leaves: text}, 'U': {prefix: 1, leaves: text},
	'X': {prefix: 4, leaves: text}, 0x8c: {prefix: 1, leaves: text}, 0x8d: {prefix: 8, leaves: text},
	'B': {prefix: 4, leaves: text}, 'C': {prefix: 1, leaves: text}, 0x8e: {prefix: 8, leaves: text}, 0x96: {prefix: 8, leaves: text},
	0x97: {leaves: object}, 0x98: {takes: 1, leaves: object},
	']': {leaves: object}, '}': {leaves: object}, ')': {leaves: object}, 0x8f: {leaves: object},
	'a': {takes: 2, leaves: object}, 'e': {toMark: true, takes: 1, leaves: object}, 'l': {toMark: true, leaves: object},
	's': {takes: 3, leaves: object}, 'u': {toMark: true, takes: 1, leaves: object}, 'd': {toMark: true, leaves: object},
	't': {toMark: true, leaves: object}, 0x85: {takes: 1, leaves: object}, 0x86: {takes: 2, leaves: object}, 0x87: {takes: 3, leaves: object},
	0x90: {toMark: true, takes: 1, leaves: object}, 0x91: {toMark: true, leaves: object},
	opGet: {lines: 1}, opBinGet: {fixed: 1}, opLongGet: {fixed: 4},
	opPut: {lines: 1}, opBinPut: {fixed: 1}, opLongPut: {fixed: 4}, opMemoize: {},
	opPid: {lines: 1, leaves: object}, 'Q': {takes: 1, leaves: object},
	opGlobal: {lines: 2, leaves: object}, opStackGlobal: {takes: 2, leaves: object},
	opInst: {lines: 2, toMark: true, leaves: object, calls: true}, opObj: {toMark: true, leaves: object, calls: true},
	'R': {takes: 2, leaves: object, calls: true}, 'b': {takes: 2, leaves: object, calls: true},
	0x81: {takes: 2, leaves: object, calls: true}, 0x92: {takes: 3, leaves: object, calls: true},
	opExt1: {fixed: 1, leaves: object}, opExt2: {fixed: 2, leaves: object}, opExt4: {fixed: 4, leaves: object},
}

// run follows opcodes until STOP, a mistake or a bound.
func (m *machine) run() ending {
	for ; m.ops > 0; m.ops-- {
		b, err := m.in.next(1)
		if err != nil {
			return broken
		}
		code := b[0]
		op, known := opcodes[code]
		if !known {
			return broken
		}
		args, ok := m.arguments(op)
		if !ok || !m.step(code, op, args) {
			return broken
		}
		if code == opStop {
			return stopped
		}
		if len(m.stack) > maxOps/4 {
			return spent
		}
	}
	return spent
}

// arguments reads what stands in the file behind the opcode: its lines, or one
// argument. Of a long one only the start is given.
func (m *machine) arguments(op opcode) ([]string, bool) {
	if op.lines > 0 {
		lines := make([]string, 0, 2)
		for range op.lines {
			line, ok := m.line()
			if !ok {
				return nil, false
			}
			lines = append(lines, line)
		}
		return lines, true
	}
	length := int64(op.fixed)
	if op.prefix > 0 {
		b, err := m.in.next(op.prefix)
		if err != nil {
			return nil, false
		}
		length = int64(number(b))
	}
	if length < 0 || length > m.in.left() {
		return nil, false
	}
	b, err := m.in.peek(int(min(length, maxConstant)))
	if err != nil {
		return nil, false
	}
	arg := string(b)
	return []string{arg}, m.in.skip(length) == nil
}

// line reads up to a newline, within what one buffer holds. It looks a little
// further each time: looking far ahead for each of many short lines would read
// the file over and over.
func (m *machine) line() (string, bool) {
	for ahead := int64(64); ; ahead *= 4 {
		ahead = min(ahead, m.in.left(), bufferSize)
		b, err := m.in.peek(int(ahead))
		if err != nil {
			return "", false
		}
		if n := bytes.IndexByte(b, '\n'); n >= 0 {
			line := string(b[:n])
			return line, m.in.skip(int64(n)+1) == nil
		}
		if ahead == min(m.in.left(), bufferSize) {
			return "", false
		}
	}
}

// number is a little-endian number of 1, 2, 4 or 8 bytes.
func number(b []byte) (n uint64) {
	for i, c := range b {
		n |= uint64(c) << (8 * i)
	}
	return n
}

// step does one opcode and reports whether an unpickler could have.
func (m *machine) step(code byte, op opcode, args []string) bool {
	switch code {
	case opPop:
		return m.take(1)
	case opDup:
		return len(m.stack) > 0 && m.push(m.stack[len(m.stack)-1])
	case opGet, opBinGet, opLongGet:
		key, ok := memoKey(code, args[0])
		v, remembered := m.memo[key]
		return ok && remembered && m.push(v)
	case opPut, opBinPut, opLongPut:
		key, ok := memoKey(code, args[0])
		return ok && m.remember(key)
	case opMemoize:
		return m.remember(uint64(len(m.memo)))
	case opStackGlobal:
		if !m.stackGlobal() {
			return false
		}
	case opGlobal, opInst:
		if !m.found(args[0], args[1]) {
			return false
		}
	case opExt1, opExt2, opExt4:
		m.imports = append(m.imports, global{"copyreg", "extension " + strconv.FormatUint(number([]byte(args[0])), 10)})
	case opObj:
		if len(m.stack) == 0 || m.stack[len(m.stack)-1].kind == mark {
			return false
		}
	case opInt, opLong, opFloat, opString:
		if !literal(code, args[0]) {
			return false
		}
	}
	return m.apply(code, op, args)
}

// apply does what the table says.
func (m *machine) apply(code byte, op opcode, args []string) bool {
	if op.toMark && !m.takeToMark() || !m.take(op.takes) {
		return false
	}
	if op.calls {
		m.calls++
	}
	v := value{kind: op.leaves}
	if op.leaves == text {
		v.text = args[0]
		if code == opString {
			v.text = v.text[1 : len(v.text)-1]
		}
		m.keep(v.text)
		v.text = strings.Clone(v.text[:min(len(v.text), 256)])
	}
	return op.leaves == nothing || m.push(v)
}

func (m *machine) push(v value) bool {
	m.stack = append(m.stack, v)
	return true
}

// take drops n values; a mark isn't one.
func (m *machine) take(n int) bool {
	for range n {
		last := len(m.stack) - 1
		if last < 0 || m.stack[last].kind == mark {
			return false
		}
		m.stack = m.stack[:last]
	}
	return true
}

func (m *machine) takeToMark() bool {
	for i := len(m.stack) - 1; i >= 0; i-- {
		if m.stack[i].kind == mark {
			m.stack = m.stack[:i]
			return true
		}
	}
	return false
}

func (m *machine) remember(key uint64) bool {
	if len(m.stack) == 0 || len(m.memo) > maxOps/4 {
		return false
	}
	if m.memo == nil {
		m.memo = make(map[uint64]value)
	}
	m.memo[key] = m.stack[len(m.stack)-1]
	return true
}

// memoKey is the memo's index, which the oldest protocol writes as text.
func memoKey(code byte, arg string) (key uint64, ok bool) {
	if code == opGet || code == opPut {
		n, err := strconv.ParseUint(arg, 10, 32)
		return n, err == nil
	}
	return number([]byte(arg)), true
}

// stackGlobal imports what the two topmost texts name. A name that isn't a
// plain text there was computed, which only hiding needs.
func (m *machine) stackGlobal() bool {
	n := len(m.stack)
	if n < 2 {
		return false
	}
	module, name := m.stack[n-2], m.stack[n-1]
	if module.kind != text || name.kind != text {
		m.imports = append(m.imports, global{"unknown", "computed"})
		return true
	}
	return m.found(module.text, name.text)
}

// Identifiers only: Python could import other names, but no module or attribute
// worth an attack has one, and texts begin with the letter c too.
var dotted = regexp.MustCompile(`^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$`)

func (m *machine) found(module, name string) bool {
	if !dotted.MatchString(module) || !dotted.MatchString(name) {
		return false
	}
	m.imports = append(m.imports, global{module, name})
	return true
}

// keep holds on to a constant in case that a nested loader is given it.
func (m *machine) keep(s string) {
	if len(s) >= 4 && m.kept+len(s) <= 16*maxConstant {
		m.constants = append(m.constants, []byte(s))
		m.kept += len(s)
	}
}

// literal checks the text forms that Python checks.
func literal(code byte, s string) bool {
	var err error
	switch code {
	case opInt:
		_, err = strconv.ParseInt(s, 0, 64)
		return err == nil || s == "00" || s == "01"
	case opLong:
		_, err = strconv.ParseInt(strings.TrimSuffix(s, "L"), 0, 64)
	case opFloat:
		_, err = strconv.ParseFloat(s, 64)
	default:
		return len(s) >= 2 && (s[0] == '\'' || s[0] == '"') && s[len(s)-1] == s[0]
	}
	return err == nil
}
