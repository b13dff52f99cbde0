package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// write puts a settings file into a folder of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "penstock.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsArePassedOnAndValid(t *testing.T) {
	if err := Default().Check(); err != nil {
		t.Error(err)
	}
	for name, path := range map[string]string{"no file": "", "empty": write(t, ""), "comments": write(t, "# nothing\n"), "empty section": write(t, "log:\n")} {
		c, err := Load(path, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(Default(), c); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestEnvironmentOverridesFileOverridesDefaults(t *testing.T) {
	path := write(t, `
data_dir: /var/lib/penstock
log: {level: debug, format: json}
tick: 250ms
prices:
  cpu: 0.035
  h100: 2
limits:
  body: 512Ki
pool: {discover: false}
`)
	c, err := Load(path, []string{
		"PENSTOCK_LOG_LEVEL=warn", "PENSTOCK_LIMITS_OBJECTS=7", "PENSTOCK_POOL_DISCOVER=true", "PENSTOCK_PRICES_TPU_V5E=1.2",
		"PENSTOCK_PRICES_H100=2.123456789", "PENSTOCK_CURRENCY=", "PENSTOCK_JOB=train-7", "PENSTOCK_TOKEN=x", "PENSTOCK_DATA=/d", "HOME=/root", "nonsense",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.DataDir, want.Tick = "/var/lib/penstock", v1.Duration(250*time.Millisecond)
	want.Log = Log{Level: "warn", Format: "json"}
	want.Prices = map[penstock.Resource]penstock.Money{"cpu": 35_000_000, "h100": 2_123_456_789, "tpu-v5e": 1_200_000_000}
	want.Limits = Limits{Body: 512 << 10, Objects: 7}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
}

func TestBadSettingsAreRefusedWithPlaceAndHint(t *testing.T) {
	for _, c := range []struct{ name, file, env, where, says, hint string }{
		{name: "unknown key", file: "tick: 1s\nlisen: 127.0.0.1:1\n", where: ":2", says: "lisen: there is no such setting", hint: "did you mean listen?"},
		{name: "unknown nested key", file: "log:\n  level: info\n  fromat: json\n", where: ":3", says: "log.fromat: there", hint: "did you mean log.format?"},
		{name: "nothing near", file: "workers: 3\n", where: ":1", says: "workers: there", hint: "docs/config.md lists the settings"},
		{name: "below a value", file: "listen:\n  host: x\n", where: ":1", says: `listen: "map[host:x]" is not text`},
		{name: "dotted key", file: "log.level: debug\n", where: ":1", says: "log.level: there"},
		{name: "value for section", file: "tick: 1s\nlog: debug\n", where: ":2", says: "log: a section has settings", hint: "indent the settings below it"},
		{name: "no mapping", file: "- a\n", where: ":1", says: "not a mapping"},
		{name: "broken YAML", file: "tick: 1s\nlog: {level\n", where: ".yaml:", says: ""},
		{name: "given twice", file: "tick: 1s\ntick: 2s\n", where: ":2", says: "already defined"},
		{name: "two documents", file: "tick: 1s\n---\ntick: 2s\n", says: "2 YAML documents"},
		{name: "wrong type", file: "\npool:\n  discover: yes please\n", where: ":3", says: `pool.discover: "yes please" is not true or false`},
		{name: "number for text", file: "data_dir: 5\n", where: ":1", says: `data_dir: "5" is not text`},
		{name: "fraction of an object", file: "limits: {objects: 2.7}\n", where: ":1", says: "limits.objects: 2.7 is not a whole number"},
		{name: "duration without unit", file: "tick: 5\n", where: ":1", says: `tick: "5" is not a duration`, hint: "write 90s, 15m, 12h or 30d"},
		{name: "money too fine", file: "prices:\n  cpu: 0.0000000001\n", where: ":2", says: "more than 9 decimals"},
		{name: "negative price", file: "prices: {h100: -1}\n", where: ":1", says: "prices.h100: -1.00 is below 0"},
		{name: "no resource", file: "prices: {H100!: 1}\n", where: ":1", says: "prices.H100!: that is not a resource"},
		{name: "size", file: "limits: {body: 10}\n", where: ":1", says: "limits.body: 10 is not from 1Ki to 1Gi"},
		{name: "objects", file: "limits: {objects: 0}\n", where: ":1", says: "limits.objects: 0 is not from 1"},
		{name: "tick", file: "tick: 1ms\n", where: ":1", says: "tick: 1ms is not from 10ms to 1m0s"},
		{name: "level", file: "log:\n  level: inf\n", where: ":2", says: `log.level: "inf" is unknown`, hint: "did you mean info?"},
		{name: "format", file: "log: {format: xml}\n", where: ":1", says: "log.format", hint: "write one of auto, text, json"},
		{name: "currency", file: "currency: euro\n", where: ":1", says: "currency", hint: "ISO 4217"},
		{name: "no data folder", file: "data_dir: ''\n", where: ":1", says: "data_dir: a server needs"},
		{name: "address", file: "listen: localhost\n", where: ":1", says: `listen: "localhost" is not host:port`},
		{name: "port", file: "listen: 127.0.0.1:70700\n", where: ":1", says: "is not host:port"},
		{name: "half of TLS", file: "tls: {cert: c.pem}\n", where: ":1", says: "tls.key: a certificate and its key"},
		{name: "same address", file: "listen: 127.0.0.1:1\ngateway: {listen: '127.0.0.1:1'}\n", where: ":2", says: "gateway.listen: the API listens"},
		{name: "password without database", file: "store: {password_file: p}\n", where: ":1", says: "no database for this password"},
		{name: "another database", file: "store: {url: 'mysql://db/x'}\n", where: ":1", says: "not the URL of a PostgreSQL"},
		{name: "replicas with keys of their own", file: "store: {url: 'postgres://db/x'}\n", where: ":1", says: "and secret_dir doesn't name its folder"},
		{name: "replicas with folders of their own", file: "store: {url: 'postgres://db/x'}\nsecret_dir: s\n", where: ":1", says: "keep files in one bucket"},
		{name: "no bucket", file: "blobs:\n  s3:\n    endpoint: http://127.0.0.1:1\n", where: ":2", says: "S3 needs a bucket"},
		{name: "style", file: "blobs: {s3: {style: pahts}}\n", where: ":1", says: `"pahts" is unknown`, hint: "write one of auto, path, virtual"},
		{name: "executor without kind", file: "executors:\n  west: {}\n", where: ":2", says: "executors.west: an executor is of one kind"},
		{name: "executor of two kinds", file: "executors:\n  west: {slurm: {dir: d}, kubernetes: {image: i}}\n", where: ":2", says: "an executor is of one kind"},
		{name: "executor of an unknown kind", file: "executors:\n  west:\n    nomad: {}\n", where: ":3", says: "executors.west.nomad: there is no such setting"},
		{name: "unknown key of an executor", file: "advertise: https://p\nexecutors:\n  west:\n    slurm:\n      dri: /s\n", where: ":5", says: "executors.west.slurm.dri", hint: "did you mean executors.NAME.slurm.dir?"},
		{name: "local is taken", file: "executors: {local: {slurm: {dir: d}}}\n", where: ":1", says: "the server's own machine"},
		{name: "agents without a server", file: "executors: {west: {slurm: {dir: d}}}\n", where: ":1", says: "its agents must know where"},
		{name: "no shared folder", file: "advertise: https://p\nexecutors: {west: {slurm: {}}}\n", where: ":2", says: "executors.west.slurm.dir"},
		{name: "placement", file: "advertise: https://p\nexecutors: {west: {slurm: {dir: d, placement: sit}}}\n", where: ":2", says: "placement", hint: "did you mean site?"},
		{name: "misspelt variable", env: "PENSTOCK_LSITEN=127.0.0.1:1", where: "PENSTOCK_LSITEN", says: "no such setting", hint: "did you mean PENSTOCK_LISTEN?"},
		{name: "variable of a section", env: "PENSTOCK_LOG_COLOUR=yes", where: "PENSTOCK_LOG_COLOUR", says: "no such setting"},
		{name: "variable for a section", env: "PENSTOCK_LOG=debug", where: "PENSTOCK_LOG", says: "no such setting"},
		{name: "variable's value", env: "PENSTOCK_LIMITS_OBJECTS=many", where: "PENSTOCK_LIMITS_OBJECTS", says: `limits.objects: "many" is not a whole number`},
		{name: "variable's price", env: "PENSTOCK_PRICES_CPU=cheap", where: "PENSTOCK_PRICES_CPU", says: `prices.cpu: "cheap" is not an amount of money`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := ""
			if c.file != "" {
				path = write(t, c.file)
			}
			got, err := Load(path, []string{c.env})
			e, ok := err.(*penstock.Error)
			if !ok || e.Code != penstock.Invalid {
				t.Fatalf("got %+v, %v", got, err)
			}
			if !strings.Contains(e.Where, c.where) || !strings.Contains(e.Msg, c.says) || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("where %q, msg %q, hint %q", e.Where, e.Msg, e.Hint)
			}
			if c.file != "" && !strings.HasPrefix(e.Where, path) {
				t.Errorf("where %q doesn't name the file", e.Where)
			}
		})
	}
}

// A server that runs as a workload, or beside the command line's variables,
// isn't stopped by them.
func TestVariablesOfOtherProgramsAreLeftAlone(t *testing.T) {
	for _, name := range strings.Fields(`JOB ATTEMPT TASK DATA FEED CHECKPOINTS OUTPUTS METRICS MODELS SECRETS PORT PARAM_LR
		SERVER TOKEN PROJECT CONFIG ADDRESS OUTPUT`) {
		if _, err := Load("", []string{"PENSTOCK_" + name + "=x"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMissingFileIsToldApart(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil); penstock.CodeOf(err) != penstock.NotFound {
		t.Errorf("got %v", err)
	}
	if _, err := Load(write(t, strings.Repeat("#", maxFile+1)), nil); penstock.CodeOf(err) != penstock.TooLarge {
		t.Errorf("got %v", err)
	}
}

// CVE-2023-48022 and its like: open to the network without protection.
func TestServerRefusesToListenForOthersWithoutTLS(t *testing.T) {
	set := map[string]func(*Config, string){
		"listen":         func(c *Config, address string) { c.Listen = address },
		"gateway.listen": func(c *Config, address string) { c.Gateway.Listen = address },
	}
	for key, put := range set {
		for _, open := range []string{"0.0.0.0:7070", ":7071", "[::]:7070", "192.168.1.4:80", "penstock.example:443", "[fe80::1]:1", "127.0.0.1.nip.io:80"} {
			c := Default()
			put(&c, open)
			err := c.Check()
			if err == nil || !strings.Contains(err.Error(), key+": penstock serve refuses to listen on "+open) {
				t.Errorf("%s %s without TLS: %v", key, open, err)
			}
			c.TLS = TLS{Cert: "c.pem", Key: "k.pem"}
			if err := c.Check(); err != nil {
				t.Errorf("%s %s with TLS: %v", key, open, err)
			}
		}
		for _, local := range []string{"127.0.0.1:0", "127.9.9.9:80", "[::1]:80", "localhost:80", "[::ffff:127.0.0.1]:9"} {
			c := Default()
			put(&c, local)
			if err := c.Check(); err != nil {
				t.Errorf("%s %s: %v", key, local, err)
			}
		}
	}
}

func TestEveryVariableNamesOneSetting(t *testing.T) {
	seen := map[string]string{}
	for _, s := range Settings() {
		if s.Env == "" && strings.Contains(s.Key, "*") {
			continue
		}
		if before, twice := seen[s.Env]; twice {
			t.Errorf("%s is both %s and %s", s.Env, before, s.Key)
		}
		seen[s.Env] = s.Key
	}
	if len(seen) < 12 {
		t.Errorf("only %d settings were found", len(seen))
	}
}

func TestNoFileMakesLoadingFail(t *testing.T) {
	word := rapid.SampledFrom([]string{"listen", "log", "level", "prices", "cpu", ":", " ", "\n", "  ", "{", "}", "[", "- ", "1", "&a ", "*a", "<<", "'", "\"", "#", "---\n", "!!binary ", "~", "|\n", ".", "null"})
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, "penstock.yaml")
		text := strings.Join(rapid.SliceOfN(word, 0, 20).Draw(t, "words"), "")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path, nil)
		if _, own := err.(*penstock.Error); err != nil && !own {
			t.Fatalf("%T: %v", err, err)
		}
		if err == nil && c.Check() != nil {
			t.Fatalf("loaded what can't be: %+v", c)
		}
	})
}

// example is the YAML in docs/config.md.
func example(t *testing.T) (page, text string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "config.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "```yaml\n")
	text, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("docs/config.md has no yaml example")
	}
	return string(b), text
}

func TestDocumentedExampleIsTheDefaultWithPricesAndNamesEverySetting(t *testing.T) {
	page, text := example(t)
	c, err := Load(write(t, text), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Prices = map[penstock.Resource]penstock.Money{"cpu": 35_000_000, "memory": 4_000_000, "h100": 2_500_000_000}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("the example isn't what it says (-want +got):\n%s", diff)
	}
	places := map[string]string{}
	if err := scanFile("config.md", []byte(text), places); err != nil {
		t.Fatal(err)
	}
	for _, s := range Settings() {
		own := strings.Contains(s.Key, "*")
		if places[s.Key] == "" && !own {
			t.Errorf("%s isn't in the example", s.Key)
		}
		if key := strings.ReplaceAll(s.Key, "*", "NAME"); !strings.Contains(page, "`"+key+"`") || !own && !strings.Contains(page, "`"+s.Env) {
			t.Errorf("the page doesn't describe %s, %s", key, s.Env)
		}
	}
}

func TestEveryFieldHasAKey(t *testing.T) {
	var look func(reflect.Type)
	look = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Tag.Get("koanf") == "" {
				t.Errorf("%s.%s has no koanf tag", typ, f.Name)
			}
			inner := f.Type
			for inner.Kind() == reflect.Map || inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				look(inner)
			}
		}
	}
	look(reflect.TypeFor[Config]())
}

func TestDocumentedClustersAreValid(t *testing.T) {
	page, _ := example(t)
	_, rest, _ := strings.Cut(page, "## Clusters")
	_, rest, ok := strings.Cut(rest, "```yaml\n")
	text, _, _ := strings.Cut(rest, "```")
	c, err := Load(write(t, text), nil)
	if err != nil || !ok {
		t.Fatal(err)
	}
	want := map[string]Executor{
		"west":   {Kubernetes: &Kubernetes{Kubeconfig: "/etc/penstock/west.kubeconfig", AgentImage: "registry.example/penstock-agent:v1"}},
		"hall-2": {Slurm: &Slurm{Dir: "/shared/penstock", Partition: "gpu"}},
	}
	if diff := cmp.Diff(want, c.Executors); diff != "" {
		t.Error(diff)
	}
}
