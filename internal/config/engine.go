package config

import (
	"fmt"
	"strings"

	"github.com/penstock/penstock"
)

// Store says where the state is kept.
type Store struct {
	// URL is a PostgreSQL connection URL without a password; empty is the
	// embedded database in the data folder.
	URL string `koanf:"url"`
	// PasswordFile holds the password alone.
	PasswordFile string `koanf:"password_file"`
}

// Blobs says where files are kept: a folder in the data folder, unless S3 has a
// bucket.
type Blobs struct {
	S3 S3 `koanf:"s3"`
}

// S3 is a bucket of a service that speaks S3.
type S3 struct {
	Endpoint string `koanf:"endpoint"` // URL without a path
	Bucket   string `koanf:"bucket"`
	Prefix   string `koanf:"prefix"`
	Region   string `koanf:"region"`
	Style    string `koanf:"style"`   // auto, path or virtual
	CAFile   string `koanf:"ca_file"` // PEM, besides the system's
	// CredentialsFile is a shared credentials file; without it the environment
	// and a web identity are tried.
	CredentialsFile string `koanf:"credentials_file"`
	Profile         string `koanf:"profile"`      // section of that file
	STSEndpoint     string `koanf:"sts_endpoint"` // gives keys for a web identity
	Encryption      string `koanf:"encryption"`   // empty, sse-s3 or sse-kms
	KMSKey          string `koanf:"kms_key"`
}

// Executor is an engine that runs work on other machines: one of its fields.
type Executor struct {
	Kubernetes *Kubernetes `koanf:"kubernetes"`
	Slurm      *Slurm      `koanf:"slurm"`
}

// Kubernetes is a cluster.
type Kubernetes struct {
	// Kubeconfig is a file; empty is the cluster that the server runs in.
	Kubeconfig string `koanf:"kubeconfig"`
	Context    string `koanf:"context"`
	// Prefix begins the names of the projects' namespaces.
	Prefix string `koanf:"prefix"`
	// Placement is penstock (pods are bound to the nodes that were planned) or
	// cluster (the site's scheduler places).
	Placement string `koanf:"placement"`
	// Scheduler and Queue are the site's, for placement cluster.
	Scheduler string `koanf:"scheduler"`
	Queue     string `koanf:"queue"`
	// Nodes is a label selector.
	Nodes string `koanf:"nodes"`
	// AgentImage has penstock-agent, Image is that of tasks which name none.
	AgentImage string `koanf:"agent_image"`
	Image      string `koanf:"image"`
	// User is the numeric user of tasks; 0 is the executor's default.
	User int `koanf:"user"`
	// Tolerations are written KEY[=VALUE][:EFFECT].
	Tolerations []string `koanf:"tolerations"`
	// Volumes are written host:FOLDER:PATH[:ro] or claim:NAME:PATH[:ro].
	Volumes       []string `koanf:"volumes"`
	RuntimeClass  string   `koanf:"runtime_class"`
	PriorityClass string   `koanf:"priority_class"`
	// Egress are networks, as CIDR, that tasks may reach.
	Egress []string `koanf:"egress"`
}

// Toleration is one of Kubernetes' Tolerations.
type Toleration struct{ Key, Value, Effect string }

// ParseToleration reads KEY[=VALUE][:EFFECT].
func ParseToleration(text string) Toleration {
	taint, effect, _ := strings.Cut(text, ":")
	key, value, _ := strings.Cut(taint, "=")
	return Toleration{Key: key, Value: value, Effect: effect}
}

// Volume is one of Kubernetes' Volumes: Host or Claim.
type Volume struct {
	Host, Claim, Path string
	ReadOnly          bool
}

// ParseVolume reads host:FOLDER:PATH[:ro] or claim:NAME:PATH[:ro].
func ParseVolume(text string) (Volume, error) {
	parts := strings.Split(text, ":")
	v := Volume{ReadOnly: len(parts) == 4 && parts[3] == "ro"}
	if (len(parts) == 3 || v.ReadOnly) && strings.HasPrefix(parts[2], "/") && parts[1] != "" {
		v.Path = parts[2]
		switch {
		case parts[0] == "host" && strings.HasPrefix(parts[1], "/"):
			v.Host = parts[1]
			return v, nil
		case parts[0] == "claim":
			v.Claim = parts[1]
			return v, nil
		}
	}
	return v, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.80q is not a volume", text), Hint: "write host:FOLDER:PATH or claim:NAME:PATH, with :ro behind it for reading only"}
}

// Slurm is a cluster whose commands this machine has.
type Slurm struct {
	// Dir is a folder that the server and all nodes see under the same path.
	Dir string `koanf:"dir"`
	// Commands is the folder of Slurm's commands; empty is PATH.
	Commands  string `koanf:"commands"`
	Conf      string `koanf:"conf"` // SLURM_CONF; empty is the commands' own
	Partition string `koanf:"partition"`
	Account   string `koanf:"account"`
	QOS       string `koanf:"qos"`
	// Placement is penstock (exact nodes) or site (the partition only).
	Placement string `koanf:"placement"`
	// Arguments are given to sbatch, too.
	Arguments []string `koanf:"arguments"`
}
