package whatsapp

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is a misbehaviour. Its target narrows it to a world, an instance, a
// phone number or a device; an empty target is everybody. There are three sorts:
//
// At once, to the connections that match now:
//
//	drop        the connection breaks
//	storm       the same, for all worlds unless one is named
//	restart     stream error 515
//	unavailable stream error 503; with seconds, logins fail with 503 until then
//	replaced    stream error conflict/replaced; with seconds, each login until then meets it
//	removed     the device is unlinked: stream error 401 device_removed
//	expire_code the pair code that a device shows has expired
//
// The next login or registration that matches meets it, once; with seconds,
// every one until then. The connections that match now are dropped first:
//
//	banned      with seconds 402 with that end; without 406, and the device is unlinked
//	outdated    405
//	forbidden   403, and the device is unlinked
//	logged_out  401, and the device is unlinked
//	failure     the reason in code
//	passkey     the account is asked for a passkey at the next scan or pair code (nobody is dropped)
//	refs        a registration gets count codes, and ends after seconds
//
// For a time: seconds, 30 by default.
//
//	unreachable    connections are refused, those there are break
//	silent         connections open and nothing is ever answered, those there are go half-open
//	half_open      those there are go half-open; new ones are well
//	slow_handshake the handshake is answered after millis
//	latency        every stanza of the server is millis late
//	min_version    405 for clients below version
//	timelock       the account may write to nobody new (463); the device is told when it begins and ends
//
// For count messages, 1 by default:
//
//	corrupt_in     a ciphertext from a phone to the device is damaged
//	corrupt_out    a ciphertext from the device to the receiver's phone is damaged
//	retry_receipt  the receiver's phone asks again for what it could have read
//	ack_lost       a message of the device is taken, and the answer to it is lost
//	ack_late       and the answer comes after millis; receipts do not wait for it
//	ack_twice      and the answer comes twice
//	ack_error      a message of the device is refused with code
//	duplicate_in   a message to the device comes twice, the same bytes
//	reencrypt_in   and comes again encrypted anew, under the same id
//	reorder_in     and comes after the next one from the same phone
//	media_gone     the file of a message to the device is gone from the media host, until
//	               the device's phone is asked for it; with code 2 the phone has it no more
//	media_slow     it is served after millis each time, or what the device uploads is taken after that
//	upload_error   an upload of the device is refused with the HTTP status code
type Fault struct {
	Target
	Kind    string  `json:"kind"`
	Seconds float64 `json:"seconds,omitempty"`
	Millis  int     `json:"millis,omitempty"`
	Count   int     `json:"count,omitempty"`
	Code    int     `json:"code,omitempty"`
	Version string  `json:"version,omitempty"`
}

const (
	kindDrop          = "drop"
	kindStorm         = "storm"
	kindRestart       = "restart"
	kindUnavailable   = "unavailable"
	kindReplaced      = "replaced"
	kindRemoved       = "removed"
	kindExpireCode    = "expire_code"
	kindBanned        = "banned"
	kindOutdated      = "outdated"
	kindForbidden     = "forbidden"
	kindLoggedOut     = "logged_out"
	kindFailure       = "failure"
	kindPasskey       = "passkey"
	kindRefs          = "refs"
	kindUnreachable   = "unreachable"
	kindSilent        = "silent"
	kindHalfOpen      = "half_open"
	kindSlowHandshake = "slow_handshake"
	kindLatency       = "latency"
	kindMinVersion    = "min_version"
	kindCorruptIn     = "corrupt_in"
	kindCorruptOut    = "corrupt_out"
	kindRetryReceipt  = "retry_receipt"
	kindAckLost       = "ack_lost"
	kindAckLate       = "ack_late"
	kindAckTwice      = "ack_twice"
	kindAckError      = "ack_error"
	kindDuplicate     = "duplicate_in"
	kindReencrypt     = "reencrypt_in"
	kindReorder       = "reorder_in"
	kindMediaGone     = "media_gone"
	kindMediaSlow     = "media_slow"
	kindUploadError   = "upload_error"
	kindTimelock      = "timelock"
)

