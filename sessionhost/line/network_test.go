package line

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

type nobody struct{}

func (nobody) MayLink(context.Context) bool                              { return false }
func (nobody) Linking()                                                  {}
func (nobody) Received(context.Context, Message) error                   { return nil }
func (nobody) Receipt(context.Context, Receipt) error                    { return nil }
func (nobody) MembersLeft(context.Context, waconv.JID, waconv.JID) error { return nil }
func (nobody) GroupNamed(context.Context, waconv.JID, string) (string, error) {
	return "", nil
}
func (nobody) AskedAgain(context.Context, waconv.JID, waconv.JID)        {}
func (nobody) Histories() []History                                      { return nil }
func (nobody) HistoryTried(context.Context, string) (int, error)         { return 1, nil }
func (nobody) HistoryRead(context.Context, string) error                 { return nil }
func (nobody) Noticed(context.Context, waconv.Notice) error              { return nil }
func (nobody) Restricted(context.Context, whatisup.RestrictedData) error { return nil }

// In the sandbox, every connection of every client goes to the simulator,
// whatever host is named.
func TestSandboxReachesNobodyElse(t *testing.T) {
	const simulator = "127.0.0.1:9"
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Setenv("HTTPS_PROXY", "http://192.0.2.1:3128")
			t.Setenv("HTTP_PROXY", "http://192.0.2.1:3128")
			root := whatsmeow.WACertPubKey
			n, err := Sandbox(Redirect{Endpoint: scheme + "://" + simulator, Root: hex.EncodeToString(root[:])})
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var dialled []string
			record := func(_ context.Context, _, address string) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				dialled = append(dialled, address)
				return nil, errors.New("nobody is called in this test")
			}
			n.dial = record

			// Whatever the library builds of its own comes from here.
			own := http.DefaultTransport.(*http.Transport)
			before := own.DialContext
			own.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				return record(ctx, network, "the library's own: "+address)
			}
			defer func() { own.DialContext = before }()

			asked := func(what string, do func()) {
				t.Helper()
				mu.Lock()
				dialled = nil
				mu.Unlock()
				do()
				mu.Lock()
				defer mu.Unlock()
				if len(dialled) == 0 {
					t.Errorf("%s opens no connection that this test sees", what)
				}
				for _, address := range dialled {
					if address != simulator {
						t.Errorf("%s goes to %s", what, address)
					}
				}
			}

			var background sync.WaitGroup
			var l *Line
			asked("the WebSocket before the login", func() {
				l = n.Open(t.Context(), Options{
					Device: &Device{}, Ref: whatisup.Ref{}, Trusted: func() bool { return true }, Handler: nobody{},
					Log: slog.New(slog.DiscardHandler), Background: &background,
				})
				background.Wait()
				if e, ok := (<-l.Events()).(Ended); !ok || e.Cause != NotDialled {
					t.Errorf("the line ended with %+v", e)
				}
			})
			asked("the WebSocket of a link", func() {
				jid := types.NewADJID("49151", 0, 1)
				n.Open(t.Context(), Options{
					Device: &Device{ID: &jid}, Ref: whatisup.Ref{}, Trusted: func() bool { return true }, Handler: nobody{},
					Log: slog.New(slog.DiscardHandler), Background: &background,
				})
				background.Wait()
			})
			for _, url := range []string{"https://mmg.whatsapp.net/v/x", "http://media.whatsapp.net/y", "https://pps.whatsapp.net/z"} {
				asked("media", func() {
					if _, err := l.internals().DoMediaDownloadRequest(t.Context(), url); err == nil {
						t.Errorf("%s answered", url)
					}
				})
			}
			asked("the page with the newest version", func() {
				_, err := whatsmeow.GetLatestVersion(t.Context(), n.pages())
				if err == nil {
					t.Error("the page answered")
				}
			})
			asked("the simulator's control", func() {
				_, err := n.ControlClient().Get("http://web.whatsapp.com/control")
				if err == nil {
					t.Error("the control answered")
				}
			})
			if _, err := n.Newest(t.Context()); err == nil {
				t.Error("a simulator has a newest version")
			}
		})
	}
}
