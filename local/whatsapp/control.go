package whatsapp

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxControlBody = 48 << 20 // a message may bring a file
	maxControlWait = 60 * time.Second
)

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws/chat", s.serveChat)
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("GET /sw.js", s.serveWorker)
	mux.HandleFunc("POST /mms/{type}/{token}", s.serveUpload)
	mux.HandleFunc("DELETE /mms/{type}/{token}", s.serveMediaDelete)
	mux.HandleFunc("GET /v/{world}/{name}", s.serveDownload)
	mux.HandleFunc("GET /pps/{world}/{name}", s.servePicture)

	// The control calls are not for a page of somebody else that happens to be
	// open in a browser on this machine, under whatever name it has led here.
	guard := http.NewCrossOriginProtection()
	control := func(pattern string, handler func(*http.Request) (any, error)) {
		mux.Handle(pattern, s.onlyOwnNames(guard.Handler(controlHandler(handler))))
	}
	control("GET /control/root", s.controlRoot)
	control("POST /control/scan", s.controlScan)
	control("POST /control/enter-code", s.controlEnterCode)
	control("POST /control/passkey", s.controlPasskey)
	control("POST /control/messages", s.controlSend)
	control("GET /control/messages", s.controlMessages)
	control("POST /control/read", s.controlRead)
	control("POST /control/unlink", s.controlUnlink)
	control("POST /control/faults", s.controlInject)
	control("GET /control/faults", s.controlFaults)
	control("DELETE /control/faults", s.controlClearFaults)
	control("GET /control/devices", s.controlDevices)
	control("GET /control/journal", s.controlJournal)
	control("GET /control/phones", s.controlPhones)
	control("GET /control/phones/{number}", s.controlPhone)
	control("PUT /control/phones/{number}", s.controlSetPhone)
	control("GET /control/phones/{number}/messages", s.controlScreen)
	control("POST /control/phones/{number}/actions", s.controlAct)
	control("GET /control/groups", s.controlGroups)
	return mux
}

// onlyOwnNames refuses requests whose Host is another name than this machine's: a
// browser sends them for a page whose name was made to lead here.
func (s *Server) onlyOwnNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Host
		if host, _, err := net.SplitHostPort(name); err == nil {
			name = host
		}
		name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
		if net.ParseIP(name) == nil && name != "localhost" && !slices.Contains(s.cfg.Names, name) {
			controlHandler(func(*http.Request) (any, error) {
				return nil, refuse(http.StatusMisdirectedRequest, "wrong_host", "the control interface does not answer to the name %q", name)
			}).ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// servePage is what a client reads to learn the current client version.
func (s *Server) servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, `<!DOCTYPE html><title>WhatsApp simulator</title><script>{"server_revision":%d,"client_revision":%d,"tier":"simulator"}</script>`, s.cfg.Revision, s.cfg.Revision)
}

// serveWorker is the other place where clients look for it.
func (s *Server) serveWorker(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/javascript")
	fmt.Fprintf(w, `const config={\"server_revision\":%d,\"client_revision\":%d,\"tier\":\"simulator\"};`, s.cfg.Revision, s.cfg.Revision)
}

func controlHandler(handle func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := handle(r)
		status := http.StatusOK
		if err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok {
				e = refuse(http.StatusInternalServerError, "internal", "%v", err)
			}
			status = e.Status
			answer = map[string]any{"error": map[string]string{"code": e.Code, "message": e.Message}}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	})
}

func body[T any](r *http.Request) (out T, err error) {
	decoder := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxControlBody))
	decoder.DisallowUnknownFields()
	if err = decoder.Decode(&out); err != nil && !errors.Is(err, io.EOF) {
		return out, badRequest("cannot read the body: %v", err)
	}
	return out, nil
}

func orWorld(world string) string {
	if world == "" {
		return DefaultWorld
	}
	return world
}

func (s *Server) controlRoot(*http.Request) (any, error) {
	root := s.Root()
	return map[string]string{"root": hex.EncodeToString(root[:]), "ca": string(s.ca)}, nil
}

