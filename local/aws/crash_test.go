package aws_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddb "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	local "whatisup/local/aws"
	"whatisup/local/aws/awstest"
)

// childFile names the file that a child process of the tests is to serve.
const childFile = "AWS_TEST_CHILD_FILE"

// TestMain makes the test binary a server of its own where a test needs one to kill.
func TestMain(m *testing.M) {
	if path := os.Getenv(childFile); path != "" {
		if err := child(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child serves the file until its standard input ends.
func child(path string) error {
	server, err := local.Open(local.Config{Path: path})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // its end is all that counts
		stop()
	}()
	return errors.Join(server.Serve(ctx, l), server.Close())
}

// process is a server in a process of its own.
type process struct {
	cmd      *exec.Cmd
	stdin    io.Closer
	endpoint string
}

func startProcess(t testing.TB, path string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFile+"="+path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, stdin: stdin}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the server did not start: %v", err)
	}
	p.endpoint = strings.TrimSpace(line)
	return p
}

// kill is kill -9.
func (p *process) kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may be dead already
	p.cmd.Wait()         //nolint:errcheck // killed
	p.stdin.Close()
}

// acknowledged is what the server has said yes to.
type acknowledged struct {
	mu      sync.Mutex
	items   map[string]int // pk → n, written one after the other
	pairs   map[int]bool   // transactions that wrote two items
	sent    map[string]bool
	deleted map[string]bool
}

// TestKill kills the server again and again while it is being written to. What
// was acknowledged must be there afterwards, and a transaction is there whole
// or not at all. CRASH_ROUNDS sets how often.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := 4
	if s := os.Getenv("CRASH_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	path := filepath.Join(t.TempDir(), "aws.db")
	ack := &acknowledged{items: map[string]int{}, pairs: map[int]bool{}, sent: map[string]bool{}, deleted: map[string]bool{}}
	p := startProcess(t, path)
	c := dynamodb.NewFromConfig(awstest.ConfigFor(p.endpoint))
	newTable(t, c, "tab")
	if _, err := sqs.NewFromConfig(awstest.ConfigFor(p.endpoint)).CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: sdk.String("work")}); err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		stop := make(chan struct{})
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() { ack.write(t, p.endpoint, round, w, stop) })
		}
		writers.Go(func() { ack.queue(t, p.endpoint, round, stop) })
		before := ack.count()
		for deadline := time.Now().Add(20 * time.Second); ack.count() < before+50+rand.IntN(50) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond) // waiting for a condition
		}
		p.kill()
		close(stop)
		writers.Wait()
		p = startProcess(t, path)
		ack.check(t, p.endpoint)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d items, %d transactions, %d messages survived %d kills", len(ack.items), len(ack.pairs), len(ack.sent), rounds)
}

func (a *acknowledged) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.items) + len(a.pairs) + len(a.sent)
}

func (a *acknowledged) note(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// once is a client that does not repeat what failed.
func once(endpoint string) *dynamodb.Client {
	return dynamodb.NewFromConfig(awstest.ConfigFor(endpoint), func(o *dynamodb.Options) { o.RetryMaxAttempts = 1 })
}

func (a *acknowledged) write(t *testing.T, endpoint string, round, w int, stop chan struct{}) {
	c := once(endpoint)
	ctx := context.Background()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		pk := fmt.Sprintf("%d/%d/%d", round, w, i)
		if i%3 == 2 {
			n1, n2 := ddb.TransactWriteItem{Put: &ddb.Put{TableName: table, Item: key(pk + "/left")}}, ddb.TransactWriteItem{Put: &ddb.Put{TableName: table, Item: key(pk + "/right")}}
			if _, err := c.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []ddb.TransactWriteItem{n1, n2}}); err != nil {
				continue
			}
			a.note(func() { a.pairs[round*1000000+w*100000+i] = true })
			continue
		}
		item := with(with(with(key(pk), "n", n(strconv.Itoa(i))), "kind", s("k")), "at", n(strconv.Itoa(i)))
		if _, err := c.PutItem(ctx, &dynamodb.PutItemInput{TableName: table, Item: item}); err != nil {
			continue
		}
		a.note(func() { a.items[pk] = i })
	}
}