// FaultKinds are all kinds of fault.
var FaultKinds = []string{
	kindDrop, kindStorm, kindRestart, kindUnavailable, kindReplaced, kindRemoved, kindExpireCode,
	kindBanned, kindOutdated, kindForbidden, kindLoggedOut, kindFailure, kindPasskey, kindRefs,
	kindUnreachable, kindSilent, kindHalfOpen, kindSlowHandshake, kindLatency, kindMinVersion,
	kindCorruptIn, kindCorruptOut, kindRetryReceipt, kindAckLost, kindAckLate, kindAckTwice, kindAckError,
	kindDuplicate, kindReencrypt, kindReorder, kindMediaGone, kindMediaSlow, kindUploadError, kindTimelock,
}

const (
	maxFaults     = 1000
	maxFaultTime  = 24 * time.Hour
	defaultPeriod = 30 * time.Second
)

// fault is one that stands: until a time, or for a number of times.
type fault struct {
	Fault
	version [3]uint32
	until   time.Time // zero: until used up
	left    int       // zero: as often as it comes
}

func (f *Fault) duration() time.Duration { return time.Duration(f.Seconds * float64(time.Second)) }

func (t Target) matches(s *Server, c *conn) bool {
	if t.World != "" && t.World != c.world || t.Instance != "" && t.Instance != c.instance {
		return false
	}
	if t.PhoneNumber == "" && t.JID == "" {
		return true
	}
	if c.device != nil {
		return t.matchesDevice(s, c.device)
	}
	if c.registration != nil || c.instance == "" {
		return false
	}
	// Before the login a connection is known by its instance alone.
	for _, d := range s.devices {
		if d.World == c.world && d.Instance == c.instance && t.matchesDevice(s, d) {
			return true
		}
	}
	return false
}

// Inject lets a fault happen. It returns how many connections it met at once.
func (s *Server) Inject(f Fault) (int, error) {
	standing := &fault{Fault: f}
	if f.Seconds < 0 || f.duration() > maxFaultTime {
		return 0, badRequest("seconds must be 0 to %d", int(maxFaultTime/time.Second))
	}
	if f.Seconds > 0 {
		standing.until = s.now().Add(f.duration())
	}
	var hit func(*conn)
	stands := true
	dropped := func(c *conn) { c.close("fault " + f.Kind) }
	switch f.Kind {
	case kindDrop:
		hit, stands = dropped, false
	case kindStorm:
		hit, stands = dropped, false
	case kindRestart:
		hit, stands = func(c *conn) { c.sendLast(*streamError("515", "")) }, false
	case kindUnavailable:
		hit, stands = func(c *conn) { c.sendLast(*streamError("503", "")) }, f.Seconds > 0
	case kindReplaced:
		hit, stands = func(c *conn) { c.sendLast(*streamError("", "replaced")) }, f.Seconds > 0
	case kindExpireCode:
		hit, stands = s.expireCode, false
	case kindRemoved:
		return s.Unlink(f.Target)
	case kindBanned, kindOutdated, kindForbidden, kindLoggedOut, kindFailure:
		if f.Kind == kindFailure && (f.Code < 400 || f.Code > 599) {
			return 0, badRequest("code must be 400 to 599")
		}
		hit = dropped
		if f.Seconds == 0 {
			standing.left = 1
		}
	case kindPasskey:
		if f.Seconds == 0 {
			standing.left = 1
		}
	case kindRefs:
		standing.until = s.now().Add(maxFaultTime)
		standing.left = 1
		if f.Count < 0 || f.Count > 100 {
			return 0, badRequest("count must be 0 to 100")
		}
	case kindUnreachable, kindSilent, kindHalfOpen, kindSlowHandshake, kindLatency, kindMinVersion:
		if f.Seconds == 0 {
			standing.until = s.now().Add(defaultPeriod)
		}
		switch f.Kind {
		case kindUnreachable:
			hit = dropped
		case kindSilent:
			hit = func(c *conn) { c.goDeaf(standing.until) }
		case kindHalfOpen:
			hit, stands = func(c *conn) { c.goDeaf(standing.until) }, false
		case kindSlowHandshake, kindLatency:
			if f.Millis <= 0 || f.Millis > 600_000 {
				return 0, badRequest("millis must be 1 to 600000")
			}
		case kindMinVersion:
			var ok bool
			if standing.version, ok = parseVersion(f.Version); !ok {
				return 0, badRequest("version must be three numbers with dots")
			}
		}
	case kindTimelock:
		if f.Seconds == 0 {
			standing.until = s.now().Add(defaultPeriod)
		}
	case kindCorruptIn, kindCorruptOut, kindRetryReceipt, kindAckLost, kindAckLate, kindAckTwice, kindAckError,
		kindDuplicate, kindReencrypt, kindReorder, kindMediaGone, kindMediaSlow, kindUploadError:
		if err := f.checkCounted(); err != nil {
			return 0, err
		}
		standing.left = max(f.Count, 1)
	default:
		return 0, badRequest("no fault of the kind %q", f.Kind)
	}

	s.mu.Lock()
	s.expireFaults(s.now())
	if stands && len(s.faults) >= maxFaults {
		s.mu.Unlock()
		return 0, refuse(http.StatusConflict, "too_many_faults", "%d faults stand already", maxFaults)
	}
	if stands {
		s.faults = append(s.faults, standing)
	}
	var met []*conn
	if hit != nil {
		for c := range s.conns {
			if f.Target.matches(s, c) {
				met = append(met, c)
			}
		}
	}
	s.mu.Unlock()
	for _, c := range met {
		hit(c)
	}
	if f.Kind == kindTimelock {
		s.tellTimelocks(f.Target, true, standing.until)
	}
	return len(met), nil
}

