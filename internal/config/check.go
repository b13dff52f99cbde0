package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Check says what can't be, the first of several: a *penstock.Error. Load has
// checked what it returns; check again after changing it by flags.
func (c Config) Check() error {
	if f := c.fault(); f != nil {
		return f.in("")
	}
	return nil
}

// fault is what is wrong with one setting.
type fault struct{ key, msg, hint string }

// at makes an error at the place of the setting, or of the section around it.
func (f fault) at(places map[string]string) error {
	for key := f.key; ; {
		if where, ok := places[key]; ok {
			return f.in(where)
		}
		dot := strings.LastIndexByte(key, '.')
		if dot < 0 {
			return f.in("")
		}
		key = key[:dot]
	}
}

func (f fault) in(where string) error {
	msg := f.msg
	if f.key != "" {
		msg = f.key + ": " + msg
	}
	return &penstock.Error{Code: penstock.Invalid, Where: where, Msg: msg, Hint: f.hint}
}

// keyOf turns a decoder's name of a field into a key: prices[h100].
func keyOf(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "[", "."), "]", "")
}

func (c Config) fault() *fault {
	return first(
		c.checkPlaces, c.checkEngines, c.checkExecutors, c.checkLog, c.checkMoney, c.checkBounds,
	)
}

func first(checks ...func() *fault) *fault {
	for _, check := range checks {
		if f := check(); f != nil {
			return f
		}
	}
	return nil
}

// checkPlaces looks at folders, addresses and TLS.
func (c Config) checkPlaces() *fault {
	if c.DataDir == "" {
		return &fault{"data_dir", "a server needs a folder for its data", "write a path, such as /var/lib/penstock"}
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		missing := "key"
		if c.TLS.Cert == "" {
			missing = "cert"
		}
		return &fault{"tls." + missing, "a certificate and its key belong together; this one is missing", "give both tls.cert and tls.key, or neither"}
	}
	if f := c.checkListen("listen", c.Listen); f != nil {
		return f
	}
	if c.Gateway.Listen == "" {
		return nil
	}
	if c.Gateway.Listen == c.Listen {
		return &fault{"gateway.listen", "the API listens on " + c.Listen + " already", "leave it out to serve both there"}
	}
	return c.checkListen("gateway.listen", c.Gateway.Listen)
}

// checkListen wants host:port, and TLS where others than this machine can
// reach it: tokens would travel in the open.
func (c Config) checkListen(key, address string) *fault {
	host, port, err := net.SplitHostPort(address)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || strconv.FormatUint(n, 10) != port {
		return &fault{key, fmt.Sprintf("%.80q is not host:port", address), "write an address such as 127.0.0.1:7070"}
	}
	if c.TLS.Cert != "" || loopback(host) {
		return nil
	}
	return &fault{
		key, fmt.Sprintf("penstock serve refuses to listen on %s without TLS: whoever is on the network could read the tokens", address),
		"set tls.cert and tls.key, or listen on 127.0.0.1 and put a proxy with TLS before it",
	}
}

// loopback reports whether only this machine can reach host. The empty host is
// every address that the machine has; a name other than localhost may be any.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func (c Config) checkLog() *fault {
	return first(
		func() *fault { return oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error") },
		func() *fault { return oneOf("log.format", c.Log.Format, "auto", "text", "json") },
	)
}

// oneOf wants one of a few words.
func oneOf(key, value string, allowed ...string) *fault {
	if slices.Contains(allowed, value) {
		return nil
	}
	hint := "write one of " + strings.Join(slices.DeleteFunc(slices.Clone(allowed), func(w string) bool { return w == "" }), ", ")
	if hit := nearest(value, allowed); hit != "" {
		hint = "did you mean " + hit + "?"
	}
	return &fault{key, fmt.Sprintf("%.40q is unknown", value), hint}
}

// checkEngines looks at the database, the bucket, and what they need.
func (c Config) checkEngines() *fault {
	s3 := c.Blobs.S3
	switch {
	case c.Store.URL == "" && c.Store.PasswordFile != "":
		return &fault{"store.password_file", "there is no database for this password", "set store.url, too"}
	case c.Store.URL != "" && !strings.HasPrefix(c.Store.URL, "postgres://") && !strings.HasPrefix(c.Store.URL, "postgresql://"):
		return &fault{"store.url", "that is not the URL of a PostgreSQL database", "write postgres://USER@HOST/DATABASE, or leave it out for the embedded one"}
	case c.Store.URL != "" && c.SecretDir == "":
		return &fault{"store.url", "servers on one database seal secrets with one key, and secret_dir doesn't name its folder", "make a folder that all of them have; the first one puts the key there"}
	case c.Store.URL != "" && s3.Bucket == "":
		return &fault{"store.url", "servers on one database keep files in one bucket, and none is named", "set blobs.s3.bucket"}
	case s3.Bucket == "" && s3 != (S3{Style: s3.Style}):
		return &fault{"blobs.s3.bucket", "S3 needs a bucket", "name one that exists"}
	case c.Advertise != "" && !strings.HasPrefix(c.Advertise, "https://") && !strings.HasPrefix(c.Advertise, "http://"):
		return &fault{"advertise", fmt.Sprintf("%.80q is not a URL", c.Advertise), "write one such as https://penstock.example:7070"}
	}
	return first(
		func() *fault { return oneOf("blobs.s3.style", s3.Style, "auto", "path", "virtual") },
		func() *fault { return oneOf("blobs.s3.encryption", s3.Encryption, "", "sse-s3", "sse-kms") },
	)
}