func (a *acknowledged) queue(t *testing.T, endpoint string, round int, stop chan struct{}) {
	c := sqs.NewFromConfig(awstest.ConfigFor(endpoint), func(o *sqs.Options) { o.RetryMaxAttempts = 1 })
	ctx := context.Background()
	url := sdk.String(endpoint + "/000000000000/work")
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		body := fmt.Sprintf("%d/%d", round, i)
		if _, err := c.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: url, MessageBody: &body}); err != nil {
			continue
		}
		a.note(func() { a.sent[body] = true })
		if i%2 == 0 {
			continue
		}
		out, err := c.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: url, VisibilityTimeout: 1})
		if err != nil || len(out.Messages) == 0 {
			continue
		}
		if _, err := c.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: out.Messages[0].ReceiptHandle}); err == nil {
			a.note(func() { a.deleted[*out.Messages[0].Body] = true })
		} else {
			a.note(func() { delete(a.sent, *out.Messages[0].Body) }) // may be gone or not
		}
	}
}

func (a *acknowledged) check(t *testing.T, endpoint string) {
	t.Helper()
	c := dynamodb.NewFromConfig(awstest.ConfigFor(endpoint))
	there := map[string]attributes{}
	scan := &dynamodb.ScanInput{TableName: table}
	for {
		out, err := c.Scan(t.Context(), scan)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range out.Items {
			there[i["pk"].(*ddb.AttributeValueMemberS).Value] = i
		}
		if scan.ExclusiveStartKey = out.LastEvaluatedKey; out.LastEvaluatedKey == nil {
			break
		}
	}
	for pk, n := range a.items {
		if i, ok := there[pk]; !ok || i["n"].(*ddb.AttributeValueMemberN).Value != strconv.Itoa(n) {
			t.Errorf("%s was acknowledged and is %v", pk, i)
		}
	}
	for id := range a.pairs {
		pk := fmt.Sprintf("%d/%d/%d", id/1000000, id/100000%10, id%100000)
		if there[pk+"/left"] == nil || there[pk+"/right"] == nil {
			t.Errorf("the transaction %s was acknowledged and is not there", pk)
		}
	}
	inIndex := 0
	for pk := range there {
		if left, ok := strings.CutSuffix(pk, "/left"); ok && there[left+"/right"] == nil {
			t.Errorf("half of the transaction %s is there", left)
		}
		if _, ok := there[pk]["kind"]; ok {
			inIndex++
		}
	}
	if out, err := c.Scan(t.Context(), &dynamodb.ScanInput{TableName: table, IndexName: sdk.String("by-kind"), Select: ddb.SelectCount}); err != nil || int(out.Count) != inIndex {
		t.Errorf("the index has %v entries for %d items, %v", out, inIndex, err)
	}
	a.checkQueue(t, endpoint)
}

func (a *acknowledged) checkQueue(t *testing.T, endpoint string) {
	t.Helper()
	c := sqs.NewFromConfig(awstest.ConfigFor(endpoint))
	url := sdk.String(endpoint + "/000000000000/work")
	found := map[string]bool{}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		out, err := c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url, MaxNumberOfMessages: 10, VisibilityTimeout: 3, WaitTimeSeconds: 1})
		if err != nil {
			t.Fatal(err)
		}
		fresh := false
		for _, m := range out.Messages {
			fresh = fresh || !found[*m.Body]
			found[*m.Body] = true
			if a.deleted[*m.Body] {
				t.Errorf("the message %s was deleted and is there", *m.Body)
			}
		}
		missing := 0
		for body := range a.sent {
			if !a.deleted[body] && !found[body] {
				missing++
			}
		}
		if missing == 0 {
			return
		}
	}
	for body := range a.sent {
		if !a.deleted[body] && !found[body] {
			t.Errorf("the message %s was acknowledged and is not there", body)
		}
	}
}
