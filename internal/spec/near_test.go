package spec

import "testing"

func TestNearestFindsSlipsAndNothingElse(t *testing.T) {
	known := []string{"command", "replicas", "resources", "env", "dir", "cpu", "h100"}
	for word, want := range map[string]string{
		"comand": "command", "commnad": "command", "Command": "command", "replica": "replicas", "resource": "resources",
		"envs": "env", "h10o": "h100", "h10O": "h100", "gpu": "cpu",
		"x": "", "": "", "image": "", "args": "", "directory": "", "é": "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func TestDistanceCountsEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"same", "same", 0}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%s to %s: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
