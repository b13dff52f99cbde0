package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// cleanTime bounds the taking back of a Start that failed.
const cleanTime = 30 * time.Second

// Start implements run.Executor. The gang has been started once its record says
// so, after all of its Jobs exist; where Penstock places, none of its pods runs
// before. A Start that was cut off, or whose answers were lost, is gone on with.
func (e *Executor) Start(ctx context.Context, orders []v1.Order) error {
	if err := e.fresh(e.mirrors.nodes); err != nil {
		return err
	}
	a, err := e.newAttempt(orders)
	if err != nil {
		return err
	}
	e.noteWork()
	if err := e.ensure(ctx, a.Project, orders[0].Server); err != nil {
		return err
	}
	if err := e.put(ctx, a, orders[0]); err != nil || a.mark(startedMark) != "" {
		return err
	}
	err = e.assemble(ctx, a, orders)
	code := penstock.CodeOf(err)
	switch {
	case err == nil:
		return nil
	case code == penstock.Unavailable || ctx.Err() != nil:
		return err // nobody knows what was done: the next Start goes on with it
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	return errors.Join(err, e.takeBack(clean, a))
}

// put writes the attempt's record, or reads the one that is there.
func (e *Executor) put(ctx context.Context, a *attempt, order v1.Order) error {
	object, err := a.write(e.labels(order))
	if err != nil {
		return err
	}
	configs := e.client.CoreV1().ConfigMaps(a.namespace)
	a.object, err = call(ctx, "write the record of attempt "+a.name, func(ctx context.Context) (*corev1.ConfigMap, error) {
		return configs.Create(ctx, object, metav1.CreateOptions{})
	})
	switch penstock.CodeOf(err) {
	case penstock.Exists:
	case penstock.NotFound: // the namespace was deleted behind our back
		e.mu.Lock()
		delete(e.ensured, a.namespace)
		e.mu.Unlock()
		return &penstock.Error{Code: penstock.Unavailable, Msg: "namespace " + a.namespace + " is gone, and is made again", Err: err}
	default:
		return err
	}
	there, err := call(ctx, "read the record of attempt "+a.name, func(ctx context.Context) (*corev1.ConfigMap, error) {
		return configs.Get(ctx, a.name, metav1.GetOptions{})
	})
	if err != nil {
		return err
	}
	if !there.DeletionTimestamp.IsZero() {
		return &penstock.Error{Code: penstock.Busy, Msg: "attempt " + a.name + " is being forgotten"}
	}
	if there.Data[recordKey] != object.Data[recordKey] {
		return &penstock.Error{
			Code: penstock.Conflict, Where: a.namespace + "/" + a.name, Msg: fmt.Sprintf("attempt %s was started before, and otherwise", a.Attempt),
			Err: fmt.Errorf("have %s, want %s", there.Data[recordKey], object.Data[recordKey]),
		}
	}
	a.object = there
	return nil
}

// assemble makes what isn't there yet of a gang, its Jobs last, and marks it
// as started.
func (e *Executor) assemble(ctx context.Context, a *attempt, orders []v1.Order) error {
	g, err := e.build(a, orders)
	if err != nil {
		return err
	}
	core := e.client.CoreV1()
	if err := make1(ctx, a, "secret", g.secret, core.Secrets(a.namespace)); err != nil {
		return err
	}
	if g.service != nil {
		if err := make1(ctx, a, "service", g.service, core.Services(a.namespace)); err != nil {
			return err
		}
		if err := make1(ctx, a, "network policy", g.network, e.client.NetworkingV1().NetworkPolicies(a.namespace)); err != nil {
			return err
		}
	}
	for _, job := range g.jobs {
		if err := make1(ctx, a, "job", job, e.client.BatchV1().Jobs(a.namespace)); err != nil {
			return err
		}
	}
	return e.setMark(ctx, a, startedMark, marked)
}

// creator is one kind of objects in a namespace.
type creator[T any] interface {
	Create(ctx context.Context, object T, o metav1.CreateOptions) (T, error)
	Get(ctx context.Context, name string, o metav1.GetOptions) (T, error)
}

// make1 makes one object of an attempt. One that is there was made by a Start
// before, if the attempt owns it.
func make1[T metav1.Object](ctx context.Context, a *attempt, kind string, object T, in creator[T]) error {
	what := "make the " + kind + " of attempt " + a.name
	_, err := call(ctx, what, func(ctx context.Context) (T, error) { return in.Create(ctx, object, metav1.CreateOptions{}) })
	if penstock.CodeOf(err) != penstock.Exists {
		return err
	}
	there, err := call(ctx, what, func(ctx context.Context) (T, error) { return in.Get(ctx, object.GetName(), metav1.GetOptions{}) })
	if penstock.CodeOf(err) == penstock.NotFound || err == nil && !a.owns(there) {
		return &penstock.Error{
			Code: penstock.Busy, Where: a.namespace + "/" + object.GetName(), Msg: "the " + kind + " is there already, and not of this attempt",
			Hint: "if it doesn't go away by itself, find out who made it",
		}
	}
	return err
}

// setMark writes one mark into a record.
func (e *Executor) setMark(ctx context.Context, a *attempt, name, value string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": a.object.UID, "annotations": map[string]string{name: value}}})
	if err != nil {
		return fmt.Errorf("encode mark: %w", err)
	}
	object, err := call(ctx, "mark the record of attempt "+a.name, func(ctx context.Context) (*corev1.ConfigMap, error) {
		return e.client.CoreV1().ConfigMaps(a.namespace).Patch(ctx, a.name, types.MergePatchType, patch, metav1.PatchOptions{})
	})
	if err == nil {
		a.object = object
	}
	return err
}

// find gives the records of an attempt, of which there is one at most unless
// somebody has copied it.
func (e *Executor) find(ctx context.Context, uid penstock.UID) (*attempt, error) {
	if err := checkUID(uid); err != nil {
		return nil, err
	}
	for _, object := range indexed[*corev1.ConfigMap](e.mirrors.records, byAttempt, string(uid)) {
		if e.isForgotten(object) {
			return nil, nil
		}
		return readRecord(object)
	}
	e.mu.Lock()
	lost := e.vanished[uid]
	e.mu.Unlock()
	if lost != nil {
		return lost, nil
	}
	// It may have been made just now, or by another replica.
	list, err := call(ctx, "look for attempt "+string(uid), func(ctx context.Context) (*corev1.ConfigMapList, error) {
		return e.client.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{LabelSelector: ownerLabel + "=" + e.Prefix + "," + attemptLabel + "=" + string(uid)})
	})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		if !e.isForgotten(&list.Items[i]) {
			return readRecord(&list.Items[i])
		}
	}
	return nil, nil
}
