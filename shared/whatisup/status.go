package whatisup

// Status is the state of an instance as customers see it. The set is closed.
type Status string

const (
	Pending      Status = "pending"      // no link and no code to scan
	QR           Status = "qr"           // a code can be scanned
	Connecting   Status = "connecting"   // scanned and handshaking, or linked and (re)connecting
	Connected    Status = "connected"    // can send and receive
	Disconnected Status = "disconnected" // not connected; the reason says whether it comes back by itself
	Failed       Status = "failed"       // WhatsApp, or a fault of ours, keeps it from connecting
)

// Statuses lists every status in the order of an instance's life.
var Statuses = []Status{Pending, QR, Connecting, Connected, Disconnected, Failed}

// Reason says why an instance is in its status. The set is closed; most
// belong to one status only, as [Reasons] lists. Empty means that the status
// says it all.
type Reason string

const (
	NoReason           Reason = ""
	Starting           Reason = "starting"
	QRTimeout          Reason = "qr_timeout"
	Network            Reason = "network"
	PairingInterrupted Reason = "pairing_interrupted"
	LoggedOut          Reason = "logged_out"
	NoSessionHost      Reason = "no_session_host" // shown only, never stored
	Stopped            Reason = "stopped"
	KickedOtherDevice  Reason = "kicked_other_device"
	RemovedOnPhone     Reason = "logout"
	SessionInvalidated Reason = "session_invalidated"
	Banned             Reason = "banned"
	ClientOutdated     Reason = "client_outdated"
	PasskeyRequired    Reason = "passkey_required"
	Internal           Reason = "internal"
)

// Meaning is one pair of status and reason that can be shown, with the sentence
// that explains it to the customer.
type Meaning struct {
	Status Status
	Reason Reason
	Text   string
}

// Meanings is every pair that [View] can answer. Documents and the dashboard
// are held to it by tests.
var Meanings = []Meaning{
	{Pending, NoReason, "No phone is linked. Fetch the QR code to link one."},
	{Pending, Starting, "A connection to WhatsApp is being opened to get a code."},
	{Pending, QRTimeout, "The codes ran out before anybody scanned one. Fetch the QR code again."},
	{Pending, Network, "WhatsApp could not be reached, or the connection broke before a scan. Fetch the QR code again."},
	{Pending, PairingInterrupted, "The scan was not completed. Fetch the QR code and scan again."},
	{Pending, LoggedOut, "The instance was logged out on request. Fetch the QR code to link a phone."},
	{Pending, NoSessionHost, "No session host is running for this instance; the code shown last can't be scanned. It goes on when a host is back."},
	{QR, NoReason, "A code is waiting to be scanned."},
	{Connecting, NoReason, "The phone is linked and the connection is being opened."},
	{Connecting, NoSessionHost, "The phone is linked, but no session host is running for this instance. It reconnects when a host is back."},
	{Connected, NoReason, "Connected: messages can be sent and received."},
	{Disconnected, Network, "WhatsApp can't be reached. The connection is retried automatically; the link is kept."},
	{Disconnected, Stopped, "Stopped on request. The link is kept; connect resumes."},
	{Disconnected, KickedOtherDevice, "Another connection took over this link. Connect takes it back."},
	{Disconnected, RemovedOnPhone, "The device was removed on the phone. Fetch the QR code to link again."},
	{Disconnected, SessionInvalidated, "WhatsApp ended the link. Fetch the QR code to link again."},
	{Failed, Banned, "WhatsApp has banned this number, for a time if a retry is announced. Otherwise fetch the QR code to link another."},
	{Failed, ClientOutdated, "WhatsApp no longer accepts this client version. The connection is retried automatically once a newer one runs."},
	{Failed, PasskeyRequired, "WhatsApp asks this account for a passkey, which can't be given here. Fetch the QR code to try again."},
	{Failed, Internal, "Something failed on our side. Connect, or fetch the QR code, to try again."},
}

// Transition is one legal step of what a host stores.
type Transition struct {
	From   Status
	To     Status
	Reason Reason // of To
	Why    string
}

