package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fluxcd/pkg/runtime/conditions/check"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// Conditions of Tallyman's kinds that are True while something is not as it should be, the worst first.
var polarity = check.Conditions{NegativePolarity: []string{"Stalled", "Reconciling"}}

// How long a status may be of an older generation than its object. Operator and agents take a moment, and some faults a while.
const behind = 20 * time.Second

// What was found since it was asked last. Each finding names the object.
type findings struct {
	Objects  int      `json:"objects"`
	Versions int      `json:"versions"`
	Failures []string `json:"failures"`
	Warnings []string `json:"warnings"`
}

// Looks at versions of objects, from several watches.
type inspector struct {
	sync.Mutex
	versions           int
	seen               map[string]string
	failures, warnings map[string]bool
}

func newInspector() *inspector {
	return &inspector{seen: map[string]string{}, failures: map[string]bool{}, warnings: map[string]bool{}}
}

func watchConditions(args []string) error {
	flags := flag.NewFlagSet("conditions", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig")
	objects := flags.String("objects", "", "a list of objects in JSON, to look at them and no others")
	flags.Parse(args)
	if *objects != "" {
		return checkFile(*objects)
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	config.WarningHandler = nil
	api, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	kinds, err := withStatus(found)
	if err != nil {
		return err
	}
	inspector := newInspector()
	factory := dynamicinformer.NewDynamicSharedInformerFactory(api, 0)
	for _, kind := range kinds {
		informer := factory.ForResource(kind).Informer()
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { inspector.look(o.(*unstructured.Unstructured)) },
			UpdateFunc: func(_, o any) { inspector.look(o.(*unstructured.Unstructured)) },
		})
		if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	asked := bufio.NewScanner(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for asked.Scan() {
		objects, err := inspector.all(ctx, api, kinds)
		if err != nil {
			return err
		}
		if err := answers.Encode(inspector.take(objects)); err != nil {
			return err
		}
	}
	return asked.Err()
}

func checkFile(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var list unstructured.UnstructuredList
	if err := list.UnmarshalJSON(content); err != nil {
		return err
	}
	inspector := newInspector()
	for n := range list.Items {
		inspector.look(&list.Items[n])
	}
	return json.NewEncoder(os.Stdout).Encode(inspector.take(len(list.Items)))
}

// The kinds of ours that report something.
func withStatus(api discovery.DiscoveryInterface) ([]schema.GroupVersionResource, error) {
	const version = "tallyman.dev/v1alpha1"
	listed, err := api.ServerResourcesForGroupVersion(version)
	if err != nil {
		return nil, err
	}
	var kinds []schema.GroupVersionResource
	for _, r := range listed.APIResources {
		if plural, ok := strings.CutSuffix(r.Name, "/status"); ok {
			kinds = append(kinds, schema.GroupVersionResource{Group: "tallyman.dev", Version: "v1alpha1", Resource: plural})
		}
	}
	if len(kinds) == 0 {
		return nil, fmt.Errorf("%s has no kind with a status", version)
	}
	return kinds, nil
}

// One version, as a watch brings it.
func (i *inspector) look(o *unstructured.Unstructured) {
	i.Lock()
	defer i.Unlock()
	key := string(o.GetUID())
	if last, ok := i.seen[key]; ok && last == o.GetResourceVersion() {
		return
	}
	i.seen[key] = o.GetResourceVersion()
	// The checks are about what a controller says at the end of its work, and of this generation it has said nothing yet.
	if observed(o) != o.GetGeneration() {
		return
	}
	i.versions++
	failures, warnings := checked(o)
	for text := range failures {
		i.failures[text] = true
	}
	for text := range warnings {
		i.warnings[text] = true
	}
}

// All that there are now, each once its status is of its generation. How many they are.
func (i *inspector) all(ctx context.Context, api dynamic.Interface, kinds []schema.GroupVersionResource) (int, error) {
	began := time.Now()
	for {
		objects, late, err := i.each(ctx, api, kinds)
		over := time.Since(began) > behind
		if err == nil && (len(late) == 0 || over) {
			i.Lock()
			defer i.Unlock()
			for _, text := range late {
				i.failures[text] = true
			}
			return objects, nil
		}
		// Whoever took the API server away brings it back.
		if err != nil && over {
			return 0, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Looks at all once: how many they are, and whose status is of an older generation.
func (i *inspector) each(ctx context.Context, api dynamic.Interface, kinds []schema.GroupVersionResource) (int, []string, error) {
	objects, late := 0, []string{}
	for _, kind := range kinds {
		list, err := api.Resource(kind).List(ctx, metav1.ListOptions{})
		if err != nil {
			return 0, nil, err
		}
		for n := range list.Items {
			o := &list.Items[n]
			objects++
			i.look(o)
			if observed(o) != o.GetGeneration() {
				late = append(late, fmt.Sprintf("%s is of generation %d, and its status of %d", named(o), o.GetGeneration(), observed(o)))
			}
		}
	}
	return objects, late, nil
}

func (i *inspector) take(objects int) findings {
	i.Lock()
	defer i.Unlock()
	taken := findings{
		Objects:  objects,
		Versions: i.versions,
		Failures: slices.Sorted(maps.Keys(i.failures)),
		Warnings: slices.Sorted(maps.Keys(i.warnings)),
	}
	i.versions, i.failures, i.warnings = 0, map[string]bool{}, map[string]bool{}
	return taken
}

// All checks that there are, of objects that are done and of objects on their way: Tallyman keeps both. It says False of Ready while
// Reconciling is True, so nothing that holds of the first alone is lost.
func checked(o *unstructured.Unstructured) (failures, warnings map[string]bool) {
	failures, warnings = map[string]bool{}, map[string]bool{}
	for _, checker := range []*check.Checker{check.NewChecker(nil, &polarity), check.NewInProgressChecker(nil)} {
		checker.DisableFetch = true
		fail, warn := checker.Check(context.Background(), conditioned{o})
		if fail != nil {
			failures[fmt.Sprintf("%s: %v: %s", named(o), fail, told(o))] = true
		}
		if warn != nil {
			warnings[fmt.Sprintf("%s: %v", named(o), warn)] = true
		}
	}
	return failures, warnings
}

func named(o *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s/%s", o.GetKind(), o.GetNamespace(), o.GetName())
}

func told(o *unstructured.Unstructured) string {
	told, _, _ := unstructured.NestedFieldNoCopy(o.Object, "status", "conditions")
	text, err := json.Marshal(told)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// -1 until a controller has seen it, by the definitions' default.
func observed(o *unstructured.Unstructured) int64 {
	seen, ok, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration")
	if !ok {
		return -1
	}
	return seen
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
	// Without, `Ready` is missing, and that is told.
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(c.Object, &status); err != nil {
		return nil
	}
	return status.Status.Conditions
}
