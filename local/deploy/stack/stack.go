// Package stack is what works on a stack from outside. It finds the surroundings
// of a stack's programs, so that the operator's commands work on it: the local
// one's from what `make run` writes, a deployed one's from CloudFormation and the
// pepper's secret. And it does with a deployed stack what `sam deploy` does not:
// look before, protect, change the hosts' image alone, remove.
package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Local reads what `whatisup run` writes for other programs: the environment of the
// functions.
func Local(dataDir string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(dataDir, "env.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s has no running stack: start one with `whatisup run` (%w)", dataDir, err)
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
var tables = []string{"ACCESS_TABLE", "INSTANCES_TABLE", "CALLS_TABLE", "EVENTS_TABLE", "FLEET_TABLE", "DEVICES_TABLE",
	"MESSAGES_TABLE", "MEDIA_TABLE", "WEBHOOKS_TABLE"}

// Deployed is the environment for a deployed stack. The peppers come from the
// secret itself, those that the functions read now.
func Deployed(ctx context.Context, c *Client, name string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d, err := c.describe(ctx, name)
	if err != nil {
		return nil, err
	}
	entries, err := c.pepperEntries(ctx, d.outputs["PepperArn"])
	if err != nil {
		return nil, fmt.Errorf("the pepper of %s: %w", name, err)
	}
	var peppers []string
	for _, parameter := range []string{"PreviousPepperVersion", "PepperVersion"} {
		version := d.parameters[parameter]
		if version == "" || version == "0" {
			continue
		}
		if entries[version] == "" {
			return nil, fmt.Errorf("the pepper of %s has no entry %s", name, version)
		}
		peppers = append(peppers, version+":"+entries[version])
	}
	env := map[string]string{"PEPPER": strings.Join(peppers, ","), "MEDIA_BUCKET": d.outputs["MediaBucket"]}
	for _, variable := range tables {
		short, _, _ := strings.Cut(variable, "_")
		env[variable] = name + "-" + strings.ToLower(short)
	}
	if d.parameters["Sandbox"] == "true" && d.parameters["HostImageUri"] != "" {
		env["SANDBOX_DEVICES_TABLE"] = name + "-sandbox-devices"
	}
	return env, nil
}

// Inside is [Deployed] with what a move needs beside: the keys of links and of webhooks'
// secrets. What a stack has not is missing.
func Inside(ctx context.Context, c *Client, name string) (map[string]string, error) {
	env, err := Deployed(ctx, c, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ids, err := c.logical(ctx, name)
	if err != nil {
		return nil, err
	}
	for variable, resource := range map[string]string{
		"AUTH_KEY_ID": "AuthKey", "SANDBOX_AUTH_KEY_ID": "SandboxAuthKey", "WEBHOOK_KEY_ID": "WebhookKey",
	} {
		if ids[resource] != "" {
			env[variable] = ids[resource]
		}
	}
	return env, nil
}
