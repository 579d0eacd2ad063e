package aws_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddb "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/local/aws/awstest"
)

// workers is how many clients the benchmarks have.
const workers = 8

// eight runs do from eight workers until the benchmark has had enough.
func eight(b *testing.B, do func(worker, i int) error) {
	b.Helper()
	var next, done atomic.Int64
	var wg sync.WaitGroup
	before := cpu()
	b.ResetTimer()
	for w := range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > b.N {
					return
				}
				if err := do(w, i); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(done.Load())/b.Elapsed().Seconds(), "op/s")
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(done.Load()), "cpu-µs/op")
}

// cpu is the processor time that the process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchClient(b *testing.B) (*awstest.Instance, *dynamodb.Client) {
	b.Helper()
	a := awstest.Start(b)
	a.Config.HTTPClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	c := dynamodb.NewFromConfig(a.Config)
	newTable(b, c, "bench")
	return a, c
}

func benchItem(i int) map[string]ddb.AttributeValue {
	return map[string]ddb.AttributeValue{
		"pk": s("customer#" + strconv.Itoa(i%100)), "sk": s(fmt.Sprintf("%08d", i)), "name": s("an instance"),
		"state": s("connected"), "epoch": n(strconv.Itoa(i)), "blob": &ddb.AttributeValueMemberB{Value: make([]byte, 200)},
	}
}

// BenchmarkPutItem writes durably, through the SDK.
func BenchmarkPutItem(b *testing.B) {
	_, c := benchClient(b)
	eight(b, func(_, i int) error {
		_, err := c.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: sdk.String("bench"), Item: benchItem(i)})
		return err
	})
}

// BenchmarkGetItem reads consistently, through the SDK.
func BenchmarkGetItem(b *testing.B) {
	_, c := benchClient(b)
	for i := range 1000 {
		if _, err := c.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: sdk.String("bench"), Item: benchItem(i)}); err != nil {
			b.Fatal(err)
		}
	}
	eight(b, func(_, i int) error {
		item := benchItem(i % 1000)
		_, err := c.GetItem(context.Background(), &dynamodb.GetItemInput{TableName: sdk.String("bench"), Key: map[string]ddb.AttributeValue{"pk": item["pk"], "sk": item["sk"]}, ConsistentRead: sdk.Bool(true)})
		return err
	})
}

// BenchmarkServer is the same without the SDK's own work: plain requests.
func BenchmarkServer(b *testing.B) {
	a, c := benchClient(b)
	for i := range 1000 {
		if _, err := c.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: sdk.String("bench"), Item: benchItem(i)}); err != nil {
			b.Fatal(err)
		}
	}
	client := a.Config.HTTPClient
	post := func(op, body string) error {
		req, err := http.NewRequest("POST", a.Endpoint, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-amz-json-1.0")
		req.Header.Set("X-Amz-Target", "DynamoDB_20120810."+op)
		req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/dynamodb/aws4_request")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var buf [2048]byte
		for {
			if _, err := resp.Body.Read(buf[:]); err != nil {
				break
			}
		}
		if resp.StatusCode != 200 {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	}
	b.Run("PutItem", func(b *testing.B) {
		eight(b, func(_, i int) error {
			return post("PutItem", fmt.Sprintf(`{"TableName":"bench","Item":{"pk":{"S":"customer#%d"},"sk":{"S":"%08d"},"name":{"S":"an instance"},"state":{"S":"connected"},"epoch":{"N":"%d"},"blob":{"B":"%s"}}}`, i%100, i, i, strings.Repeat("AAAA", 67)))
		})
	})
	b.Run("GetItem", func(b *testing.B) {
		eight(b, func(_, i int) error {
			i %= 1000
			return post("GetItem", fmt.Sprintf(`{"TableName":"bench","ConsistentRead":true,"Key":{"pk":{"S":"customer#%d"},"sk":{"S":"%08d"}}}`, i%100, i))
		})
	})
}

// TestIdleMemory holds an idle server to its limit.
func TestIdleMemory(t *testing.T) {
	t.Parallel()
	p := startProcess(t, filepath.Join(t.TempDir(), "aws.db"))
	newTable(t, dynamodb.NewFromConfig(awstest.ConfigFor(p.endpoint)), "tab")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc here")
	}
	for line := range strings.Lines(string(status)) {
		rest, ok := strings.CutPrefix(line, "VmRSS:")
		if !ok {
			continue
		}
		kb, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d KB resident", kb)
		if kb > 60<<10 {
			t.Errorf("an idle server takes %d KB", kb)
		}
	}
}
