// Package stack finds the surroundings of a stack's programs, so that the
// operator's commands work on it: the local one's from what `make run` writes, a
// deployed one's from its name and from one of its functions.
package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Local reads what `make run` writes for other programs: the environment of the
// functions.
func Local(dataDir string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(dataDir, "env.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s has no running stack: start one with `make run`", dataDir)
	} else if err != nil {
		return nil, err
	}
	env := make(map[string]string)
	if err := json.Unmarshal(text, &env); err != nil {
		return nil, fmt.Errorf("env.json: %w", err)
	}
	return env, nil
}

// tables are the variables that name tables; template.yaml calls each table by
// the stack's name and the first part of its variable.
var tables = []string{"ACCESS_TABLE", "INSTANCES_TABLE", "PAIRINGS_TABLE", "EVENTS_TABLE", "FLEET_TABLE", "DEVICES_TABLE"}

// Deployed is the environment for a deployed stack. The peppers come from the
// configuration of its keys function; that takes one call, which is made by hand
// because nothing else here needs a client for Lambda. endpoint is empty for AWS.
func Deployed(ctx context.Context, cfg aws.Config, name, endpoint string) (map[string]string, error) {
	if endpoint == "" {
		endpoint = "https://lambda." + cfg.Region + ".amazonaws.com"
		if strings.HasPrefix(cfg.Region, "cn-") {
			endpoint += ".cn"
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/2015-03-31/functions/"+name+"-keys/configuration", nil)
	if err != nil {
		return nil, err
	}
	credentials, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("AWS credentials: %w", err)
	}
	none := sha256.Sum256(nil)
	if err := v4.NewSigner().SignHTTP(ctx, credentials, r, hex.EncodeToString(none[:]), "lambda", cfg.Region, time.Now()); err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("stack %s in %s: %s", name, cfg.Region, response.Status)
	}
	var function struct {
		Environment struct{ Variables map[string]string }
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&function); err != nil {
		return nil, err
	}
	env := map[string]string{"PEPPER": function.Environment.Variables["PEPPER"]}
	for _, variable := range tables {
		short, _, _ := strings.Cut(variable, "_")
		env[variable] = name + "-" + strings.ToLower(short)
	}
	return env, nil
}
