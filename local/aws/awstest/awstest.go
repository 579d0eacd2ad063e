// Package awstest starts the embedded AWS for a test.
package awstest

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	local "whatisup/local/aws"
)

// Region is the region of the configurations that Start returns.
const Region = "us-east-1"

// Instance is a running embedded AWS.
type Instance struct {
	*local.Server
	// Endpoint is its URL, to be set as AWS_ENDPOINT_URL elsewhere.
	Endpoint string
	// Config is an SDK configuration with the endpoint and credentials set.
	Config aws.Config
}

// Start starts an embedded AWS with an empty file on a port of the system's
// choice. It ends with the test, which fails if something was asked for that
// is not implemented.
func Start(t testing.TB) *Instance { return StartWith(t, local.Config{}) }

// StartWith is Start with a configuration; an empty Path becomes a file in the
// test's own directory.
func StartWith(t testing.TB, c local.Config) *Instance {
	t.Helper()
	if c.Path == "" {
		c.Path = filepath.Join(t.TempDir(), "aws.db")
	}
	server, err := local.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("embedded AWS: %v", err)
		}
		if err := server.Close(); err != nil {
			t.Errorf("embedded AWS: %v", err)
		}
		for what, n := range server.Unknown() {
			t.Errorf("embedded AWS: asked %d times for %s, which is not implemented", n, what)
		}
	})
	endpoint := "http://" + listener.Addr().String()
	return &Instance{Server: server, Endpoint: endpoint, Config: ConfigFor(endpoint)}
}

// ConfigFor is an SDK configuration for an embedded AWS at a URL.
func ConfigFor(endpoint string) aws.Config {
	return aws.Config{
		Region:       Region,
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		BaseEndpoint: aws.String(endpoint),
	}
}
