package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"whatisup/local/whatsapp"
	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// TestHostileMessages sends messages of every shape that a stranger can make, in every way
// that one can come. No connection is lost for one, each has the one event that it should
// have, and what comes after it arrives. The seed is always the same, so a failure comes
// again; SOAK sends more, and begins elsewhere each time, or at HOSTILE_SEED.
func TestHostileMessages(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.host("one")
	id := w.create()
	const number, stranger = "491700000003", "14155550123"
	everything := whatisup.DefaultSettings()
	everything.Receive = whatisup.ReceiveSettings{Groups: true, Status: true, Channels: true}
	if err := w.db.UpdateSettings(t.Context(), w.get(id), everything); err != nil {
		t.Fatal(err)
	}
	w.link(id, number)
	before, _ := w.device(id)

	messages, seed := 300, uint64(20261128)
	if os.Getenv("SOAK") != "" {
		messages, seed = 20_000, rand.Uint64()
	}
	if again, err := strconv.ParseUint(os.Getenv("HOSTILE_SEED"), 10, 64); err == nil {
		seed = again
	}
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	want := make(map[string]string) // message id → what it is
	log := &tellings{w: w, told: make(map[string]map[whatisup.Position]bool), from: [2]whatisup.Position{"0", "0"}}
	ways, sent := make(map[string]int), 0
	for n := range messages {
		m := hostile(rnd)
		raw, err := proto.Marshal(m)
		for err != nil { // what the library can't read has no event, and it refuses it
			m = hostile(rnd)
			raw, err = proto.Marshal(m)
		}
		writing := whatsapp.Writing{Text: whatsapp.Text{World: string(w.customer), From: stranger, To: number}, Raw: raw}
		way := []string{"direct", "direct", "direct", "broadcast", "status", "channel"}[rnd.IntN(6)]
		ways[way]++
		switch way {
		case "broadcast":
			writing.Broadcast = true
		case "status":
			writing.Status = true
		case "channel":
			writing.Channel = "120363000000000042@newsletter"
		}
		mid, err := w.sim.Write(t.Context(), writing)
		if err != nil {
			t.Fatalf("message %d, %.300q: %v", n, m.String(), err)
		}
		sent++
		if toldOf(m, mid) {
			want[mid] = way + " " + m.String()
		}
		// A device has a queue at WhatsApp, and the oldest falls out of a full one.
		if sent%100 == 0 || sent == messages {
			log.await(w.send(number, stranger, "so far"), fmt.Sprintf("what came after message %d", n))
		}
	}
	if after, _ := w.device(id); after.Logins != before.Logins {
		t.Errorf("%d logins, not %d: the connection was lost", after.Logins, before.Logins)
	}
	// toldOf asks the very code that decides; that most shapes are told of is certain.
	if len(want) < messages/2 {
		t.Errorf("%d of %d messages make an event", len(want), messages)
	}
	for mid, what := range want {
		if len(log.told[mid]) != 1 {
			t.Errorf("%d events of %.300q", len(log.told[mid]), what)
		}
	}
	for mid, at := range log.told {
		if len(at) > 1 {
			t.Errorf("%d events of message %s", len(at), mid)
		}
	}
	t.Logf("%d messages, %d with an event; ways: %v", sent, len(want), ways)
}

// tellings are the events about messages that the log has, read as it grows.
type tellings struct {
	w    *world
	told map[string]map[whatisup.Position]bool // of each message, its own or that of a change
	from [2]whatisup.Position                  // of the marks before: an event may turn up late
}

// await waits for a mark, and takes in what the log has by then.
func (l *tellings) await(mark, what string) {
	l.w.t.Helper()
	l.w.awaitFor(patience+100*slowness*100*time.Millisecond, what, func() bool {
		for e, err := range l.w.db.EventsAfter(l.w.t.Context(), l.w.customer, whatisup.Test, l.from[0], 200) {
			if err != nil {
				l.w.t.Fatal(err)
			}
			if !strings.HasPrefix(string(e.Name), "message.") && e.Name != whatisup.PollVoted {
				continue
			}
			var d struct {
				ID string `json:"message_id"`
			}
			if err := json.Unmarshal(e.Data, &d); err != nil {
				l.w.t.Fatal(err)
			}
			if l.told[d.ID] == nil {
				l.told[d.ID] = make(map[whatisup.Position]bool)
			}
			l.told[d.ID][e.Position] = true
			if d.ID == mark {
				l.from = [2]whatisup.Position{l.from[1], e.Position}
			}
		}
		return len(l.told[mark]) > 0
	})
}

// toldOf says whether a message from a stranger makes an event.
func toldOf(m *waE2E.Message, id string) bool {
	from := types.NewJID("14155550123", types.DefaultUserServer)
	d := waconv.Decode(context.Background(), &events.Message{
		Info:    types.MessageInfo{MessageSource: types.MessageSource{Chat: from, Sender: from}, ID: id, Timestamp: time.Now()},
		Message: m, RawMessage: m,
	}, waconv.Env{Secrets: noSecrets{}, Now: time.Now()})
	return d.Event != ""
}

