package main

import (
	"archive/tar"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/cli-utils/pkg/object"
	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/jsondiff"
	ssautil "github.com/fluxcd/pkg/ssa/utils"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// Names kustomize-controller and its labels.
var owner = ssa.Owner{Field: "kustomize-controller", Group: "kustomize.toolkit.fluxcd.io"}

func reconcile(args []string) error {
	flags := flag.NewFlagSet("reconcile", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig")
	repository := flags.String("repository", "", "git repository")
	path := flags.String("path", ".", "folder in it")
	namespace := flags.String("namespace", "default", "namespace of objects without one, and of the inventory")
	name := flags.String("name", "apps", "name of the Kustomization")
	timeout := flags.Duration("timeout", 2*time.Minute, "longest wait for health")
	ignored := flags.String("ignore", "", "a field of Services that is left to others once they are there, as a JSON pointer")
	flags.Parse(args)

	ctx := context.Background()
	wanted, err := manifests(*repository, *path)
	if err != nil {
		return err
	}
	for _, o := range wanted {
		if o.GetNamespace() == "" {
			o.SetNamespace(*namespace)
		}
	}
	api, manager, err := connect(*kubeconfig)
	if err != nil {
		return err
	}
	manager.SetOwnerLabels(wanted, *name, *namespace)

	options := ssa.DefaultApplyOptions()
	if *ignored != "" {
		// As kustomize-controller makes it of `spec.ignore`.
		options.DriftIgnoreRules = []jsondiff.IgnoreRule{{
			Paths:    []string{*ignored},
			Selector: &jsondiff.Selector{Group: "tallyman.dev", Kind: "Service"},
		}}
	}
	changes, err := manager.ApplyAllStaged(ctx, wanted, options)
	if err != nil {
		return err
	}
	print(changes)
	inventory, known, err := read(ctx, api, *name, *namespace)
	if err != nil {
		return err
	}
	if err := prune(ctx, manager, known, wanted, *name, *namespace, *timeout); err != nil {
		return err
	}
	if err := write(ctx, api, inventory, wanted); err != nil {
		return err
	}
	set := object.UnstructuredSetToObjMetadataSet(wanted)
	waiting := ssa.WaitOptions{Interval: 200 * time.Millisecond, Timeout: *timeout, FailFast: true}
	return manager.WaitForSetWithContext(ctx, set, waiting)
}

// The objects of the YAML files of a folder at HEAD.
func manifests(repository, path string) ([]*unstructured.Unstructured, error) {
	command := exec.Command("git", "-C", repository, "archive", "--format=tar", "HEAD:"+strings.TrimPrefix(path, "."))
	command.Stderr = os.Stderr
	archive, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("git archive of %s: %w", repository, err)
	}
	var found []*unstructured.Unstructured
	files := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := files.Next()
		if err == io.EOF {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		if !strings.HasSuffix(header.Name, ".yaml") {
			continue
		}
		objects, err := ssautil.ReadObjects(files)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", header.Name, err)
		}
		found = append(found, objects...)
	}
}

func connect(kubeconfig string) (client.Client, *ssa.ResourceManager, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, nil, err
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, transport)
	if err != nil {
		return nil, nil, err
	}
	api, err := client.New(config, client.Options{HTTPClient: transport, Mapper: mapper})
	if err != nil {
		return nil, nil, err
	}
	poller := polling.NewStatusPoller(api, mapper, polling.Options{})
	return api, ssa.NewResourceManager(api, poller, owner), nil
}

// Deletes what was applied before and is wanted no longer, and waits until it is gone.
func prune(ctx context.Context, manager *ssa.ResourceManager, known, wanted []*unstructured.Unstructured, name, namespace string, timeout time.Duration) error {
	keep := object.UnstructuredSetToObjMetadataSet(wanted)
	var stale []*unstructured.Unstructured
	for _, o := range known {
		if !keep.Contains(object.UnstructuredToObjMetadata(o)) {
			stale = append(stale, o)
		}
	}
	options := ssa.DefaultDeleteOptions()
	options.Inclusions = manager.GetOwnerLabels(name, namespace)
	changes, err := manager.DeleteAll(ctx, stale, options)
	if err != nil {
		return err
	}
	print(changes)
	return manager.WaitForSetTermination(changes, ssa.WaitOptions{Interval: 200 * time.Millisecond, Timeout: timeout})
}

func print(changes *ssa.ChangeSet) {
	for _, entry := range changes.Entries {
		fmt.Printf("%s %s\n", entry.Subject, entry.Action)
	}
}

// What an earlier pass applied. Flux keeps it in the status of the Kustomization.
func read(ctx context.Context, api client.Client, name, namespace string) (*corev1.ConfigMap, []*unstructured.Unstructured, error) {
	inventory := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "inventory-" + name, Namespace: namespace}}
	err := api.Get(ctx, client.ObjectKeyFromObject(inventory), inventory)
	if apierrors.IsNotFound(err) {
		return inventory, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	objects, err := ssautil.ReadObjects(strings.NewReader(inventory.Data["objects"]))
	return inventory, objects, err
}

func write(ctx context.Context, api client.Client, inventory *corev1.ConfigMap, wanted []*unstructured.Unstructured) error {
	var names []*unstructured.Unstructured
	for _, o := range wanted {
		bare := &unstructured.Unstructured{}
		bare.SetGroupVersionKind(o.GroupVersionKind())
		bare.SetNamespace(o.GetNamespace())
		bare.SetName(o.GetName())
		names = append(names, bare)
	}
	text, err := ssautil.ObjectsToYAML(names)
	if err != nil {
		return err
	}
	if inventory.Data["objects"] == text {
		return nil
	}
	inventory.Data = map[string]string{"objects": text}
	if inventory.ResourceVersion == "" {
		return api.Create(ctx, inventory)
	}
	return api.Update(ctx, inventory)
}
