// Package sample makes the sample events of events/ fit a running stack: they
// are written with ids and a key that no stack has.
package sample

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Stack is what events are filled with. What is empty stays as it is written.
type Stack struct {
	Key        string // an API key
	CustomerID string
	InstanceID string
	KeyID      string // of an API key that may be revoked
	Code       string // a pair code
	EndpointID string // of a webhook endpoint
	DeliveryID string
	Now        time.Time
}

// Kind is how a function is called with an event.
type Kind int

const (
	HTTP   Kind = iota // through API Gateway
	URL                // through its own URL
	Queued             // from a queue
)

// KindOf tells how AWS would deliver the event.
func KindOf(event []byte) (Kind, error) {
	var e struct {
		Records        []struct{ EventSource string }
		RequestContext struct{ DomainName string }
	}
	if err := json.Unmarshal(event, &e); err != nil {
		return 0, fmt.Errorf("sample: %w", err)
	}
	switch {
	case len(e.Records) > 0 && e.Records[0].EventSource == "aws:sqs":
		return Queued, nil
	case strings.Contains(e.RequestContext.DomainName, ".lambda-url."):
		return URL, nil
	case e.RequestContext.DomainName != "":
		return HTTP, nil
	}
	return 0, errors.New("sample: neither a request nor a batch of a queue")
}

// Fill returns the event for the stack, and for this moment: a request that
// waits counts from the time at which API Gateway took it.
func Fill(event []byte, s Stack) ([]byte, error) {
	kind, err := KindOf(event)
	if err != nil {
		return nil, err
	}
	var e map[string]any
	if err := json.Unmarshal(event, &e); err != nil {
		return nil, fmt.Errorf("sample: %w", err)
	}
	if kind == Queued {
		err = s.fillQueued(e)
	} else {
		err = s.fillRequest(e)
	}
	if err != nil {
		return nil, err
	}
	filled, err := json.MarshalIndent(e, "", "  ")
	return append(filled, '\n'), err
}

func (s Stack) fillRequest(e map[string]any) error {
	id := s.InstanceID
	if path, _ := e["rawPath"].(string); strings.HasPrefix(path, "/v1/api-keys/") {
		id = s.KeyID
	} else if strings.HasPrefix(path, "/v1/webhook-endpoints/") {
		id = s.EndpointID
	} else if strings.HasPrefix(path, "/v1/webhook-deliveries/") {
		id = s.DeliveryID
	}
	context, ok := e["requestContext"].(map[string]any)
	if !ok {
		return errors.New("sample: no requestContext")
	}
	if params, ok := e["pathParameters"].(map[string]any); ok && id != "" {
		if old, ok := params["id"].(string); ok {
			e["rawPath"] = strings.Replace(e["rawPath"].(string), old, id, 1)
			if http, ok := context["http"].(map[string]any); ok {
				http["path"] = e["rawPath"]
			}
			params["id"] = id
		}
	}
	if headers, ok := e["headers"].(map[string]any); ok {
		if s.Key != "" {
			headers["authorization"] = "Bearer " + s.Key
		}
		if _, ok := headers["idempotency-key"]; ok {
			headers["idempotency-key"] = "sample-" + uuid.NewString()
		}
	}
	if body, ok := e["body"].(string); ok && s.Code != "" {
		filled, err := replace(body, map[string]string{"code": s.Code})
		if err != nil {
			return err
		}
		e["body"] = filled
		e["headers"].(map[string]any)["content-length"] = fmt.Sprint(len(filled))
	}
	context["requestId"] = strings.ReplaceAll(uuid.NewString()[:15], "-", "x") + "="
	context["time"] = s.Now.UTC().Format("02/Jan/2006:15:04:05 -0700")
	context["timeEpoch"] = s.Now.UnixMilli()
	return nil
}

func (s Stack) fillQueued(e map[string]any) error {
	records, _ := e["Records"].([]any)
	for _, r := range records {
		record, ok := r.(map[string]any)
		if !ok {
			return errors.New("sample: a record is no object")
		}
		command, err := uuid.NewV7()
		if err != nil {
			return err
		}
		body, err := replace(fmt.Sprint(record["body"]), map[string]string{
			"command_id": command.String(), "customer_id": s.CustomerID, "instance_id": s.InstanceID,
			"endpoint_id": s.EndpointID, "delivery_id": s.DeliveryID,
		})
		if err != nil {
			return err
		}
		sum := md5.Sum([]byte(body))
		record["body"] = body
		record["md5OfBody"] = hex.EncodeToString(sum[:])
		record["messageId"] = uuid.NewString()
	}
	return nil
}

// replace sets members of a JSON object that are there already.
func replace(object string, members map[string]string) (string, error) {
	var o map[string]any
	if err := json.Unmarshal([]byte(object), &o); err != nil {
		return "", fmt.Errorf("sample: %w", err)
	}
	for name, value := range members {
		if _, ok := o[name]; ok && value != "" {
			o[name] = value
		}
	}
	b, err := json.Marshal(o)
	return string(b), err
}
