package config

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
)

// Setting is one setting: its key in the file and its variable.
type Setting struct {
	Key string // log.level
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
		key := section + field.Tag.Get("koanf")
		_, scalar := reflect.New(field.Type).Interface().(encoding.TextUnmarshaler)
		if field.Type.Kind() == reflect.Struct && !scalar {
			all = append(all, settingsOf(field.Type, key+".")...)
			continue
		}
		all = append(all, Setting{Key: key, Env: variable(key), Map: field.Type.Kind() == reflect.Map})
	}
	return all
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