func (s *Server) controlScan(r *http.Request) (any, error) {
	in, err := body[struct {
		World       string `json:"world"`
		Instance    string `json:"instance"`
		QR          string `json:"qr"`
		PhoneNumber string `json:"phone_number"`
	}](r)
	if err != nil {
		return nil, err
	}
	if in.QR == "" {
		return nil, s.withoutQR(orWorld(in.World), in.Instance)
	}
	return s.ScanQR(r.Context(), orWorld(in.World), in.QR, in.PhoneNumber)
}

// withoutQR answers a scan that names an instance alone. The text of a code
// holds a secret that the device shares with the phone and never with the
// server, so the simulator cannot know it.
func (s *Server) withoutQR(world, instance string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if instance != "" && c.world == world && c.instance == instance && c.registration != nil && !c.registration.busy && !c.ended() {
			return refuse(http.StatusBadRequest, "qr_required", "a code is shown; its text must be given as qr, as it holds a secret that only the device knows")
		}
	}
	return errNothingToScan
}

func (s *Server) controlEnterCode(r *http.Request) (any, error) {
	in, err := body[struct {
		World       string `json:"world"`
		Code        string `json:"code"`
		PhoneNumber string `json:"phone_number"`
	}](r)
	if err != nil {
		return nil, err
	}
	return s.EnterCode(r.Context(), orWorld(in.World), in.Code, in.PhoneNumber)
}

func (s *Server) controlUnlink(r *http.Request) (any, error) {
	in, err := body[Target](r)
	if err != nil {
		return nil, err
	}
	in.World = orWorld(in.World)
	n, err := s.Unlink(in)
	return map[string]int{"devices": n}, err
}

func (s *Server) controlInject(r *http.Request) (any, error) {
	in, err := body[Fault](r)
	if err != nil {
		return nil, err
	}
	n, err := s.Inject(in)
	return map[string]int{"connections": n}, err
}

func (s *Server) controlFaults(*http.Request) (any, error) {
	return map[string]any{"faults": s.Faults()}, nil
}

func target(r *http.Request) Target {
	q := r.URL.Query()
	return Target{World: q.Get("world"), Instance: q.Get("instance"), PhoneNumber: q.Get("phone_number"), JID: q.Get("jid")}
}

func (s *Server) controlClearFaults(r *http.Request) (any, error) {
	return map[string]int{"faults": s.ClearFaults(target(r), r.URL.Query().Get("kind"))}, nil
}

func (s *Server) controlDevices(r *http.Request) (any, error) {
	return s.Devices(r.URL.Query().Get("world")), nil
}

// number reads an optional parameter.
func number(r *http.Request, name string) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, badRequest("%s must be a number", name)
	}
	return n, nil
}

// readPage reads what lists have in common: the position to go on after, how
// many to answer, and how long to wait for the first one.
func readPage(r *http.Request) (after uint64, limit int, wait time.Duration, err error) {
	after, err1 := number(r, "after")
	most, err2 := number(r, "limit")
	seconds, err3 := number(r, "wait")
	wait = min(time.Duration(min(seconds, 3600))*time.Second, maxControlWait)
	return after, int(min(most, 10_000)), wait, cmp.Or(err1, err2, err3)
}

