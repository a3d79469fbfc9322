// Tells of objects what kube-state-metrics would, by its own code, with a configuration for custom resources. A module of its own:
// kube-state-metrics is of another generation of Kubernetes' libraries than what the other programs are made of.
//
//	state-metrics CONFIGURATION < LIST
//	    LIST is what `kubectl get -o json` prints. Fields of the configuration that kube-state-metrics does not know are refused.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
	"k8s.io/kube-state-metrics/v2/pkg/customresourcestate"
	"k8s.io/kube-state-metrics/v2/pkg/metric"
)

func main() {
	klog.SetLogger(logr.Discard())
	if err := tell(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func tell() error {
	if len(os.Args) != 2 {
		return errors.New("usage: state-metrics CONFIGURATION < LIST")
	}
	file, err := os.Open(os.Args[1])
	if err != nil {
		return err
	}
	defer file.Close()
	var configuration struct {
		Kind                        string `yaml:"kind"`
		customresourcestate.Metrics `yaml:",inline"`
	}
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(&configuration); err != nil {
		return fmt.Errorf("%s: %w", os.Args[1], err)
	}
	var list unstructured.UnstructuredList
	if err := json.NewDecoder(os.Stdin).Decode(&list); err != nil {
		return err
	}
	for _, resource := range configuration.Spec.Resources {
		for n := range resource.Metrics {
			each := &resource.Metrics[n].Each
			each.Type = metric.Type(strings.ToLower(string(each.Type)))
		}
		factory, err := customresourcestate.NewCustomResourceMetrics(resource)
		if err != nil {
			return fmt.Errorf("%s: %w", resource.GroupVersionKind, err)
		}
		for _, family := range factory.MetricFamilyGenerators() {
			fmt.Printf("# HELP %s %s\n# TYPE %s %s\n", family.Name, family.Help, family.Name, family.Type)
			var lines []string
			for n := range list.Items {
				o := &list.Items[n]
				if o.GroupVersionKind() != schema.GroupVersionKind(resource.GroupVersionKind) {
					continue
				}
				told := strings.TrimSuffix(string(family.Generate(o).ByteSlice()), "\n")
				if told != "" {
					lines = append(lines, strings.Split(told, "\n")...)
				}
			}
			slices.Sort(lines)
			for _, line := range lines {
				fmt.Println(line)
			}
		}
	}
	return nil
}
