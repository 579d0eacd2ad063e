package whatisup

import "time"

// Subscription is a wish to hear of a person's presence. WhatsApp forgets it with
// the connection; the host renews it until it ends.
type Subscription struct {
	Contact Address   `json:"contact"`
	Until   time.Time `json:"until"`
}

const (
	// SubscribedFor is how long a subscription is renewed.
	SubscribedFor = 24 * time.Hour
	// SubscriptionsMost is how many subscriptions of an instance are renewed; the
	// oldest of more end with the connection.
	SubscriptionsMost = 500
)

// Subscribed is the list with one that is new, or renewed, and without those that
// have ended.
func Subscribed(list []Subscription, contact Address, now time.Time) []Subscription {
	kept := Alive(list, now)
	for i := range kept {
		if kept[i].Contact == contact {
			kept = append(kept[:i:i], kept[i+1:]...)
			break
		}
	}
	kept = append(kept, Subscription{Contact: contact, Until: now.Add(SubscribedFor)})
	return kept[max(0, len(kept)-SubscriptionsMost):]
}

// Alive are the subscriptions that have not ended.
func Alive(list []Subscription, now time.Time) (alive []Subscription) {
	for _, s := range list {
		if now.Before(s.Until) {
			alive = append(alive, s)
		}
	}
	return alive
}
