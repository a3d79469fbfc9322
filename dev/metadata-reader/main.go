// Prints what OpenTelemetry's resource detector for ECS finds out about the container that it runs in, one attribute
// a line: a reader of the task metadata endpoint that nobody of this project wrote.
package main

import (
	"context"
	"fmt"
	"os"

	"go.opentelemetry.io/contrib/detectors/aws/ecs"
)

func main() {
	found, err := ecs.NewResourceDetector().Detect(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, attribute := range found.Attributes() {
		fmt.Printf("%s=%s\n", attribute.Key, attribute.Value.Emit())
	}
}
