// Does what Flux and Argo CD do, with their own libraries, so that tests see Tallyman as they see it.
//
//	gitops reconcile --kubeconfig F --repository DIR [--path P] --namespace NS --name N [--timeout 2m]
//	    One pass of Flux' kustomize-controller: takes the manifests of the repository's HEAD, applies them, deletes what an
//	    earlier pass applied and HEAD has no longer, waits for that, and then for the health of all. Prints one line
//	    for each object. Ends with 1 and the reason when something failed or took too long.
//	gitops lua SCRIPT < OBJECT
//	    Runs a script of Argo CD on an object in JSON, and prints what it returns in JSON: health.lua gives a
//	    status, an action the changed object, discovery.lua the actions.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/cli-utils/pkg/object"
	"github.com/fluxcd/pkg/runtime/conditions/check"
	"github.com/fluxcd/pkg/ssa"
	ssautil "github.com/fluxcd/pkg/ssa/utils"
	lua "github.com/yuin/gopher-lua"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/go-logr/logr"
)

// Names kustomize-controller and its labels.
var owner = ssa.Owner{Field: "kustomize-controller", Group: "kustomize.toolkit.fluxcd.io"}

// Conditions of Tallyman's kinds that are True while something is not as it should be, the worst first.
var conditions = check.Conditions{NegativePolarity: []string{"Stalled", "Reconciling"}}

func main() {
	ctrllog.SetLogger(logr.Discard())
	err := errors.New("usage: gitops reconcile|lua")
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "reconcile":
			err = reconcile(os.Args[2:])
		case "lua":
			err = script(os.Args[2:])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// --- Flux ---

func reconcile(args []string) error {
	flags := flag.NewFlagSet("reconcile", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig")
	repository := flags.String("repository", "", "git repository")
	path := flags.String("path", ".", "folder in it")
	namespace := flags.String("namespace", "default", "namespace of objects without one, and of the inventory")
	name := flags.String("name", "apps", "name of the Kustomization")
	timeout := flags.Duration("timeout", 2*time.Minute, "longest wait for health")
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

	changes, err := manager.ApplyAllStaged(ctx, wanted, ssa.DefaultApplyOptions())
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
	err = manager.WaitForSetWithContext(ctx, set, waiting)
	// Whatever the end is, it has to be told in the way of Flux' own controllers.
	for _, o := range wanted {
		if bad := conforms(ctx, api, o); bad != nil {
			return errors.Join(err, bad)
		}
	}
	return err
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

// An object as Flux' checks of conditions take it.
type conditioned struct {
	*unstructured.Unstructured
}

func (c conditioned) GetConditions() []metav1.Condition {
	status := struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(c.Object, &status); err != nil {
		panic(err)
	}
	return status.Status.Conditions
}

func conforms(ctx context.Context, api client.Client, wanted *unstructured.Unstructured) error {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(wanted.GroupVersionKind())
	if err := api.Get(ctx, client.ObjectKeyFromObject(wanted), o); err != nil {
		return err
	}
	if !strings.HasSuffix(o.GroupVersionKind().Group, "tallyman.dev") {
		return nil
	}
	// The checks are about what a controller says at the end of its work, and it has not begun.
	if seen, _, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration"); seen != o.GetGeneration() {
		return nil
	}
	checker := check.NewChecker(api, &conditions)
	if len(o.Object) > 0 && isReconciling(conditioned{o}) {
		checker = check.NewInProgressChecker(api)
	}
	checker.DisableFetch = true
	if bad, _ := checker.Check(ctx, conditioned{o}); bad != nil {
		return fmt.Errorf("%s does not report as Flux' controllers do: %w", ssautil.FmtUnstructured(o), bad)
	}
	return nil
}

func isReconciling(c conditioned) bool {
	for _, condition := range c.GetConditions() {
		if condition.Type == "Reconciling" && condition.Status == metav1.ConditionTrue {
			return true
		}
	}
	return false
}

// --- Argo CD ---

func script(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: gitops lua SCRIPT < OBJECT")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var input any
	if err := json.NewDecoder(os.Stdin).Decode(&input); err != nil {
		return err
	}
	// As Argo CD does: no library that reaches outside, but for dates.
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, "os": safeOs,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), NRet: 0, Protect: true}, lua.LString(name)); err != nil {
			return err
		}
	}
	state.SetGlobal("obj", toLua(state, input))
	if err := state.DoString(string(text)); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(fromLua(state.Get(-1)))
}

func safeOs(state *lua.LState) int {
	table := state.NewTable()
	table.RawSetString("date", state.NewFunction(func(state *lua.LState) int {
		now := time.Now()
		if strings.HasPrefix(state.OptString(1, ""), "!") {
			now = now.UTC()
		}
		state.Push(lua.LString(now.Format("2006-01-02T15:04:05Z")))
		return 1
	}))
	state.SetGlobal("os", table)
	state.Push(table)
	return 1
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, inner := range value {
			table.RawSetString(key, toLua(state, inner))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, inner := range value {
			table.Append(toLua(state, inner))
		}
		return table
	case string:
		return lua.LString(value)
	case float64:
		return lua.LNumber(value)
	case bool:
		return lua.LBool(value)
	}
	return lua.LNil
}

func fromLua(value lua.LValue) any {
	switch value := value.(type) {
	case *lua.LTable:
		if value.Len() > 0 {
			var list []any
			value.ForEach(func(_, inner lua.LValue) { list = append(list, fromLua(inner)) })
			return list
		}
		fields := map[string]any{}
		value.ForEach(func(key, inner lua.LValue) { fields[key.String()] = fromLua(inner) })
		return fields
	case lua.LString:
		return string(value)
	case lua.LNumber:
		return float64(value)
	case lua.LBool:
		return bool(value)
	}
	return nil
}
