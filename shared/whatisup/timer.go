package whatisup

import "time"

// Timer is after how long the messages of a chat disappear: 0 seconds, never. Of two
// the one that was set later holds.
type Timer struct {
	Seconds uint32    `json:"seconds"`
	SetAt   time.Time `json:"set_at"`
}
