package spec

import (
	"encoding"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock"
)

// field is one field of a wire type, as its json and enum tags tell.
type field struct {
	name     string
	index    int
	required bool
	enum     string // the allowed words, with commas
}

func fieldsOf(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		all = append(all, field{
			name: name, index: i,
			required: !strings.Contains(options, "omit"),
			enum:     t.Field(i).Tag.Get("enum"),
		})
	}
	return all
}

// decode puts n into v, strictly, and reports whether it could. enum are the
// words that a text may be, or "". also are fields that belong here but are
// read elsewhere: they are only for the hint.
func (c *checker) decode(path string, n *node, v reflect.Value, enum string, also ...string) bool {
	if _, known := c.lines[path]; !known {
		c.mark(path, n)
	}
	if n.shape == null {
		c.refuse(path, "", "must be %s, not nothing", shapeOf(v.Type()))
		return false
	}
	switch into := v.Addr().Interface().(type) {
	case *penstock.Resources:
		return c.resourceAmounts(path, n, into)
	case *time.Time:
		return c.time(path, n, into)
	case encoding.TextUnmarshaler:
		return c.textual(path, n, into)
	}
	if want := shapeOf(v.Type()); n.shape != want {
		c.refuse(path, c.mismatchHint(n, want), "must be %s, not %s", want, c.describe(n))
		return false
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return c.decode(path, n, v.Elem(), enum)
	case reflect.Struct:
		c.decodeStruct(path, n, v, also)
	case reflect.Map:
		c.decodeMap(path, n, v)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
		for i, item := range n.items {
			c.decode(at(path, i), item, v.Index(i), "")
		}
	default:
		return c.decodeScalar(path, n, v, enum)
	}
	return true
}

func shapeOf(t reflect.Type) shape {
	switch t.Kind() {
	case reflect.Pointer:
		return shapeOf(t.Elem())
	case reflect.Struct, reflect.Map:
		return object
	case reflect.Slice:
		return list
	case reflect.String:
		return text
	case reflect.Bool:
		return boolean
	}
	return number
}

func (c *checker) mismatchHint(n *node, want shape) string {
	switch {
	case want == text && c.hideValues:
		return "put it in quotes"
	case want == text && (n.shape == number || n.shape == boolean):
		return "put it in quotes: " + strconv.Quote(n.text)
	case want == number && n.shape == text:
		return "write a plain number, without quotes or unit"
	case want == boolean:
		return "write true or false"
	case want == list:
		return "write one item a line, each after a dash, or [a, b]"
	}
	return ""
}

func (c *checker) decodeStruct(path string, n *node, v reflect.Value, also []string) {
	fields := fieldsOf(v.Type())
	known := slices.Clone(also)
	for _, f := range fields {
		known = append(known, f.name)
	}
	given := map[string]bool{}
	for _, e := range n.entries {
		given[e.key] = e.value.shape != null
	}
	for _, e := range n.entries {
		inner := under(path, e.key)
		c.lines[inner] = place{line: e.line, given: e.value.shape != null}
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == e.key })
		if i < 0 {
			c.refuse(inner, suggest(e.key, known), "unknown field")
			if meant := nearest(e.key, known); meant != "" && !given[meant] && !slices.Contains(also, meant) {
				c.hush(under(path, meant)) // one mistake, told once
			}
			continue
		}
		if given[e.key] {
			c.decode(inner, e.value, v.Field(fields[i].index), fields[i].enum)
		}
	}
	for _, f := range fields {
		if inner := under(path, f.name); f.required && !given[f.name] {
			c.refuse(inner, "", "is missing")
		}
	}
}

func (c *checker) decodeMap(path string, n *node, v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range n.entries {
		inner := under(path, e.key)
		c.lines[inner] = place{line: e.line, given: true}
		value := reflect.New(v.Type().Elem()).Elem()
		if c.decode(inner, e.value, value, "") {
			v.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), value)
		}
	}
}

