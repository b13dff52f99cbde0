package config

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
)

// Setting is one setting: its key in the file and its variable.
type Setting struct {
	// Key has a * where a name of the user's own stands: executors.*.slurm.dir.
	Key string // log.level
	// Env is empty for a setting below such a name: variables have no place for it.
	Env string // PENSTOCK_LOG_LEVEL
	// Map marks a setting with names of the user's own below it:
	// prices.h100, PENSTOCK_PRICES_H100.
	Map bool
}

const prefix = "PENSTOCK_"

// variable is the name of a key's environment variable.
func variable(key string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// Settings lists all settings, in the order of the struct.
func Settings() []Setting { return settingsOf(reflect.TypeFor[Config](), "") }

func settingsOf(t reflect.Type, section string) []Setting {
	var all []Setting
	for i := range t.NumField() {
		field := t.Field(i)
		key, typ := section+field.Tag.Get("koanf"), field.Type
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		_, scalar := reflect.New(typ).Interface().(encoding.TextUnmarshaler)
		switch {
		case typ.Kind() == reflect.Struct && !scalar:
			all = append(all, settingsOf(typ, key+".")...)
		case typ.Kind() == reflect.Map && typ.Elem().Kind() == reflect.Struct:
			all = append(all, settingsOf(typ.Elem(), key+".*.")...)
		case strings.Contains(key, "*"):
			all = append(all, Setting{Key: key})
		default:
			all = append(all, Setting{Key: key, Env: variable(key), Map: typ.Kind() == reflect.Map})
		}
	}
	return all
}

// stands reports whether key, which has names of the user's own, is the setting
// or one of the sections around it.
func (s Setting) stands(key string) (here, within bool) {
	want, have := strings.Split(s.Key, "."), strings.Split(key, ".")
	if len(have) > len(want) {
		return false, false
	}
	for i, word := range have {
		if want[i] != "*" && want[i] != word {
			return false, false
		}
	}
	return len(have) == len(want), len(have) < len(want)
}

// nearest is the known word with the fewest letters to change, if those are at
// most a third of it; the first of several. It compares what comes after the
// words' common beginning, so that a shared prefix makes nothing similar.
func nearest(word string, known []string) string {
	best, least := "", 0
	for _, k := range known {
		common := 0
		if strings.HasPrefix(word, prefix) {
			common = len(prefix)
		}
		letters := len(k) - common
		if d := distance(word[common:], k[common:]); d <= max(1, letters/3) && (best == "" || d < least) {
			best, least = k, d
		}
	}
	return best
}

// distance is how many letters must be put in, taken out or changed to make b
// of a (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := slices.Clone(row)
		row[0] = i + 1
		for j := range len(b) {
			change := before[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, before[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