// checkCounted checks a fault that meets messages one by one.
func (f *Fault) checkCounted() error {
	switch {
	case f.Count < 0 || f.Count > 1000:
		return badRequest("count must be 1 to 1000")
	case (f.Kind == kindAckLate || f.Kind == kindMediaSlow) && (f.Millis <= 0 || f.Millis > 600_000):
		return badRequest("millis must be 1 to 600000")
	case f.Kind == kindAckError && (f.Code < 400 || f.Code > 599), f.Kind == kindUploadError && (f.Code < 400 || f.Code > 599):
		return badRequest("code must be 400 to 599")
	case f.Kind == kindMediaGone && f.Code != 0 && f.Code != 2:
		return badRequest("code must be 2, or left out")
	}
	return nil
}

// tellTimelocks tells the accounts that a time-lock meets of its beginning or end.
func (s *Server) tellTimelocks(t Target, active bool, until time.Time) {
	people := map[person]bool{}
	s.mu.Lock()
	for _, d := range s.devices {
		people[d.person()] = people[d.person()] || t.matchesDevice(s, d)
	}
	s.mu.Unlock()
	for p, met := range people {
		if met {
			s.tellTimelock(p, active, until)
		}
	}
}

// tellEnded tells who has to know that faults are over.
func (s *Server) tellEnded(faults []*fault) {
	for _, f := range faults {
		if f.Kind == kindTimelock {
			s.tellTimelocks(f.Target, false, time.Time{})
		}
	}
}

// meetsDevice returns a fault that stands for a device, connected or not.
func (s *Server) meetsDevice(kind string, d *device) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, f := range slices.Backward(s.faults) {
		if f.Kind == kind && f.Target.matchesDevice(s, d) && (f.until.IsZero() || now.Before(f.until)) {
			return f.Fault, true
		}
	}
	return Fault{}, false
}

