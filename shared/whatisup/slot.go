package whatisup

// Slots are the limited number of things of one kind that a customer may have
// at one time in one mode: open attempts, streams, calls that wait.
type Slots struct {
	Customer CustomerID
	Mode     Mode
	Kind     string
	Key      KeyID // those of one key alone; empty: of all
	Limit    int
}
