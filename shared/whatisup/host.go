package whatisup

import "time"

// Host is a session host as it shows itself to the others.
type Host struct {
	ID string
	// Incarnation is the process that has the name. It is empty of a host that
	// is not on the list.
	Incarnation string
	// Counter rises with each beat of an incarnation. A host is alive as long as
	// somebody who watches sees it rise; no clocks are compared.
	Counter  uint64
	Draining bool // it is giving up all it has and claims nothing
	Sessions int
	AliveAt  time.Time // wall clock, for display only
}

// HostSilent is for how long a host's counter may stand still before the others
// no longer count it.
const HostSilent = 20 * time.Second
