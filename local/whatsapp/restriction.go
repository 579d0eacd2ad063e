package whatsapp

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"time"
)

// Errors in the ack of a message.
const (
	ackNotMember   = 403
	ackNotFound    = 404
	ackNotAllowed  = 405
	ackStaleGroup  = 421
	ackReachout    = 463
	ackNewChats    = 475
	reachoutPolicy = "RESTRICT_ALL_COMPANIONS"
)

// restricted is the code with which WhatsApp refuses a message to somebody with
// whom the sender has exchanged none, 0 if it does not.
func (s *Server) restricted(d *device, receiver person, n *Node) int {
	kind := s.behaviourOf(receiver).Restricts
	if _, ok := s.meetsDevice(kindTimelock, d); ok {
		kind = RestrictsReachout
	}
	if kind == "" || receiver == d.person() || s.haveExchanged(d.person(), receiver) {
		return 0
	}
	if kind == RestrictsNewChats {
		return ackNewChats
	}
	if bytes.Equal(content(n, "tctoken"), s.tokenOf(receiver, d.person())) {
		return 0 // the receiver trusts the sender
	}
	return ackReachout
}

// haveExchanged says whether a phone shows a message from or to somebody.
func (s *Server) haveExchanged(p, q person) (found bool) {
	_ = s.db.view(func(tx *tx) error {
		prefix := keyOf(q.world, q.number, p.number)
		key, _ := tx.Bucket(bucketShownIDs).Cursor().Seek(prefix)
		found = len(key) >= len(prefix) && string(key[:len(prefix)]) == string(prefix)
		return nil
	})
	return found
}

// remindOfRestriction tells an account of the lock that a refusal stands for,
// the first time.
func (s *Server) remindOfRestriction(d *device, receiver person) {
	s.behaviours.change.Lock()
	b := s.behaviourOf(receiver)
	fresh := b.Restricts == RestrictsReachout && !slices.Contains(b.Told, d.Number)
	if fresh {
		b.Told = append(slices.Clone(b.Told), d.Number)
		if err := s.putBehaviour(receiver, b); err != nil {
			s.log.Error("cannot keep who was told of a restriction", "error", err)
		}
	}
	s.behaviours.change.Unlock()
	if fresh {
		s.tellRestriction(d.person(), true)
	}
}

// tellRestriction tells a person's devices that the reach-out time-lock of their
// account has begun, without a known end, or is over.
func (s *Server) tellRestriction(p person, active bool) { s.tellTimelock(p, active, time.Time{}) }

func (s *Server) tellTimelock(p person, active bool, until time.Time) {
	lock := map[string]any{"is_active": active}
	if active {
		lock["enforcement_type"] = reachoutPolicy
	}
	if !until.IsZero() {
		lock["time_enforcement_ends"] = strconv.FormatInt(until.Unix(), 10)
	}
	update, err := json.Marshal(map[string]any{"data": map[string]any{"xwa2_notify_account_reachout_timelock": lock}})
	if err != nil {
		return
	}
	for _, d := range s.linkedTo(p) {
		s.notify(d, Node{Tag: "notification", Attrs: Attrs{"type": "mex"}, Content: []Node{{
			Tag: "update", Attrs: Attrs{"op_name": "NotificationUserReachoutTimelockUpdate"}, Content: update,
		}}})
	}
}

// linkedTo lists the linked devices of a person.
func (s *Server) linkedTo(p person) []*device {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.devicesOf(p)
}
