package local

import (
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// module is the prefix of the project's own packages.
const module = "whatisup/"

// A room may import what its row names, itself, and the packages below it.
// Tests are free to import what they need.
var rooms = []struct {
	room    string
	may     []string // rooms, with everything below them
	because string
}{
	{"shared/whatisup", nil, "the vocabulary knows no technology"},
	{"shared/seal", nil, "sealing knows bytes, not the product"},
	{"shared/qr", nil, "a picture of a text"},
	{"shared/together", nil, "calls that share a request, whatever they ask for"},
	{"shared/foreign", nil, "requests to URLs of customers, whoever makes them and why"},
	{"shared/lambdahttp", nil, "an adapter between two foreign shapes"},
	{"shared/dashboard", nil, "static files; all it knows is the public API"},
	{"shared/webhook", []string{"shared/whatisup", "shared/foreign", "shared/seal"}, "events on their way to endpoints, whatever keeps and queues them"},
	{"shared/expiry", []string{"shared/whatisup"}, "messages whose time is over, whatever keeps them"},
	{"shared/dynamo", []string{"shared/whatisup", "shared/together"}, "the only room that knows tables"},
	{"shared/queue", []string{"shared/whatisup"}, "the only room that knows queues"},
	{"shared/input", []string{"shared/whatisup"}, "strict JSON, whichever door it came through"},
	{"shared/control", []string{"shared/whatisup", "shared/mediafile"}, "the operations know neither HTTP nor SQS, and reach stores through small interfaces"},
	{"docs", nil, "the guide: text and nothing else"},
	{"shared/httpapi", []string{"shared/whatisup", "shared/input", "shared/control", "shared/qr", "docs"}, "a door: it decodes, calls an operation, encodes"},
	{"shared/mediafile", nil, "what a file is, by its bytes; it knows no product"},
	{"shared/bucket", []string{"shared/whatisup"}, "the only room that knows S3"},
	{"shared/fetch", []string{"shared/whatisup", "shared/control", "shared/foreign"}, "foreign files for the operations, in words for the customer"},
	{"shared/integration", []string{"shared/whatisup", "shared/input", "shared/control"}, "the other door"},
	{"shared/operator", []string{"shared/whatisup", "shared/dynamo"}, "the operator's work is on the tables"},
	{"functions", []string{"shared"}, "a main wires; it never links whatsmeow"},
	{"sessionhost/fleet", []string{"shared/whatisup"}, "ownership knows nothing of WhatsApp"},
	{"sessionhost/waconv", []string{"shared/whatisup"}, "messages in WhatsApp's form and in ours, and nothing else"},
	{"sessionhost/outbox", []string{"shared/whatisup", "sessionhost/waconv"}, "the line of messages of one instance, whatever keeps and sends them"},
	{"sessionhost/mediacrypt", []string{"shared/whatisup"}, "WhatsApp's encryption of files"},
	{"sessionhost/fair", []string{"shared/whatisup"}, "shares by customer, of whatever is scarce"},
	{"sessionhost/transfer", []string{"sessionhost/fair", "sessionhost/mediacrypt", "shared/whatisup", "shared/mediafile"}, "files between the bucket and WhatsApp, whatever they are kept and sent with"},
	{"sessionhost/line", []string{"sessionhost/waconv", "shared/whatisup"}, "one connection; it knows no session, and no store"},
	{"sessionhost/tally", []string{"shared/whatisup"}, "what instances receive, send and are delivered"},
	{"sessionhost/courier", []string{"shared/whatisup", "shared/together"}, "events on their way to the queues, whatever they tell of"},
	{"sessionhost/session", []string{"sessionhost/fair", "sessionhost/line", "sessionhost/courier", "sessionhost/outbox", "sessionhost/waconv", "shared/whatisup"}, "one instance, whatever stores it and draws its codes"},
	{"sessionhost/shard", []string{"sessionhost/fair", "sessionhost/session", "sessionhost/line", "sessionhost/courier", "shared/whatisup"}, "the sessions and the commands of one shard"},
	{"sessionhost/devicestore", []string{"shared/whatisup", "shared/seal"}, "auth state on its own table"},
	{"sessionhost", []string{"sessionhost", "shared"}, "the host's program wires its rooms"},
	{"local/body", nil, "bounds of requests' bodies, whoever serves them"},
	{"local/aws", []string{"local/body"}, "a stand-in for AWS must not know who calls it"},
	{"local/whatsapp", nil, "a stand-in for WhatsApp must not know who calls it"},
	{"local/front", nil, "what faces the world knows no product: who asks, how often, and TLS"},
	{"local/gateway/cmd/invoke", []string{"local/gateway", "shared/dynamo", "shared/whatisup"}, "it reads from the stack's tables what samples are filled with"},
	{"local/gateway", []string{"local/body", "shared/lambdahttp", "shared/together"}, "API Gateway knows events and routes"},
	{"clients/postman", nil, "a collection of the document as it stands"},
	{"cmd/whatisup", []string{"local", "shared", "sessionhost"}, "the program for one machine and for the operator"},
	{"local", []string{"local", "shared", "sessionhost"}, "everything on one machine; the functions are linked as handlers, never as mains"},
}

// Only these rooms may import whatsmeow. The session host's others hear of WhatsApp
// through line alone, and Lambdas stay small without it.
var linksWhatsmeow = []string{"sessionhost/line", "sessionhost/waconv", "sessionhost/devicestore", "local"}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		name, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok {
			continue
		}
		i := roomOf(name)
		if i < 0 {
			t.Errorf("%s belongs to no room", name)
			continue
		}
		row := rooms[i]
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, "go.mau.fi/whatsmeow") && !within(name, linksWhatsmeow) {
				t.Errorf("%s imports %s: only %v may", name, imported, linksWhatsmeow)
			}
			own, ok := strings.CutPrefix(imported, module)
			if ok && !within(own, append([]string{row.room}, row.may...)) {
				t.Errorf("%s imports %s: %s", name, own, row.because)
			}
		}
	}
}

// roomOf finds the most particular row that a package falls under.
func roomOf(name string) int {
	for i, r := range rooms {
		if within(name, []string{r.room}) {
			return i
		}
	}
	return -1
}

func within(name string, rooms []string) bool {
	for _, r := range rooms {
		if name == r || strings.HasPrefix(name, r+"/") {
			return true
		}
	}
	return false
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}
