package whatisup

// ContactWire is somebody whom the instance's phone knows, as the API shows them.
type ContactWire struct {
	Chat string `json:"chat"`
	PersonWire
	Name         *string `json:"name"`          // in the phone's address book
	PushName     *string `json:"push_name"`     // what the person calls themselves
	BusinessName *string `json:"business_name"` // verified by WhatsApp
}

// ContactDetails is a contact with what WhatsApp has to be asked for, which no list
// has. What WhatsApp does not show is null.
type ContactDetails struct {
	ContactWire
	About    *string          `json:"about"`
	Business *BusinessProfile `json:"business"`
	Pictured
}

// BusinessProfile is what a business tells of itself.
type BusinessProfile struct {
	Address    string   `json:"address"`
	Email      string   `json:"email"`
	Categories []string `json:"categories"`
}

// Profile is what the instance's own number shows of itself.
type Profile struct {
	PersonWire
	Name  string  `json:"name"`
	About *string `json:"about"`
	Pictured
}

// Blocked is somebody from whom the number takes nothing.
type Blocked struct {
	Chat string `json:"chat"`
	PersonWire
}

// Limits of what people say of themselves.
const (
	MaxProfileName = 25 // characters
	MaxAbout       = 139
)
