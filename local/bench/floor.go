package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"whatisup/local/whatsapp"
)

// floorWorld is where the bare clients live at the simulator.
const floorWorld = "floor"

// The floor's questions and answers. Times are milliseconds.
type (
	many struct {
		N, Parallel int
	}
	times struct {
		First, Then spread
	}
	// floorSends asks the first client to write to a number, one message after the other.
	floorSends struct {
		N  int
		To string
	}
	// arrival is what the floor says of a message that it was given.
	arrival struct {
		Got string `json:"got"`
	}
)

// startFloor starts bare library clients against the stack's simulator, in a
// process of their own. GOGC is what sets the session host's apart from none.
func startFloor(s *stack, gogc string, arrived func(id string)) (*child, error) {
	return spawn("floor", []string{
		"GOGC=" + gogc, "WHATSAPP_ENDPOINT=" + s.WhatsApp, "WHATSAPP_NOISE_ROOT=" + s.Env["WHATSAPP_NOISE_ROOT"],
	}, said(arrived))
}

// runFloor is the role "floor": the library as it is, with a store in memory.
func runFloor(ctx context.Context) error {
	endpoint := os.Getenv("WHATSAPP_ENDPOINT")
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	trust, err := hex.DecodeString(os.Getenv("WHATSAPP_NOISE_ROOT"))
	if err != nil || len(trust) != len(whatsmeow.WACertPubKey) {
		return errors.New("the floor needs the simulator's root key")
	}
	whatsmeow.WACertPubKey = [32]byte(trust)
	f := &floor{address: u.Host, phones: newSimulator(endpoint)}
	return serve(ctx, func(say func(any)) answers {
		f.say = say
		return answers{
			"qr":      on(f.qr),
			"link":    on(f.link),
			"code":    on(f.code),
			"login":   on(f.login),
			"send":    on(f.send),
			"numbers": on(func(context.Context, struct{}) (any, error) { return f.numbers(), nil }),
			"process": on(func(context.Context, struct{}) (any, error) { return readSelf(), nil }),
			"gogc": on(func(_ context.Context, percent int) (any, error) {
				debug.SetGCPercent(percent)
				return nil, nil
			}),
		}
	})
}

type floor struct {
	address string
	phones  *simulator
	say     func(any)

	mu   sync.Mutex
	next int
	all  []*bare
}

// bare is one client of the library.
type bare struct {
	*whatsmeow.Client
	name, number string
	connected    chan struct{}
}

// named puts the simulator's headers into the upgrade request.
type named struct {
	next http.RoundTripper
	name string
}

func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(whatsapp.HeaderWorld, floorWorld)
	r.Header.Set(whatsapp.HeaderInstance, n.name)
	return n.next.RoundTrip(r)
}

// open makes an unpaired client.
func (f *floor) open() *bare {
	f.mu.Lock()
	f.next++
	n := f.next
	f.mu.Unlock()
	b := &bare{
		Client: whatsmeow.NewClient(newDevice(), waLog.Noop), name: fmt.Sprintf("floor-%d", n),
		number: floorNumber(n), connected: make(chan struct{}, 1),
	}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, f.address)
	}
	client := &http.Client{Transport: named{&http.Transport{DialContext: dial, DialTLSContext: dial}, b.name}}
	b.SetPreLoginHTTPClient(client)
	b.SetWebsocketHTTPClient(client)
	b.AddEventHandler(func(event any) {
		switch e := event.(type) {
		case *events.Connected:
			select {
			case b.connected <- struct{}{}:
			default:
			}
		case *events.Message:
			f.say(arrival{e.Info.ID})
		}
	})
	return b
}

// floorNumber is the phone number of the nth client.
func floorNumber(n int) string { return fmt.Sprintf("49170%07d", n) }

// show connects until there is a code.
func (b *bare) show(ctx context.Context) (string, error) {
	codes, err := b.GetQRChannel(ctx)
	if err != nil {
		return "", err
	}
	if err := b.ConnectContext(ctx); err != nil {
		return "", err
	}
	select {
	case c := <-codes:
		if c.Code == "" {
			return "", fmt.Errorf("no code: %s", c.Event)
		}
		go func() { // the library hangs up on who doesn't read
			for range codes {
			}
		}()
		return c.Code, nil
	case <-time.After(time.Minute):
		return "", errors.New("no code")
	}
}