// Transitions is the state machine: a host stores a step only if it stands
// here. (A step to the same status with another reason is a step too.)
var Transitions = []Transition{
	{Pending, Pending, NoReason, "an attempt was stopped on request"},
	{Pending, Pending, Starting, "an attempt to pair begins"},
	{Pending, Pending, QRTimeout, "an attempt by pair code ran out"},
	{Pending, Pending, Network, "the dial or handshake failed before the first code"},
	{Pending, Pending, PairingInterrupted, "an unfinished link was found and wiped"},
	{Pending, Pending, LoggedOut, "logout without a link"},
	{Pending, QR, NoReason, "WhatsApp gave the first code"},
	{Pending, Connecting, NoReason, "the scan came before the first code was stored, or a link was found that no state told of"},
	{Pending, Failed, ClientOutdated, "WhatsApp refused the client's version"},
	{Pending, Failed, PasskeyRequired, "WhatsApp asked for a passkey"},
	{Pending, Failed, Internal, "the session failed before a code, or crashed its host repeatedly"},

	{QR, QR, NoReason, "the next code"},
	{QR, Pending, NoReason, "the attempt was stopped on request"},
	{QR, Pending, Starting, "the socket broke and is dialled again, or another host goes on"},
	{QR, Pending, QRTimeout, "the codes ran out"},
	{QR, Pending, Network, "the socket broke and could not be opened again"},
	{QR, Pending, PairingInterrupted, "the scan was not completed"},
	{QR, Pending, LoggedOut, "logout while pairing"},
	{QR, Connecting, NoReason, "the phone scanned the code"},
	{QR, Failed, ClientOutdated, "WhatsApp refused the client's version"},
	{QR, Failed, PasskeyRequired, "WhatsApp asked for a passkey"},
	{QR, Failed, Internal, "the session failed, or crashed its host repeatedly"},

	{Connecting, Connecting, NoReason, "the next try is due later, or the number of the link changed"},
	{Connecting, Connected, NoReason, "logged in"},
	{Connecting, Pending, PairingInterrupted, "the link broke before its first login"},
	{Connecting, Pending, LoggedOut, "logout while connecting"},
	{Connecting, Disconnected, Network, "no login for a minute"},
	{Connecting, Disconnected, Stopped, "disconnect on request"},
	{Connecting, Disconnected, KickedOtherDevice, "another connection took the link twice"},
	{Connecting, Disconnected, RemovedOnPhone, "WhatsApp answered that the device was removed"},
	{Connecting, Disconnected, SessionInvalidated, "WhatsApp answered that the link is invalid"},
	{Connecting, Failed, Banned, "WhatsApp answered with a ban"},
	{Connecting, Failed, ClientOutdated, "WhatsApp refused the client's version"},
	{Connecting, Failed, Internal, "the login failed too often, or crashed its host repeatedly"},

	{Connected, Connected, NoReason, "the link's number changed, or it was moved between hosts too fast to be shown"},
	{Connected, Connecting, NoReason, "the connection was lost"},
	{Connected, Pending, LoggedOut, "logout"},
	{Connected, Disconnected, Stopped, "disconnect on request"},
	{Connected, Disconnected, KickedOtherDevice, "another connection took the link twice"},
	{Connected, Disconnected, RemovedOnPhone, "the device was removed on the phone"},
	{Connected, Disconnected, SessionInvalidated, "WhatsApp ended the link"},
	{Connected, Failed, Banned, "WhatsApp banned the number"},
	{Connected, Failed, ClientOutdated, "WhatsApp refused the client's version"},
	{Connected, Failed, Internal, "the session crashed its host repeatedly"},

	{Disconnected, Connected, NoReason, "logged in after an outage"},
	{Disconnected, Connecting, NoReason, "connect on request"},
	{Disconnected, Pending, Starting, "an attempt to pair begins"},
	{Disconnected, Pending, LoggedOut, "logout"},
	{Disconnected, Pending, PairingInterrupted, "a link that was stopped before its first login was left unfinished"},
	{Disconnected, Disconnected, Network, "the next try is due later"},
	{Disconnected, Disconnected, Stopped, "disconnect on request"},
	{Disconnected, Disconnected, KickedOtherDevice, "another connection took the link"},
	{Disconnected, Disconnected, RemovedOnPhone, "the device was removed on the phone meanwhile"},
	{Disconnected, Disconnected, SessionInvalidated, "WhatsApp ended the link meanwhile"},
	{Disconnected, Failed, Banned, "WhatsApp answered with a ban"},
	{Disconnected, Failed, ClientOutdated, "WhatsApp refused the client's version"},
	{Disconnected, Failed, Internal, "the login failed too often, or crashed its host repeatedly"},

	{Failed, Connected, NoReason, "logged in after the ban ended, or with a newer client"},
	{Failed, Connecting, NoReason, "connect on request, or a new try is due"},
	{Failed, Pending, Starting, "an attempt to pair begins"},
	{Failed, Pending, LoggedOut, "logout"},
	{Failed, Pending, PairingInterrupted, "a link that failed before its first login was left unfinished"},
	{Failed, Disconnected, Network, "no login for a minute"},
	{Failed, Disconnected, Stopped, "disconnect on request"},
	{Failed, Disconnected, KickedOtherDevice, "another connection took the link"},
	{Failed, Disconnected, RemovedOnPhone, "the device was removed on the phone meanwhile"},
	{Failed, Disconnected, SessionInvalidated, "WhatsApp ended the link meanwhile"},
	{Failed, Failed, Banned, "WhatsApp answered with a ban, or with a later end of it"},
	{Failed, Failed, ClientOutdated, "WhatsApp refused the client's version"},
	{Failed, Failed, Internal, "the login failed too often, or crashed its host repeatedly"},
}

// MayBecome says whether a host may store to with its reason after from.
func (from Status) MayBecome(to Status, reason Reason) bool {
	for _, t := range Transitions {
		if t.From == from && t.To == to && t.Reason == reason {
			return true
		}
	}
	return false
}
