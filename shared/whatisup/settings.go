package whatisup

import "encoding/json"

// Settings is how an instance behaves, as its customer wants it. It is stored on
// the instance's row, and its session reads it again whenever it changes.
type Settings struct {
	Receive       ReceiveSettings `json:"receive"`
	Media         MediaSetting    `json:"media"`
	RejectCalls   bool            `json:"reject_calls"`
	ReadOnReceive bool            `json:"read_on_receive"`
	Online        bool            `json:"online"`
	MinGapMS      int             `json:"min_gap_ms"`        // between two messages that are sent
	NewChatsDay   *int            `json:"new_chats_per_day"` // null: no limit
}

// ReceiveSettings says which kinds of chats messages are received from, beside
// direct chats.
type ReceiveSettings struct {
	Groups   bool `json:"groups"`
	Status   bool `json:"status"`
	Channels bool `json:"channels"`
}

// Takes says whether messages of a kind of chat are received.
func (r ReceiveSettings) Takes(t ChatType) bool {
	switch t {
	case ChatGroup:
		return r.Groups
	case ChatStatus:
		return r.Status
	case ChatChannel:
		return r.Channels
	}
	return true
}

// MediaSetting says what becomes of the file that a received message has.
type MediaSetting string

const (
	FetchMedia    MediaSetting = "fetch"     // fetched at once
	MediaOnDemand MediaSetting = "on_demand" // fetched when its URL is first used
	NoMedia       MediaSetting = "off"
)

// MediaSettings lists every value.
var MediaSettings = []MediaSetting{FetchMedia, MediaOnDemand, NoMedia}

// The limits of settings.
const (
	MinGapMost   = 3_600_000 // milliseconds
	NewChatsMost = 1_000_000
)

// DefaultSettings are the settings of an instance that has chosen none.
func DefaultSettings() Settings {
	return Settings{Receive: ReceiveSettings{Groups: true}, Media: FetchMedia}
}

// SettingsOf reads stored settings over the defaults, so that a setting that is
// added later has its default where it was never chosen.
func SettingsOf(stored string) (Settings, error) {
	s := DefaultSettings()
	if stored == "" {
		return s, nil
	}
	err := json.Unmarshal([]byte(stored), &s)
	return s, err
}

// Same says whether both want the same.
func (s Settings) Same(other Settings) bool {
	a, b := s.NewChatsDay, other.NewChatsDay
	if (a == nil) != (b == nil) || a != nil && *a != *b {
		return false
	}
	s.NewChatsDay, other.NewChatsDay = nil, nil
	return s == other
}
