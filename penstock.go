// Package penstock is the vocabulary that every other package speaks: names,
// amounts, money, phases, roles, Reason and Error. It knows no clock, no file
// and no network, and imports the standard library only.
package penstock

import "slices"

// Kind names a sort of resource, as written in a manifest.
type Kind string

// The kinds that a manifest can declare, and the ones that Penstock itself
// makes while it works (Attempt and the versions).
const (
	KindProject        Kind = "Project"
	KindPool           Kind = "Pool"
	KindDataset        Kind = "Dataset"
	KindJob            Kind = "Job"
	KindModel          Kind = "Model"
	KindEndpoint       Kind = "Endpoint"
	KindMonitor        Kind = "Monitor"
	KindPipeline       Kind = "Pipeline"
	KindSecret         Kind = "Secret"
	KindAttempt        Kind = "Attempt"
	KindDatasetVersion Kind = "DatasetVersion"
	KindModelVersion   Kind = "ModelVersion"
)

// Kinds lists every kind in the order in which a set of manifests is applied:
// what others refer to comes first.
func Kinds() []Kind {
	return []Kind{
		KindProject, KindPool, KindSecret, KindDataset, KindDatasetVersion, KindModel, KindModelVersion,
		KindJob, KindAttempt, KindEndpoint, KindPipeline, KindMonitor,
	}
}

// Declarable reports whether a user may write k in a manifest. The other kinds
// are made by Penstock and are read-only.
func (k Kind) Declarable() bool {
	return slices.Contains(Kinds(), k) && k != KindAttempt && k != KindDatasetVersion && k != KindModelVersion
}

// Global reports whether objects of kind k belong to the installation and not
// to a project.
func (k Kind) Global() bool { return k == KindProject || k == KindPool }

// Class says what kind of AI work a job is, which decides what it needs.
type Class string

// The classes of work.
const (
	ClassTraining        Class = "training"
	ClassFineTuning      Class = "fine-tuning"
	ClassBatchInference  Class = "batch-inference"
	ClassOnlineInference Class = "online-inference"
	ClassDataPreparation Class = "data-preparation"
	ClassEvaluation      Class = "evaluation"
	ClassMonitoring      Class = "monitoring"
)

// Classes lists the classes in the order of a model's life.
func Classes() []Class {
	return []Class{
		ClassDataPreparation, ClassTraining, ClassFineTuning, ClassEvaluation,
		ClassBatchInference, ClassOnlineInference, ClassMonitoring,
	}
}

// Role is what a token's holder may do. Each role includes the ones before it.
type Role string

// The roles, weakest first. An approver may approve what somebody else made; an
// operator may change pools and prices; an admin may make tokens.
const (
	RoleViewer    Role = "viewer"
	RoleDeveloper Role = "developer"
	RoleApprover  Role = "approver"
	RoleOperator  Role = "operator"
	RoleAdmin     Role = "admin"
)

// Roles lists the roles, weakest first.
func Roles() []Role {
	return []Role{RoleViewer, RoleDeveloper, RoleApprover, RoleOperator, RoleAdmin}
}

// Includes reports whether r may do all that other may. An unknown role
// includes nothing and is included in nothing.
func (r Role) Includes(other Role) bool {
	mine, theirs := slices.Index(Roles(), r), slices.Index(Roles(), other)
	return mine >= 0 && theirs >= 0 && mine >= theirs
}
