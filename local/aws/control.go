package aws

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"whatisup/local/aws/internal/fault"
)

// Fault is something to go wrong; see Inject.
type Fault = fault.Fault

// FaultKind is what goes wrong.
type FaultKind = fault.Kind

// What can go wrong.
const (
	// Throttle answers as a service that is over its capacity.
	Throttle = fault.Throttle
	// Conflict answers a write to DynamoDB as if another transaction had the item.
	Conflict = fault.Conflict
	// Unprocessed leaves items of a DynamoDB batch undone, one Times each.
	Unprocessed = fault.Unprocessed
	// Internal answers 500 and does nothing.
	Internal = fault.Internal
	// Lost does what was asked and answers 500.
	Lost = fault.Lost
	// Latency waits for Delay before it goes on.
	Latency = fault.Latency
	// Duplicate leaves an SQS message visible that was just handed out.
	Duplicate = fault.Duplicate
	// Late keeps an SQS message that is sent for Delay before it arrives.
	Late = fault.Late
	// Missing answers as if the table, queue, bucket or key did not exist.
	Missing = fault.Missing
	// Full answers as a queue over its limit of messages in flight, or a table
	// over that of an item collection.
	Full = fault.Full
	// Forbidden answers as if no policy allowed the call.
	Forbidden = fault.Forbidden
)

// Inject puts a fault in force until its Times are used up or ClearFaults.
func (s *Server) Inject(f Fault) error { return s.faults.Add(f) }

// ClearFaults ends all faults.
func (s *Server) ClearFaults() { s.faults.Clear() }

// control serves the same over HTTP:
//
//	POST   /control/faults   {"kind":"throttle","service":"dynamodb","operation":"PutItem","resource":"instances","times":3}
//	GET    /control/faults   the faults in force
//	DELETE /control/faults   ends them
//	GET    /control/clock    {"now":"…"}
//	POST   /control/clock    {"step":"90s"}
//	POST   /control/sweep    deletes what is expired now
//	GET    /control/requests how often each operation was asked for
//	GET    /control/unknown  what was asked for and is not implemented, with counts
func (s *Server) control(w http.ResponseWriter, r *http.Request) {
	reply := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v) //nolint:errcheck // the client is gone
	}
	refuse := func(err error) { reply(http.StatusBadRequest, map[string]string{"error": err.Error()}) }
	read := func(v any) error {
		d := json.NewDecoder(io.LimitReader(r.Body, 64<<10))
		return d.Decode(v)
	}
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, "/control/") {
	case "POST faults":
		var f Fault
		err := read(&f)
		if err == nil {
			err = s.Inject(f)
		}
		if err != nil {
			refuse(err)
			return
		}
		reply(http.StatusCreated, f)
	case "GET faults":
		reply(http.StatusOK, s.faults.List())
	case "DELETE faults":
		s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	case "GET clock":
		reply(http.StatusOK, map[string]time.Time{"now": s.Now().UTC()})
	case "POST clock":
		var in struct{ Step string }
		err := read(&in)
		var step time.Duration
		if err == nil {
			step, err = time.ParseDuration(in.Step)
		}
		if err != nil {
			refuse(err)
			return
		}
		s.Step(step)
		reply(http.StatusOK, map[string]time.Time{"now": s.Now().UTC()})
	case "POST sweep":
		n, err := s.Sweep(r.Context())
		if err != nil {
			s.config.Log.Error("sweep failed", "error", err)
			reply(http.StatusInternalServerError, map[string]string{"error": "the sweep failed"})
			return
		}
		reply(http.StatusOK, map[string]int{"items": n})
	case "GET requests":
		reply(http.StatusOK, s.Requests())
	case "GET unknown":
		reply(http.StatusOK, s.Unknown())
	default:
		reply(http.StatusNotFound, map[string]string{"error": "no such control call"})
	}
}
