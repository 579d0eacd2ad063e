package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"whatisup/local/deploy/stack"
)

// stackWithin bounds the wait for the stack of the other process.
const stackWithin = 5 * time.Minute

// RunSandbox runs the simulated WhatsApp and the session host of the sandbox,
// for a stack that serves live keys in another process: the library has one root
// of trust a process, so what trusts the simulator must never meet a real link.
// It waits for that stack, and returns when ctx ends.
func RunSandbox(ctx context.Context, c Config) (err error) {
	env, err := awaitStack(ctx, c.DataDir)
	if err != nil {
		return err
	}
	parts, ctx := newParts(ctx)
	defer func() { err = parts.stop(ctx, err) }()
	s := &Stack{AWS: env["AWS_ENDPOINT_URL"], Env: env, AWSConf: aws.Config{
		Region: env["AWS_REGION"], BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL"]),
		Credentials: credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], ""),
		HTTPClient:  awshttp.NewBuildableClient(),
	}}
	root, err := c.startSimulator(ctx, s, parts.start)
	if err != nil {
		return err
	}
	s.Env["WHATSAPP_ENDPOINT"], s.Env["WHATSAPP_NOISE_ROOT"], s.Env["WHATSAPP_CA_FILE"] = s.WhatsApp, root, c.CAFile
	c.WhatsApp = sandbox
	h, err := c.startHost(s, parts.start)
	if err != nil {
		return err
	}
	if err := c.startSandboxControl(s, h, parts.start); err != nil {
		return err
	}
	c.Log.Info("the sandbox runs", "whatsapp", s.WhatsApp)
	<-ctx.Done()
	return nil
}

func awaitStack(ctx context.Context, dir string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, stackWithin)
	defer cancel()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		env, err := stack.Local(dir)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return env, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the stack in %s did not come up: %w", dir, context.Cause(ctx))
		case <-look.C:
		}
	}
}
