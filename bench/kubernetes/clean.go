package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// prefix begins the names of all namespaces that this program makes.
const prefix = "bench"

// clean removes this program's namespaces, and waits until they are gone: a side
// shall not find what another left.
func clean(ctx context.Context, client kubernetes.Interface) error {
	for {
		list, err := client.CoreV1().Namespaces().List(ctx, meta.ListOptions{})
		if err != nil {
			return fmt.Errorf("list namespaces: %w", err)
		}
		left := 0
		for _, n := range list.Items {
			if !strings.HasPrefix(n.Name, prefix+"-") {
				continue
			}
			left++
			if n.DeletionTimestamp != nil {
				continue
			}
			if err := client.CoreV1().Namespaces().Delete(ctx, n.Name, meta.DeleteOptions{}); err != nil {
				return fmt.Errorf("delete namespace %s: %w", n.Name, err)
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %d namespaces are gone: %w", left, context.Cause(ctx))
		case <-time.After(500 * time.Millisecond): // polls: they go when all in them has gone
		}
	}
}
