// Does what Flux and Argo CD do, with their own libraries, so that tests see Tallyman as they see it.
//
//	gitops reconcile --kubeconfig F --repository DIR [--path P] --namespace NS --name N [--timeout 2m] [--ignore POINTER]
//	    One pass of Flux' kustomize-controller: takes the manifests of the repository's HEAD, applies them, deletes what an
//	    earlier pass applied and HEAD has no longer, waits for that, and then for the health of all. Prints one line
//	    for each object. Ends with 1 and the reason when something failed or took too long.
//	gitops conditions --kubeconfig F | --objects F
//	    Watches every object of ours that has a status, and has Flux' checks of conditions look at each version of it. For a line
//	    on its input it looks at all that there are, and then prints what was found since the line before: one line of JSON.
//	    Ends with its input. With --objects F instead it looks at the objects of a file, and prints that.
//	gitops argo-test FOLDER
//	    Runs the health checks and actions of a folder like Argo CD's `resource_customizations`, with the cases beside them, in
//	    Argo CD's format and by its interpreter. Every action that is offered has to be tried. Prints a line for each case.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

func main() {
	ctrllog.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	err := errors.New("usage: gitops reconcile|conditions|argo-test")
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "reconcile":
			err = reconcile(os.Args[2:])
		case "conditions":
			err = watchConditions(os.Args[2:])
		case "argo-test":
			err = argoTest(os.Args[2:])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
