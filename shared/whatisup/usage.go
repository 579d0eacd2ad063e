package whatisup

import "time"

// UsageKept is how far back usage can be read.
const UsageKept = 30 * 24 * time.Hour

// Usage counts what came to be within an hour.
type Usage struct {
	In         int `json:"messages_in"`       // messages that were received
	Out        int `json:"messages_out"`      // messages that WhatsApp has taken
	Failed     int `json:"messages_failed"`   // messages that ended as failed or expired
	Deliveries int `json:"deliveries"`        // deliveries of webhooks that arrived
	Lost       int `json:"deliveries_failed"` // deliveries that ended as failed
}

// Add adds other counts.
func (u *Usage) Add(other Usage) {
	u.In += other.In
	u.Out += other.Out
	u.Failed += other.Failed
	u.Deliveries += other.Deliveries
	u.Lost += other.Lost
}

// UsageOf is whose usage is counted: of a customer in one mode, and with an instance
// of that instance alone.
type UsageOf struct {
	Customer CustomerID
	Mode     Mode
	Instance InstanceID
}

// UsageHour is the usage of the hour that begins at Hour.
type UsageHour struct {
	Hour Time `json:"hour"`
	Usage
}
