package control

import (
	"time"

	"whatisup/shared/whatisup"
)

// The errors whose words do not depend on the request.
var (
	ErrInstanceNotFound = whatisup.NewError(whatisup.CodeInstanceNotFound, "There is no such instance.")
	ErrKeyNotFound      = whatisup.NewError(whatisup.CodeAPIKeyNotFound, "There is no such API key.")
	ErrModified         = whatisup.NewError(whatisup.CodeConcurrentModification, "The instance was changed since the version in If-Match. Get it again.")
	ErrInstanceLimit    = whatisup.NewError(whatisup.CodeInstanceLimitReached, "This account has reached its instance limit.")
	ErrKeyLimit         = whatisup.NewError(whatisup.CodeAPIKeyLimitReached, "This account has reached its limit of API keys. Revoke one.")
	ErrThrottled        = whatisup.NewError(whatisup.CodePairingThrottled, "Too many pairing attempts were started and not scanned. Wait before you start another.")
	ErrPairCodes        = whatisup.NewError(whatisup.CodePairingThrottled, "Too many pair codes were asked for. Wait before you ask for another.")
	ErrPairCodeFailed   = whatisup.NewError(whatisup.CodePairCodeFailed, "WhatsApp refused to issue a pair code for this number.")
	ErrNoQR             = whatisup.NewError(whatisup.CodeNoQR, "No QR code is available yet. Retry.").After(time.Second)
	ErrUnreachable      = whatisup.NewError(whatisup.CodeWhatsAppUnreachable, "WhatsApp could not be reached.").After(5 * time.Second)
	ErrAtCapacity       = whatisup.NewError(whatisup.CodeAtCapacity, "No session host has room for another pairing right now.").After(30 * time.Second)
	ErrNoHost           = whatisup.NewError(whatisup.CodeNoSessionHost, "No session host is running for this instance.").After(10 * time.Second)
	ErrMessageNotFound  = whatisup.NewError(whatisup.CodeMessageNotFound, "There is no such message.")
	ErrNotCancelable    = whatisup.NewError(whatisup.CodeMessageNotCancelable, "The message has left, or may have, or has ended.")
	ErrEditWindow       = whatisup.NewError(whatisup.CodeEditWindowPassed, "A message can be edited within 15 minutes.")
	ErrSendConflict     = whatisup.NewError(whatisup.CodeIdempotencyConflict, "This Idempotency-Key was used for another message.")
	ErrQueueFull        = whatisup.NewError(whatisup.CodeQueueFull, "1,000 messages of this instance wait to be sent.").After(10 * time.Second)
	ErrTooManyWaiting   = whatisup.NewError(whatisup.CodeTooManyWaiting, "This account has too many calls that wait for an answer. Retry when one has ended.").After(time.Second)
	ErrGroupNotFound    = whatisup.NewError(whatisup.CodeGroupNotFound, "There is no such group.")
	ErrContactNotFound  = whatisup.NewError(whatisup.CodeContactNotFound, "There is no such contact.")
	ErrOutcomeUnknown   = whatisup.NewError(whatisup.CodeOutcomeUnknown, "The change was sent to WhatsApp, and no answer came. Look whether it was made before you ask for it again.").After(10 * time.Second)
	ErrNoAnswer         = whatisup.NewError(whatisup.CodeWhatsAppUnreachable, "WhatsApp has not answered in time.").After(5 * time.Second)
	ErrTooManyChecks    = whatisup.NewError(whatisup.CodeRateLimited, "This instance has checked too many numbers that it did not know.")
	ErrSuspended        = whatisup.NewError(whatisup.CodeCustomerSuspended, "This account is suspended. Its instances stay linked but are disconnected.")
)
