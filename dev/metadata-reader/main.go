// Reads the task metadata endpoint with programs that nobody of this project wrote, and prints what they found, one
// thing a line: OpenTelemetry's resource detector for ECS, or with the argument `credentials` the AWS SDK.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"go.opentelemetry.io/contrib/detectors/aws/ecs"
)

func main() {
	read := resource
	if len(os.Args) > 1 && os.Args[1] == "credentials" {
		read = credentials
	}
	if err := read(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func resource(ctx context.Context) error {
	found, err := ecs.NewResourceDetector().Detect(ctx)
	if err != nil {
		return err
	}
	for _, attribute := range found.Attributes() {
		fmt.Printf("%s=%s\n", attribute.Key, attribute.Value.Emit())
	}
	return nil
}

// By the SDK's default chain: nothing here says where credentials are.
func credentials(ctx context.Context) error {
	loaded, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	found, err := loaded.Credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("source=%s\n", found.Source)
	fmt.Printf("access_key_id=%s\n", found.AccessKeyID)
	fmt.Printf("secret_access_key=%s\n", found.SecretAccessKey)
	fmt.Printf("session_token=%s\n", found.SessionToken)
	fmt.Printf("expires=%s\n", found.Expires.UTC().Format("2006-01-02T15:04:05Z"))
	return nil
}
