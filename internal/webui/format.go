package webui

import (
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/a-h/templ"

	"github.com/penstock/penstock"
)

// span is a duration in its two largest units: 42s, 3m 10s, 2h 5m, 4d 6h.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh %dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd %dh", int(d.Hours())/24, int(d.Hours())%24)
}

// relative is t as seen from now, in its largest unit: 3m ago, in 2h.
func relative(now, t time.Time) string {
	d := now.Sub(t)
	text, _, _ := strings.Cut(span(max(d, -d)), " ")
	switch {
	case text == "0s":
		return "now"
	case d < 0:
		return "in " + text
	}
	return text + " ago"
}

// utc is the exact time, for titles.
func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// shownDecimals is how many decimals of an amount of money a table shows.
const shownDecimals = 6

// money is m rounded, half away from zero, to six decimals. Titles have the
// exact amount.
func money(m penstock.Money) string {
	const unit = penstock.Unit / 1_000_000
	n, rest, sign := m/unit, m%unit, ""
	switch {
	case rest >= unit/2:
		n++
	case rest <= -unit/2:
		n--
	}
	if n < 0 {
		sign, n = "−", -n
	}
	return fmt.Sprintf("%s%d.%0*d", sign, n/1_000_000, shownDecimals, n%1_000_000)
}

// count groups the digits of n by thousands, with thin spaces.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u2009" + s[i:]
	}
	return s
}

// number writes a measured value with four significant digits.
func number(x float64) string {
	if x == math.Trunc(x) && math.Abs(x) < 1e6 {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', 4, 64)
}

// size is n bytes in the largest unit that leaves at least 1.
func size(n int64) string {
	x, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for x >= 1024 && i < len(units)-1 {
		x, i = x/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0") + " " + units[i]
}

// amount is a of resource r for reading: bytes rounded to a unit, the rest as in
// manifests.
func amount(r penstock.Resource, a penstock.Amount) string {
	if r == penstock.Memory {
		return size(int64(a))
	}
	return r.Format(a)
}

// resources is the one-line form: 8 h100, 500m cpu.
func resources(r penstock.Resources) string {
	var parts []string
	for _, name := range r.Names() {
		parts = append(parts, amount(name, r[name])+" "+string(name))
	}
	return strings.Join(parts, ", ")
}

// pairs writes a map as sorted name=value words.
func pairs[V any](m map[string]V, write func(V) string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, name+"="+write(m[name]))
	}
	return strings.Join(parts, "  ")
}

func text(s string) string { return s }

// percent is the part of whole in hundredths, from 0 to 100, and 0 of nothing.
func percent(part, whole penstock.Amount) int {
	if whole <= 0 || part <= 0 {
		return 0
	}
	return min(int(float64(part)/float64(whole)*100+0.5), 100)
}

// tone is the class that colours a phase.
func tone(p penstock.Phase) string {
	switch p {
	case penstock.PhaseRunning, penstock.PhaseReady, penstock.PhaseSucceeded:
		return "good"
	case penstock.PhaseFailed, penstock.PhaseLost, penstock.PhaseRefused:
		return "bad"
	case penstock.PhaseDegraded, penstock.PhaseStopping, penstock.PhaseStopped:
		return "warn"
	}
	return "wait"
}

// pageOf is the page of an object, or empty where there is none.
func pageOf(ref penstock.Ref) templ.SafeURL {
	folder := map[penstock.Kind]string{penstock.KindJob: "jobs", penstock.KindModel: "models", penstock.KindEndpoint: "endpoints"}[ref.Kind]
	if folder == "" {
		return ""
	}
	// Escaped segment by segment, so that no name leads out of its place.
	return templ.SafeURL("/" + folder + "/" + url.PathEscape(ref.Project) + "/" + url.PathEscape(ref.Name))
}

// sentence begins with a capital and ends with a full stop: messages are
// written to stand in a line of a log.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	r, n := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(r)) + s[n:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// advice says what the class of a Reason means.
func advice(c penstock.ReasonClass) string {
	switch c {
	case penstock.Wait:
		return "time alone may help"
	case penstock.Change:
		return "its owner can ask for something else"
	case penstock.Ask:
		return "somebody with more rights must act"
	}
	return ""
}

// newestFirst is list the other way round.
func newestFirst[T any](list []T) []T {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}
