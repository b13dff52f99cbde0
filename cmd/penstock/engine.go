package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/blob"
	"github.com/penstock/penstock/internal/blob/fs"
	"github.com/penstock/penstock/internal/blob/s3"
	"github.com/penstock/penstock/internal/config"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/kubernetes"
	"github.com/penstock/penstock/internal/run/local"
	"github.com/penstock/penstock/internal/run/slurm"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/store/postgres"
	"github.com/penstock/penstock/internal/store/sqlite"
)

// databaseFile is the embedded database in the data folder.
const databaseFile = "penstock.db"

// shared says that other servers may use the same state.
func (s *server) shared() bool { return s.config.Store.URL != "" }

// openStore opens the state where the settings say it is.
func (s *server) openStore(ctx context.Context) (store.Store, error) {
	if s.shared() {
		return postgres.Open(ctx, postgres.Options{URL: s.config.Store.URL, PasswordFile: s.config.Store.PasswordFile})
	}
	return sqlite.Open(ctx, s.folder.at(databaseFile))
}

// blobStore is a store of bytes that is closed at the end.
type blobStore interface {
	blob.Store
	io.Closer
}

// openBlobs opens the store of bytes where the settings say it is.
func (s *server) openBlobs(ctx context.Context) (blobStore, error) {
	c := s.config.Blobs.S3
	if c.Bucket == "" {
		folder, err := fs.Open(s.folder.at("blobs"))
		if err != nil {
			return nil, err // and not a store that is nil
		}
		return folder, nil
	}
	keys := s3.Credentials{From: s3.FromEnvironment, File: c.CredentialsFile, Profile: c.Profile, STSEndpoint: c.STSEndpoint}
	switch {
	case c.CredentialsFile != "":
		keys.From = s3.FromFile
	case os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != "":
		keys.From = s3.FromWebIdentity
	}
	bucket, err := s3.Open(ctx, s3.Options{
		Endpoint: c.Endpoint, Bucket: c.Bucket, Prefix: c.Prefix, Region: c.Region, Style: s3.Style(c.Style), CAFile: c.CAFile,
		Encryption: s3.Encryption(c.Encryption), KMSKey: c.KMSKey, Credentials: keys, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	return bucket, nil
}

// secretDir is the folder of the key that seals secrets.
func (s *server) secretDir() string {
	if dir := s.config.SecretDir; dir != "" {
		return dir
	}
	return s.folder.path
}

// contact is how agents find this server: those of this machine by the file
// which tells the port of the day, all others at the address that is advertised.
func (s *server) contact() (v1.Contact, error) {
	c := v1.Contact{AddressFile: s.folder.at("address")}
	if s.config.Advertise != "" {
		c.URL = strings.TrimSuffix(s.config.Advertise, "/") + "/api"
	}
	if file := s.config.TLS.CA; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return c, &penstock.Error{Code: penstock.Invalid, Where: "tls.ca", Msg: "the certificates for agents can't be read", Err: err}
		}
		c.CA = string(pem)
	}
	return c, nil
}

// openExecutors makes this machine an executor, and each cluster of the
// settings. Where several servers share the state, whichever leads must find
// the work that another one started: this machine runs work then only if the
// settings say so.
func (s *server) openExecutors() (map[string]run.Executor, error) {
	all := map[string]run.Executor{}
	agent, err := program("penstock-agent")
	if err != nil {
		return nil, err
	}
	if !s.shared() || s.config.Pool.Discover {
		if all[config.Local], err = local.New(local.Options{Dir: s.folder.at("run"), AgentPath: agent}); err != nil {
			return nil, err
		}
	}
	for name, e := range s.config.Executors {
		switch {
		case e.Kubernetes != nil:
			all[name], err = s.openKubernetes(*e.Kubernetes)
		case e.Slurm != nil:
			all[name], err = openSlurm(*e.Slurm, agent)
		}
		if err != nil {
			return nil, fmt.Errorf("open executor %s: %w", name, err)
		}
	}
	return all, nil
}

func (s *server) openKubernetes(c config.Kubernetes) (run.Executor, error) {
	o := kubernetes.Options{
		Kubeconfig: c.Kubeconfig, Context: c.Context, Prefix: c.Prefix, Placement: kubernetes.Placement(c.Placement), Scheduler: c.Scheduler,
		Queue: c.Queue, Nodes: c.Nodes, AgentImage: c.AgentImage, Image: c.Image, User: int64(c.User), RuntimeClass: c.RuntimeClass,
		PriorityClass: c.PriorityClass, Egress: c.Egress, Notify: s.kick, Log: s.log,
	}
	for _, text := range c.Tolerations {
		o.Tolerations = append(o.Tolerations, kubernetes.Toleration(config.ParseToleration(text)))
	}
	for _, text := range c.Volumes {
		v, err := config.ParseVolume(text)
		if err != nil {
			return nil, err
		}
		o.Volumes = append(o.Volumes, kubernetes.Volume{Path: v.Path, HostPath: v.Host, Claim: v.Claim, ReadOnly: v.ReadOnly})
	}
	e, err := kubernetes.New(o)
	if err != nil {
		return nil, err
	}
	s.watching = append(s.watching, e)
	return e, nil
}

func openSlurm(c config.Slurm, agent string) (run.Executor, error) {
	return slurm.New(slurm.Options{
		Dir: c.Dir, AgentPath: agent, Commands: c.Commands, Conf: c.Conf, Partition: c.Partition, Account: c.Account, QOS: c.QOS,
		Placement: slurm.Placement(c.Placement), Arguments: c.Arguments,
	})
}

// kick lets the loops look soon: an engine has seen something change.
func (s *server) kick() {
	if c := s.kicked.Load(); c != nil {
		c.Kick()
	}
}