// checkExecutors wants each to be of one kind, and whole.
func (c Config) checkExecutors() *fault {
	for _, name := range slices.Sorted(maps.Keys(c.Executors)) {
		key, e := "executors."+name, c.Executors[name]
		switch {
		case penstock.CheckName(name) != nil:
			return &fault{key, fmt.Sprintf("%.80q can't be the name of an executor", name), "use a-z, 0-9 and '-'"}
		case name == Local:
			return &fault{key, "this name is that of the server's own machine", "give the cluster another name"}
		case (e.Kubernetes == nil) == (e.Slurm == nil):
			return &fault{key, "an executor is of one kind", "put either kubernetes or slurm below it"}
		case c.Advertise == "":
			return &fault{key, "its agents must know where the server is", "set advertise to the URL at which they reach it, such as https://penstock.example:7070"}
		}
		if f := e.fault(key); f != nil {
			return f
		}
	}
	return nil
}

func (e Executor) fault(key string) *fault {
	if k := e.Kubernetes; k != nil {
		if k.AgentImage == "" {
			return &fault{key + ".kubernetes.agent_image", "pods get their agent from an image, and none is named", "'make image' builds it; name it as your registry has it"}
		}
		for _, text := range k.Volumes {
			if _, err := ParseVolume(text); err != nil {
				return &fault{key + ".kubernetes.volumes", err.Error(), "write host:FOLDER:PATH or claim:NAME:PATH, with :ro behind it for reading only"}
			}
		}
		if k.User < 0 {
			return &fault{key + ".kubernetes.user", fmt.Sprintf("%d is not the number of a user", k.User), "leave it out for one without rights"}
		}
		return oneOf(key+".kubernetes.placement", k.Placement, "", "penstock", "cluster")
	}
	if e.Slurm.Dir == "" {
		return &fault{key + ".slurm.dir", "server and nodes meet in a shared folder, and none is named", "name one that all of them see under the same path"}
	}
	return oneOf(key+".slurm.placement", e.Slurm.Placement, "", "penstock", "site")
}

var (
	currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)
	resourceForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
)

func (c Config) checkMoney() *fault {
	if !currencyForm.MatchString(c.Currency) {
		return &fault{"currency", fmt.Sprintf("%.40q is not a currency", c.Currency), "write the three capital letters of ISO 4217, such as EUR"}
	}
	names := make([]string, 0, len(c.Prices))
	for name := range c.Prices {
		names = append(names, string(name))
	}
	slices.Sort(names)
	for _, name := range names {
		price := c.Prices[penstock.Resource(name)]
		switch {
		case !resourceForm.MatchString(name):
			return &fault{"prices." + name, "that is not a resource", "write cpu, memory or an accelerator such as h100"}
		case price < 0:
			return &fault{"prices." + name, fmt.Sprintf("%s is below 0", price), "leave the price out where it isn't known"}
		}
	}
	return nil
}

func (c Config) checkBounds() *fault {
	return first(
		func() *fault { return between("tick", c.Tick, 10*time.Millisecond, time.Minute) },
		func() *fault {
			if b := c.Limits.Body; b < 1<<10 || b > 1<<30 {
				return &fault{"limits.body", penstock.Memory.Format(penstock.Amount(b)) + " is not from 1Ki to 1Gi", "4Mi is the default"}
			}
			return nil
		},
		func() *fault {
			if n := c.Limits.Objects; n < 1 || n > 100_000 {
				return &fault{"limits.objects", fmt.Sprintf("%d is not from 1 to 100000", n), "1000 is the default"}
			}
			return nil
		},
	)
}

func between(key string, d v1.Duration, least, most time.Duration) *fault {
	if v := time.Duration(d); v < least || v > most {
		return &fault{key, fmt.Sprintf("%s is not from %s to %s", v, least, most), "write a duration such as 90s, 12h or 30d"}
	}
	return nil
}
