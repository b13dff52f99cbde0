package kubernetes

import (
	"errors"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/penstock/penstock"
)

// told says in Penstock's words how a call to the API server failed. The
// server's own words are its user's to read: they name objects and rules, no
// secrets. What isn't an answer of the server is a connection that failed: what
// was asked may have happened.
func told(what string, err error) error {
	if err == nil {
		return nil
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return &penstock.Error{
			Code: penstock.Unavailable, Msg: what + ": the cluster's API server does not answer", Err: err,
			Hint: "check that it runs and can be reached from here",
		}
	}
	e := &penstock.Error{Code: codeOf(err), Msg: what + ": the cluster says: " + status.Status().Message}
	switch {
	case e.Code == penstock.Denied:
		e.Hint = "give the server's service account the rights in deploy/kubernetes"
	case quotaUsed(err):
		e.Hint = "delete jobs that have ended, or raise the namespace's ResourceQuota"
	}
	return e
}

func codeOf(err error) penstock.Code {
	switch reason := apierrors.ReasonForError(err); {
	case quotaRaced(err):
		return penstock.Unavailable
	case quotaUsed(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return penstock.Busy
	case reason == metav1.StatusReasonNotFound:
		return penstock.NotFound
	case reason == metav1.StatusReasonAlreadyExists:
		return penstock.Exists
	case reason == metav1.StatusReasonConflict:
		return penstock.Conflict
	case reason == metav1.StatusReasonForbidden, reason == metav1.StatusReasonUnauthorized:
		return penstock.Denied
	case reason == metav1.StatusReasonInvalid, reason == metav1.StatusReasonBadRequest, reason == metav1.StatusReasonRequestEntityTooLarge:
		return penstock.Invalid
	}
	return penstock.Unavailable
}

// quotaUsed: the answer is "forbidden", but time helps.
func quotaUsed(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota")
}

// quotaRaced: the API server lost a race with itself for the namespace's count
// of objects. It is a conflict by its name only: asking again helps.
func quotaRaced(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Kind == "resourcequotas"
}
