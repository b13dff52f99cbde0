package spec

import v1 "github.com/penstock/penstock/api/v1"

func (c *checker) secret(s *v1.SecretSpec) {
	if len(s.Values) == 0 {
		c.fault("spec.values", "give a value for each key", "must not be empty")
	}
	for _, key := range sortedKeys(s.Values) {
		path := under("spec.values", key)
		if !keyForm.MatchString(key) {
			c.fault(path, "use letters, digits, '_', '-' and, but for the first, '.': the key becomes a file name", "%.80q can't be a key", key)
		}
		if s.Values[key] == "" {
			c.fault(path, "write the value again: what the server answers holds none", "must not be empty")
		}
	}
}
