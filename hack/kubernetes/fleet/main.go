// Program fleet keeps the test cluster's fake machines: nodes with eight GPUs
// each that no machine stands behind, which KWOK keeps alive. It creates those
// that are missing, deletes those that are too many, and waits until all are
// ready.
//
//	fleet -kubeconfig FILE -nodes 500
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// workers is how many requests are under way at once: with more the API server
// of a small machine only queues.
const workers = 8

func main() {
	path := flag.String("kubeconfig", "", "`file` that says where the cluster is")
	nodes := flag.Int("nodes", 500, "how many fake `nodes` there shall be")
	patience := flag.Duration("timeout", 2*time.Minute, "how `long` to wait until all are ready")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *patience)
	defer cancel()
	if err := run(ctx, *path, *nodes); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, path string, want int) error {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.QPS = -1 // the workers are the limit
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	ready, all, err := look(ctx, client)
	if err != nil {
		return err
	}
	if err := change(ctx, client, all, want); err != nil {
		return err
	}
	for tick := time.NewTicker(200 * time.Millisecond); ready < want; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d fake nodes are ready: look into kwok's log", ready, want)
		case <-tick.C:
		}
		if ready, _, err = look(ctx, client); err != nil {
			return err
		}
	}
	return nil
}

// look counts the fake nodes that are ready and names all of them.
func look(ctx context.Context, client kubernetes.Interface) (int, map[string]bool, error) {
	// From the API server's memory (version 0): this is asked again and again.
	list, err := client.CoreV1().Nodes().List(ctx, meta.ListOptions{LabelSelector: fakeLabel, ResourceVersion: "0"})
	if err != nil {
		return 0, nil, fmt.Errorf("list the fake nodes: %w", err)
	}
	ready, all := 0, make(map[string]bool, len(list.Items))
	for _, node := range list.Items {
		all[node.Name] = true
		for _, condition := range node.Status.Conditions {
			if condition.Type == core.NodeReady && condition.Status == core.ConditionTrue {
				ready++
			}
		}
	}
	return ready, all, nil
}

// change creates and deletes nodes until those numbered 1 to want stand.
func change(ctx context.Context, client kubernetes.Interface, all map[string]bool, want int) error {
	var tasks []func() error
	for i := 1; i <= want; i++ {
		node := fakeNode(i)
		if all[node.Name] {
			delete(all, node.Name)
			continue
		}
		tasks = append(tasks, func() error {
			if _, err := client.CoreV1().Nodes().Create(ctx, node, meta.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("create node %s: %w", node.Name, err)
			}
			return nil
		})
	}
	for name := range all {
		tasks = append(tasks, func() error {
			if err := client.CoreV1().Nodes().Delete(ctx, name, meta.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("delete node %s: %w", name, err)
			}
			return nil
		})
	}
	return together(tasks)
}

// together does the tasks with a few workers and returns the first error.
func together(tasks []func() error) error {
	queue := make(chan func() error)
	errs := make(chan error, len(tasks))
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for task := range queue {
				errs <- task()
			}
		})
	}
	for _, task := range tasks {
		queue <- task
	}
	close(queue)
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