func (c *checker) decodeScalar(path string, n *node, v reflect.Value, enum string) bool {
	switch v.Kind() {
	case reflect.String:
		if words := strings.Split(enum, ","); enum != "" && !slices.Contains(words, n.text) {
			c.refuse(path, didYouMean(n.text, words), "%.60q is not one of %s", n.text, strings.Join(words, ", "))
			return false
		}
		v.SetString(n.text)
	case reflect.Bool:
		if n.text != "true" && n.text != "false" {
			c.refuse(path, "write true or false", "must be true or false, not %s", c.describe(n))
			return false
		}
		v.SetBool(n.text == "true")
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(n.text, 10, v.Type().Bits())
		if err != nil || octal(n.text) {
			c.refuse(path, "write decimal digits", "must be a whole number of 64 bits, not %s", c.describe(n))
			return false
		}
		v.SetInt(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(n.text, 64)
		if err != nil || octal(n.text) || strings.ContainsAny(n.text, "xX_") {
			c.refuse(path, "write a decimal number", "must be a finite number, not %s", c.describe(n))
			return false
		}
		v.SetFloat(f)
	default:
		c.refuse(path, "", "can't be given in a manifest")
		return false
	}
	return true
}

// octal reports whether a YAML 1.1 reader would take digits for octal ones:
// 010 is 8 to some people and 10 to others.
func octal(digits string) bool {
	digits = strings.TrimLeft(digits, "+-")
	return len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9'
}

// textual reads what has a text form of its own: durations and money. Numbers
// are taken as they were written, so that nothing is rounded on the way.
func (c *checker) textual(path string, n *node, into encoding.TextUnmarshaler) bool {
	if n.shape != text && n.shape != number {
		c.refuse(path, "", "must be text or a number, not %s", c.describe(n))
		return false
	}
	if err := into.UnmarshalText([]byte(n.text)); err != nil {
		c.wrap(path, err)
		c.hush(path)
		return false
	}
	return true
}

func (c *checker) time(path string, n *node, into *time.Time) bool {
	t, err := time.Parse(time.RFC3339, n.text)
	if n.shape != text || err != nil {
		c.refuse(path, "write a time such as 2027-01-31T12:00:00Z", "must be a time (RFC 3339), not %s", c.describe(n))
		return false
	}
	*into = t.UTC()
	return true
}

func (c *checker) resourceAmounts(path string, n *node, into *penstock.Resources) bool {
	if n.shape != object {
		c.refuse(path, "write for instance {cpu: 2, memory: 4Gi}", "must be an object, not %s", c.describe(n))
		return false
	}
	*into = penstock.Resources{}
	for _, e := range n.entries {
		inner, r := under(path, e.key), penstock.Resource(e.key)
		c.lines[inner] = place{line: e.line, given: true}
		if !c.resource(inner, r) {
			continue
		}
		if e.value.shape != text && e.value.shape != number {
			c.refuse(inner, "write for instance 2, 500m or 4Gi", "must be an amount, not %s", c.describe(e.value))
			continue
		}
		a, err := penstock.ParseAmount(r, e.value.text)
		if err != nil {
			c.wrap(inner, amountError(r, e.value.text, err))
			c.hush(inner)
			continue
		}
		(*into)[r] = a
	}
	return true
}

// amountError finds the slip behind "memroy: 4Gi", which reads as 4Gi devices of
// a type "memroy".
func amountError(r penstock.Resource, amount string, err error) error {
	if _, bytes := penstock.ParseAmount(penstock.Memory, amount); bytes == nil && r != penstock.CPU {
		if nearest(string(r), []string{string(penstock.Memory)}) != "" || r == "mem" || r == "ram" {
			return &penstock.Error{Msg: strconv.Quote(string(r)) + " is not a resource that is counted in bytes", Hint: "did you mean memory?"}
		}
	}
	return err
}