// login waits until the client has logged in. The library gives up when the
// connection that follows a scan fails, so that is tried again here.
func (b *bare) login() error {
	for range 12 {
		select {
		case <-b.connected:
			return nil
		case <-time.After(10 * time.Second):
		}
		if b.Store.ID != nil && !b.IsLoggedIn() {
			b.Disconnect()
			_ = b.ConnectContext(context.Background()) // or the next time
		}
	}
	return errors.New("no login")
}

// each does something n times, so many at a time, and gathers two times of each.
func each(n, parallel int, do func(i int) (first, then time.Duration, err error)) (out times, err error) {
	var mu sync.Mutex
	var problems []error
	slots := make(chan struct{}, max(parallel, 1))
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			first, then, err := do(i)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				problems = append(problems, err)
				return
			}
			out.First, out.Then = append(out.First, ms(first)), append(out.Then, ms(then))
		})
	}
	wg.Wait()
	return out, errors.Join(problems[:min(len(problems), 3)]...)
}

// qr measures how long a fresh client takes to its first code.
func (f *floor) qr(_ context.Context, in many) (any, error) {
	return each(in.N, in.Parallel, func(int) (time.Duration, time.Duration, error) {
		began := time.Now()
		b := f.open()
		_, err := b.show(context.Background())
		took := time.Since(began)
		if in.Parallel == 1 {
			b.Disconnect()
		} else {
			go b.Disconnect() // not while others are measured
		}
		return took, 0, err
	})
}

// link links clients and keeps them: time to the code, then from scan to login.
func (f *floor) link(ctx context.Context, in many) (any, error) {
	return each(in.N, in.Parallel, func(int) (first, then time.Duration, err error) {
		began := time.Now()
		b := f.open()
		code, err := b.show(context.Background())
		if err != nil {
			return 0, 0, err
		}
		first = time.Since(began)
		began = time.Now()
		if err := f.phones.scan(ctx, floorWorld, code, b.number); err != nil {
			return 0, 0, err
		}
		err = b.login()
		f.keep(b)
		return first, time.Since(began), err
	})
}

func (f *floor) keep(b *bare) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, b)
}

// numbers lists the phone numbers of the clients that are linked.
func (f *floor) numbers() (all []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.all {
		all = append(all, b.number)
	}
	return all
}

// code measures pairing by code: time to the code, then from its entry to login.
func (f *floor) code(ctx context.Context, in many) (any, error) {
	return each(in.N, in.Parallel, func(int) (first, then time.Duration, err error) {
		began := time.Now()
		b := f.open()
		defer b.Disconnect()
		if _, err := b.show(context.Background()); err != nil {
			return 0, 0, err
		}
		code, err := b.PairPhone(ctx, b.number, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
		if err != nil {
			return 0, 0, err
		}
		first = time.Since(began)
		began = time.Now()
		if err := f.phones.enterCode(ctx, floorWorld, strings.ReplaceAll(code, "-", ""), b.number); err != nil {
			return 0, 0, err
		}
		err = b.login()
		return first, time.Since(began), err
	})
}

// login closes clients that are linked and has them log in again.
func (f *floor) login(_ context.Context, in many) (any, error) {
	f.mu.Lock()
	some := slices.Clone(f.all[:min(in.N, len(f.all))])
	f.mu.Unlock()
	for _, b := range some {
		b.Disconnect()
		select {
		case <-b.connected:
		default:
		}
	}
	began := time.Now()
	_, err := each(len(some), in.Parallel, func(i int) (time.Duration, time.Duration, error) {
		if err := some[i].ConnectContext(context.Background()); err != nil {
			return 0, 0, err
		}
		return 0, 0, some[i].login()
	})
	return ms(time.Since(began)), err
}

// send measures what the library takes for a text, until WhatsApp has it.
func (f *floor) send(ctx context.Context, in floorSends) (any, error) {
	f.mu.Lock()
	b := f.all[0]
	f.mu.Unlock()
	return each(in.N, 1, func(int) (time.Duration, time.Duration, error) {
		began := time.Now()
		_, err := b.SendMessage(ctx, types.NewJID(in.To, types.DefaultUserServer), &waE2E.Message{
			Conversation: proto.String("How are you today? See you at eight."),
		})
		return time.Since(began), 0, err
	})
}
