package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// A client of the protocol does the main job over HTTP, with its own key, and reads what
// was answered; without a key it gets nothing.
func TestMCP(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	diagnosis, said := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	settings := map[string]string{"API": s.API, "MCP_ADDR": "127.0.0.1:0"}
	go func() {
		ended <- runMCP(ctx, program{getenv: func(name string) string { return settings[name] }, diagnosis: said})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(diagnosis).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimSpace(strings.TrimPrefix(line, "MCP: "))

	refused, err := http.Post(address, "application/json", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	refused.Body.Close()
	if refused.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a key: %s", refused.Status)
	}

	c := connect(t, address, string(s.Keys[whatisup.Test]))
	var i struct{ ID, Status string }
	c.call("create_instance", map[string]any{"name": "support line"}, &i)
	shown, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "pair_instance", Arguments: map[string]any{"instance_id": i.ID}})
	if err != nil || shown.IsError {
		t.Fatalf("%v: %+v", err, shown)
	}
	if png, ok := shown.Content[0].(*mcp.ImageContent); !ok || !strings.HasPrefix(string(png.Data), "\x89PNG") {
		t.Errorf("the code is %+v", shown.Content[0])
	}
	on := map[string]any{"instance_id": i.ID}
	c.call("sandbox_scan", on, nil)
	localtest.Await(t, "it is connected", func() bool {
		c.call("get_instance", on, &i)
		return i.Status == "connected"
	})

	var m struct {
		MessageID string `json:"message_id"`
		Status    string
	}
	send := map[string]any{"instance_id": i.ID, "to": "+55 11 98765-4321", "text": "Your order has left", "idempotency_key": "order-17"}
	c.call("send_message", send, &m)
	first := m.MessageID
	if c.call("send_message", send, &m); m.MessageID != first {
		t.Error("one key sent two messages")
	}
	localtest.Await(t, "it was read", func() bool {
		c.call("get_message", map[string]any{"instance_id": i.ID, "message_id": m.MessageID}, &m)
		return m.Status == "read"
	})

	customer := localtest.NewClient(t, s.API, string(s.Keys[whatisup.Test]))
	customer.Must(202, "POST", "/v1/sandbox/instances/"+i.ID+"/messages", `{"from":"15550101234","text":"Where is my Order?"}`, nil)
	var list struct {
		Data []struct{ Direction string }
	}
	localtest.Await(t, "both are found", func() bool {
		c.call("search_messages", map[string]any{"instance_id": i.ID, "words": "ORDER"}, &list)
		return len(list.Data) == 2
	})
	if list.Data[0].Direction != "in" || list.Data[1].Direction != "out" {
		t.Errorf("found %+v", list.Data)
	}
	if c.call("search_messages", map[string]any{"instance_id": i.ID, "words": "invoice"}, &list); len(list.Data) != 0 {
		t.Errorf("found %+v", list.Data)
	}
	if c.call("read_messages", map[string]any{"instance_id": i.ID, "chat": "15550101234"}, &list); len(list.Data) != 1 {
		t.Errorf("the chat has %+v", list.Data)
	}
	if c.call("list_chats", on, &list); len(list.Data) != 2 {
		t.Errorf("the chats are %+v", list.Data)
	}
	if c.call("list_instances", map[string]any{}, &list); len(list.Data) != 1 {
		t.Errorf("the instances are %+v", list.Data)
	}

	// A key has its own rights and no others, and an error is told in full.
	wrong, err := c.CallTool(t.Context(), &mcp.CallToolParams{Name: "create_instance", Arguments: map[string]any{"name": " "}})
	if err != nil || !wrong.IsError || !strings.Contains(wrong.Content[0].(*mcp.TextContent).Text, `"field":"name"`) {
		t.Errorf("%v: %+v", err, wrong)
	}
	live := connect(t, address, string(s.Keys[whatisup.Live]))
	foreign, err := live.CallTool(t.Context(), &mcp.CallToolParams{Name: "read_messages", Arguments: on})
	if err != nil || !foreign.IsError || !strings.Contains(foreign.Content[0].(*mcp.TextContent).Text, "instance_not_found") {
		t.Errorf("another mode: %v, %+v", err, foreign)
	}
}

type mcpClient struct {
	*mcp.ClientSession
	t *testing.T
}

// withKey sends a key with each request.
type withKey string

func (k withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(k))
	return http.DefaultTransport.RoundTrip(r)
}

func connect(t *testing.T, address, key string) mcpClient {
	t.Helper()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test"}, nil).Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: address, HTTPClient: &http.Client{Transport: withKey(key)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return mcpClient{session, t}
}

func (c mcpClient) call(tool string, in map[string]any, out any) {
	c.t.Helper()
	result, err := c.CallTool(c.t.Context(), &mcp.CallToolParams{Name: tool, Arguments: in})
	if err != nil {
		c.t.Fatalf("%s: %v", tool, err)
	}
	text := result.Content[0].(*mcp.TextContent).Text
	if result.IsError {
		c.t.Fatalf("%s: %s", tool, text)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(text), out); err != nil {
			c.t.Fatalf("%s: %v: %s", tool, err, text)
		}
	}
}
