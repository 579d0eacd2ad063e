package operator_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/local/aws/awstest"
	"whatisup/shared/bucket"
	"whatisup/shared/dynamo"
	"whatisup/shared/operator"
	"whatisup/shared/whatisup"
)

func TestCommands(t *testing.T) {
	t.Parallel()
	client := dynamodb.NewFromConfig(awstest.Start(t).Config)
	if err := dynamo.Local().Create(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	db := dynamo.New(dynamo.Config{Client: client, Tables: dynamo.Local()})
	o := operator.New(db, whatisup.Peppers{1: "0123456789abcdef"})
	run := func(args ...string) []map[string]any {
		t.Helper()
		var out bytes.Buffer
		if err := o.Run(t.Context(), args, &out); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		var lines []map[string]any
		for d := json.NewDecoder(&out); d.More(); {
			var line map[string]any
			if err := d.Decode(&line); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, line)
		}
		return lines
	}
	made := run("make", " acme ")[0]
	id, _ := made["customer_id"].(string)
	if len(made) != 3 || !strings.HasPrefix(made["live_key"].(string), "wiu_live_") || !strings.HasPrefix(made["test_key"].(string), "wiu_test_") {
		t.Errorf("made %v", made)
	}
	run("make", "other")
	list := run("list")
	if len(list) != 2 || list[0]["name"] != "acme" || list[0]["customer_id"] != id {
		t.Errorf("listed %v", list)
	}
	limited := run("limits", id, "-max-instances", "3", "-burst=5", "-per-second", "0.5")[0]
	if limited["max_instances"] != 3.0 || limited["burst"] != 5.0 || limited["per_second"] != 0.5 {
		t.Errorf("limited %v", limited)
	}
	limited = run("limits", id, "-send-burst", "7", "-send-per-second", "2.5", "-instance-send-burst=3", "-instance-send-per-second=0.25")[0]
	if limited["send_burst"] != 7.0 || limited["send_per_second"] != 2.5 || limited["instance_send_burst"] != 3.0 ||
		limited["instance_send_per_second"] != 0.25 || limited["burst"] != 0.0 {
		t.Errorf("limited %v", limited)
	}
	keys := run("keys", id)
	if len(keys) != 2 || keys[0]["secret"] != nil {
		t.Errorf("keys %v", keys)
	}
	key := run("key", id, "-mode", "test", "-name", "ci")[0]
	rotated := run("rotate", id, key["prefix"].(string))[0]
	if rotated["name"] != "ci" || rotated["mode"] != "test" || rotated["secret"] == key["secret"] {
		t.Errorf("rotated %v", rotated)
	}
	run("revoke", id, rotated["key_id"].(string))
	if keys := run("keys", id); len(keys) != 2 {
		t.Errorf("keys %v", keys)
	}
	if s := run("suspend", id)[0]; s["suspended"] != true || s["stopped"] != 0.0 {
		t.Errorf("suspended %v", s)
	}
	if c := run("list")[0]; c["suspended"] != true {
		t.Errorf("listed %v", c)
	}
	run("resume", id)
	run("stop-sending", "-mode", "test", "-new-chats")
	run("stop-sending", "-customer", id)
	if s := run("stops"); len(s) != 2 || s[0]["scope"] != id || s[0]["new_chats"] != false || s[1]["scope"] != "deployment" || s[1]["mode"] != "test" || s[1]["new_chats"] != true {
		t.Errorf("stops %v", s)
	}
	run("resume-sending", "-customer", id)
	run("resume-sending", "-mode", "test")
	if s := run("stops"); len(s) != 0 {
		t.Errorf("after all were taken back: %v", s)
	}
	for _, args := range [][]string{nil, {"explode"}, {"make"}, {"make", "a", "b"}, {"suspend", "x"}, {"limits", id, "-burst", "x"},
		{"limits", id, "-burst=-1"}, {"limits", id, "-send-burst=-1"}, {"limits", id, "-instance-send-per-second=1e9"}, {"key", id, "-mode", "play"}, {"wiped", id, "x"}, {"list", "x"},
		{"stop-sending", "-mode", "play"}, {"stop-sending", "-customer", "x"}, {"resume-sending", "-instance", "x"}, {"stop-sending", "-customer", id, "-instance", id}} {
		if err := o.Run(t.Context(), args, &bytes.Buffer{}); !errors.Is(err, operator.ErrUsage) {
			t.Errorf("%v: %v", args, err)
		}
	}
	unknown := string(whatisup.NewCustomerID())
	for _, args := range [][]string{{"suspend", unknown}, {"limits", unknown}, {"key", unknown}, {"revoke", id, "x"}, {"make", "a\nb"}} {
		if err := o.Run(t.Context(), args, &bytes.Buffer{}); err == nil || errors.Is(err, operator.ErrUsage) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	client := dynamodb.NewFromConfig(awstest.Start(t).Config)
	if err := dynamo.Local().Create(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	db := dynamo.New(dynamo.Config{Client: client, Tables: dynamo.Local()})
	o := operator.New(db, whatisup.Peppers{1: "0123456789abcdef"})
	customer, other := whatisup.NewCustomerID(), whatisup.NewCustomerID()
	e := &whatisup.Endpoint{Customer: customer, Mode: whatisup.Test, ID: whatisup.NewEndpointID(), URL: "https://1.1.1.1/", Events: []string{"*"}, MaxInFlight: 4}
	if err := db.CreateEndpoint(t.Context(), e, nil); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if err := o.Run(t.Context(), args, &out); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out.String()
	}
	if out := run("endpoints", string(customer)); !strings.Contains(out, string(e.ID)) || !strings.Contains(out, `"status":"active"`) || strings.Contains(out, "secret") {
		t.Errorf("endpoints: %s", out)
	}
	if out := run("endpoints", string(customer), "-instance", string(whatisup.NewInstanceID())); out != "" {
		t.Errorf("of another instance: %s", out)
	}
	for range 2 {
		if out := run("disable-endpoint", string(customer), string(e.ID)); !strings.Contains(out, `"disabled_reason":"disabled_by_operator"`) {
			t.Errorf("disabled: %s", out)
		}
	}
	if now, err := db.Endpoint(t.Context(), customer, whatisup.Test, e.ID); err != nil || now.Disabled != whatisup.DisabledByOperator || len(now.Untold) == 0 {
		t.Errorf("%+v, %v", now, err)
	}
	if due, err := db.Due(t.Context(), time.Now(), 10); err != nil || len(due) != 1 {
		t.Errorf("the sweep would not tell it: %v, %v", due, err)
	}
	if err := o.Run(t.Context(), []string{"disable-endpoint", string(other), string(e.ID)}, &bytes.Buffer{}); !errors.Is(err, whatisup.ErrNotFound) {
		t.Errorf("another customer's: %v", err)
	}
}

func TestWipeCheck(t *testing.T) {
	t.Parallel()
	aws := awstest.Start(t).Config
	client := dynamodb.NewFromConfig(aws)
	files := bucket.New(bucket.Config{AWS: aws, Name: "files"})
	if err := errors.Join(dynamo.Local().Create(t.Context(), client), files.Create(t.Context())); err != nil {
		t.Fatal(err)
	}
	db := dynamo.New(dynamo.Config{Client: client, Tables: dynamo.Local()})
	o := operator.New(db, whatisup.Peppers{1: "0123456789abcdef"})
	o.Objects = files
	customer := whatisup.NewCustomerID()
	id := whatisup.NewInstanceID()
	cfg := whatisup.Config{Customer: customer, Mode: whatisup.Live, ID: id, Name: "x", Version: 1, UpdatedAt: id.CreatedAt()}
	e, err := whatisup.NewEvent(whatisup.InstanceCreated, customer, whatisup.Live, id, id.CreatedAt(), struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.CreateInstance(t.Context(), cfg, whatisup.Created{Event: e}); err != nil {
		t.Fatal(err)
	}
	wiped := func() (bool, string) {
		t.Helper()
		var out bytes.Buffer
		err := o.Run(t.Context(), []string{"wiped", string(customer), string(id)}, &out)
		if err != nil && !errors.Is(err, operator.ErrLeft) {
			t.Fatal(err)
		}
		return err == nil, out.String()
	}
	if ok, out := wiped(); ok || !strings.Contains(out, "whatisup-instances") {
		t.Errorf("a live instance: %s", out)
	}
	i, err := db.Instance(t.Context(), customer, whatisup.Live, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteInstance(t.Context(), i, e, nil); err != nil {
		t.Fatal(err)
	}
	if ok, out := wiped(); !ok {
		t.Errorf("a deleted instance that was never linked: %s", out)
	}

	// A file of it, one that is on its way, and one of somebody else.
	m := &whatisup.Media{Customer: customer, Mode: whatisup.Live, Instance: id, ID: whatisup.NewMediaID()}
	key := whatisup.ClassWeek.ObjectKey(m, "_1")
	if err := errors.Join(files.Put(t.Context(), key, strings.NewReader("a file")), files.Put(t.Context(), strings.Replace(key, string(id), "own", 1), strings.NewReader("a file"))); err != nil {
		t.Fatal(err)
	}
	way := files.Writer(t.Context(), whatisup.ClassMonth.ObjectKey(m, "_2"), make([]byte, bucket.PartSize))
	if _, err := way.Write(make([]byte, bucket.PartSize+1)); err != nil {
		t.Fatal(err)
	}
	if ok, out := wiped(); ok || !strings.Contains(out, "the bucket: 1 object(s) under d8/live/") || !strings.Contains(out, "the bucket: 1 unfinished upload(s) under d30/live/") {
		t.Errorf("with a file and an upload: %s", out)
	}
	if err := errors.Join(way.Abort(), files.Delete(t.Context(), key)); err != nil {
		t.Fatal(err)
	}
	if ok, out := wiped(); !ok {
		t.Errorf("with the file of somebody else: %s", out)
	}
	o.Objects = nil
	if ok, out := wiped(); ok || !strings.Contains(out, "the bucket was not looked at") {
		t.Errorf("without the bucket: %s", out)
	}
	o.Objects = files

	if err := db.PutPairing(t.Context(), whatisup.Pairing{Instance: id, Raw: "x", Attempt: whatisup.AttemptID{Generation: 1}}); err != nil {
		t.Fatal(err)
	}
	if ok, out := wiped(); ok || !strings.Contains(out, "code row") {
		t.Errorf("with a code row: %s", out)
	}
}
