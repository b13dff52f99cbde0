package kubernetes

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// The labels and annotations by which objects are known.
const (
	domain       = "penstock.dev/"
	ownerLabel   = domain + "installation" // Options.Prefix
	attemptLabel = domain + "attempt"      // the UID
	setLabel     = domain + "set"          // the task set's place in the record

	// On a record: the gang was started; why it was broken up before it ran; why
	// a Job of it will never be seen again; a pod of it was placed.
	startedMark = domain + "started"
	brokenMark  = domain + "broken"
	lostMark    = domain + "lost"
	placedMark  = domain + "placed"
	marked      = "true"
)

// recordKey is the key of the record in its ConfigMap.
const recordKey = "attempt.json"

// record is what is written down of an attempt before anything else of it is
// made. Two Starts of one attempt agree on it, or one of them is wrong.
type record struct {
	Attempt penstock.UID `json:"attempt"`
	Project string       `json:"project"`
	Job     string       `json:"job"`
	Number  int          `json:"number"`
	Sets    []part       `json:"sets"`
	// Nodes are where the ranks go, if that was planned.
	Nodes []string `json:"nodes,omitempty"`
	// Grace is what the agents give their tasks if nobody says another.
	Grace v1.Duration `json:"grace"`
}

// part is one task set of a gang: the ranks from First on.
type part struct {
	Name  string             `json:"name"`
	First int                `json:"first"`
	Count int                `json:"count"`
	Needs penstock.Resources `json:"needs,omitempty"`
}

// attempt is a record with its object in the cluster.
type attempt struct {
	record
	namespace, name string
	object          *corev1.ConfigMap // nil before it exists
}

// newAttempt makes the record of a gang whose orders are in rank order.
func (e *Executor) newAttempt(gang []v1.Order) (*attempt, error) {
	if len(gang) == 0 {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "a gang has one task at least"}
	}
	first := gang[0]
	if err := checkUID(first.Attempt); err != nil {
		return nil, err
	}
	r := record{Attempt: first.Attempt, Project: first.Project, Job: first.Job, Number: first.Number, Grace: first.Grace}
	if r.Grace <= 0 {
		r.Grace = v1.Duration(standardGrace)
	}
	for rank, order := range gang {
		if order.Attempt != first.Attempt || order.Rank != rank {
			return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("order %d of the gang is that of rank %d of attempt %s", rank, order.Rank, order.Attempt)}
		}
		if order.Index == 0 {
			r.Sets = append(r.Sets, part{Name: order.Set, First: rank, Needs: order.Resources})
		}
		last := len(r.Sets) - 1
		if last < 0 || r.Sets[last].Name != order.Set || r.Sets[last].Count != order.Index {
			return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("rank %d is task %d of set %s, out of order", rank, order.Index, order.Set)}
		}
		r.Sets[last].Count++
		if e.Placement == Planned {
			r.Nodes = append(r.Nodes, order.Node)
		}
	}
	return &attempt{record: r, namespace: e.namespace(r.Project), name: recordName(r)}, nil
}

// standardGrace is the agent's, see package agent.
const standardGrace = 30 * time.Second

// checkUID refuses what can't be the value of a label, by which everything of
// an attempt is found.
func checkUID(uid penstock.UID) error {
	if wrong := validation.IsValidLabelValue(string(uid)); uid == "" || len(wrong) > 0 {
		return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.80q can't be the uid of an attempt: %s", string(uid), strings.Join(wrong, ", "))}
	}
	return nil
}

// recordName is the same for one attempt whenever it is started: train-7-1f0c9a5e2b.
// It is short, since a pod's host name adds two numbers to it, and is at most
// 63 characters long.
func recordName(r record) string {
	return fmt.Sprintf("%s-%d-%s", strings.Trim(cut(r.Job, 24), "-"), r.Number, hash(string(r.Attempt)))
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:5])
}

func cut(s string, n int) string { return s[:min(n, len(s))] }

// namespace is where a project's work runs.
func (e *Executor) namespace(project string) string {
	name := e.Prefix + "-" + project
	if len(name) > validation.DNS1123LabelMaxLength {
		name = strings.Trim(cut(name, 50), "-") + "-" + hash(project)
	}
	return name
}

func (a *attempt) world() int {
	last := a.Sets[len(a.Sets)-1]
	return last.First + last.Count
}

// job is the name of a task set's Job.
func (a *attempt) job(set int) string { return a.name + "-" + strconv.Itoa(set) }

// set gives the set of a rank, and the rank's index in it; false if there is no
// such rank.
func (a *attempt) set(rank int) (set, index int, ok bool) {
	for i, p := range a.Sets {
		if rank >= p.First && rank < p.First+p.Count {
			return i, rank - p.First, true
		}
	}
	return 0, 0, false
}

// mark is what stands in the record under a mark, or "".
func (a *attempt) mark(name string) string {
	if a.object == nil {
		return ""
	}
	return a.object.Annotations[name]
}

// selector finds everything of the attempt.
func (a *attempt) selector() string { return attemptLabel + "=" + string(a.Attempt) }

// readRecord understands a record's object.
func readRecord(object *corev1.ConfigMap) (*attempt, error) {
	a := &attempt{namespace: object.Namespace, name: object.Name, object: object}
	if err := json.Unmarshal([]byte(object.Data[recordKey]), &a.record); err != nil {
		return nil, &penstock.Error{Code: penstock.Corrupt, Where: object.Namespace + "/" + object.Name, Msg: "the record of an attempt can't be read", Err: err}
	}
	if len(a.Sets) == 0 || string(a.Attempt) != object.Labels[attemptLabel] {
		return nil, &penstock.Error{Code: penstock.Corrupt, Where: object.Namespace + "/" + object.Name, Msg: "somebody has changed the record of an attempt"}
	}
	return a, nil
}

// write makes the record's object.
func (a *attempt) write(labels map[string]string) (*corev1.ConfigMap, error) {
	b, err := json.Marshal(a.record)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	fixed := true
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: a.name, Labels: labels},
		Immutable:  &fixed, Data: map[string]string{recordKey: string(b)},
	}, nil
}

// owner makes an object go when the record goes.
func (a *attempt) owner() []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: a.name, UID: a.object.UID, Controller: &yes}}
}

// owns reports whether an object is this record's, and not that of a record
// with the same name before it.
func (a *attempt) owns(object metav1.Object) bool {
	owner := metav1.GetControllerOf(object)
	return a.object != nil && owner != nil && owner.UID == a.object.UID
}

// labels are those of everything that is made for an attempt: what it is known
// by, and what the site's cost tools ask for.
func (e *Executor) labels(order v1.Order) map[string]string {
	out := map[string]string{}
	maps.Copy(out, e.Labels)
	for _, key := range []string{"team", "model", "dataset", "environment"} {
		if value := labelValue(order.Labels[key]); value != "" {
			out[domain+key] = value
		}
	}
	out["app.kubernetes.io/managed-by"] = "penstock"
	out[ownerLabel], out[attemptLabel] = e.Prefix, string(order.Attempt)
	out[domain+"project"], out[domain+"job"] = labelValue(order.Project), labelValue(order.Job)
	out[domain+"number"] = strconv.Itoa(order.Number)
	return out
}

// labelValue is the nearest that may be the value of a label: of free words,
// other characters become dashes.
func labelValue(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r)) {
			return r
		}
		return '-'
	}, s)
	return strings.Trim(cut(s, validation.LabelValueMaxLength), "-_.")
}
