// Package config holds the settings of penstock serve: one typed struct, read
// from defaults, then a YAML file, then environment variables, each overriding
// the one before. A setting that nobody knows is an error, not a surprise.
//
// docs/config.md describes every setting; a test holds it against the struct.
package config

import (
	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Config is all that the server can be told. Authentication is not among it:
// there is no way to turn it off.
type Config struct {
	// DataDir is the folder of the embedded database and blobs.
	DataDir string `koanf:"data_dir"`
	// Listen is host:port of the API, port 0 for any free one.
	Listen string `koanf:"listen"`
	// Advertise is the URL at which agents on other machines reach the server;
	// empty is the address that it listens on.
	Advertise string  `koanf:"advertise"`
	Gateway   Gateway `koanf:"gateway"`
	TLS       TLS     `koanf:"tls"`
	Store     Store   `koanf:"store"`
	Blobs     Blobs   `koanf:"blobs"`
	// Replica is what this server is called among several; empty is the host name.
	Replica string `koanf:"replica"`
	// SecretDir has the key that seals secrets; empty is the data folder. Servers
	// on one database share it.
	SecretDir string `koanf:"secret_dir"`
	// Executors are the clusters that run work, by the name that pools use.
	Executors map[string]Executor `koanf:"executors"`
	Log       Log                 `koanf:"log"`
	// Tick is how often the control loops look, also when nothing has changed.
	Tick v1.Duration `koanf:"tick"`
	Pool Pool        `koanf:"pool"`
	// Currency is the ISO 4217 code of all prices, for showing only.
	Currency string `koanf:"currency"`
	// Prices are those of the discovered pool: for one CPU, one GiB of memory
	// or one device, for one hour. What isn't listed has no known price.
	Prices map[penstock.Resource]penstock.Money `koanf:"prices"`
	Limits Limits                               `koanf:"limits"`
}

// Gateway is where models are asked.
type Gateway struct {
	// Listen is host:port of a server of its own; empty is that of the API.
	Listen string `koanf:"listen"`
}

// TLS names the PEM files of the server's certificate and key, and of the
// certificates that agents check it against where their machine's don't do.
type TLS struct {
	Cert string `koanf:"cert"`
	Key  string `koanf:"key"`
	CA   string `koanf:"ca"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `koanf:"level"`  // debug, info, warn or error
	Format string `koanf:"format"` // auto, text or json
}

// Pool says where capacity comes from.
type Pool struct {
	// Discover declares this machine as a pool at the first start.
	Discover bool `koanf:"discover"`
}

// Limits bound what one call may bring.
type Limits struct {
	Body    Bytes `koanf:"body"`    // bytes of a request's body
	Objects int   `koanf:"objects"` // manifests of one apply
}

// Bytes is a size, written as in 512Ki or 4Mi.
type Bytes int64

// MarshalText writes the size with the largest unit that divides it.
func (b Bytes) MarshalText() ([]byte, error) {
	return []byte(penstock.Memory.Format(penstock.Amount(b))), nil
}

// UnmarshalText reads a whole number of bytes with or without a unit.
func (b *Bytes) UnmarshalText(text []byte) error {
	n, err := penstock.ParseAmount(penstock.Memory, string(text))
	if err != nil {
		return err
	}
	*b = Bytes(n)
	return nil
}
