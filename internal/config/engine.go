package config

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
	// Placement is penstock (pods are bound to the nodes that were planned) or
	// cluster (the site's scheduler places).
	Placement string `koanf:"placement"`
	// Namespaces begins the names of the projects' namespaces.
	Namespaces string `koanf:"namespaces"`
	// Queue is the local queue of the site's queueing system, for placement cluster.
	Queue string `koanf:"queue"`
	// AgentImage has penstock-agent, Image is that of tasks which name none.
	AgentImage string `koanf:"agent_image"`
	Image      string `koanf:"image"`
}

// Slurm is a cluster whose commands this machine has.
type Slurm struct {
	// Dir is a folder that the server and all nodes see under the same path.
	Dir       string `koanf:"dir"`
	Conf      string `koanf:"conf"` // SLURM_CONF; empty is the commands' own
	Partition string `koanf:"partition"`
	Account   string `koanf:"account"`
	QOS       string `koanf:"qos"`
	// Placement is penstock (exact nodes) or site (the partition only).
	Placement string `koanf:"placement"`
}
