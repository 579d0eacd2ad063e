package devicestore

import (
	"context"
	"errors"
	"fmt"

	"whatisup/shared/whatisup"
)

// What went wrong, for errors.Is; those that [whatisup] has a word for are that
// word too. The errors of a handle that has failed also
// wrap [context.Canceled], which whatsmeow takes as "leave this stanza
// unacknowledged".
var (
	// ErrFenced: a newer owner has adopted the instance, or it was removed. The
	// session must stop silently; nothing it does is kept any more.
	ErrFenced = fmt.Errorf("devicestore: %w", whatisup.ErrFenced)

	errNoHistory = errors.New("devicestore: there is no such history")

	// ErrDiverged: the stored state is not what this handle left there, as after
	// a write whose outcome was unknown. A new handle starts from what is stored.
	ErrDiverged = errors.New("devicestore: stored state has moved")

	// ErrWiped: the link was wiped or replaced.
	ErrWiped = errors.New("devicestore: link is wiped")

	// ErrNoDevice: the instance has no link.
	ErrNoDevice = fmt.Errorf("devicestore: link %w", whatisup.ErrNotFound)

	// ErrLinked: a new link cannot be stored, because there is one, or because
	// its number is not above every earlier link's.
	ErrLinked = errors.New("devicestore: instance has a link already")

	// ErrTooLarge: a value is over what the table can hold in one transaction.
	// It was refused whole; nothing was truncated, and the handle lives on.
	ErrTooLarge = errors.New("devicestore: value too large")

	// ErrStale: a session record changed while a message was encrypted on an
	// older copy. The ciphertext must not leave; encrypting anew is right.
	ErrStale = errors.New("devicestore: session changed meanwhile")

	// ErrCopyTooLarge: a message is over what its copy may have. Nothing of it has
	// left.
	ErrCopyTooLarge = fmt.Errorf("devicestore: message: %w", ErrTooLarge)

	// ErrNoRecipientDevice: a direct message was encrypted for no device of its
	// recipient. Nothing of it has left.
	ErrNoRecipientDevice = errors.New("devicestore: message can be encrypted for no device of the recipient")

	// ErrOtherChat: a further attempt to send a message would go to another chat
	// than the first. Nothing of it has left.
	ErrOtherChat = errors.New("devicestore: message was sent to another chat before")

	// ErrNewerFormat: what is stored was written by a newer version of this
	// program, which this one can't read. Nothing is touched.
	ErrNewerFormat = errors.New("devicestore: stored by a newer version")

	// ErrLost: entries of the link's log are missing that no row has. What is
	// stored is older than what WhatsApp knows, and must not be used.
	ErrLost = fmt.Errorf("devicestore: the log has a gap: %w", whatisup.ErrCorrupt)

	// ErrUnavailable: the table or KMS could not be reached in time. It is not
	// whatisup's word, which means "try the same call again": mostly the handle
	// has failed with it.
	ErrUnavailable = errors.New("devicestore: unavailable")

	// ErrCorrupt: a stored value does not open or has an impossible form. Waiting
	// doesn't mend that, so it is never [ErrUnavailable] as well.
	ErrCorrupt = fmt.Errorf("devicestore: %w", whatisup.ErrCorrupt)

	// ErrUnfinished: the device row still has a link or partitions to sweep.
	ErrUnfinished = fmt.Errorf("devicestore: not yet wiped: %w", whatisup.ErrConflict)

	// ErrClosed: the handle was closed, or its fence's context has ended.
	ErrClosed = errors.New("devicestore: handle is closed")
)

// failure is what every operation returns once a handle has failed. It wraps
// context.Canceled besides its cause: whatsmeow acknowledges a message on any
// other error of a store.
type failure struct{ cause error }

func (f *failure) Error() string   { return "devicestore: session must end: " + f.cause.Error() }
func (f *failure) Unwrap() []error { return []error{f.cause, context.Canceled} }