// ClearFaults ends the standing faults with exactly this target, or with an
// empty target all of them; with a kind, only those of it. Connections that
// a cleared fault made half-open are closed.
func (s *Server) ClearFaults(t Target, kind string) int {
	s.mu.Lock()
	var ended []*conn
	before := len(s.faults)
	var over []*fault
	s.faults = slices.DeleteFunc(s.faults, func(f *fault) bool {
		met := (t == Target{} || t == f.Target) && (kind == "" || kind == f.Kind)
		if met {
			over = append(over, f)
		}
		return met
	})
	for c := range s.conns {
		if (kind == "" || kind == kindSilent || kind == kindHalfOpen) && !c.deafUntil.IsZero() && t.matches(s, c) {
			ended = append(ended, c)
		}
	}
	cleared := before - len(s.faults)
	s.mu.Unlock()
	s.tellEnded(over)
	for _, c := range ended {
		c.close("half-open connection ended")
	}
	return cleared
}

// Faults lists what stands.
func (s *Server) Faults() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireFaults(s.now())
	out := make([]Fault, len(s.faults))
	for i, f := range s.faults {
		out[i] = f.Fault
	}
	return out
}

func (s *Server) expireFaults(now time.Time) {
	s.faults = slices.DeleteFunc(s.faults, func(f *fault) bool {
		over := !f.until.IsZero() && !now.Before(f.until)
		if over && f.Kind == kindTimelock {
			s.over = append(s.over, f)
		}
		return over
	})
}

// meets returns the latest fault of a kind that stands for a connection.
func (s *Server) meets(kind string, c *conn) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.standing(kind, c)
}

func (s *Server) standing(kind string, c *conn) *fault {
	if len(s.faults) == 0 {
		return nil
	}
	s.expireFaults(s.now())
	for _, f := range slices.Backward(s.faults) {
		if f.Kind == kind && f.Target.matches(s, c) {
			return f
		}
	}
	return nil
}

// take is meets, and uses the fault once.
func (s *Server) take(kind string, c *conn) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.standing(kind, c)
	if f == nil {
		return Fault{}, false
	}
	s.use(f)
	return f.Fault, true
}

// takeFor is take for a device, connected or not.
func (s *Server) takeFor(kind string, d *device) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireFaults(s.now())
	for _, f := range slices.Backward(s.faults) {
		if f.Kind == kind && f.Target.matchesDevice(s, d) {
			s.use(f)
			return f.Fault, true
		}
	}
	return Fault{}, false
}

func (s *Server) use(f *fault) {
	if f.left == 0 {
		return
	}
	if f.left--; f.left == 0 {
		s.faults = slices.DeleteFunc(s.faults, func(other *fault) bool { return other == f })
	}
}

func (s *Server) faultEnd(kind string, c *conn) time.Time {
	if f := s.meets(kind, c); f != nil {
		return f.until
	}
	return s.now()
}

// latency is how long a stanza is on its way to the client.
func (s *Server) latency(c *conn) time.Duration {
	if f := s.meets(kindLatency, c); f != nil {
		return time.Duration(f.Millis) * time.Millisecond
	}
	return s.cfg.Latency
}

// refused is the standing refusal of a login or registration, and whether it
// costs the device its link.
func (s *Server) refused(c *conn) (f failure, remove, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, kind := range []string{kindLoggedOut, kindForbidden, kindBanned, kindOutdated, kindFailure, kindUnavailable} {
		standing := s.standing(kind, c)
		if standing == nil {
			continue
		}
		s.use(standing)
		switch kind {
		case kindLoggedOut:
			return failure{reason: 401}, true, true
		case kindForbidden:
			return failure{reason: 403}, true, true
		case kindOutdated:
			return failure{reason: 405}, false, true
		case kindFailure:
			return failure{reason: standing.Code}, false, true
		case kindUnavailable:
			return failure{reason: 503}, false, true
		case kindBanned:
			if standing.until.IsZero() {
				return failure{reason: 406}, true, true
			}
			return failure{reason: 402, code: 101, expires: standing.until.Sub(s.now())}, false, true
		}
	}
	return failure{}, false, false
}

func parseVersion(text string) (out [3]uint32, ok bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return out, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return out, false
		}
		out[i] = uint32(n)
	}
	return out, true
}
