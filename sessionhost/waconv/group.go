package waconv

import (
	"time"

	"whatisup/shared/whatisup"
)

// Group is what a message to a group has to know of it.
type Group struct {
	Members []whatisup.Person // the number itself left out
	// ByLID says that the group addresses its members by LID, else by number.
	ByLID bool
	// Timer is after how long the group's messages disappear; 0: they stay.
	Timer time.Duration
	// Community says that it is the community itself.
	Community bool
}