func (s *Server) controlJournal(r *http.Request) (any, error) {
	after, limit, wait, err := readPage(r)
	if err != nil {
		return nil, err
	}
	f := JournalFilter{Target: target(r), After: after, Tag: r.URL.Query().Get("tag"), Limit: limit}
	if device := r.URL.Query().Get("device"); device != "" {
		f.JID = device
	}
	if entries := s.Journal(f); len(entries) > 0 || wait == 0 {
		return entries, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	if _, err := s.AwaitStanza(ctx, f, nil); errors.Is(err, errStopped) {
		return nil, err
	}
	return s.Journal(f), nil
}

func (s *Server) controlSend(r *http.Request) (any, error) {
	in, err := body[Writing](r)
	if err != nil {
		return nil, err
	}
	id, err := s.Write(r.Context(), in)
	return map[string]string{"message_id": id}, err
}

func (s *Server) controlRead(r *http.Request) (any, error) {
	in, err := body[struct {
		World       string `json:"world"`
		PhoneNumber string `json:"phone_number"`
		From        string `json:"from"`
		MessageID   string `json:"message_id"`
	}](r)
	if err != nil {
		return nil, err
	}
	return struct{}{}, s.MarkRead(in.World, in.PhoneNumber, in.From, in.MessageID)
}

func (s *Server) controlPhones(r *http.Request) (any, error) {
	limit, err := number(r, "limit")
	if err != nil {
		return nil, err
	}
	list, err := s.Phones(r.URL.Query().Get("world"))
	if after := r.URL.Query().Get("after"); after != "" {
		list = slices.DeleteFunc(list, func(p Phone) bool { return p.PhoneNumber <= after })
	}
	out := map[string]any{"data": list, "next": nil}
	if n := int(limit); n > 0 && len(list) > n {
		out["data"], out["next"] = list[:n], list[n-1].PhoneNumber
	}
	return out, err
}

func (s *Server) controlPhone(r *http.Request) (any, error) {
	return s.Phone(r.URL.Query().Get("world"), r.PathValue("number"))
}

func (s *Server) controlSetPhone(r *http.Request) (any, error) {
	in, err := body[struct {
		World string `json:"world"`
		Behaviour
	}](r)
	if err != nil {
		return nil, err
	}
	return s.SetPhone(cmp.Or(in.World, r.URL.Query().Get("world")), r.PathValue("number"), in.Behaviour)
}

func (s *Server) controlScreen(r *http.Request) (any, error) {
	after, limit, wait, err := readPage(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	f := ShownFilter{Chat: q.Get("chat"), From: q.Get("from"), ID: q.Get("message_id"), After: after, Limit: limit}
	most, err := number(r, "bytes")
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		if _, err := s.AwaitShown(ctx, q.Get("world"), r.PathValue("number"), f, nil); errors.Is(err, errStopped) {
			return nil, err
		}
	}
	list, next, err := s.PhoneMessages(q.Get("world"), r.PathValue("number"), f)
	if n := within(list, int(most)); n < len(list) {
		list, next = list[:n], list[n-1].Position
	}
	out := map[string]any{"data": list, "next": nil}
	if next > 0 {
		out["next"] = next
	}
	return out, err
}

// within is how many messages of a page make at most so many bytes, 0 for any
// number, and one at least: a message that is larger alone loses its body, and
// its text from a point on.
func within(list []Shown, most int) int {
	size := 0
	for i := range list {
		m := &list[i]
		b, err := json.Marshal(m)
		if err != nil || most == 0 {
			continue
		}
		if len(b) > most {
			m.Body, m.Text = nil, shorten(m.Text, most/8) // an escaped byte has six
			b, _ = json.Marshal(m)
		}
		if size += len(b); size > most && i > 0 {
			return i
		}
	}
	return len(list)
}

// shorten cuts a text to at most so many bytes, between two characters.
func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

func (s *Server) controlGroups(r *http.Request) (any, error) {
	list, err := s.Groups(r.URL.Query().Get("world"), r.URL.Query().Get("phone_number"))
	return map[string]any{"data": list}, err
}

func (s *Server) controlAct(r *http.Request) (any, error) {
	in, err := body[Action](r)
	if err != nil {
		return nil, err
	}
	in.PhoneNumber = r.PathValue("number")
	return s.Act(r.Context(), in)
}

func (s *Server) controlMessages(r *http.Request) (any, error) {
	after, limit, wait, err := readPage(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	f := MessageFilter{World: q.Get("world"), From: q.Get("from"), To: q.Get("to"), ID: q.Get("message_id"), After: after, Limit: limit}
	if list := s.Messages(f); len(list) > 0 || wait == 0 {
		return list, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	if _, err := s.AwaitMessage(ctx, f, nil); errors.Is(err, errStopped) {
		return nil, err
	}
	return s.Messages(f), nil
}