// noSecrets opens nothing, as no secret of a stranger's is known.
type noSecrets struct{}

var errNoSecret = errors.New("no secret")

func (noSecrets) DecryptReaction(context.Context, *events.Message) (*waE2E.ReactionMessage, error) {
	return nil, errNoSecret
}

func (noSecrets) DecryptPollVote(context.Context, *events.Message) (*waE2E.PollVoteMessage, error) {
	return nil, errNoSecret
}

func (noSecrets) DecryptSecretEncryptedMessage(context.Context, *events.Message) (*waE2E.Message, error) {
	return nil, errNoSecret
}

func (noSecrets) DecryptComment(context.Context, *events.Message) (*waE2E.Message, error) {
	return nil, errNoSecret
}

// hostile is a message of random shape: any of its fields, filled to any depth with
// values that no client would send, in any wrappers.
func hostile(rnd *rand.Rand) *waE2E.Message {
	h := hostility{rnd, 2000}
	m := new(waE2E.Message)
	fields := m.ProtoReflect().Descriptor().Fields()
	for range 1 + rnd.IntN(2) {
		h.set(m.ProtoReflect(), fields.Get(rnd.IntN(fields.Len())), 0)
	}
	if rnd.IntN(4) == 0 {
		h.unknown(m.ProtoReflect())
	}
	var wrappers []protoreflect.FieldDescriptor
	for i := range fields.Len() {
		if f := fields.Get(i); f.Message() != nil && f.Message().Name() == "FutureProofMessage" {
			wrappers = append(wrappers, f)
		}
	}
	for range rnd.IntN(4) * rnd.IntN(4) {
		outer := new(waE2E.Message)
		inner := new(waE2E.FutureProofMessage)
		inner.Message = m
		outer.ProtoReflect().Set(wrappers[rnd.IntN(len(wrappers))], protoreflect.ValueOfMessage(inner.ProtoReflect()))
		m = outer
	}
	return m
}

// hostility fills messages, up to so many fields.
type hostility struct {
	*rand.Rand
	left int
}

func (h *hostility) fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if h.left <= 0 || depth > 6 {
			return
		}
		// The deeper, the fewer.
		if h.IntN(depth+1) == 0 {
			h.set(m, fields.Get(i), depth)
		}
	}
	if h.IntN(20) == 0 {
		h.unknown(m)
	}
}

func (h *hostility) set(m protoreflect.Message, f protoreflect.FieldDescriptor, depth int) {
	h.left--
	switch {
	case f.IsMap():
	case f.IsList():
		list := m.NewField(f).List()
		for range h.IntN(4) {
			v := h.value(f, list.NewElement, depth)
			list.Append(v)
		}
		m.Set(f, protoreflect.ValueOfList(list))
	default:
		m.Set(f, h.value(f, func() protoreflect.Value { return m.NewField(f) }, depth))
	}
}

func (h *hostility) value(f protoreflect.FieldDescriptor, empty func() protoreflect.Value, depth int) protoreflect.Value {
	number := []int64{0, 1, -1, 7, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64, h.Int64()}[h.IntN(9)]
	real := []float64{0, -1, 1e300, math.NaN(), math.Inf(1), math.Inf(-1), h.NormFloat64()}[h.IntN(7)]
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		v := empty()
		if h.IntN(4) > 0 {
			h.fill(v.Message(), depth+1)
		}
		return v
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(h.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber([]int32{0, 1, 2, 3, 5, 14, 25, -1, math.MaxInt32}[h.IntN(9)]))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(number)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(real))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(real)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(h.text()))
	}
	return protoreflect.ValueOfString(h.text())
}

// text is mostly short, so that a message of many has a size that WhatsApp takes.
func (h *hostility) text() string {
	some := texts()
	short := []string{
		"", "hi", "x \uffff", "\ufffe", "\x00\x01", "\xff\xfe", "\xed\xa0\x80", "https://example.com", "14155550123@s.whatsapp.net", "@lid", "1@2@3", "status@broadcast", "{", `{"id":1}`,
		"BEGIN:VCARD", strings.Repeat("\u202e", 100), strings.Repeat("🙂", 300),
	}
	if h.IntN(30) == 0 && h.left > 0 {
		h.left -= 300
		return some[h.IntN(len(some))]
	}
	return short[h.IntN(len(short))]
}

// unknown adds fields that no version of ours knows.
func (h *hostility) unknown(m protoreflect.Message) {
	b := protowire.AppendTag(nil, protowire.Number(5000+h.IntN(5000)), protowire.BytesType)
	b = protowire.AppendString(b, h.text())
	b = protowire.AppendTag(b, protowire.Number(1<<29-1), protowire.VarintType)
	m.SetUnknown(append(m.GetUnknown(), protowire.AppendVarint(b, h.Uint64())...))
}
