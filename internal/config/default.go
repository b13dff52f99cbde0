package config

import (
	"time"

	v1 "github.com/penstock/penstock/api/v1"
)

// Local is the name that a pool's spec gives to the server's own machine.
const Local = "local"

// Default is a server on this machine, for this machine.
func Default() Config {
	return Config{
		DataDir:   "penstock-data",
		Listen:    "127.0.0.1:7070",
		Log:       Log{Level: "info", Format: "auto"},
		Tick:      v1.Duration(time.Second),
		Blobs:     Blobs{S3: S3{Style: "auto"}},
		Executors: map[string]Executor{},
		Pool:      Pool{Discover: true},
		Currency:  "EUR",
		Limits:    Limits{Body: 4 << 20, Objects: 1000},
	}
}
