// Program etcd is etcd's own server, built from the module graph that also
// gives the Kubernetes programs, so that both share what the compiler cached.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
