package webui

import (
	"bytes"
	"go/format"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/a-h/templ/generator"
	parser "github.com/a-h/templ/parser/v2"

	"github.com/penstock/penstock"
)

func TestMoneyIsRoundedOnlyForTheEye(t *testing.T) {
	for m, want := range map[penstock.Money]string{
		0: "0.000000", penstock.Unit: "1.000000", 499: "0.000000", 500: "0.000001", -500: "−0.000001", -499: "0.000000",
		1_234_567_890_523: "1234.567891", 12*penstock.Unit + 5_000_000: "12.005000", -3 * penstock.Unit / 2: "−1.500000",
		math.MaxInt64: "9223372036.854776", math.MinInt64: "−9223372036.854776",
	} {
		if got := money(m); got != want {
			t.Errorf("%s shows as %s, want %s", m, got, want)
		}
	}
}

func TestNumbersReadAsPeopleWriteThem(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(-1234): "-1\u2009234", count(1234567): "1\u2009234\u2009567", count(-999): "-999",
		number(3): "3", number(0.123456): "0.1235", number(1e-7): "1e-07", number(math.NaN()): "NaN",
		size(0): "0 B", size(1023): "1023 B", size(1536): "1.5 KiB", size(64 << 30): "64 GiB",
		span(42 * time.Second): "42s", span(190 * time.Second): "3m 10s", span(125 * time.Minute): "2h 5m", span(102 * time.Hour): "4d 6h", span(-time.Second): "0s",
		resources(penstock.Resources{"h100": 8000, penstock.CPU: 500, penstock.Memory: 3 << 30}): "500m cpu, 8 h100, 3 GiB memory",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{0: "now", 3 * time.Minute: "3m ago", 49 * time.Hour: "2d ago", -2 * time.Hour: "in 2h"} {
		if got := relative(now, now.Add(-d)); got != want {
			t.Errorf("%s before is %q, want %q", d, got, want)
		}
	}
}

func TestLogsReadAsATerminalLeftThem(t *testing.T) {
	for raw, want := range map[string]string{
		"":                         "",
		"a\nb\n":                   "a\nb",
		"\x1b[31mred\x1b[0m\r\n":   "red",
		"10%\r50%\r100%\nend":      "100%\nend",
		"\x1b]0;title\x07x":        "x",
		"bad\xff\x00byte\x07":      "bad\uFFFDbyte",
		"evil\u202Etxt.exe":        "eviltxt.exe",
		"tab\tstays":               "tab\tstays",
		"\x1b[2K\x1b[1Gover\x1b[A": "over",
	} {
		if got := readable(raw); got != want {
			t.Errorf("%q reads as %q, want %q", raw, got, want)
		}
	}
	if got := readable(strings.Repeat("ä", tailBytes)); len(got) > tailBytes+8 || !strings.HasPrefix(got, "… ä") {
		t.Errorf("a long log reads as %d bytes, from %.12q", len(got), got)
	}
}

func TestGeneratedCodeIsThatOfItsTemplates(t *testing.T) {
	templates, err := filepath.Glob("*.templ")
	if err != nil || len(templates) == 0 {
		t.Fatal("no templates", err)
	}
	for _, name := range templates {
		template, err := parser.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		var code bytes.Buffer
		if _, err := generator.Generate(template, &code, generator.WithFileName(name), generator.WithVersion(templ.Version())); err != nil {
			t.Fatal(err)
		}
		want, err := format.Source(code.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		generated := strings.TrimSuffix(name, ".templ") + "_templ.go"
		if got, err := os.ReadFile(generated); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what %s generates (%v): run go generate ./internal/webui", generated, name, err)
		}
	}
}
